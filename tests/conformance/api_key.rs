//! Table `api_key`: a key is found by its hash alone, and a revoked one stays on the list.

use reelhook::store::Error;
use reelhook::store::api_key::{self, ApiKey};

use crate::harness::{NOW, Store, cases, id};

cases![
    a_key_is_found_by_its_hash,
    keys_are_listed_newest_first,
    a_key_lives_until_it_expires_or_is_revoked,
    two_keys_with_one_hash_are_a_mistake,
];

fn key(n: u32) -> ApiKey {
    ApiKey {
        id: id("key_", n),
        name: format!("key {n}"),
        hint: "abcd".to_owned(),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

async fn insert(store: &Store, key: ApiKey, hash: [u8; 32]) {
    store.write(move |tx| api_key::insert(tx, &key, &hash)).await;
}

async fn any_live(store: &Store, now: i64) -> bool {
    store.read(move |tx| api_key::any_live(tx, now)).await
}

async fn a_key_is_found_by_its_hash(store: Store) {
    insert(&store, key(1), [1; 32]).await;
    insert(&store, key(2), [0; 32]).await;
    assert_eq!(store.read(|tx| api_key::find_by_hash(tx, &[1; 32])).await, Some(key(1)));
    assert_eq!(store.read(|tx| api_key::find_by_hash(tx, &[9; 32])).await, None);
    store.write(|tx| api_key::touch(tx, &id("key_", 1), NOW + 5)).await;
    let used = store.read(|tx| api_key::find_by_hash(tx, &[1; 32])).await;
    assert_eq!(used, Some(ApiKey { last_used_at: Some(NOW + 5), ..key(1) }));
}

async fn keys_are_listed_newest_first(store: Store) {
    for n in [2, 1, 3] {
        insert(&store, key(n), [u8::try_from(n).expect("small"); 32]).await;
    }
    assert_eq!(store.read(api_key::list).await, [key(3), key(2), key(1)]);
}

async fn a_key_lives_until_it_expires_or_is_revoked(store: Store) {
    assert!(!any_live(&store, NOW).await);
    assert!(!store.read(api_key::any).await);
    insert(&store, ApiKey { expires_at: Some(NOW + 10), ..key(1) }, [1; 32]).await;
    assert!(any_live(&store, NOW + 9).await);
    assert!(!any_live(&store, NOW + 10).await);
    insert(&store, key(2), [2; 32]).await;
    assert!(any_live(&store, NOW + 10).await);
    let revoke = |n| store.write(move |tx| api_key::revoke(tx, &id("key_", n), NOW + 1));
    assert!(revoke(2).await);
    assert!(!revoke(2).await, "revoked before");
    assert!(!revoke(9).await, "never there");
    assert!(!any_live(&store, NOW + 10).await);
    assert!(store.read(api_key::any).await, "there was one");
    assert_eq!(store.read(api_key::list).await[0].revoked_at, Some(NOW + 1), "kept for the record");
}

async fn two_keys_with_one_hash_are_a_mistake(store: Store) {
    insert(&store, key(1), [1; 32]).await;
    let twice = store.db.write(|tx| api_key::insert(tx, &key(2), &[1; 32])).await;
    assert!(matches!(twice, Err(Error::Bug(_))), "{twice:?}");
    assert_eq!(store.read(api_key::list).await, [key(1)]);
}
