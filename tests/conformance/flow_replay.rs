//! What is given up, told of, replayed step by step, stopped, dropped.

use reelhook::domain::dead_letter::{Cause, Filter, Trouble};
use reelhook::domain::delivery::State;
use reelhook::domain::endpoint::Endpoint;
use reelhook::domain::event::Event;
use reelhook::domain::replay::{Details, MAX_RUNNING, Replay};
use reelhook::domain::task::{Lane, TaskKind};
use reelhook::flow::{self, Revived};
use reelhook::store::{audit, dead_letter, delivery, event, replay, task};

use crate::dead_letter::{APP, given_up};
use crate::delivery::target;
use crate::harness::{LEASE, NOW, Store, cases, id, stamp};

cases![
    a_replay_goes_step_by_step_and_leaves_a_line,
    all_that_an_endpoint_has_not_taken_is_due_step_by_step,
    a_lost_lease_takes_no_step_and_a_stopped_replay_takes_none_either,
    only_so_many_replays_run_at_once,
    what_is_dropped_leaves_a_line,
    one_delivery_is_sent_again_however_it_ended,
    what_is_given_up_is_told_of_with_its_cause,
];

async fn start(store: &Store, n: u8, rate: i64, filter: Filter) -> Option<Replay> {
    let details = Details::new("ci", filter, rate, 5);
    store.write(move |tx| flow::start_replay(tx, &details, &stamp(n))).await
}

async fn dead(store: &Store) -> i64 {
    store.read(|tx| dead_letter::count(tx, &Filter::default())).await
}

/// Takes the replay's next step at `at`, whoever holds its task.
async fn step(store: &Store, at: i64, token: i64) -> bool {
    let claimed = store.write(move |tx| task::claim(tx, Lane::Clock, 1, at, at + 9, token)).await;
    let Some(task) = claimed.into_iter().next() else { return false };
    let mut stamp = stamp(9);
    stamp.now = at;
    store.write(move |tx| flow::replay_some(tx, &task, &stamp)).await
}

async fn actions(store: &Store) -> Vec<(String, String)> {
    let lines = store.read(|tx| audit::list(tx, None, 9)).await;
    lines.into_iter().map(|line| (line.action, line.details)).collect()
}

async fn a_replay_goes_step_by_step_and_leaves_a_line(store: Store) {
    for n in 0..5 {
        given_up(&store, n, Trouble::Answers(401), NOW - 9 + i64::from(n)).await;
    }
    given_up(&store, 6, Trouble::NoAnswer, NOW - 9).await;
    let (there, gone) = (target(0).name(), target(1).name());
    crate::endpoint::insert(&store, &Endpoint { id: there.clone(), ..crate::endpoint::new(1) }).await;
    let filter = Filter { cause: Some("answers_401:app.example".to_owned()), ..Filter::default() };
    let made = start(&store, 1, 20, filter).await.expect("it begins");
    assert_eq!(store.due(&made.id, TaskKind::Replay).await, Some(NOW + 1));
    for (nth, left) in [(0, 4), (1, 2), (2, 1)] {
        assert!(step(&store, NOW + 1 + nth * 1_000, nth + 1).await);
        assert_eq!(dead(&store).await, left, "step {nth}");
    }
    let wanted = made.id.clone();
    let done = store.read(move |tx| replay::find(tx, &wanted)).await.unwrap();
    assert_eq!((done.state(), done.details.done, done.ended_at), ("finished", 5, Some(NOW + 2_001)));
    assert_eq!(store.due(&made.id, TaskKind::Replay).await, None);
    // Of those whose endpoint is gone the letter is let go of, and that is all.
    let all = store.read(|tx| delivery::list(tx, &delivery::Filter::default(), None, 9)).await;
    let states: Vec<_> = all.iter().rev().map(|d| (d.state(), d.due_at)).collect();
    let (dead, due) = ((State::Dead, None), |at| (State::Pending, Some(NOW + at)));
    assert_eq!(states, [due(1), dead, due(1_001), dead, due(2_001), dead]);
    assert_eq!(
        (store.due(&there, TaskKind::Deliver).await, store.due(&gone, TaskKind::Deliver).await),
        (Some(NOW + 1), None)
    );
    let lines = actions(&store).await;
    assert_eq!((lines.len(), &*lines[0].0), (1, "dead_letter.replay"));
    assert!(lines[0].1.contains("answers_401:app.example") && lines[0].1.contains(&made.id), "{lines:?}");
}

async fn all_that_an_endpoint_has_not_taken_is_due_step_by_step(store: Store) {
    let endpoint = target(1).endpoint_id().unwrap().to_owned();
    for n in [1, 3] {
        given_up(&store, n, Trouble::Answers(500), NOW).await;
    }
    // Another endpoint's.
    given_up(&store, 2, Trouble::Answers(500), NOW).await;
    let mut waiting: Vec<_> = (4..7).map(|n| crate::delivery::new(n, target(1))).collect();
    for delivery in &mut waiting {
        (delivery.due_at, delivery.attempt) = (Some(NOW + 999_999), 4);
    }
    store.write(move |tx| delivery::insert_many(tx, &waiting)).await;
    crate::endpoint::insert(&store, &Endpoint { id: endpoint.clone(), ..crate::endpoint::new(1) }).await;
    // It is left alone for long.
    store.add_task(&endpoint, TaskKind::Deliver, NOW + 888_888).await;
    let filter = Filter { endpoint_id: Some(endpoint.clone()), ..Filter::default() };
    let details = Details { pending: true, ..Details::new("ci", filter, 20, 5) };
    // Ids of cases are made of later times.
    let mut at = stamp(1);
    at.now = NOW + 50;
    let made = store.write(move |tx| flow::start_replay(tx, &details, &at)).await.expect("it begins");
    assert_eq!(
        store.due(&endpoint, TaskKind::Deliver).await,
        Some(NOW + 50),
        "whoever wishes it knows better"
    );
    let pending = async || {
        let all = store.read(|tx| delivery::list(tx, &delivery::Filter::default(), None, 9)).await;
        all.into_iter().filter(|d| d.attempt == 0 && d.due_at.is_some_and(|at| at < NOW + 9_999)).count()
    };
    for (nth, due) in [(0, 2), (1, 4), (2, 5)] {
        assert!(step(&store, NOW + 51 + nth * 1_000, nth + 1).await);
        assert_eq!(pending().await, due, "step {nth}");
    }
    assert_eq!(dead(&store).await, 1, "of the other endpoint");
    // One that failed again meanwhile is not taken twice.
    assert!(!step(&store, NOW + 9_999, 9).await);
    let wanted = made.id.clone();
    let done = store.read(move |tx| replay::find(tx, &wanted)).await.unwrap();
    assert_eq!((done.state(), done.details.done, done.details.pending), ("finished", 5, true));
    assert_eq!(actions(&store).await[0].0, "delivery.replay");
}

async fn a_lost_lease_takes_no_step_and_a_stopped_replay_takes_none_either(store: Store) {
    for n in 0..3 {
        given_up(&store, n, Trouble::Answers(401), NOW - 9).await;
    }
    let made = start(&store, 1, 1, Filter::default()).await.unwrap();
    let old = store.write(|tx| task::claim(tx, Lane::Clock, 1, NOW + 1, LEASE, 1)).await.remove(0);
    let new = store.write(|tx| task::claim(tx, Lane::Clock, 1, LEASE, LEASE + 9, 2)).await.remove(0);
    assert!(!store.write(move |tx| flow::replay_some(tx, &old, &stamp(2))).await);
    assert_eq!(dead(&store).await, 3);
    let held = new.clone();
    assert!(store.write(move |tx| flow::replay_some(tx, &held, &stamp(3))).await);
    assert_eq!(dead(&store).await, 2);
    let stop = {
        let id = made.id.clone();
        move |tx: &mut reelhook::store::Tx| flow::stop_replay(tx, "ops", &id, &stamp(4))
    };
    let (stopped, ran) = store.write(stop.clone()).await.unwrap();
    assert_eq!((stopped.state(), stopped.details.done, ran), ("stopped", 1, true));
    assert!(!store.write(stop).await.unwrap().1, "once");
    assert!(!step(&store, LEASE + 9_999, 5).await);
    assert_eq!(dead(&store).await, 2, "the rest stays dead");
    assert_eq!(store.write(|tx| flow::stop_replay(tx, "ops", "rpl_none", &stamp(5))).await, None);
    assert_eq!(actions(&store).await[0].0, "replay.stop");
}

async fn only_so_many_replays_run_at_once(store: Store) {
    for n in 0..u8::try_from(MAX_RUNNING).unwrap() {
        assert!(start(&store, n, 1, Filter::default()).await.is_some(), "{n}");
    }
    assert_eq!(start(&store, 99, 1, Filter::default()).await, None);
    step(&store, NOW + 1, 1).await;
    assert!(start(&store, 99, 1, Filter::default()).await.is_some(), "one has finished");
}

async fn what_is_dropped_leaves_a_line(store: Store) {
    for n in 0..3 {
        given_up(&store, n, Trouble::EventGone, NOW).await;
    }
    let drop =
        |tx: &mut reelhook::store::Tx| flow::drop_dead(tx, "ops", &Filter::default(), "too old", &stamp(1));
    assert_eq!((store.write(drop).await, store.write(drop).await, dead(&store).await), (3, 0, 0));
    let lines = actions(&store).await;
    assert_eq!((lines.len(), &*lines[0].0), (1, "dead_letter.drop"), "nothing dropped, nothing to tell");
    assert!(lines[0].1.contains("too old") && lines[0].1.contains("\"count\":3"), "{lines:?}");
}

async fn one_delivery_is_sent_again_however_it_ended(store: Store) {
    let endpoint = Endpoint { id: target(1).name(), ..crate::endpoint::new(1) };
    crate::endpoint::insert(&store, &endpoint).await;
    given_up(&store, 1, Trouble::Answers(401), NOW).await;
    given_up(&store, 2, Trouble::Answers(401), NOW).await;
    let again =
        async |id: String| store.write(move |tx| flow::replay_delivery(tx, "ci", &id, &stamp(1))).await;
    let done = again(id("dlv_", 1)).await;
    let Revived::Ok(due) = done else { panic!("{done:?}") };
    assert_eq!((due.state(), due.due_at, due.attempt), (State::Pending, Some(NOW), 0));
    assert_eq!(dead(&store).await, 1, "its dead letter is none any more");
    assert_eq!(store.due(&endpoint.id, TaskKind::Deliver).await, Some(NOW));
    let taken = move |tx: &mut reelhook::store::Tx| {
        let mut taken = due.clone();
        (taken.due_at, taken.delivered_at) = (None, Some(NOW));
        delivery::put(tx, &taken)
    };
    store.write(taken).await;
    assert_eq!(actions(&store).await.len(), 1);
    let twice = store.write(|tx| flow::replay_delivery(tx, "ci", &id("dlv_", 1), &stamp(2))).await;
    assert!(matches!(twice, Revived::Ok(due) if due.state() == State::Pending), "one that was taken, too");
    assert_eq!(again(id("dlv_", 2)).await, Revived::NobodyToTell);
    assert_eq!(again("dlv_none".to_owned()).await, Revived::NotFound);
}

async fn what_is_given_up_is_told_of_with_its_cause(store: Store) {
    for n in 0..3 {
        given_up(&store, n, Trouble::Answers(401), NOW).await;
    }
    let cause = Cause::at(Trouble::Answers(401), APP);
    for n in [1, 2] {
        let causes = [cause.clone(), cause.clone()];
        store.write(move |tx| flow::tell_dead(tx, &causes, &stamp(n))).await;
    }
    let told: Vec<Event> = store.read(|tx| event::list(tx, None, 0, 9)).await;
    assert_eq!(told.len(), 1, "once an hour");
    assert_eq!((&*told[0].event_type, &told[0].job_id), ("dead_letter.added", &None));
    for part in ["\"count\":3", "app.example answers 401", "signing secret", &id("dlv_", 2)] {
        assert!(told[0].data.contains(part), "{part}: {}", told[0].data);
    }
}
