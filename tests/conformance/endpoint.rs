//! Table `endpoint`: few, read whole, and counted where events are numbered.

use reelhook::domain::delivery::Retries;
use reelhook::domain::endpoint::{Details, Endpoint, Filter, Format};
use reelhook::domain::event::Event;
use reelhook::domain::signing::SigningSecret;
use reelhook::store::{endpoint, event};

use crate::harness::{NOW, Store, cases, id};

cases![
    an_endpoint_reads_back_as_it_was_written,
    they_are_counted_beside_the_events,
    adders_and_removers_that_race_count_right,
];

pub fn new(n: u32) -> Endpoint {
    let details = Details {
        url: format!("https://app.example/{n}?ü"),
        description: Some("shop".to_owned()),
        filter: Filter {
            events: vec!["*".to_owned()],
            kinds: vec!["video".to_owned()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
        },
        format: Format::Heygen,
        retries: Retries { waits: vec![1_000, 60_000], give_up_on: vec![400, 422] },
        secrets: vec![SigningSecret::new([7; 32], NOW)],
        disabled_for: None,
        failing_since: Some(NOW),
        tested_at: Some(NOW + 1),
    };
    Endpoint { id: id("ep_", n), created_at: NOW, disabled_at: None, details }
}

pub async fn insert(store: &Store, endpoint: &Endpoint) {
    let endpoint = endpoint.clone();
    let write = move |tx: &mut reelhook::store::Tx| {
        endpoint::lock_publishing(tx)?;
        endpoint::insert(tx, &endpoint)
    };
    store.write(write).await;
}

async fn an_endpoint_reads_back_as_it_was_written(store: Store) {
    for n in [1, 2] {
        insert(&store, &new(n)).await;
    }
    let (first, second) = (id("ep_", 1), id("ep_", 2));
    let wanted = first.clone();
    assert_eq!(store.read(move |tx| endpoint::find(tx, &wanted)).await, Some(new(1)));
    assert_eq!(store.read(|tx| endpoint::find(tx, "ep_none")).await, None);
    assert_eq!(store.read(endpoint::list).await, [new(2), new(1)], "newest first");
    let wanted = first.clone();
    let changed = store.write(move |tx| {
        let mut found = endpoint::lock(tx, &wanted)?.expect("it is there");
        found.details.url = "https://other.example".to_owned();
        endpoint::put(tx, &found)?;
        Ok(found)
    });
    let changed = changed.await;
    assert_eq!(store.read(endpoint::list).await, [new(2), changed]);
    let wanted = second.clone();
    assert!(store.write(move |tx| endpoint::remove(tx, &wanted)).await);
    let wanted = second.clone();
    assert!(!store.write(move |tx| endpoint::remove(tx, &wanted)).await);
    assert_eq!(store.read(endpoint::list).await.len(), 1);
}

/// Whether who publishes now is told of one.
async fn any(store: &Store) -> bool {
    store.write(|tx| event::insert_many(tx, &mut [Event::default()])).await
}

async fn they_are_counted_beside_the_events(store: Store) {
    assert!(!any(&store).await);
    insert(&store, &new(1)).await;
    let mut away = new(1);
    away.disable("it answered 410", NOW);
    let put = away.clone();
    store.write(move |tx| endpoint::put(tx, &put)).await;
    assert_eq!(store.read(endpoint::list).await, [away]);
    assert!(any(&store).await, "what a disabled one misses is kept");
    assert!(store.write(|tx| endpoint::remove(tx, &id("ep_", 1))).await);
    assert!(!any(&store).await);
}

async fn adders_and_removers_that_race_count_right(store: Store) {
    insert(&store, &new(0)).await;
    let removed = store.db.write(|tx| {
        endpoint::lock_publishing(tx)?;
        endpoint::remove(tx, &id("ep_", 0))
    });
    let added = (1..8).map(|n| {
        store.db.write(move |tx| {
            endpoint::lock_publishing(tx)?;
            endpoint::insert(tx, &new(n))
        })
    });
    let (removed, added) = tokio::join!(removed, futures_util::future::join_all(added));
    assert!(removed.expect("it goes") && added.into_iter().all(|done| done.is_ok()));
    assert_eq!(store.count("SELECT endpoints FROM counter WHERE name = 'event'").await, 7);
}
