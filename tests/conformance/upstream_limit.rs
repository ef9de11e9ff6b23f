//! Table `upstream_limit`: never more outstanding than there are slots, and nothing while paused.

use reelhook::domain::job::State;
use reelhook::domain::task::{Lane, Outcome, TaskKind};
use reelhook::domain::time::MINUTE;
use reelhook::store::upstream_limit::{self, Pause, UNKNOWN_HOLDS};
use reelhook::store::{Db, task};

use crate::harness::{LEASE, NOW, Store, cases, id, job_in};

cases![
    jobs_that_upstream_may_be_working_on_hold_a_slot,
    submits_are_claimed_only_for_free_slots,
    a_claim_itself_holds_the_slot_until_its_lease_ends,
    claimers_that_race_never_exceed_the_slots,
    nothing_is_claimed_while_paused_and_one_to_find_out,
    a_pause_keeps_its_beginning_while_it_is_renewed,
    a_slot_freed_is_claimed_again,
];

async fn set_slots(store: &Store, slots: i64) {
    store.write(move |tx| upstream_limit::set_slots(tx, slots)).await;
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

async fn jobs_that_upstream_may_be_working_on_hold_a_slot(store: Store) {
    for (n, state) in State::ALL.into_iter().enumerate() {
        store.insert_job(&job_in(state, u32::try_from(n).expect("small"))).await;
    }
    let in_use = |now| move |tx: &mut reelhook::store::Tx| upstream_limit::slots_in_use(tx, now);
    assert_eq!(store.read(in_use(NOW)).await, 3, "submitting, unknown and processing");
    assert_eq!(store.read(in_use(NOW + UNKNOWN_HOLDS - 1)).await, 3);
    assert_eq!(store.read(in_use(NOW + UNKNOWN_HOLDS)).await, 2, "an open outcome holds it for a while only");
    let deadline = job_in(State::Processing, 0).deadline_at;
    assert_eq!(store.read(in_use(deadline - 1)).await, 2);
    assert_eq!(store.read(in_use(deadline)).await, 0, "past its deadline a job holds none");
}

async fn submits_are_claimed_only_for_free_slots(store: Store) {
    assert_eq!(store.read(upstream_limit::get).await.slots, 10, "as a new database says");
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
    store.write(|tx| upstream_limit::pause(tx, "out of credit", NOW, NOW + 10)).await;
    assert_eq!(claim(&store.db, 9, NOW + 9, 1).await, [""; 0]);
    assert_eq!(claim(&store.db, 9, NOW + 10, 2).await.len(), 1, "one goes to see whether it is over");
    assert_eq!(claim(&store.db, 9, NOW + 11, 3).await, [""; 0], "and only one at a time");
    assert!(store.write(upstream_limit::resume).await);
    assert_eq!(claim(&store.db, 9, NOW + 12, 4).await.len(), 2);
    assert!(!store.write(upstream_limit::resume).await, "there was no pause to end");
}

async fn a_pause_keeps_its_beginning_while_it_is_renewed(store: Store) {
    store.write(|tx| upstream_limit::pause(tx, "first", NOW, NOW + 10)).await;
    store.write(|tx| upstream_limit::pause(tx, "second", NOW + 5, NOW + 99)).await;
    let pause = store.read(upstream_limit::get).await.pause;
    assert_eq!(pause, Some(Pause { since: NOW, until: NOW + 99, reason: "second".to_owned() }));
    store.write(upstream_limit::resume).await;
    assert_eq!(store.read(upstream_limit::get).await.pause, None);
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
