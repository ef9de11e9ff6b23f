//! Table `idempotency`: the first answer to a key is the answer until a week after the job's end.

use reelhook::domain::job::State;
use reelhook::store::group;
use reelhook::store::idempotency::{self, KEPT_AFTER_END, Remembered};

use crate::harness::{NOW, Store, cases, id, job_in};

cases![
    a_key_belongs_to_its_owner,
    of_two_that_race_one_is_first,
    a_key_outlives_its_job_by_a_week,
    a_key_outlives_its_group_by_a_week,
    a_purge_is_bounded,
];

fn remembered(n: u32) -> Remembered {
    Remembered { fingerprint: vec![0, 255, 39], id: id("job_", n), answer: format!("{{\"n\":{n}}}") }
}

async fn insert(store: &Store, key: &'static str, n: u32) -> bool {
    store.write(move |tx| idempotency::insert(tx, "owner", key, &remembered(n), NOW)).await
}

async fn a_key_belongs_to_its_owner(store: Store) {
    assert!(insert(&store, "k", 1).await);
    assert!(!insert(&store, "k", 2).await, "taken");
    assert!(store.write(|tx| idempotency::insert(tx, "another", "k", &remembered(3), NOW)).await);
    assert_eq!(store.read(|tx| idempotency::find(tx, "owner", "k")).await, Some(remembered(1)));
    assert_eq!(store.read(|tx| idempotency::find(tx, "another", "k")).await, Some(remembered(3)));
    assert_eq!(store.read(|tx| idempotency::find(tx, "owner", "K")).await, None);
}

async fn of_two_that_race_one_is_first(store: Store) {
    let inserts = (0..9).map(|n| {
        let db = store.db.clone();
        async move { db.write(move |tx| idempotency::insert(tx, "o", "k", &remembered(n), NOW)).await }
    });
    let all = futures_util::future::join_all(inserts).await;
    let firsts: Vec<usize> = (0..9).filter(|n| *all[*n].as_ref().expect("no fault in a race")).collect();
    assert_eq!(firsts.len(), 1);
    let kept = store.read(|tx| idempotency::find(tx, "o", "k")).await.expect("the key is there");
    assert_eq!(kept, remembered(u32::try_from(firsts[0]).expect("small")));
}

async fn a_key_outlives_its_job_by_a_week(store: Store) {
    store.insert_job(&job_in(State::Completed, 1)).await;
    store.insert_job(&job_in(State::Processing, 2)).await;
    insert(&store, "ended", 1).await;
    insert(&store, "open", 2).await;
    let purge = |now| store.write(move |tx| idempotency::purge(tx, now, 100));
    assert_eq!(purge(NOW + KEPT_AFTER_END).await, 0, "seven days are seven whole days");
    assert_eq!(purge(NOW + KEPT_AFTER_END + 1).await, 1);
    assert_eq!(store.read(|tx| idempotency::find(tx, "owner", "ended")).await, None);
    assert_eq!(purge(NOW + 99 * KEPT_AFTER_END).await, 0, "an open job keeps its key however old");
}

async fn a_key_outlives_its_group_by_a_week(store: Store) {
    let group = id("grp_", 1);
    let first = Remembered { id: group.clone(), ..remembered(1) };
    store.write(move |tx| idempotency::insert(tx, "owner", "k", &first, NOW)).await;
    store.insert_group(&group, 1).await;
    let purge = |now| store.write(move |tx| idempotency::purge(tx, now, 100));
    assert_eq!(purge(NOW + 99 * KEPT_AFTER_END).await, 0, "it is open");
    store.write(move |tx| group::count_off(tx, &group, 1, NOW)).await;
    assert_eq!(purge(NOW + KEPT_AFTER_END).await, 0);
    assert_eq!(purge(NOW + KEPT_AFTER_END + 1).await, 1);
}

async fn a_purge_is_bounded(store: Store) {
    for (n, key) in [(1, "a"), (2, "b"), (3, "c")] {
        store.insert_job(&job_in(State::Failed, n)).await;
        insert(&store, key, n).await;
    }
    let purge = || store.write(|tx| idempotency::purge(tx, NOW + 2 * KEPT_AFTER_END, 2));
    assert_eq!((purge().await, purge().await, purge().await), (2, 1, 0));
}
