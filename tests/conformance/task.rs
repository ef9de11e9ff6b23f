//! Table `task`: who gets which task, for how long, and what a lost lease may still do (nothing).

use reelhook::domain::dead_letter::{Cause, Filter, Trouble};
use reelhook::domain::job::Priority;
use reelhook::domain::task::{Lane, Outcome, TaskKind, TaskOp};
use reelhook::domain::time::HOUR;
use reelhook::store::{Db, dead_letter, task};

use crate::harness::{LEASE, NOW, Store, cases, id};

cases![
    a_claim_takes_the_longest_due_first,
    a_claim_takes_no_more_than_asked_and_only_what_is_due_in_its_lane,
    a_leased_task_is_nobody_elses_until_the_lease_ends,
    an_old_token_settles_nothing,
    each_outcome_leaves_the_task_as_it_says,
    a_snooze_spends_no_attempt_and_may_name_a_lane,
    a_time_changed_while_it_ran_survives_the_settling,
    so_does_a_time_that_is_the_one_it_was_claimed_at,
    hasten_brings_forward_and_never_puts_off,
    add_changes_the_time_of_a_task_that_is_there,
    adding_to_a_dead_task_makes_it_due_again,
    drop_takes_the_task_from_whoever_runs_it,
    many_are_added_and_settled_in_few_statements,
    tasks_of_several_kinds_are_added_together,
    settling_many_tells_which_leases_were_lost,
    a_task_about_many_is_claimed_whole_and_can_be_split,
    what_is_dropped_and_added_together_is_as_one_by_one,
    only_lanes_with_something_to_claim_are_due,
    changing_the_lane_keeps_the_lease,
    what_is_given_back_is_due_at_once_and_spent_nothing,
    what_failed_and_is_put_off_is_told_apart,
    the_next_due_time_is_the_earliest_in_the_future,
    the_backlog_counts_what_is_due,
    a_long_reason_is_cut_between_letters,
    claimers_that_race_never_share_a_task,
    what_is_shifted_waits_as_long_and_deadlines_stay,
    voided_leases_are_anybodys_and_their_tokens_settle_nothing,
];

const POLL: TaskKind = TaskKind::Poll;

fn dead(why: &str) -> Outcome {
    Outcome::Dead { cause: Cause::new(Trouble::Other), why: why.to_owned() }
}

async fn count_dead(store: &Store) -> i64 {
    store.read(|tx| dead_letter::count(tx, &Filter::default())).await
}

async fn a_claim_takes_the_longest_due_first(store: Store) {
    for (subject, due_at) in [("c", NOW - 1), ("d", NOW - 3), ("a", NOW), ("b", NOW - 2)] {
        store.add_task(subject, POLL, due_at).await;
    }
    let first: Vec<String> = store.claim(Lane::Poll, 2, 1).await.into_iter().map(|t| t.subject).collect();
    assert_eq!(first, ["d", "b"]);
    let then: Vec<String> = store.claim(Lane::Poll, 9, 2).await.into_iter().map(|t| t.subject).collect();
    assert_eq!(then, ["c", "a"]);
}

async fn a_claim_takes_no_more_than_asked_and_only_what_is_due_in_its_lane(store: Store) {
    store.add_task("due", POLL, NOW).await;
    store.add_task("later", POLL, NOW + 1).await;
    store.add_task("other", TaskKind::Deadline, NOW).await;
    assert_eq!(store.claim(Lane::Poll, 0, 1).await, []);
    let claimed = store.claim_one(Lane::Poll, 7).await;
    assert_eq!((claimed.subject.as_str(), claimed.kind), ("due", POLL));
    assert_eq!((claimed.token, claimed.attempt), (7, 1));
    assert_eq!((claimed.due_at, claimed.lease_until), (NOW, LEASE));
}

async fn tasks_of_several_kinds_are_added_together(store: Store) {
    let [low, high] = [1, 9].map(|n| Priority::new(n).expect("a priority"));
    let subjects: Vec<String> = (0..100).map(|n| format!("j{n:02}")).collect();
    store
        .write(move |tx| {
            let submits = subjects
                .iter()
                .enumerate()
                .map(|(n, s)| (&**s, TaskKind::Submit, NOW, if n == 50 { high } else { low }));
            let ends =
                subjects.iter().enumerate().map(|(n, s)| (&**s, TaskKind::Deadline, NOW + n as i64, low));
            task::insert_many(tx, &submits.chain(ends).collect::<Vec<_>>(), 3)?;
            task::insert_many(tx, &[], 0)
        })
        .await;
    assert_eq!(store.due("j99", TaskKind::Deadline).await, Some(NOW + 99));
    let first = store.write(|tx| task::claim_queued(tx, 2, NOW, LEASE, 1)).await;
    let first: Vec<(&str, i64)> = first.iter().map(|task| (&*task.subject, task.attempt)).collect();
    assert_eq!(first, [("j50", 4), ("j00", 4)], "by priority, then the first; attempts go on");
    store.write(move |tx| task::insert_many(tx, &[("j01", TaskKind::Submit, NOW, high)], 0)).await;
    let next = store.write(|tx| task::claim_queued(tx, 1, NOW, LEASE, 2)).await;
    assert_eq!((&*next[0].subject, next[0].attempt), ("j01", 4), "one that is there takes time and priority");
}

async fn a_leased_task_is_nobody_elses_until_the_lease_ends(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let first = store.claim_one(Lane::Poll, 1).await;
    let early = store.write(|tx| task::claim(tx, Lane::Poll, 9, LEASE - 1, LEASE + 9, 2)).await;
    assert_eq!(early, []);
    let second = store.write(|tx| task::claim(tx, Lane::Poll, 9, LEASE, LEASE + 9, 2)).await;
    assert_eq!((second[0].token, second[0].attempt, second[0].lease_until), (2, 2, LEASE + 9));
    let held = store.read(move |tx| Ok((task::is_held(tx, &first)?, task::is_held(tx, &second[0])?))).await;
    assert_eq!(held, (false, true));
}

async fn an_old_token_settles_nothing(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let old = store.claim_one(Lane::Poll, 1).await;
    let new = store.write(|tx| task::claim(tx, Lane::Poll, 1, LEASE, LEASE + 9, 2)).await.remove(0);
    for outcome in [
        Outcome::Done,
        Outcome::Snooze { until: NOW + 5, lane: None },
        Outcome::Retry { at: NOW + 5, why: "w".to_owned() },
        dead("w"),
    ] {
        let old = old.clone();
        let held = store
            .write(move |tx| {
                Ok((task::settle(tx, &old, &outcome, NOW)?, task::change_lane(tx, &old, Lane::Slow)?))
            })
            .await;
        assert_eq!(held, (false, false));
    }
    let token = old.token;
    assert_eq!(store.write(move |tx| task::give_back(tx, token)).await, 0);
    let still = new.clone();
    assert!(store.read(move |tx| task::is_held(tx, &still)).await);
    assert_eq!(store.due("j", POLL).await, Some(NOW));
    assert!(store.write(move |tx| task::settle(tx, &new, &Outcome::Done, NOW)).await);
    assert_eq!(store.due("j", POLL).await, None);
}

async fn each_outcome_leaves_the_task_as_it_says(store: Store) {
    for subject in ["done", "retry", "dead"] {
        store.add_task(subject, POLL, NOW).await;
        let task = store.claim_one(Lane::Poll, 1).await;
        let outcome = match subject {
            "done" => Outcome::Done,
            "retry" => Outcome::Retry { at: NOW + 500, why: "busy".to_owned() },
            _ => dead("nonsense"),
        };
        assert!(store.write(move |tx| task::settle(tx, &task, &outcome, NOW)).await);
    }
    assert_eq!(store.due("done", POLL).await, None);
    assert_eq!(store.due("retry", POLL).await, Some(NOW + 500));
    assert_eq!(store.due("dead", POLL).await, None, "a dead task is never due");
    assert_eq!(count_dead(&store).await, 1);
    let again = store.write(|tx| task::claim(tx, Lane::Poll, 9, NOW + 500, LEASE, 2)).await;
    assert_eq!((again[0].subject.as_str(), again[0].attempt), ("retry", 2), "the attempt counted");
    assert_eq!(again.len(), 1);
}

async fn a_snooze_spends_no_attempt_and_may_name_a_lane(store: Store) {
    store.add_task("j", TaskKind::Submit, NOW).await;
    let task = store.claim_one(Lane::Submit, 1).await;
    let to_resolve = Outcome::Snooze { until: NOW, lane: Some(Lane::Resolve) };
    store.write(move |tx| task::settle(tx, &task, &to_resolve, NOW)).await;
    assert_eq!(store.claim(Lane::Submit, 9, 2).await, []);
    let task = store.claim_one(Lane::Resolve, 2).await;
    assert_eq!(task.attempt, 1, "the snoozed attempt is not spent");
    let home = Outcome::Snooze { until: NOW, lane: None };
    store.write(move |tx| task::settle(tx, &task, &home, NOW)).await;
    assert_eq!(store.claim_one(Lane::Submit, 3).await.attempt, 1, "without a lane it goes to its own");
}

async fn a_time_changed_while_it_ran_survives_the_settling(store: Store) {
    store.add_task("j", POLL, NOW - 10).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    store.write(|tx| task::apply(tx, "j", TaskOp::Hasten(POLL, NOW))).await;
    let later = Outcome::Snooze { until: NOW + 900_000, lane: None };
    assert!(store.write(move |tx| task::settle(tx, &task, &later, NOW)).await);
    assert_eq!(store.due("j", POLL).await, Some(NOW), "the hint that came meanwhile is not forgotten");
}

async fn so_does_a_time_that_is_the_one_it_was_claimed_at(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    store.write(|tx| task::apply(tx, "j", TaskOp::Hasten(POLL, NOW))).await;
    let later = Outcome::Snooze { until: NOW + 900_000, lane: None };
    assert!(store.write(move |tx| task::settle(tx, &task, &later, NOW)).await);
    assert_eq!(store.claim(Lane::Poll, 9, 2).await.len(), 1, "it is due at once");
}

async fn hasten_brings_forward_and_never_puts_off(store: Store) {
    store.add_task("j", POLL, NOW + 10).await;
    store.write(|tx| task::apply(tx, "j", TaskOp::Hasten(POLL, NOW + 20))).await;
    assert_eq!(store.due("j", POLL).await, Some(NOW + 10));
    store.write(|tx| task::apply(tx, "j", TaskOp::Hasten(POLL, NOW))).await;
    assert_eq!(store.due("j", POLL).await, Some(NOW));
    store.write(|tx| task::apply(tx, "none", TaskOp::Hasten(POLL, NOW))).await;
    assert_eq!(store.due("none", POLL).await, None, "what is not there is not made");
    let task = store.claim_one(Lane::Poll, 1).await;
    let given_up = dead("w");
    store.write(move |tx| task::settle(tx, &task, &given_up, NOW)).await;
    store.write(|tx| task::apply(tx, "j", TaskOp::Hasten(POLL, NOW - 1))).await;
    assert_eq!(store.claim(Lane::Poll, 1, 2).await, [], "nor is a dead one woken");
}

async fn add_changes_the_time_of_a_task_that_is_there(store: Store) {
    store.add_task("j", POLL, NOW).await;
    store.add_task("j", POLL, NOW + 30).await;
    assert_eq!(store.due("j", POLL).await, Some(NOW + 30));
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 1);
    store.add_task("j", TaskKind::Deadline, NOW).await;
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 2, "another kind is another task");
}

async fn adding_to_a_dead_task_makes_it_due_again(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    let given_up = dead("w");
    store.write(move |tx| task::settle(tx, &task, &given_up, NOW)).await;
    store.add_task("j", POLL, NOW).await;
    assert_eq!(count_dead(&store).await, 0);
    assert_eq!(store.claim_one(Lane::Poll, 2).await.subject, "j");
}

async fn drop_takes_the_task_from_whoever_runs_it(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    store.write(|tx| task::apply(tx, "j", TaskOp::Drop(POLL))).await;
    let late = Outcome::Retry { at: NOW, why: "w".to_owned() };
    assert!(!store.write(move |tx| task::settle(tx, &task, &late, NOW)).await);
    assert_eq!(store.due("j", POLL).await, None, "a late settle does not bring it back");
}

async fn what_failed_and_is_put_off_is_told_apart(store: Store) {
    let put_off =
        async |subject: &'static str| store.read(move |tx| task::find_put_off(tx, subject, POLL)).await;
    store.add_task("one", POLL, NOW).await;
    assert_eq!(put_off("one").await, None, "it only waits");
    let held = store.claim_one(Lane::Poll, 1).await;
    let retry = Outcome::Retry { at: NOW + 900, why: "nobody there".to_owned() };
    store.write(move |tx| task::settle(tx, &held, &retry, NOW)).await;
    assert_eq!((put_off("one").await, put_off("none").await), (Some(NOW + 900), None));
    let cause = Cause::new(Trouble::Other);
    store.write(move |tx| task::bury(tx, POLL, &["one"], 1, (&cause, "no"), NOW)).await;
    assert_eq!(put_off("one").await, None, "it is given up");
}

async fn many_are_added_and_settled_in_few_statements(store: Store) {
    let subjects: Vec<String> = (0..200).map(|n| id("rcp_", n)).collect();
    let expected = subjects.clone();
    store
        .write(move |tx| {
            let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
            task::add_many(tx, TaskKind::Apply, &subjects, NOW)
        })
        .await;
    let claimed = store.claim(Lane::Inbound, 500, 1).await;
    let got: Vec<&String> = claimed.iter().map(|t| &t.subject).collect();
    assert_eq!(got, expected.iter().collect::<Vec<_>>(), "same due time: in the order of the subjects");
    assert_eq!(
        store.write(move |tx| task::settle_done(tx, &claimed.iter().collect::<Vec<_>>())).await,
        [0; 0]
    );
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0);
    store.write(|tx| task::add_many(tx, TaskKind::Apply, &[], NOW)).await;
    assert_eq!(store.write(|tx| task::settle_done(tx, &[])).await, [0; 0]);
}

async fn settling_many_tells_which_leases_were_lost(store: Store) {
    for n in 0..100 {
        store.add_task(&id("rcp_", n), TaskKind::Apply, NOW).await;
    }
    let claimed = store.claim(Lane::Inbound, 100, 1).await;
    // One from each of the statements a hundred takes.
    let lost = [3, 70, 98];
    for n in lost {
        let subject = claimed[n].subject.clone();
        store.write(move |tx| task::apply(tx, &subject, TaskOp::Drop(TaskKind::Apply))).await;
    }
    assert_eq!(store.write(move |tx| task::settle_done(tx, &claimed.iter().collect::<Vec<_>>())).await, lost);
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0);
}

async fn a_task_about_many_is_claimed_whole_and_can_be_split(store: Store) {
    let add = |subjects: &'static [&'static str]| {
        store.write(move |tx| task::add_together(tx, TaskKind::Apply, subjects, NOW))
    };
    add(&[]).await;
    assert_eq!(store.claim(Lane::Inbound, 9, 1).await, []);
    add(&["a"]).await;
    add(&["b", "c", "d"]).await;
    let claimed = store.claim(Lane::Inbound, 9, 1).await;
    let about: Vec<Vec<&str>> = claimed.iter().map(|task| task.subjects().collect()).collect();
    assert_eq!(about, [vec!["a"], vec!["b", "c", "d"]]);
    let many = claimed[1].clone();
    let split = move |tx: &mut reelhook::store::Tx| task::split(tx, &many, NOW + 5);
    assert!(store.write(split.clone()).await);
    assert!(!store.write(split).await, "the lease went with the task");
    assert_eq!(store.due("c", TaskKind::Apply).await, Some(NOW + 5));
    let each = store.write(|tx| task::claim(tx, Lane::Inbound, 9, NOW + 5, LEASE, 2)).await;
    let seen: Vec<(&str, i64, usize)> =
        each.iter().map(|t| (t.subject.as_str(), t.attempt, t.more.len())).collect();
    assert_eq!(seen, [("b", 2, 0), ("c", 2, 0), ("d", 2, 0)], "each knows that it was tried");
}

async fn what_is_dropped_and_added_together_is_as_one_by_one(store: Store) {
    let subjects: Vec<String> = (0..70).map(|n| id("job_", n)).collect();
    for subject in &subjects {
        store.add_task(subject, POLL, NOW).await;
        store.add_task(subject, TaskKind::Deadline, NOW).await;
    }
    store
        .write(move |tx| {
            let drop = subjects.iter().map(|s| (s.as_str(), TaskOp::Drop(POLL)));
            let add = [
                ("new", TaskOp::Add(POLL, NOW + 9)),
                ("new", TaskOp::Add(TaskKind::Deadline, NOW)),
                ("new", TaskOp::Add(POLL, NOW + 1)),
                (&*subjects[0], TaskOp::Hasten(POLL, NOW)),
            ];
            task::apply_many(tx, &drop.chain(add).collect::<Vec<_>>())?;
            task::apply_many(tx, &[])
        })
        .await;
    assert_eq!(store.count("SELECT COUNT(*) FROM task WHERE kind = 'poll'").await, 1);
    assert_eq!(store.count("SELECT COUNT(*) FROM task WHERE kind = 'deadline'").await, 71);
    assert_eq!(store.due("new", POLL).await, Some(NOW + 1), "when it was last to be");
}

async fn only_lanes_with_something_to_claim_are_due(store: Store) {
    let due = |now: i64| store.read(move |tx| task::due_lanes(tx, now));
    assert_eq!(due(NOW).await, []);
    store.add_task("a", POLL, NOW).await;
    store.add_task("b", TaskKind::Submit, NOW + 1).await;
    store.add_task("c", TaskKind::Apply, NOW).await;
    assert_eq!(due(NOW - 1).await, []);
    assert_eq!(due(NOW).await, [Lane::Inbound, Lane::Poll]);
    assert_eq!(due(NOW + 1).await, [Lane::Inbound, Lane::Submit, Lane::Poll]);
    let leased = store.claim_one(Lane::Poll, 1).await;
    assert_eq!(due(NOW).await, [Lane::Inbound]);
    assert_eq!(due(LEASE).await, [Lane::Inbound, Lane::Submit, Lane::Poll], "the lease has ended");
    let given_up = dead("spent");
    store.write(move |tx| task::settle(tx, &leased, &given_up, NOW)).await;
    assert_eq!(due(LEASE).await, [Lane::Inbound, Lane::Submit]);
}

async fn changing_the_lane_keeps_the_lease(store: Store) {
    store.add_task("j", TaskKind::Submit, NOW).await;
    let task = store.claim_one(Lane::Submit, 1).await;
    let held = task.clone();
    assert!(store.write(move |tx| task::change_lane(tx, &held, Lane::Resolve)).await);
    assert_eq!(store.claim(Lane::Resolve, 9, 2).await, [], "it is still leased");
    assert!(store.write(move |tx| task::settle(tx, &task, &Outcome::Done, NOW)).await);
}

async fn what_is_given_back_is_due_at_once_and_spent_nothing(store: Store) {
    store.add_task("a", POLL, NOW - 2).await;
    store.add_task("b", POLL, NOW - 1).await;
    let claimed = store.claim(Lane::Poll, 2, 1).await;
    let token = claimed[0].token;
    assert_eq!(store.write(move |tx| task::give_back(tx, token)).await, 2);
    let again = store.claim(Lane::Poll, 2, 2).await;
    let seen: Vec<_> = again.iter().map(|t| (t.subject.as_str(), t.attempt, t.due_at)).collect();
    assert_eq!(seen, [("a", 1, NOW - 2), ("b", 1, NOW - 1)]);
}

async fn the_next_due_time_is_the_earliest_in_the_future(store: Store) {
    assert_eq!(store.read(|tx| task::next_due(tx, NOW)).await, None);
    store.add_task("past", POLL, NOW).await;
    assert_eq!(store.read(|tx| task::next_due(tx, NOW)).await, None, "due now is not in the future");
    store.add_task("late", POLL, NOW + 50).await;
    store.add_task("soon", TaskKind::Upkeep, NOW + 20).await;
    assert_eq!(store.read(|tx| task::next_due(tx, NOW)).await, Some(NOW + 20), "over all lanes");
}

async fn the_backlog_counts_what_is_due(store: Store) {
    assert_eq!(store.read(|tx| task::backlog(tx, Lane::Poll, NOW)).await, (0, None));
    for (subject, due_at) in [("a", NOW - 5), ("b", NOW), ("c", NOW + 1)] {
        store.add_task(subject, POLL, due_at).await;
    }
    store.add_task("other", TaskKind::Deadline, NOW - 9).await;
    assert_eq!(store.read(|tx| task::backlog(tx, Lane::Poll, NOW)).await, (2, Some(NOW - 5)));
}

async fn a_long_reason_is_cut_between_letters(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    let given_up = dead(&"ä".repeat(2_000));
    assert!(store.write(move |tx| task::settle(tx, &task, &given_up, NOW)).await);
    assert_eq!(store.count("SELECT length(reason) + 0 FROM task").await, 500);
}

async fn claimers_that_race_never_share_a_task(store: Store) {
    for n in 0..40 {
        store.add_task(&id("job_", n), POLL, NOW).await;
    }
    let claim = |db: Db, token| async move {
        db.write(move |tx| task::claim(tx, Lane::Poll, 7, NOW, LEASE, token)).await.expect("a claim")
    };
    let all = futures_util::future::join_all((0..12).map(|token| claim(store.db.clone(), token))).await;
    let mut taken: Vec<String> = all.into_iter().flatten().map(|t| t.subject).collect();
    let rest = store.claim(Lane::Poll, 99, 99).await;
    taken.extend(rest.into_iter().map(|t| t.subject));
    taken.sort_unstable();
    let expected: Vec<String> = (0..40).map(|n| id("job_", n)).collect();
    assert_eq!(taken, expected, "each exactly once, and none is left behind");
}

async fn what_is_shifted_waits_as_long_and_deadlines_stay(store: Store) {
    store.add_task("j", POLL, NOW).await;
    let task = store.claim_one(Lane::Poll, 1).await;
    for (subject, kind, due_at) in
        [("late", POLL, NOW - 2 * HOUR), ("waits", POLL, NOW + 50), ("ends", TaskKind::Deadline, NOW + 50)]
    {
        store.add_task(subject, kind, due_at).await;
    }
    let due =
        async |kind, subject: &'static str| store.read(move |tx| task::find_due(tx, subject, kind)).await;
    // Set ahead, and something is written before that is made up for. One is leased, and has two times.
    store.add_task("since", POLL, NOW + HOUR + 7).await;
    assert_eq!(store.write(|tx| task::shift(tx, HOUR, NOW)).await, 4);
    assert_eq!(due(POLL, "late").await, Some(NOW - HOUR));
    assert_eq!(due(POLL, "waits").await, Some(NOW + HOUR + 50));
    assert_eq!(due(POLL, "since").await, Some(NOW + HOUR + 7));
    // And back by three: what was due for long is, still.
    store.add_task("again", POLL, NOW - 2 * HOUR).await;
    assert_eq!(store.write(|tx| task::shift(tx, 500 - 3 * HOUR, NOW + HOUR)).await, 5);
    assert_eq!(due(POLL, "late").await, Some(NOW + 500 - 4 * HOUR));
    assert_eq!(due(POLL, "waits").await, Some(NOW + 550 - 2 * HOUR));
    assert_eq!(due(POLL, "j").await, Some(NOW + 500 - 2 * HOUR));
    assert_eq!(due(POLL, "again").await, Some(NOW - 2 * HOUR));
    assert_eq!(due(TaskKind::Deadline, "ends").await, Some(NOW + 50), "a time of day");
    assert!(store.read(move |tx| task::is_held(tx, &task)).await);
    let claims =
        async |now| store.write(move |tx| task::claim(tx, Lane::Poll, 9, now, now + 9, 2)).await.len();
    let lease = LEASE + 500 - 2 * HOUR;
    assert_eq!((claims(lease - 1).await, claims(lease).await), (4, 1));
}

async fn voided_leases_are_anybodys_and_their_tokens_settle_nothing(store: Store) {
    store.add_task("j", POLL, NOW).await;
    store.add_task("k", POLL, NOW).await;
    let dead = store.claim(Lane::Poll, 1, 1).await.remove(0);
    assert_eq!(store.write(task::void_leases).await, 1);
    assert_eq!(store.write(task::void_leases).await, 0);
    assert_eq!(store.claim(Lane::Poll, 9, 2).await.len(), 2, "both are due to whoever comes");
    assert!(!store.write(move |tx| task::settle(tx, &dead, &Outcome::Done, NOW)).await);
}
