//! `flow` on groups: made whole or part by part, finished once, canceled and retried without a double.

use reelhook::domain::group::{Group, MAX_JOBS};
use reelhook::domain::job::{Failure, Job, State};
use reelhook::domain::step::Input;
use reelhook::domain::table::send;
use reelhook::domain::task::TaskKind;
use reelhook::flow::{self, Added, Key, NewGroup, NewJob, Retried, Stamp, Submitted};
use reelhook::store::job::Filter;
use reelhook::store::{Error, event, group, job};
use serde_json::{Value, json};

use crate::flow_submit::new_job;
use crate::harness::{NOW, Store, cases, stamp};

cases![
    a_group_and_its_jobs_are_stored_together,
    a_group_that_fails_leaves_nothing,
    the_same_key_gives_the_same_group,
    the_last_end_publishes_the_groups_once,
    ends_that_race_publish_one_end,
    what_was_not_sent_is_canceled_in_steps,
    what_failed_is_retried_once,
    what_expired_is_retried_and_what_was_canceled_is_not,
    what_may_have_been_charged_is_retried_only_if_that_is_accepted,
    retries_that_race_make_one_group,
    of_very_many_that_failed_the_first_are_retried_and_then_the_others,
    of_what_failed_only_so_many_bytes_are_retried_at_once,
    rows_that_come_in_parts_are_numbered_on_and_end_once,
    parts_that_race_are_added_once,
    a_group_that_is_closed_takes_no_more,
];

fn new_group(jobs: usize) -> NewGroup {
    let row = |n: i64| NewJob { title: Some(format!("row {n}")), group_row: Some(n), ..new_job() };
    let jobs = (1..).take(jobs).map(row).collect();
    NewGroup { title: Some("rows.csv".to_owned()), retry_of: None, jobs, first_row: 1, more: false }
}

fn key(fingerprint: u8) -> Key {
    Key { owner: "o".to_owned(), key: "k".to_owned(), fingerprint: vec![fingerprint] }
}

async fn submit(store: &Store, new: NewGroup, key: Option<Key>, n: u8) -> Submitted {
    store.write(move |tx| flow::submit_group(tx, &new, key.as_ref(), &stamp(n))).await
}

async fn made(store: &Store, jobs: usize, n: u8) -> (String, Vec<Job>) {
    let done = submit(store, new_group(jobs), None, n).await;
    let Submitted::New { id, .. } = done else { panic!("{done:?}") };
    let jobs = jobs_of(store, &id).await;
    (id, jobs)
}

/// By row.
async fn jobs_of(store: &Store, id: &str) -> Vec<Job> {
    let filter = Filter { group: Some(id.to_owned()), ..Filter::default() };
    let mut jobs = store.read(move |tx| job::list(tx, &filter, None, 1_000)).await;
    jobs.reverse();
    jobs
}

async fn group_of(store: &Store, id: &str) -> Group {
    let id = id.to_owned();
    store.read(move |tx| group::find(tx, &id)).await.expect("the group is there")
}

async fn change(store: &Store, job: &Job, input: Input, n: u8) {
    let id = job.id.clone();
    store.write(move |tx| flow::change(tx, &id, input.clone(), &stamp(n))).await;
}

async fn fail(store: &Store, job: &Job, failure: Failure) {
    change(store, job, send(), 0).await;
    change(store, job, Input::Refused(failure), 0).await;
}

/// The ends of groups that were published.
async fn ends(store: &Store) -> Vec<Value> {
    let all = store.read(|tx| event::list(tx, None, 0, 9_999)).await;
    let ends = all.iter().filter(|e| e.event_type == "group.finished");
    ends.map(|e| serde_json::from_str(&e.data).expect("JSON")).collect()
}

async fn a_group_and_its_jobs_are_stored_together(store: Store) {
    let mut new = new_group(150);
    new.jobs[1].hold = true;
    let done = submit(&store, new, Some(key(1)), 1).await;
    let Submitted::New { id, answer } = done else { panic!("{done:?}") };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(
        (&answer["jobs"], &answer["ended"], &answer["title"]),
        (&json!(150), &json!(0), &json!("rows.csv"))
    );
    assert_eq!((&answer["counts"]["queued"], &answer["counts"]["held"]), (&json!(149), &json!(1)));
    let jobs = jobs_of(&store, &id).await;
    let rows: Vec<i64> = jobs.iter().filter_map(|job| job.details.group_row).collect();
    assert_eq!(rows, (1..=150).collect::<Vec<_>>(), "in the order of the rows");
    for job in &jobs {
        let queued = job.details.group_row != Some(2);
        assert_eq!(store.due(&job.id, TaskKind::Submit).await, queued.then_some(NOW));
        assert!(store.due(&job.id, TaskKind::Deadline).await.is_some());
    }
    let events = store.read(|tx| event::list(tx, None, 0, 999)).await;
    assert_eq!(events.len(), 150, "an event for each, and none for the group");
    let ids: std::collections::HashSet<&String> = events.iter().map(|e| &e.id).collect();
    assert_eq!(ids.len(), 150);
    assert_eq!((events[1].event_type.as_str(), events[2].event_type.as_str()), ("job.held", "job.queued"));
}

async fn a_group_that_fails_leaves_nothing(store: Store) {
    let failed = store
        .db
        .write(|tx| {
            flow::submit_group(tx, &new_group(70), Some(&key(1)), &stamp(1))?;
            Err::<(), _>(Error::Bug("on purpose".to_owned()))
        })
        .await;
    assert!(failed.is_err());
    for table in ["job_group", "job", "job_request", "job_label", "task", "event", "idempotency"] {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = store.read(move |tx| tx.one(&sql, &[])?.map_or(Ok(-1), |mut row| row.int(0))).await;
        assert_eq!(count, 0, "{table}");
    }
}

async fn the_same_key_gives_the_same_group(store: Store) {
    let first = submit(&store, new_group(2), Some(key(1)), 1).await;
    let Submitted::New { id, answer } = first else { panic!("{first:?}") };
    let again = submit(&store, new_group(2), Some(key(1)), 2).await;
    assert_eq!(again, Submitted::Replayed { id, answer });
    assert_eq!(submit(&store, new_group(2), Some(key(2)), 3).await, Submitted::KeyReused);
    assert_eq!(store.count("SELECT COUNT(*) FROM job").await, 2);
}

async fn the_last_end_publishes_the_groups_once(store: Store) {
    let (id, jobs) = made(&store, 2, 1).await;
    let (other, _) = made(&store, 1, 2).await;
    fail(&store, &jobs[0], Failure::new(None, "no")).await;
    assert_eq!(ends(&store).await, [Value::Null; 0]);
    assert_eq!(group_of(&store, &id).await.open, 1);
    change(&store, &jobs[1], Input::Cancel, 9).await;
    // Nothing that comes after the end tells it again.
    change(&store, &jobs[1], Input::Cancel, 10).await;
    change(&store, &jobs[0], Input::Deadline, 11).await;
    let ends = ends(&store).await;
    assert_eq!(ends.len(), 1);
    assert_eq!((&ends[0]["id"], &ends[0]["progress"]), (&json!(id), &json!(100)));
    assert_eq!((&ends[0]["counts"]["failed"], &ends[0]["counts"]["canceled"]), (&json!(1), &json!(1)));
    let events = store.read(|tx| event::list(tx, None, 0, 99)).await;
    let last: Vec<&str> = events.iter().rev().take(2).map(|e| &*e.event_type).collect();
    assert_eq!(last, ["group.finished", "job.canceled"], "the group's end comes after its last job's");
    assert_eq!(group_of(&store, &id).await.finished_at, Some(NOW));
    assert_eq!(group_of(&store, &other).await.finished_at, None);
}

async fn ends_that_race_publish_one_end(store: Store) {
    for round in 0..5 {
        let (_, jobs) = made(&store, 8, 10 + round).await;
        let all = (0..).zip(jobs).map(|(n, job)| {
            let db = store.db.clone();
            let end = move |tx: &mut reelhook::store::Tx| {
                flow::change(tx, &job.id, Input::Cancel, &stamp(100 + 8 * round + n))
            };
            async move { db.write(end).await.expect("no fault in a race") }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(ends(&store).await.len(), usize::from(round) + 1);
    }
    assert!(ends(&store).await.iter().all(|end| end["counts"]["canceled"] == 8), "each with all its jobs");
}

async fn what_was_not_sent_is_canceled_in_steps(store: Store) {
    let (id, jobs) = made(&store, 5, 1).await;
    let (_, others) = made(&store, 1, 2).await;
    change(&store, &jobs[0], send(), 3).await;
    let cancel = |n| {
        let id = id.clone();
        store.write(move |tx| flow::cancel_some(tx, &id, 3, &stamp(n)))
    };
    assert_eq!((cancel(4).await, cancel(5).await, cancel(6).await), (3, 1, 0));
    let states: Vec<State> = jobs_of(&store, &id).await.iter().map(|job| job.state).collect();
    assert_eq!(states[0], State::Submitting, "it was sent");
    assert!(states[1..].iter().all(|state| *state == State::Canceled));
    assert_eq!(store.job(&others[0].id).await.state, State::Queued);
    assert_eq!(group_of(&store, &id).await.open, 1);
}

async fn retry(store: &Store, id: &str, accepts: bool, key: Option<Key>, n: u8) -> Retried {
    let id = id.to_owned();
    let again = move |tx: &mut reelhook::store::Tx| {
        flow::retry_failed(tx, &id, accepts, (NOW + 9, &|_, _| (1, 2)), key.as_ref(), &stamp(n))
    };
    store.db.write(again).await.expect("no fault")
}

async fn what_failed_is_retried_once(store: Store) {
    let (id, jobs) = made(&store, 3, 1).await;
    fail(&store, &jobs[0], Failure::new(None, "no")).await;
    fail(&store, &jobs[2], Failure::new(None, "no")).await;
    assert_eq!(retry(&store, "grp_none", false, None, 2).await, Retried::NotFound);
    let done = retry(&store, &id, false, Some(key(1)), 3).await;
    let Retried::Submitted { made: Submitted::New { id: new, .. }, .. } = &done else { panic!("{done:?}") };
    let again = jobs_of(&store, new).await;
    let of: Vec<_> = again.iter().map(|job| (job.retry_of.clone(), job.details.group_row)).collect();
    assert_eq!(of, [(Some(jobs[0].id.clone()), Some(1)), (Some(jobs[2].id.clone()), Some(3))]);
    assert_eq!((again[0].deadline_at, again[0].details.title.as_deref()), (NOW + 9, Some("row 1")));
    assert_eq!(group_of(&store, new).await.retry_of.as_deref(), Some(&*id));
    let same = retry(&store, &id, false, Some(key(1)), 4).await;
    assert!(matches!(same, Retried::Submitted { made: Submitted::Replayed { .. }, .. }), "{same:?}");
    assert_eq!(retry(&store, &id, true, None, 5).await, Retried::Nothing { left: vec![] });
}

async fn what_expired_is_retried_and_what_was_canceled_is_not(store: Store) {
    let (id, jobs) = made(&store, 2, 1).await;
    change(&store, &jobs[0], Input::Cancel, 2).await;
    let expired = jobs[1].id.clone();
    let late = Stamp { now: jobs[1].deadline_at, ..stamp(3) };
    store.write(move |tx| flow::change(tx, &expired, Input::Deadline, &late)).await;
    let done = retry(&store, &id, false, None, 4).await;
    let Retried::Submitted { made: Submitted::New { id: new, .. }, .. } = &done else { panic!("{done:?}") };
    let of: Vec<_> = jobs_of(&store, new).await.into_iter().map(|job| job.retry_of).collect();
    assert_eq!(of, [Some(jobs[1].id.clone())]);
}

async fn what_may_have_been_charged_is_retried_only_if_that_is_accepted(store: Store) {
    let (id, jobs) = made(&store, 2, 1).await;
    fail(&store, &jobs[0], Failure::ours(Failure::OUTCOME_UNKNOWN, "who knows")).await;
    let left = vec![jobs[0].id.clone()];
    assert_eq!(retry(&store, &id, false, None, 2).await, Retried::Nothing { left: left.clone() });
    fail(&store, &jobs[1], Failure::new(None, "no")).await;
    let done = retry(&store, &id, false, None, 3).await;
    let Retried::Submitted { made: Submitted::New { id: new, answer }, .. } = done else {
        panic!("{done:?}")
    };
    assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON")["left"], json!(left));
    assert_eq!(jobs_of(&store, &new).await.len(), 1);
    let done = retry(&store, &id, true, None, 4).await;
    assert!(matches!(done, Retried::Submitted { .. }), "{done:?}");
}

async fn retries_that_race_make_one_group(store: Store) {
    let (id, jobs) = made(&store, 1, 1).await;
    fail(&store, &jobs[0], Failure::new(None, "no")).await;
    let all = (2..8).map(|n| retry(&store, &id, true, None, n));
    let all = futures_util::future::join_all(all).await;
    let made = all.iter().filter(|done| matches!(done, Retried::Submitted { .. })).count();
    assert_eq!(made, 1, "{all:?}");
    assert_eq!(store.count("SELECT COUNT(*) FROM job").await, 2);
}

/// As if all had failed: one by one that would take minutes.
async fn of_very_many_that_failed_the_first_are_retried_and_then_the_others(store: Store) {
    let Submitted::New { id, .. } = submit(&store, new_group(MAX_JOBS + 1), None, 1).await else {
        panic!("it is new")
    };
    store.write(|tx| tx.execute("UPDATE job SET state = 'failed'", &[])).await;
    let first = retry(&store, &id, false, None, 2).await;
    let Retried::Submitted { made: Submitted::New { answer, .. }, kinds } = first else {
        panic!("{first:?}")
    };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((kinds.len(), &answer["group"]["jobs"]), (MAX_JOBS, &json!(MAX_JOBS)));
    assert_eq!((&answer["remaining"], &answer["left"]), (&json!(true), &json!([])));
    let then = retry(&store, &id, false, None, 3).await;
    let Retried::Submitted { made: Submitted::New { answer, .. }, kinds } = then else { panic!("{then:?}") };
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((kinds.len(), &answer["remaining"]), (1, &json!(false)));
    assert_eq!(retry(&store, &id, false, None, 4).await, Retried::Nothing { left: vec![] });
}

/// Requests of so many bytes that seventeen are more than one request may make.
async fn of_what_failed_only_so_many_bytes_are_retried_at_once(store: Store) {
    let mut new = new_group(17);
    new.jobs.iter_mut().for_each(|job| job.request = format!("{{\"x\":\"{}\"}}", "y".repeat((1 << 20) - 8)));
    let Submitted::New { id, .. } = submit(&store, new, None, 1).await else { panic!("it is new") };
    store.write(|tx| tx.execute("UPDATE job SET state = 'failed'", &[])).await;
    for (n, (tried, remain)) in (2..).zip([(16, true), (1, false)]) {
        let done = retry(&store, &id, false, None, n).await;
        let Retried::Submitted { made: Submitted::New { answer, .. }, kinds } = done else {
            panic!("{done:?}")
        };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((kinds.len(), &answer["remaining"]), (tried, &json!(remain)));
    }
}

async fn add(store: &Store, id: &str, new: NewGroup, key: Option<Key>, n: u8) -> Added {
    let id = id.to_owned();
    store.write(move |tx| flow::add_to_group(tx, &id, &new, key.as_ref(), &stamp(n))).await
}

async fn open_group(store: &Store, jobs: usize, n: u8) -> String {
    let done = submit(store, NewGroup { more: true, ..new_group(jobs) }, None, n).await;
    let Submitted::New { id, answer } = done else { panic!("{done:?}") };
    assert!(answer.contains(&format!("\"next_row\":{}", jobs + 1)), "{answer}");
    id
}

async fn rows_that_come_in_parts_are_numbered_on_and_end_once(store: Store) {
    let id = open_group(&store, 2, 1).await;
    for job in jobs_of(&store, &id).await {
        change(&store, &job, Input::Cancel, 2).await;
    }
    assert_eq!((group_of(&store, &id).await.open, ends(&store).await.len()), (0, 0), "more come");
    let part = NewGroup { first_row: 3, more: true, ..new_group(3) };
    let added = add(&store, &id, part.clone(), Some(key(1)), 3).await;
    let Added::Submitted(Submitted::New { id: of, answer }) = added else { panic!("{added:?}") };
    let answer_json: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&*of, &answer_json["jobs"], &answer_json["next_row"]), (&*id, &json!(5), &json!(6)));
    assert_eq!((&answer_json["ended"], &answer_json["counts"]["canceled"]), (&json!(2), &json!(2)));
    let again = add(&store, &id, part, Some(key(1)), 4).await;
    assert_eq!(again, Added::Submitted(Submitted::Replayed { id: id.clone(), answer }));
    let other = add(&store, &id, new_group(1), Some(key(2)), 5).await;
    assert_eq!(other, Added::Submitted(Submitted::KeyReused));
    for wrong in [5, 7] {
        let added = add(&store, &id, NewGroup { first_row: wrong, ..new_group(1) }, None, 6).await;
        assert_eq!(added, Added::Misplaced { next_row: Some(6) }, "in already, or too early");
    }
    let last = NewGroup { first_row: 6, ..new_group(1) };
    let added = add(&store, &id, last.clone(), None, 6).await;
    assert!(matches!(added, Added::Submitted(Submitted::New { .. })), "{added:?}");
    assert_eq!(
        add(&store, &id, last, None, 7).await,
        Added::Misplaced { next_row: None },
        "the last said so"
    );
    assert_eq!(add(&store, "grp_none", new_group(1), None, 8).await, Added::NotFound);
    let jobs = jobs_of(&store, &id).await;
    let rows: Vec<i64> = jobs.iter().filter_map(|job| job.details.group_row).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5, 6]);
    for job in &jobs {
        assert!(store.due(&job.id, TaskKind::Deadline).await.is_some() || job.state.is_terminal());
        change(&store, job, Input::Cancel, 9).await;
    }
    let ends = ends(&store).await;
    assert_eq!((ends.len(), &ends[0]["jobs"], &ends[0]["next_row"]), (1, &json!(6), &Value::Null));
    assert_eq!(group_of(&store, &id).await.finished_at, Some(NOW));
}

async fn parts_that_race_are_added_once(store: Store) {
    let id = open_group(&store, 1, 1).await;
    let part = NewGroup { first_row: 2, more: true, ..new_group(3) };
    let all = (2..8).map(|n| add(&store, &id, part.clone(), None, n));
    let all = futures_util::future::join_all(all).await;
    let late = all.iter().filter(|done| **done == Added::Misplaced { next_row: Some(5) }).count();
    assert_eq!(late, 5, "{all:?}");
    let mut rows: Vec<i64> =
        jobs_of(&store, &id).await.iter().filter_map(|job| job.details.group_row).collect();
    rows.sort_unstable();
    assert_eq!(rows, [1, 2, 3, 4]);
    let group = group_of(&store, &id).await;
    assert_eq!((group.jobs, group.open, group.next_row), (4, 4, Some(5)));
}

async fn a_group_that_is_closed_takes_no_more(store: Store) {
    let close = |id: &str, n| {
        let id = id.to_owned();
        store.write(move |tx| flow::close_group(tx, &id, &stamp(n)))
    };
    let id = open_group(&store, 1, 1).await;
    close(&id, 2).await;
    let next = NewGroup { first_row: 2, ..new_group(1) };
    assert_eq!(add(&store, &id, next, None, 3).await, Added::Misplaced { next_row: None });
    assert_eq!(ends(&store).await.len(), 0, "its job goes on");
    change(&store, &jobs_of(&store, &id).await[0], Input::Cancel, 4).await;
    assert_eq!(ends(&store).await.len(), 1);

    let over = open_group(&store, 1, 5).await;
    change(&store, &jobs_of(&store, &over).await[0], Input::Cancel, 6).await;
    assert_eq!(ends(&store).await.len(), 1, "more may come");
    close(&over, 7).await;
    close(&over, 8).await;
    assert_eq!((ends(&store).await.len(), group_of(&store, &over).await.finished_at), (2, Some(NOW)));
}
