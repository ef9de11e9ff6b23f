//! Table `event`: numbers without gaps, visible in their order, whoever appends at the same time.

use reelhook::domain::event::Event;
use reelhook::domain::ids;
use reelhook::domain::time::{MINUTE, SECOND};
use reelhook::store::{Error, event, inbox};

use crate::harness::{NOW, Store, cases, id, receipt};

cases![
    events_are_numbered_in_their_order,
    a_list_goes_on_after_a_number_and_is_bounded,
    numbers_have_no_gap_though_appends_race_and_fail,
    a_reader_never_steps_over_a_late_number,
    the_latest_of_a_type_come_newest_first,
    events_are_found_by_their_numbers_with_their_receipts,
    one_of_heygens_own_says_what_its_receipt_says,
    the_log_knows_where_it_begins_and_ends,
    a_time_is_found_though_moments_are_out_of_order,
    an_event_is_found_by_its_id,
];

fn new(n: u32, job: Option<&str>) -> Event {
    Event {
        number: 0,
        id: id("evt_", n),
        event_type: "job.queued".to_owned(),
        job_id: job.map(str::to_owned),
        job_sequence: i64::from(n),
        created_at: NOW,
        data: format!("{{\"n\":{n}}}"),
        ..Event::default()
    }
}

async fn append(store: &Store, events: Vec<Event>) -> Vec<Event> {
    store
        .write(move |tx| {
            let mut events = events.clone();
            event::insert_many(tx, &mut events)?;
            Ok(events)
        })
        .await
}

async fn list(store: &Store, job: Option<&'static str>, after: i64, limit: i64) -> Vec<Event> {
    store.read(move |tx| event::list(tx, job, after, limit)).await
}

async fn events_are_numbered_in_their_order(store: Store) {
    assert_eq!(append(&store, vec![]).await, []);
    let first = append(&store, (0..100).map(|n| new(n, Some("job_a"))).collect()).await;
    let then = append(&store, vec![new(100, None)]).await;
    let numbers: Vec<i64> = first.iter().chain(&then).map(|e| e.number).collect();
    assert_eq!(numbers, (1..=101).collect::<Vec<_>>(), "from 1, and none is used up by an empty append");
    assert_eq!(list(&store, None, 0, 1_000).await, [first, then].concat(), "stored as they were told");
}

async fn a_list_goes_on_after_a_number_and_is_bounded(store: Store) {
    let all = (0..6).map(|n| new(n, Some(if n % 2 == 0 { "job_even" } else { "job_odd" }))).collect();
    let all = append(&store, all).await;
    assert_eq!(list(&store, None, 2, 3).await, all[2..5]);
    assert_eq!(list(&store, Some("job_odd"), 2, 9).await, [all[3].clone(), all[5].clone()]);
    assert_eq!(list(&store, Some("job_none"), 0, 9).await, []);
    assert_eq!(list(&store, None, 6, 9).await, []);
}

async fn numbers_have_no_gap_though_appends_race_and_fail(store: Store) {
    let appends = (0..60).map(|n: u32| {
        let db = store.db.clone();
        async move {
            db.write(move |tx| {
                event::insert_many(tx, &mut [new(n, None), new(n + 100, None)])?;
                if n.is_multiple_of(3) { Err(Error::Bug("on purpose".to_owned())) } else { Ok(()) }
            })
            .await
        }
    });
    let failed = futures_util::future::join_all(appends).await.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 20);
    let numbers: Vec<i64> = list(&store, None, 0, 1_000).await.iter().map(|e| e.number).collect();
    assert_eq!(numbers, (1..=80).collect::<Vec<_>>(), "what was rolled back took no number");
}

async fn a_reader_never_steps_over_a_late_number(store: Store) {
    let write = |n: u32| {
        let db = store.db.clone();
        async move { db.write(move |tx| event::insert_many(tx, &mut [new(n, None)])).await }
    };
    let writes = futures_util::future::join_all((0..200).map(write));
    let reads = async {
        let mut last = 0;
        while last < 200 {
            // The next number must be the next row: a gap that fills later would be stepped over.
            for event in list(&store, None, last, 50).await {
                assert_eq!(event.number, last + 1);
                last = event.number;
            }
        }
    };
    let (written, ()) = crate::harness::soon("last event", futures_util::future::join(writes, reads)).await;
    assert!(written.iter().all(Result::is_ok));
}

async fn the_latest_of_a_type_come_newest_first(store: Store) {
    let latest = |among| store.read(move |tx| event::list_latest(tx, "job.completed", among));
    assert_eq!(latest(9).await, []);
    let typed = |n| {
        let event_type = if n % 2 == 0 { "job.completed" } else { "job.queued" };
        Event { event_type: event_type.to_owned(), ..new(n, None) }
    };
    append(&store, (1..=6).map(typed).collect()).await;
    let numbers = |events: Vec<Event>| events.into_iter().map(|e| e.number).collect::<Vec<_>>();
    assert_eq!(numbers(latest(99).await), [6, 4, 2]);
    assert_eq!(numbers(latest(3).await), [6, 4], "among the last three");
    assert!(latest(0).await.is_empty());
}

async fn events_are_found_by_their_numbers_with_their_receipts(store: Store) {
    let told = Event { receipt_id: Some("rcp_1".to_owned()), ..new(1, None) };
    let all = append(&store, vec![new(0, Some("job_a")), told, new(2, None)]).await;
    let mut found = store.read(|tx| event::find_many(tx, &[3, 2, 99])).await;
    found.sort_by_key(|event| event.number);
    assert_eq!(found, all[1..]);
    assert_eq!(store.read(|tx| event::find_many(tx, &[])).await, []);
}

async fn one_of_heygens_own_says_what_its_receipt_says(store: Store) {
    let receipts = [receipt(1, "{ \"a\": 1.50, \"b\": null }"), receipt(2, "no JSON")];
    store.write(move |tx| inbox::accept_many(tx, &receipts)).await;
    let heygens = |n: u32| Event { data: String::new(), receipt_id: Some(id("rcp_", n)), ..new(n, None) };
    append(&store, vec![heygens(1), heygens(2), heygens(3), new(4, None)]).await;
    let said: Vec<String> = list(&store, None, 0, 9).await.into_iter().map(|e| e.data).collect();
    assert_eq!(said, ["{\"a\":1.5,\"b\":null}", "null", "null", "{\"n\":4}"]);
    assert_eq!(store.read(|tx| event::find_many(tx, &[1])).await[0].data, said[0]);
}

async fn the_log_knows_where_it_begins_and_ends(store: Store) {
    let bounds = || store.read(event::bounds);
    assert_eq!(bounds().await, (1, 0), "an empty one begins with what comes next");
    append(&store, (0..5).map(|n| new(n, None)).collect()).await;
    assert_eq!(bounds().await, (1, 5));
    store.write(|tx| tx.execute("DELETE FROM event WHERE number < 4", &[])).await;
    assert_eq!(bounds().await, (4, 5));
    store.write(|tx| tx.execute("DELETE FROM event", &[])).await;
    assert_eq!(bounds().await, (6, 5), "what was there once is not there again");
}

async fn a_time_is_found_though_moments_are_out_of_order(store: Store) {
    let before = |at| store.read(move |tx| event::number_before(tx, at));
    assert_eq!(before(NOW).await, 0);
    // One every ten seconds, each other one committed half a minute late.
    let at = |n: u32| NOW + i64::from(n) * 10 * SECOND - if n.is_multiple_of(2) { 30 * SECOND } else { 0 };
    let timed = |n: u32| Event { created_at: at(n), ..new(n, None) };
    append(&store, (0..300).map(timed).collect()).await;
    store.write(|tx| tx.execute("DELETE FROM event WHERE number < 20 OR number IN (90, 91)", &[])).await;
    for wanted in (0..300).step_by(7).map(at).chain([i64::MIN, NOW - 1, NOW + 1]) {
        let after = before(wanted).await;
        let all = list(&store, None, 0, 999).await;
        let missed = all.iter().find(|e| e.created_at >= wanted && e.number <= after);
        assert_eq!(missed, None, "{wanted}");
        let oldest = all.iter().find(|e| e.number > after).expect("there is one").created_at;
        assert!(after == 19 || oldest >= wanted - 3 * MINUTE, "no more than a little before it");
    }
    assert_eq!(before(i64::MAX).await, 300);
}

async fn an_event_is_found_by_its_id(store: Store) {
    let at = |n: i64| NOW + n * MINUTE / 2;
    let timed = |n: i64| {
        let id = ids::new(ids::EVENT, at(n), [u8::try_from(n).expect("small"); 16]);
        Event { id, created_at: at(n), ..new(0, None) }
    };
    let all = append(&store, [0, 1, 3, 2, 4, 9, 8, 20, 21].map(timed).to_vec()).await;
    for one in &all {
        let id = one.id.clone();
        assert_eq!(store.read(move |tx| event::find(tx, &id)).await.as_ref(), Some(one));
    }
    let unknown = ids::new(ids::EVENT, at(3), [99; 16]);
    assert_eq!(store.read(move |tx| event::find(tx, &unknown)).await, None);
    assert_eq!(store.read(|tx| event::find(tx, "evt_short")).await, None);
}
