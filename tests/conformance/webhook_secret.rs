//! Table `webhook_secret`: several may be live, and a retired one verifies until its time.

use reelhook::store::webhook_secret::{self, WebhookSecret};

use crate::harness::{NOW, Store, cases, id};

cases![
    what_stays_comes_first_and_the_newest_before_others,
    retiring_spares_the_one_named_and_other_endpoints
];

async fn insert(store: &Store, n: u32, endpoint: &'static str) {
    store.write(move |tx| webhook_secret::insert(tx, &secret(n, endpoint))).await;
}

fn secret(n: u32, endpoint: &str) -> WebhookSecret {
    WebhookSecret {
        id: id("whs_", n),
        endpoint_id: endpoint.to_owned(),
        url: "https://example.com/hook".to_owned(),
        secret: format!("secret {n}"),
        created_at: NOW,
        retired_at: None,
    }
}

async fn live(store: &Store, now: i64) -> Vec<String> {
    let live = store.read(move |tx| webhook_secret::list_live(tx, now)).await;
    live.into_iter().map(|s| s.secret).collect()
}

async fn what_stays_comes_first_and_the_newest_before_others(store: Store) {
    for n in [2, 3, 1] {
        insert(&store, n, "e").await;
    }
    assert_eq!(live(&store, NOW).await, ["secret 3", "secret 2", "secret 1"]);
    let whole = store.read(|tx| webhook_secret::list_live(tx, NOW)).await.remove(0);
    assert!(whole == secret(3, "e"), "read back as it was written");
    // Rotated by a clock that was set back since: its id sorts before those of the ones that go.
    let keep = id("whs_", 1);
    store.write(move |tx| webhook_secret::retire(tx, "e", Some(&keep), NOW + 10)).await;
    assert_eq!(live(&store, NOW).await, ["secret 1", "secret 3", "secret 2"]);
}

async fn retiring_spares_the_one_named_and_other_endpoints(store: Store) {
    for (n, endpoint) in [(1, "e"), (2, "e"), (3, "e"), (4, "other")] {
        insert(&store, n, endpoint).await;
    }
    let keep = id("whs_", 3);
    let retired = store.write(move |tx| webhook_secret::retire(tx, "e", Some(&keep), NOW + 10)).await;
    assert_eq!(retired, 2);
    assert_eq!(live(&store, NOW + 9).await.len(), 4, "they verify until then");
    assert_eq!(live(&store, NOW + 10).await, ["secret 4", "secret 3"]);
    let sooner = store.write(|tx| webhook_secret::retire(tx, "e", None, NOW + 5)).await;
    assert_eq!(sooner, 3, "a retirement is brought forward");
    assert_eq!(store.write(|tx| webhook_secret::retire(tx, "e", None, NOW + 50)).await, 0, "never put off");
    assert_eq!(live(&store, NOW + 5).await, ["secret 4"]);
}
