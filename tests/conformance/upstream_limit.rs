//! Table `upstream_limit`: never more outstanding than there are slots, nothing while paused, and the
//! order in which those who wait are taken.

use reelhook::domain::job::{Job, Kind, Priority, State};
use reelhook::domain::limit::Limit;
use reelhook::domain::pause::{Pause, Reason};
use reelhook::domain::step::Input;
use reelhook::domain::task::{Lane, Outcome, TaskKind, TaskOp};
use reelhook::domain::time::{DAY, MINUTE};
use reelhook::flow::{self, Begun, Stamp};
use reelhook::store::upstream_limit;
use reelhook::store::{Db, task};

use crate::harness::{LEASE, NOW, Store, cases, id, job_in, stamp};

cases![
    a_new_database_has_the_first_limit,
    what_is_put_is_read_and_changes_of_two_never_get_lost,
    jobs_that_upstream_may_be_working_on_hold_a_slot,
    an_open_outcome_holds_a_slot_as_long_as_its_kind_takes,
    one_at_a_time_is_claimed_while_upstream_may_take_none,
    submits_are_claimed_only_for_free_slots,
    a_claim_itself_holds_the_slot_until_its_lease_ends,
    claimers_that_race_never_exceed_the_slots,
    nothing_is_claimed_while_paused_and_one_to_find_out,
    the_highest_priority_goes_first_and_then_the_oldest,
    jobs_of_a_day_are_counted_with_what_is_recorded_before_sending,
    what_was_claimed_before_a_pause_is_not_sent,
    a_slot_freed_is_claimed_again,
];

/// Changes the row as everybody does.
async fn change(store: &Store, change: impl Fn(&mut Limit) + Send + 'static) {
    let write = move |tx: &mut reelhook::store::Tx| {
        let mut limit = upstream_limit::lock(tx)?;
        change(&mut limit);
        upstream_limit::put(tx, &limit)
    };
    store.write(write).await;
}

async fn set_slots(store: &Store, slots: i64) {
    change(store, move |limit| (limit.slots, limit.most_slots) = (slots, slots)).await;
}

async fn queue(store: &Store, count: u32) {
    for n in 0..count {
        store.insert_job(&job_in(State::Queued, n)).await;
        store.add_task(&id("job_", n), TaskKind::Submit, NOW).await;
    }
}

async fn claim(db: &Db, most: i64, now: i64, token: i64) -> Vec<String> {
    let claimed = db.write(move |tx| upstream_limit::claim_submits(tx, most, now, now + MINUTE, token)).await;
    claimed.expect("a claim").into_iter().map(|t| t.subject).collect()
}

async fn a_new_database_has_the_first_limit(store: Store) {
    assert_eq!(store.read(upstream_limit::get).await, Limit::default());
}

async fn what_is_put_is_read_and_changes_of_two_never_get_lost(store: Store) {
    let counts = (0..20).map(|_| change(&store, |limit| assert!(!limit.count(NOW))));
    futures_util::future::join_all(counts).await;
    change(&store, |limit| limit.block(Reason::NotHeygen, NOW)).await;
    let limit = store.read(upstream_limit::get).await;
    assert_eq!((limit.today.jobs, limit.pause), (20, Some(Pause::new(Reason::NotHeygen, NOW))));
}

async fn jobs_that_upstream_may_be_working_on_hold_a_slot(store: Store) {
    for (n, state) in State::ALL.into_iter().enumerate() {
        store.insert_job(&job_in(state, u32::try_from(n).expect("small"))).await;
    }
    let in_use = |now| move |tx: &mut reelhook::store::Tx| upstream_limit::slots_in_use(tx, now);
    assert_eq!(store.read(in_use(NOW)).await, 3, "submitting, unknown and processing");
    let holds = upstream_limit::unknown_holds(job_in(State::Unknown, 0).kind);
    assert_eq!(store.read(in_use(NOW + holds - 1)).await, 3);
    assert_eq!(store.read(in_use(NOW + holds)).await, 2, "an open outcome holds it for a while only");
    let deadline = job_in(State::Processing, 0).deadline_at;
    assert_eq!(store.read(in_use(deadline - 1)).await, 2);
    assert_eq!(store.read(in_use(deadline)).await, 0, "past its deadline a job holds none");
    let busy = job_in(State::Processing, 4).id;
    let others = store.read(move |tx| upstream_limit::slots_of_others(tx, &busy, NOW)).await;
    assert_eq!(others, 2, "without itself");
}

async fn an_open_outcome_holds_a_slot_as_long_as_its_kind_takes(store: Store) {
    let kinds = [(Kind::VoiceClone, 2), (Kind::Video, 5), (Kind::AiClipping, 15), (Kind::VideoAgent, 15)];
    for (nth, (kind, minutes)) in (0..).zip(kinds) {
        let job = Job { kind, ..job_in(State::Unknown, nth) };
        store.insert_job(&job).await;
        let holds = upstream_limit::unknown_holds(kind);
        assert_eq!(holds, minutes * MINUTE, "and never longer than a quarter of an hour");
        let in_use = |now| move |tx: &mut reelhook::store::Tx| upstream_limit::slots_in_use(tx, now);
        assert_eq!(store.read(in_use(job.updated_at + holds - 1)).await, 1, "{kind:?}");
        assert_eq!(store.read(in_use(job.updated_at + holds)).await, 0, "{kind:?}");
        let end = Stamp { now: job.deadline_at, ..stamp(1) };
        store.write(move |tx| flow::change(tx, &job.id, Input::Deadline, &end)).await;
    }
}

/// While one finds out whether upstream takes any, it is the only one.
async fn one_at_a_time_is_claimed_while_upstream_may_take_none(store: Store) {
    queue(&store, 3).await;
    change(&store, |limit| limit.misses = 2).await;
    assert_eq!(claim(&store.db, 9, NOW, 1).await.len(), 1);
    assert_eq!(claim(&store.db, 9, NOW, 2).await, [""; 0]);
    // The claim is over and its request under way.
    let sent = job_in(State::Submitting, 9);
    store.insert_job(&sent).await;
    assert_eq!(claim(&store.db, 9, NOW + MINUTE, 3).await, [""; 0]);
    let gone = sent.id.clone();
    store.write(move |tx| flow::change(tx, &gone, Input::NoAnswer { why: "w".to_owned() }, &stamp(1))).await;
    assert_eq!(claim(&store.db, 9, NOW + MINUTE, 4).await.len(), 1);
    change(&store, |limit| limit.misses = 1).await;
    assert_eq!(claim(&store.db, 9, NOW + MINUTE, 5).await.len(), 2, "one miss says nothing yet");
}

async fn submits_are_claimed_only_for_free_slots(store: Store) {
    set_slots(&store, 3).await;
    queue(&store, 5).await;
    store.insert_job(&job_in(State::Processing, 90)).await;
    assert_eq!(claim(&store.db, 1, NOW, 1).await.len(), 1, "no more than asked");
    assert_eq!(claim(&store.db, 9, NOW, 2).await.len(), 1, "no more than free");
    assert_eq!(claim(&store.db, 9, NOW, 3).await, [""; 0]);
    set_slots(&store, 0).await;
    assert_eq!(claim(&store.db, 9, LEASE * 2, 4).await, [""; 0], "zero slots is none, not unlimited");
}

async fn a_claim_itself_holds_the_slot_until_its_lease_ends(store: Store) {
    set_slots(&store, 1).await;
    queue(&store, 2).await;
    let first = claim(&store.db, 9, NOW, 1).await;
    assert_eq!(claim(&store.db, 9, NOW + MINUTE - 1, 2).await, [""; 0]);
    let then = claim(&store.db, 9, NOW + MINUTE, 3).await;
    assert_eq!(then, first, "a run that died lets go of its slot and of its task together");
}

async fn claimers_that_race_never_exceed_the_slots(store: Store) {
    set_slots(&store, 4).await;
    queue(&store, 30).await;
    let claims = (0..16).map(|token| {
        let db = store.db.clone();
        async move { claim(&db, 3, NOW, token).await }
    });
    let taken: Vec<String> = futures_util::future::join_all(claims).await.concat();
    assert_eq!(taken.len(), 4);
    let leased = store.count("SELECT COUNT(*) FROM task WHERE lease_token IS NOT NULL").await;
    assert_eq!(leased, 4);
}

async fn nothing_is_claimed_while_paused_and_one_to_find_out(store: Store) {
    queue(&store, 3).await;
    change(&store, |limit| limit.block(Reason::OutOfCredit, NOW)).await;
    assert_eq!(claim(&store.db, 9, NOW + 9, 1).await, [""; 0]);
    change(&store, |limit| limit.looked(Some(1), NOW + 10)).await;
    assert_eq!(claim(&store.db, 9, NOW + 10, 2).await.len(), 1, "one goes to see whether it is over");
    assert_eq!(claim(&store.db, 9, NOW + 11, 3).await, [""; 0], "and only one at a time");
    change(&store, |limit| assert!(limit.resume(NOW + 12))).await;
    assert_eq!(claim(&store.db, 9, NOW + 12, 4).await.len(), 2);
}

async fn the_highest_priority_goes_first_and_then_the_oldest(store: Store) {
    set_slots(&store, 100).await;
    let wanted = [(4, 9), (1, 7), (2, 5), (5, 5), (0, 1), (3, 1)];
    let mut waits = wanted;
    waits.sort_unstable();
    for (n, priority) in waits {
        store.insert_job(&job_in(State::Queued, n)).await;
        let (subject, priority) = (id("job_", n), Priority::new(priority).expect("a priority"));
        // Due in the opposite order: how long it is due says nothing of whose turn it is.
        let due = TaskOp::Queue(priority, NOW - i64::from(n));
        store.write(move |tx| task::apply(tx, &subject, due)).await;
    }
    let order = wanted.map(|(n, _)| id("job_", n));
    assert_eq!(claim(&store.db, 2, NOW, 1).await, order[..2]);
    let claimed = store.write(|tx| task::claim_queued(tx, 9, NOW, LEASE, 2)).await;
    assert_eq!(claimed.into_iter().map(|t| t.subject).collect::<Vec<_>>(), order[2..]);
    let first = id("job_", 4);
    let again = TaskOp::Queue(Priority::default(), NOW + 1);
    store.write(move |tx| task::apply(tx, &first, again)).await;
    let later = store.write(|tx| task::claim_queued(tx, 1, LEASE, LEASE * 2, 3)).await.remove(0);
    assert_eq!(later.subject, id("job_", 1), "a new priority counts");
}

async fn jobs_of_a_day_are_counted_with_what_is_recorded_before_sending(store: Store) {
    change(&store, |limit| limit.daily_jobs = Some(3)).await;
    queue(&store, 5).await;
    let claimed = store.write(|tx| upstream_limit::claim_submits(tx, 9, NOW, LEASE, 1)).await;
    assert_eq!(claimed.len(), 3, "no more than are left of the day");
    assert_eq!(store.read(upstream_limit::get).await.today.jobs, 0, "claimed is not sent");
    for task in claimed {
        let begun = store.write(move |tx| flow::begin_send(tx, &task, "a", |_, _| true, &stamp(1))).await;
        assert!(matches!(begun, Begun::Send { .. }), "{begun:?}");
    }
    assert_eq!(store.read(upstream_limit::get).await.today.jobs, 3);
    assert_eq!(claim(&store.db, 9, NOW + MINUTE, 2).await, [""; 0]);
    let tomorrow = (NOW.div_euclid(DAY) + 1) * DAY;
    assert_eq!(claim(&store.db, 9, tomorrow - 1, 3).await, [""; 0]);
    assert_eq!(claim(&store.db, 9, tomorrow, 4).await.len(), 2);
}

async fn what_was_claimed_before_a_pause_is_not_sent(store: Store) {
    queue(&store, 1).await;
    let task = store.write(|tx| upstream_limit::claim_submits(tx, 9, NOW, LEASE, 1)).await.remove(0);
    change(&store, |limit| limit.pause_by("local", None, NOW)).await;
    let held = task.clone();
    let begun = store.write(move |tx| flow::begin_send(tx, &held, "a", |_, _| true, &stamp(1))).await;
    assert_eq!(begun, Begun::NotNow);
    assert_eq!(store.job(&task.subject).await.state, State::Queued);
    change(&store, |limit| assert!(limit.resume(NOW))).await;
    let again = store.write(|tx| upstream_limit::claim_submits(tx, 9, NOW, LEASE, 2)).await.remove(0);
    assert_eq!((again.subject, again.attempt), (task.subject, 1), "back in its lane, no attempt spent");
}

async fn a_slot_freed_is_claimed_again(store: Store) {
    set_slots(&store, 1).await;
    queue(&store, 2).await;
    let task = store.write(|tx| upstream_limit::claim_submits(tx, 9, NOW, LEASE, 1)).await.remove(0);
    let first = task.subject.clone();
    let refused = Outcome::Snooze { until: NOW + MINUTE, lane: Some(Lane::Submit) };
    store.write(move |tx| task::settle(tx, &task, &refused, NOW)).await;
    let then = claim(&store.db, 9, NOW, 2).await;
    assert_eq!(then.len(), 1);
    assert_ne!(then[0], first);
}
