//! Table `replay`: how far dead letters on their way back are.

use reelhook::domain::dead_letter::Filter;
use reelhook::domain::replay::{Details, Replay};
use reelhook::store::replay;

use crate::harness::{NOW, Store, cases, id};

cases![a_replay_reads_back_as_it_was_written, those_that_run_are_counted_and_old_ones_forgotten];

pub fn new(n: u32) -> Replay {
    let filter = Filter { cause: Some("answers_401:ü".to_owned()), ..Filter::default() };
    Replay::new(id("rpl_", n), Details::new("ci ü", filter, 70, 9), NOW + i64::from(n))
}

async fn a_replay_reads_back_as_it_was_written(store: Store) {
    for n in 0..3 {
        store.write(move |tx| replay::insert(tx, &new(n))).await;
    }
    assert_eq!(store.read(|tx| replay::find(tx, &id("rpl_", 1))).await, Some(new(1)));
    assert_eq!(store.read(|tx| replay::find(tx, "rpl_none")).await, None);
    let changed = store.write(|tx| {
        let mut found = replay::lock(tx, &id("rpl_", 1))?.expect("it is there");
        found.took(&[(NOW, id("dlv_", 1))], 1, NOW + 5);
        replay::put(tx, &found)?;
        Ok(found)
    });
    let changed = changed.await;
    assert_eq!(changed.state(), "finished");
    let page = async |before: Option<u32>, limit| {
        let before = before.map(|n| id("rpl_", n));
        store.read(move |tx| replay::list(tx, before.as_deref(), limit)).await
    };
    assert_eq!(page(None, 2).await, [new(2), changed]);
    assert_eq!(page(Some(1), 2).await, [new(0)]);
}

async fn those_that_run_are_counted_and_old_ones_forgotten(store: Store) {
    for n in 0..3 {
        let mut made = new(n);
        if n < 2 {
            made.stop(NOW + 100 + i64::from(n));
        }
        store.write(move |tx| replay::insert(tx, &made)).await;
    }
    assert_eq!(store.read(replay::count_running).await, 1);
    let purge = async |before| store.write(move |tx| replay::purge(tx, before)).await;
    assert_eq!((purge(NOW + 100).await, purge(NOW + 101).await, purge(i64::MAX).await), (0, 1, 1));
    assert_eq!(store.read(replay::count_running).await, 1, "one that runs is kept");
}
