//! `flow::begin_send` and `flow::conclude`: what a run may record, with its lease and without.

use reelhook::domain::charge::CallOutcome;
use reelhook::domain::job::{FoundBy, Job, Observation, Output, Says, State};
use reelhook::domain::step::Input;
use reelhook::domain::task::{Claimed, Lane, Outcome, TaskKind, TaskOp};
use reelhook::domain::time::{HOUR, MINUTE, Millis};
use reelhook::flow::{self, Begun, Changed};
use reelhook::store::{Tx, event, task};

use crate::harness::{LEASE, NOW, Store, cases, id, job_in, stamp};

cases![
    what_is_recorded_before_sending_depends_on_the_state,
    a_call_that_is_made_again_is_recorded_before_it_is_and_a_search_is_no_call,
    keys_of_calls_that_seem_yet_to_come_are_not_trusted_any_more,
    keys_stay_as_old_as_they_are_where_it_is_known_how_far_the_clock_was_set_back,
    sending_without_the_lease_records_nothing,
    a_task_of_no_job_is_dropped,
    a_conclusion_records_outcome_and_finding_together,
    without_the_lease_nothing_is_concluded,
    that_upstream_accepted_it_is_recorded_even_without_the_lease,
    a_poll_and_a_webhook_that_race_end_the_job_once,
];

const ACCOUNT: &str = "account";

fn accepted(id: &str) -> Input {
    Input::Accepted { upstream_id: id.to_owned(), upstream_video_id: None }
}

fn finished(found_by: FoundBy) -> Input {
    let output = Output { video_url: Some("https://v".to_owned()), ..Output::default() };
    Input::Observed(Observation {
        found_by,
        upstream_id: None,
        upstream_video_id: None,
        says: Says::Completed(Box::new(output)),
    })
}

/// A job in `state` whose task of this kind this process runs.
async fn running(store: &Store, state: State, kind: TaskKind) -> Claimed {
    let job = job_in(state, 1);
    store.insert_job(&job).await;
    store.add_task(&job.id, TaskKind::Deadline, job.deadline_at).await;
    store.add_task(&job.id, kind, NOW).await;
    store.claim_one(kind.lane(&job.id), 1).await
}

async fn begin(store: &Store, task: &Claimed) -> Begun {
    begin_if(store, task, |_, _| true).await
}

async fn begin_if(store: &Store, task: &Claimed, repeats: fn(&Job, Millis) -> bool) -> Begun {
    let task = task.clone();
    store.write(move |tx| flow::begin_send(tx, &task, ACCOUNT, repeats, &stamp(1))).await
}

async fn conclude(store: &Store, task: &Claimed, outcome: Outcome, input: Option<Input>) -> Option<Changed> {
    let task = task.clone();
    store.write(move |tx| flow::conclude(tx, &task, &outcome, input.as_ref(), &stamp(2))).await
}

/// Lets somebody else have the task.
async fn lose(store: &Store, task: &Claimed) -> Claimed {
    let lane = task.kind.lane(&task.subject);
    store.write(move |tx| task::claim(tx, lane, 1, LEASE, LEASE * 2, 99)).await.remove(0)
}

async fn what_is_recorded_before_sending_depends_on_the_state(store: Store) {
    for state in State::ALL {
        let task = running(&store, state, TaskKind::Submit).await;
        let begun = begin(&store, &task).await;
        let job = store.job(&task.subject).await;
        match (state, begun) {
            (State::Queued, Begun::Send { job: told, request }) => {
                assert_eq!((job.state, job.details.sent_at), (State::Submitting, Some(NOW)));
                assert_eq!((*told, request.as_str()), (job, "{}"));
            }
            // A run before this one sent it, or was about to, and never told.
            (State::Submitting | State::Unknown, Begun::Repeat { job: told, .. }) => {
                assert_eq!((job.state, *told), (State::Unknown, job.clone()));
            }
            (State::Queued | State::Submitting | State::Unknown, other) => panic!("{state:?}: {other:?}"),
            (_, begun) => {
                assert_eq!((begun, job.state), (Begun::Nothing, state));
                assert_eq!(store.due(&task.subject, TaskKind::Submit).await, None, "{state:?}");
            }
        }
        if matches!(state, State::Queued | State::Submitting | State::Unknown) {
            assert_eq!(
                store.claim(Lane::Submit, 1, 9).await,
                [],
                "{state:?}: it left the lane that waits for slots"
            );
            assert!(store.read(move |tx| task::is_held(tx, &task)).await, "{state:?}");
        }
        store.write(|tx| tx.execute("DELETE FROM job", &[])).await;
        store.write(|tx| tx.execute("DELETE FROM job_request", &[])).await;
        store.write(|tx| tx.execute("DELETE FROM task", &[])).await;
    }
}

async fn a_call_that_is_made_again_is_recorded_before_it_is_and_a_search_is_no_call(store: Store) {
    let task = running(&store, State::Queued, TaskKind::Submit).await;
    let calls = async || {
        let calls = store.job(&task.subject).await.details.calls.latest;
        calls.iter().map(|call| (call.repeat, call.outcome)).collect::<Vec<_>>()
    };
    begin(&store, &task).await;
    assert_eq!(calls().await, [(false, None)]);
    // Whoever sent it died.
    let Begun::Repeat { job, .. } = begin(&store, &task).await else { panic!("no repeat") };
    let both = [(false, Some(CallOutcome::NoAnswer)), (true, None)];
    assert_eq!(calls().await, both);
    assert_eq!(*job, store.job(&job.id).await, "with its version");
    let version = job.version;
    let Begun::Search { job } = begin_if(&store, &task, |_, _| false).await else { panic!("no search") };
    assert_eq!((calls().await, job.version), (both.to_vec(), version), "nothing is written");
    let other = task.clone();
    let elsewhere = move |tx: &mut Tx| flow::begin_send(tx, &other, "another", |_, _| true, &stamp(1));
    assert_eq!(store.write(elsewhere).await, Begun::Search { job }, "another account knows no such key");
    let Begun::Repeat { .. } = begin(&store, &task).await else { panic!("no repeat") };
}

async fn keys_of_calls_that_seem_yet_to_come_are_not_trusted_any_more(store: Store) {
    // Stamps of cases are of NOW. More than are read at once, and a minute is what nodes may differ by.
    let later = |n: u32| NOW + if n == 0 { MINUTE - 1 } else { MINUTE };
    for n in 0..205 {
        let state = if n % 2 == 0 { State::Unknown } else { State::Submitting };
        let mut job = job_in(state, n);
        job.details.sent_at = Some(later(n));
        store.insert_job(&job).await;
    }
    let mut answered = job_in(State::Processing, 205);
    answered.details.sent_at = Some(later(205));
    store.insert_job(&answered).await;
    let before = store.job(&id("job_", 7)).await;
    for _ in 0..2 {
        store.write(|tx| flow::doubt_keys(tx, &Input::SetBack(None), NOW)).await;
    }
    for n in 0..206 {
        let now = store.job(&id("job_", n)).await.details.sent_at;
        assert_eq!(now, Some(if n == 0 || n == 205 { later(n) } else { 0 }), "{n}");
    }
    let after = store.job(&before.id).await;
    assert_eq!((after.state, after.updated_at), (before.state, before.updated_at));
    assert_eq!(after.version, before.version + 1, "once");
}

async fn keys_stay_as_old_as_they_are_where_it_is_known_how_far_the_clock_was_set_back(store: Store) {
    let cases = [
        // Sent at, and what becomes of that and of `updated_at`.
        (State::Unknown, NOW + HOUR - 5, (NOW - 5, NOW)),
        (State::Submitting, NOW + HOUR, (NOW, NOW)),
        // Before the clock was set ahead, or sent so long ago.
        (State::Unknown, NOW, (NOW - HOUR, NOW)),
        // Not trusted already.
        (State::Unknown, 0, (0, NOW)),
        (State::Processing, NOW, (NOW, NOW + HOUR)),
    ];
    let forgotten = [(0, NOW), (0, NOW), (0, NOW), (0, NOW), (NOW, NOW + HOUR)];
    for (n, (state, sent_at, _)) in (0..).zip(cases) {
        let mut job = job_in(state, n);
        (job.details.sent_at, job.updated_at) = (Some(sent_at), NOW + HOUR);
        store.insert_job(&job).await;
    }
    store.write(|tx| flow::doubt_keys(tx, &Input::SetBack(Some(HOUR)), NOW)).await;
    for (n, (_, _, expected)) in (0..).zip(cases) {
        let job = store.job(&id("job_", n)).await;
        assert_eq!((job.details.sent_at.unwrap(), job.updated_at), expected, "{n}");
    }
    store.write(|tx| flow::doubt_keys(tx, &Input::Forgotten, NOW)).await;
    for (n, expected) in (0..).zip(forgotten) {
        let job = store.job(&id("job_", n)).await;
        assert_eq!((job.details.sent_at.unwrap(), job.updated_at), expected, "{n}");
    }
}

async fn sending_without_the_lease_records_nothing(store: Store) {
    let task = running(&store, State::Queued, TaskKind::Submit).await;
    lose(&store, &task).await;
    assert_eq!(begin(&store, &task).await, Begun::LeaseLost);
    assert_eq!(store.job(&task.subject).await.state, State::Queued);
}

async fn a_task_of_no_job_is_dropped(store: Store) {
    store.add_task("job_none", TaskKind::Submit, NOW).await;
    let task = store.claim_one(Lane::Submit, 1).await;
    assert_eq!(begin(&store, &task).await, Begun::Nothing);
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0);
}

async fn a_conclusion_records_outcome_and_finding_together(store: Store) {
    let task = running(&store, State::Queued, TaskKind::Submit).await;
    begin(&store, &task).await;
    let done = conclude(&store, &task, Outcome::Done, Some(accepted("vid_new"))).await;
    let Some(Changed::Ok(told)) = done else { panic!("{done:?}") };
    let job = store.job(&task.subject).await;
    assert_eq!((*told, job.state), (job.clone(), State::Processing));
    assert_eq!(job.upstream_id.as_deref(), Some("vid_new"));
    assert_eq!(store.due(&job.id, TaskKind::Submit).await, None);
    assert!(store.due(&job.id, TaskKind::Poll).await.is_some());
    let again = Outcome::Retry { at: NOW + 9, why: "busy".to_owned() };
    store.write(|tx| tx.execute("UPDATE task SET due_at = 0 WHERE kind = 'poll'", &[])).await;
    let poll = store.claim_one(Lane::Poll, 2).await;
    let done = conclude(&store, &poll, again, None).await;
    assert_eq!(done, Some(Changed::Ok(Box::new(job))), "nothing found: the job as it is");
}

async fn without_the_lease_nothing_is_concluded(store: Store) {
    let task = running(&store, State::Processing, TaskKind::Poll).await;
    let theirs = lose(&store, &task).await;
    assert_eq!(conclude(&store, &task, Outcome::Done, Some(finished(FoundBy::Poll))).await, None);
    assert_eq!(conclude(&store, &task, Outcome::Done, None).await, None);
    assert_eq!(store.job(&task.subject).await.version, 1);
    assert!(store.read(move |tx| task::is_held(tx, &theirs)).await);
}

async fn that_upstream_accepted_it_is_recorded_even_without_the_lease(store: Store) {
    let task = running(&store, State::Queued, TaskKind::Submit).await;
    begin(&store, &task).await;
    let theirs = store.write(|tx| task::claim(tx, Lane::Resolve, 1, LEASE, LEASE * 2, 99)).await.remove(0);
    let done = conclude(&store, &task, Outcome::Done, Some(accepted("vid_new"))).await;
    assert!(matches!(done, Some(Changed::Ok(_))), "{done:?}");
    let job = store.job(&task.subject).await;
    assert_eq!((job.state, job.upstream_id.as_deref()), (State::Processing, Some("vid_new")));
    let held = theirs.clone();
    assert!(store.read(move |tx| task::is_held(tx, &held)).await, "the task is still theirs");
    assert_eq!(begin(&store, &theirs).await, Begun::Nothing, "and they learn of it");
}

/// Both want the rows of task and job; in opposite orders PostgreSQL would take a second for each.
async fn a_poll_and_a_webhook_that_race_end_the_job_once(store: Store) {
    for n in 0..8 {
        let job = job_in(State::Processing, n);
        store.insert_job(&job).await;
        store.add_task(&job.id, TaskKind::Poll, NOW).await;
        let poll = store.claim_one(Lane::Poll, 1).await;
        let id = job.id.clone();
        let webhook = store.db.write(move |tx| flow::change(tx, &id, finished(FoundBy::Webhook), &stamp(1)));
        let poll = store.db.write(move |tx| {
            flow::conclude(tx, &poll, &Outcome::Done, Some(&finished(FoundBy::Poll)), &stamp(2))
        });
        let (webhook, poll) = futures_util::future::join(webhook, poll).await;
        webhook.expect("the webhook is taken in");
        poll.expect("the poll is concluded");
        let ended = store.job(&job.id).await;
        // What the poll was told is added to what the webhook told.
        let polled_late = ended.details.found_by == Some(FoundBy::Webhook);
        assert_eq!(ended.version, 2 + i64::from(polled_late));
        assert!(!ended.details.refresh_asked);
        let events = store.read(move |tx| event::list(tx, Some(&job.id), 0, 9)).await;
        assert_eq!(events.len(), 1, "one terminal event");
        assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0);
        store.write(|tx| task::apply(tx, "none", TaskOp::Drop(TaskKind::Poll))).await;
    }
}
