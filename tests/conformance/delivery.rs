//! Table `delivery`: what is due to whom, and how it went.

use reelhook::domain::dead_letter::{Cause, Filter as DeadLetters, Trouble};
use reelhook::domain::delivery::{Attempt, Delivery, Meaning, State, Target};
use reelhook::domain::endpoint::Endpoint;
use reelhook::domain::event::Event;
use reelhook::domain::ids;
use reelhook::domain::task::TaskKind;
use reelhook::store::delivery::{self, Filter};
use reelhook::store::{dead_letter, task};

use crate::harness::{NOW, Store, cases, id};

cases![
    a_delivery_reads_back_as_it_was_written,
    what_is_due_to_a_target_comes_the_longest_due_first,
    what_is_due_to_an_origin_comes_the_first_attempts_first_and_without_some_addresses,
    a_list_is_filtered_and_goes_on_behind_a_cursor,
    what_waits_for_a_target_is_given_up_together,
    what_a_target_has_not_taken_is_found_in_order_and_begins_anew,
    what_ended_long_ago_is_forgotten_and_nothing_that_waits,
];

pub fn target(n: u32) -> Target {
    Target::Endpoint(ids::new(ids::ENDPOINT, NOW + i64::from(n), [0; 16]))
}

pub fn new(n: u32, target: Target) -> Delivery {
    let event = Event {
        number: i64::from(n),
        id: id("evt_", n),
        event_type: "job.queued".to_owned(),
        job_id: Some(format!("job_{}", n % 2)),
        ..Event::default()
    };
    Delivery {
        id: id("dlv_", n),
        ..Delivery::new(&event, target, Some("https://a.example/ü".to_owned()), NOW + i64::from(n))
    }
}

async fn insert(store: &Store, all: Vec<Delivery>) {
    store.write(move |tx| delivery::insert_many(tx, &all)).await;
}

async fn find(store: &Store, n: u32) -> Option<Delivery> {
    store.read(move |tx| delivery::find(tx, &id("dlv_", n))).await
}

async fn a_delivery_reads_back_as_it_was_written(store: Store) {
    let mut all: Vec<Delivery> = (0..150).map(|n| new(n, target(1))).collect();
    all[1].target = Target::Test(all[1].target.endpoint_id().unwrap().to_owned());
    all[2].target = Target::Origin("https://a.example:8443".to_owned());
    insert(&store, vec![]).await;
    insert(&store, all.clone()).await;
    for n in [0, 1, 2, 149] {
        assert_eq!(find(&store, n).await.as_ref(), Some(&all[n as usize]));
    }
    assert_eq!(find(&store, 150).await, None);
    let mut tried = all.remove(5);
    let attempt = Attempt {
        at: NOW,
        took_ms: 3,
        status: Some(500),
        error: Some("answered 500".to_owned()),
        answer: Some("ü\u{fffd}".to_owned()),
    };
    tried.take(attempt, &Meaning::Failed { after: None }, (&[9], 1.0), NOW);
    let put = tried.clone();
    store.write(move |tx| delivery::put(tx, &put)).await;
    assert_eq!(find(&store, 5).await, Some(tried));
}

async fn what_is_due_to_a_target_comes_the_longest_due_first(store: Store) {
    let mut all: Vec<Delivery> = (0..6).map(|n| new(n, target(1))).collect();
    all[0].due_at = Some(NOW + 50);
    all[3].due_at = None;
    all.push(new(7, target(2)));
    insert(&store, all).await;
    let due = async |now, most| {
        let due = store.read(move |tx| delivery::list_due(tx, &target(1), &[], now, most)).await;
        due.into_iter().map(|d| d.event_number).collect::<Vec<_>>()
    };
    assert_eq!(due(NOW + 4, 9).await, [1, 2, 4]);
    assert_eq!(due(NOW + 5, 9).await, [1, 2, 4, 5]);
    assert_eq!(due(NOW + 50, 2).await, [1, 2]);
    let next = async |n| store.read(move |tx| delivery::next_due(tx, &target(n))).await;
    assert_eq!((next(1).await, next(2).await, next(3).await), (Some(NOW + 1), Some(NOW + 7), None));
    assert_eq!(store.write(|tx| delivery::shift(tx, -9, NOW)).await, 6, "not what waits for nothing");
    assert_eq!((next(1).await, next(2).await), (Some(NOW - 8), Some(NOW - 2)));
    assert_eq!(store.write(|tx| delivery::shift(tx, 1, NOW - 7)).await, 2, "not what is written since");
}

async fn what_is_due_to_an_origin_comes_the_first_attempts_first_and_without_some_addresses(store: Store) {
    let origin = || Target::Origin("https://a.example".to_owned());
    let at = |n: u32, path: &str, attempt| Delivery {
        url: Some(format!("https://a.example/{path}")),
        attempt,
        ..new(n, origin())
    };
    let mut all =
        vec![at(0, "a", 2), at(1, "b", 1), at(2, "a", 0), at(3, "b", 0), at(4, "c", 0), at(9, "c", 0)];
    all.push(Delivery { attempt: 0, ..new(5, target(1)) });
    insert(&store, all).await;
    let due = async |paths: &[&str], most| {
        let except: Vec<String> = paths.iter().map(|path| format!("https://a.example/{path}")).collect();
        let due = store.read(move |tx| delivery::list_due(tx, &origin(), &except, NOW + 4, most)).await;
        due.into_iter().map(|d| d.event_number).collect::<Vec<_>>()
    };
    assert_eq!(due(&[], 9).await, [2, 3, 4, 0, 1]);
    assert_eq!(due(&[], 3).await, [2, 3, 4]);
    assert_eq!(due(&["a"], 9).await, [3, 4, 1]);
    assert_eq!(due(&["a", "b"], 9).await, [4]);
    assert_eq!(due(&["a", "b", "c"], 9).await, [0; 0]);
}

async fn a_list_is_filtered_and_goes_on_behind_a_cursor(store: Store) {
    let mut all: Vec<Delivery> = (0..6).map(|n| new(n, target(n / 4))).collect();
    all[0].target = Target::Test(target(0).endpoint_id().unwrap().to_owned());
    (all[1].due_at, all[1].delivered_at) = (None, Some(NOW));
    (all[2].due_at, all[2].dead_at) = (None, Some(NOW));
    insert(&store, all).await;
    let list = async |filter: Filter, cursor: Option<u32>, limit| {
        let cursor = cursor.map(|n| id("dlv_", n));
        let found = store.read(move |tx| delivery::list(tx, &filter, cursor.as_deref(), limit)).await;
        found.into_iter().map(|d| d.event_number).collect::<Vec<_>>()
    };
    assert_eq!(list(Filter::default(), None, 4).await, [5, 4, 3, 2]);
    assert_eq!(list(Filter::default(), Some(2), 4).await, [1, 0]);
    let endpoint_id = target(0).endpoint_id().map(str::to_owned);
    assert_eq!(
        list(Filter { endpoint_id, ..Filter::default() }, None, 9).await,
        [3, 2, 1, 0],
        "its tests, too"
    );
    assert_eq!(
        list(Filter { job_id: Some("job_1".to_owned()), ..Filter::default() }, None, 9).await,
        [5, 3, 1]
    );
    for (state, numbers) in
        [(State::Pending, vec![5, 4, 3, 0]), (State::Delivered, vec![1]), (State::Dead, vec![2])]
    {
        assert_eq!(list(Filter { state: Some(state), ..Filter::default() }, None, 9).await, numbers);
    }
}

async fn what_waits_for_a_target_is_given_up_together(store: Store) {
    let mut all: Vec<Delivery> = (0..4).map(|n| new(n, target(1))).collect();
    (all[0].due_at, all[0].delivered_at) = (None, Some(NOW));
    all[3].target = target(2);
    insert(&store, all).await;
    assert_eq!(store.write(|tx| delivery::end_all(tx, &target(1), NOW + 9)).await, 2);
    let states = [0, 1, 2, 3].map(|n| find(&store, n));
    let states = futures_util::future::join_all(states).await;
    let states: Vec<State> = states.into_iter().map(|d| d.unwrap().state()).collect();
    assert_eq!(states, [State::Delivered, State::Dead, State::Dead, State::Pending]);
}

async fn what_a_target_has_not_taken_is_found_in_order_and_begins_anew(store: Store) {
    let mut all: Vec<Delivery> = (0..9).map(|n| new(n, target(1))).collect();
    for n in [0, 2, 6] {
        all[n].due_at = Some(NOW + 5_000);
    }
    for n in [1, 3, 5] {
        (all[n].due_at, all[n].dead_at, all[n].attempt) = (None, Some(NOW), 10);
    }
    (all[4].due_at, all[4].delivered_at) = (None, Some(NOW));
    // Due already, and of somebody else.
    all[7].due_at = Some(NOW);
    (all[8].target, all[8].due_at) = (target(2), Some(NOW + 5_000));
    insert(&store, all).await;
    // The fifth was let go of.
    let cause = Cause::new(Trouble::Answers(500));
    let letters = [id("dlv_", 1), id("dlv_", 3)];
    let bury = move |tx: &mut reelhook::store::Tx| {
        let subjects: Vec<&str> = letters.iter().map(String::as_str).collect();
        task::bury(tx, TaskKind::Deliver, &subjects, 10, (&cause, "no"), NOW)
    };
    store.write(bury).await;
    let list = async |from: String, until, most| {
        let list = move |tx: &mut reelhook::store::Tx| {
            delivery::list_untaken(tx, &target(1), (&from, until), most, NOW)
        };
        store.read(list).await
    };
    let dlv = |all: &[u32]| all.iter().map(|n| id("dlv_", *n)).collect::<Vec<_>>();
    let count = async |at| store.read(move |tx| delivery::count_untaken(tx, &target(1), at)).await;
    assert_eq!((count(NOW).await, count(NOW + 5_000).await), (5, 2));
    assert_eq!(list(String::new(), NOW + 99, 9).await, dlv(&[0, 1, 2, 3, 6]));
    assert_eq!(list(String::new(), NOW + 99, 2).await, dlv(&[0, 1]));
    assert_eq!(list(id("dlv_", 1), NOW + 99, 9).await, dlv(&[2, 3, 6]));
    assert_eq!(list(String::new(), NOW + 2, 9).await, dlv(&[0, 1, 2]), "what was made later is left");
    let revive = async |all: Vec<String>| {
        let revive = move |tx: &mut reelhook::store::Tx| {
            delivery::revive_many(tx, &all.iter().map(String::as_str).collect::<Vec<_>>(), NOW + 7)
        };
        store.write(revive).await
    };
    let to = target(1).name();
    assert_eq!(revive(dlv(&[0, 1])).await, [""; 0], "there is no such endpoint");
    let endpoint = Endpoint { id: to.clone(), ..crate::endpoint::new(1) };
    crate::endpoint::insert(&store, &endpoint).await;
    assert_eq!(
        (revive(vec![]).await, revive(dlv(&[0, 1, 4])).await),
        (vec![], vec![to.clone(), to]),
        "one was taken meanwhile"
    );
    for n in [0, 1] {
        let revived = find(&store, n).await.unwrap();
        assert_eq!((revived.state(), revived.due_at, revived.attempt), (State::Pending, Some(NOW + 7), 0));
    }
    assert_eq!(find(&store, 4).await.unwrap().state(), State::Delivered);
}

async fn what_ended_long_ago_is_forgotten_and_nothing_that_waits(store: Store) {
    let mut all: Vec<Delivery> = (0..6).map(|n| new(n, target(1))).collect();
    for (n, delivery) in all.iter_mut().enumerate().skip(1) {
        (delivery.due_at, delivery.delivered_at) = (None, Some(NOW + 100 + i64::try_from(n).unwrap()));
    }
    // Given up, and somebody may want it yet.
    (all[2].delivered_at, all[2].dead_at) = (None, Some(NOW + 100));
    insert(&store, all).await;
    let cause = Cause::new(Trouble::Answers(500));
    store
        .write(move |tx| task::bury(tx, TaskKind::Deliver, &[&id("dlv_", 2)], 1, (&cause, "no"), NOW + 100))
        .await;
    let purge = async |before, most| store.write(move |tx| delivery::purge(tx, before, most)).await;
    assert_eq!((purge(NOW + 101, 9).await, purge(NOW + 105, 2).await), (0, 2), "those made first go first");
    let left = async || {
        let all = store.read(|tx| delivery::list(tx, &Filter::default(), None, 9)).await;
        all.into_iter().map(|d| d.event_number).collect::<Vec<_>>()
    };
    assert_eq!(left().await, [5, 4, 2, 0]);
    store.write(|tx| dead_letter::drop_some(tx, &DeadLetters::default(), 9)).await;
    assert_eq!(purge(NOW + 9_999, 9).await, 3);
    assert_eq!(left().await, [0], "what waits is kept however old it is");
}
