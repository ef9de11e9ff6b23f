//! What is stored with events: deliveries for those who want them, and one task for each target.

use reelhook::domain::dead_letter::{Cause, Filter as DeadLetters, Trouble};
use reelhook::domain::delivery::{Delivery, State, Target};
use reelhook::domain::endpoint::{Endpoint, Filter, Format};
use reelhook::domain::job::State as JobState;
use reelhook::domain::step::Input;
use reelhook::domain::task::TaskKind;
use reelhook::flow::{self, Enabled};
use reelhook::store::{dead_letter, delivery, endpoint, event, task};

use crate::endpoint::{insert, new};
use crate::harness::{NOW, Store, cases, job_in, stamp};

cases![
    an_event_is_stored_with_its_deliveries_or_not_at_all,
    a_target_in_trouble_is_not_woken,
    an_endpoint_is_disabled_tested_and_enabled,
    what_a_disabled_endpoint_misses_is_kept_and_wakes_nobody,
    an_endpoint_added_while_others_publish_misses_nothing_after_it,
    a_removed_endpoint_leaves_nothing_to_do,
    endpoints_are_bounded,
];

fn wanting(n: u32, events: &[&str]) -> Endpoint {
    let mut made = new(n);
    made.details.format = Format::Standard;
    made.details.tested_at = None;
    made.details.filter =
        Filter { events: events.iter().map(|e| (*e).to_owned()).collect(), ..Filter::default() };
    made
}

fn target(endpoint: &Endpoint) -> Target {
    Target::Endpoint(endpoint.id.clone())
}

fn set<T>(field: &mut T, value: T) -> Result<(), &'static str> {
    *field = value;
    Ok(())
}

async fn count_dead(store: &Store) -> i64 {
    store.read(|tx| dead_letter::count(tx, &DeadLetters::default())).await
}

async fn cancel(store: &Store, n: u32) {
    let job = job_in(JobState::Queued, n);
    store.insert_job(&job).await;
    store.write(move |tx| flow::change(tx, &job.id, Input::Cancel, &stamp(u8::try_from(n).unwrap()))).await;
}

async fn all(store: &Store) -> Vec<Delivery> {
    store.read(|tx| delivery::list(tx, &delivery::Filter::default(), None, 1_000)).await
}

async fn an_event_is_stored_with_its_deliveries_or_not_at_all(store: Store) {
    cancel(&store, 1).await;
    assert_eq!(all(&store).await, [], "before there was an endpoint");
    let (one, two) = (wanting(1, &["job.canceled"]), wanting(2, &["job.completed"]));
    insert(&store, &one).await;
    insert(&store, &two).await;
    cancel(&store, 2).await;
    let made = all(&store).await;
    assert_eq!(made.len(), 1);
    let event = store.read(|tx| event::list(tx, None, 0, 9)).await.pop().unwrap();
    assert_eq!(
        (made[0].event_number, &made[0].event_id, &made[0].job_id),
        (event.number, &event.id, &event.job_id)
    );
    assert_eq!((&made[0].target, made[0].due_at), (&target(&one), Some(NOW)));
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW));
    assert_eq!(store.due(&two.id, TaskKind::Deliver).await, None);

    let job = job_in(JobState::Queued, 3);
    store.insert_job(&job).await;
    let failed = store.db.write(move |tx| {
        flow::change(tx, &job.id, Input::Cancel, &stamp(3))?;
        Err::<(), _>(reelhook::store::Error::Busy)
    });
    assert!(failed.await.is_err());
    assert_eq!(all(&store).await.len(), 1);
}

async fn a_target_in_trouble_is_not_woken(store: Store) {
    use reelhook::domain::task::{Lane, Outcome};
    let one = wanting(1, &["*"]);
    insert(&store, &one).await;
    cancel(&store, 1).await;
    let held = store.claim_one(Lane::Outbound, 7).await;
    assert!(
        store
            .write({
                let held = held.clone();
                move |tx| task::hold(tx, &held)
            })
            .await
    );
    cancel(&store, 2).await;
    // It was made due again while it ran.
    let snooze = Outcome::Snooze { until: NOW + 900, lane: None };
    store
        .write({
            let held = held.clone();
            move |tx| task::settle(tx, &held, &snooze, NOW)
        })
        .await;
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW - 1));
    let held = store.claim_one(Lane::Outbound, 8).await;
    let retry = Outcome::Retry { at: NOW + 900, why: "nobody there".to_owned() };
    store
        .write({
            let held = held.clone();
            move |tx| task::settle(tx, &held, &retry, NOW)
        })
        .await;
    assert!(!store.write(move |tx| task::hold(tx, &held)).await);
    cancel(&store, 3).await;
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW + 900));
    let change = |url: &'static str| {
        let id = one.id.clone();
        store.write(move |tx| {
            flow::change_endpoint(tx, &id, |e| set(&mut e.details.url, url.to_owned()), &stamp(4))
        })
    };
    let id = one.id.clone();
    let refused = move |tx: &mut reelhook::store::Tx| {
        flow::change_endpoint(tx, &id, |e| set(&mut e.details.url, String::new()).and(Err("no")), &stamp(4))
    };
    assert_eq!(store.write(refused).await, Some(Err("no")));
    let id = one.id.clone();
    let kept = store.read(move |tx| endpoint::find(tx, &id)).await.unwrap();
    assert_eq!(kept.details.url, one.details.url, "what is refused changes nothing");
    change("https://app.example/1?ü").await;
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW + 900));
    change("https://elsewhere.example").await;
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW), "at another address it may be well");
    assert_eq!(all(&store).await.len(), 3, "its deliveries are there all the same");
}

async fn an_endpoint_is_disabled_tested_and_enabled(store: Store) {
    let (one, other) = (wanting(1, &["*"]), wanting(2, &["endpoint.disabled"]));
    insert(&store, &one).await;
    insert(&store, &other).await;
    let id = one.id.clone();
    let disable =
        move |tx: &mut reelhook::store::Tx| flow::disable_endpoint(tx, &id, "it answered 410", &stamp(1));
    assert!(store.write(disable.clone()).await.is_some());
    assert!(store.write(disable).await.is_none(), "once");
    let mut made = all(&store).await;
    made.retain(|delivery| delivery.due_at.is_some());
    assert_eq!((made.len(), &made[0].target), (1, &target(&other)), "the others hear of it");

    let enable = {
        let id = one.id.clone();
        move |tx: &mut reelhook::store::Tx| flow::enable_endpoint(tx, &id, &stamp(2))
    };
    assert_eq!(store.write(enable.clone()).await, Enabled::Untested);
    let id = one.id.clone();
    let test = store.write(move |tx| flow::test_endpoint(tx, &id, &stamp(3))).await.unwrap();
    assert_eq!((&test.event_type[..], &test.target), ("endpoint.test", &Target::Test(one.id.clone())));
    let id = one.id.clone();
    store
        .write(move |tx| {
            flow::change_endpoint(tx, &id, |e| set(&mut e.details.tested_at, Some(NOW)), &stamp(4))
        })
        .await;
    assert!(matches!(store.write(enable).await, Enabled::Ok(found) if found.disabled_at.is_none()));
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, Some(NOW));
    let gone = |tx: &mut reelhook::store::Tx| flow::enable_endpoint(tx, "ep_none", &stamp(4));
    assert_eq!(store.write(gone).await, Enabled::NotFound);
}

async fn what_a_disabled_endpoint_misses_is_kept_and_wakes_nobody(store: Store) {
    let (one, other) = (wanting(1, &["job.canceled"]), wanting(2, &["job.canceled"]));
    insert(&store, &one).await;
    insert(&store, &other).await;
    let id = one.id.clone();
    store.write(move |tx| flow::disable_endpoint(tx, &id, "it answered 410", &stamp(9))).await;
    for n in 1..4 {
        cancel(&store, n).await;
    }
    let made = all(&store).await;
    let of = |wanted: &Endpoint| made.iter().filter(|d| d.target == target(wanted)).collect::<Vec<_>>();
    assert!(of(&other).iter().all(|d| d.due_at == Some(NOW)));
    let missed = of(&one);
    assert_eq!(missed.len(), 3);
    assert!(missed.iter().all(|d| d.state() == State::Dead && d.due_at.is_none() && d.attempt == 0));
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, None, "its task is not woken");
    let letters = store.read(|tx| dead_letter::list(tx, &DeadLetters::default(), None, 9)).await;
    let mut ids: Vec<&str> = letters.iter().map(|letter| &*letter.id).collect();
    ids.sort_unstable();
    let mut wanted: Vec<&str> = missed.iter().map(|d| &*d.id).collect();
    wanted.sort_unstable();
    assert_eq!(ids, wanted);
    for letter in &letters {
        assert_eq!(letter.cause.text(), "endpoint_disabled:app.example");
        assert!(letter.reason.ends_with("it answered 410"), "{}", letter.reason);
        assert_eq!((letter.attempt, letter.dead_at, letter.job_id.is_some()), (0, NOW, true));
    }
    let told = store.read(|tx| event::list(tx, None, 0, 9)).await;
    assert!(told.iter().all(|event| event.event_type != "dead_letter.added"), "that it is disabled was told");
}

async fn an_endpoint_added_while_others_publish_misses_nothing_after_it(store: Store) {
    for n in 1..40 {
        store.insert_job(&job_in(JobState::Queued, n)).await;
    }
    let publish = (1..40).map(|n| {
        let id = job_in(JobState::Queued, n).id;
        store.db.write(move |tx| flow::change(tx, &id, Input::Cancel, &stamp(u8::try_from(n).unwrap())))
    });
    let one = wanting(1, &["*"]);
    let add = {
        let one = one.clone();
        store.db.write(move |tx| flow::add_endpoint(tx, &one, 9))
    };
    let (published, added) = tokio::join!(futures_util::future::join_all(publish), add);
    assert!(published.into_iter().all(|done| done.is_ok()) && added.unwrap());
    let mut told: Vec<i64> = all(&store).await.iter().map(|d| d.event_number).collect();
    told.sort_unstable();
    let first = told.first().copied().unwrap_or(40);
    assert_eq!(told, (first..40).collect::<Vec<_>>(), "from one event on, every one");
}

async fn a_removed_endpoint_leaves_nothing_to_do(store: Store) {
    let one = wanting(1, &["*"]);
    insert(&store, &one).await;
    cancel(&store, 1).await;
    let dlv = all(&store).await[0].id.clone();
    let cause = Cause::new(Trouble::Answers(500));
    store
        .write(move |tx| task::bury(tx, TaskKind::Deliver, &[&dlv], 10, (&cause, "answered 500"), NOW))
        .await;
    let remove = {
        let id = one.id.clone();
        move |tx: &mut reelhook::store::Tx| flow::remove_endpoint(tx, &id, &stamp(2))
    };
    assert!(store.write(remove.clone()).await);
    assert!(!store.write(remove).await);
    assert_eq!(all(&store).await[0].state(), State::Dead);
    assert_eq!(count_dead(&store).await, 0, "what was given up before is dropped with it");
    assert_eq!(store.due(&one.id, TaskKind::Deliver).await, None);
    assert_eq!(store.read(endpoint::list).await, []);
}

async fn endpoints_are_bounded(store: Store) {
    let add = async |n| store.write(move |tx| flow::add_endpoint(tx, &new(n), 2)).await;
    assert_eq!((add(1).await, add(2).await, add(3).await), (true, true, false));
    for why in ["answered 500", "answered 500 again"] {
        let cause = Cause::new(Trouble::Answers(500));
        store.write(move |tx| task::bury(tx, TaskKind::Deliver, &["dlv_1"], 10, (&cause, why), NOW)).await;
        assert_eq!(count_dead(&store).await, 1);
    }
    store.write(|tx| task::wake(tx, TaskKind::Deliver, &["dlv_1"], NOW)).await;
    assert_eq!(count_dead(&store).await, 1, "a dead letter is not woken by chance");
}
