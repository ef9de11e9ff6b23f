//! `work::time::set`: a server's clock, what waits by it, and how old keys of open calls are.

use reelhook::clock::Clock;
use reelhook::domain::job::State;
use reelhook::domain::task::TaskKind;
use reelhook::domain::time::{HOUR, MINUTE, Millis};
use reelhook::store::setting;
use reelhook::work::time;

use crate::harness::{NOW, Store, cases, job_in};

cases![
    a_clock_and_what_was_written_by_it_move_together_or_not_at_all,
    what_waits_by_a_clock_that_was_set_back_while_no_server_ran_goes_along,
];

async fn a_clock_and_what_was_written_by_it_move_together_or_not_at_all(store: Store) {
    // As after the wall clock, or PostgreSQL's, was set back by so much.
    let (clock, back) = (Clock::steady(), 12 * HOUR);
    time::start(&clock, &store.db).await.expect("right");
    clock.shift(back);
    let was = clock.now();
    let near = |a: Millis, b: Millis| (a - b).abs() < MINUTE;
    let mut job = job_in(State::Unknown, 1);
    // So long ago that it does not seem yet to come.
    job.details.sent_at = Some(was - 13 * HOUR);
    store.insert_job(&job).await;
    store.add_task(&job.id, TaskKind::Poll, was + HOUR).await;

    // What is written last fails: nothing was written, and the next look tries again.
    store.write(|tx| tx.execute("ALTER TABLE job RENAME TO away", &[])).await;
    assert!(time::set(&clock, &store.db).await.is_err());
    store.write(|tx| tx.execute("ALTER TABLE away RENAME TO job", &[])).await;
    assert!(near(clock.now(), was) && !clock.is_trusted());
    assert_eq!(store.due(&job.id, TaskKind::Poll).await, Some(was + HOUR));
    assert_eq!(store.job(&job.id).await, job);

    for _ in 0..2 {
        time::set(&clock, &store.db).await.expect("set");
        assert!(near(clock.now(), was - back) && clock.is_trusted());
        let due = store.due(&job.id, TaskKind::Poll).await.expect("due");
        let sent_at = store.job(&job.id).await.details.sent_at.expect("sent");
        let seen = store.read(|tx| setting::find(tx, setting::SEEN_AT)).await;
        assert_eq!(store.db.has_one_owner(), !store.is_postgres());
        assert!(near(seen.expect("noted").parse().expect("a number"), was - back));
        if store.is_postgres() {
            // All nodes would move what waits, each for itself, and none knows what PostgreSQL's clock went through.
            assert_eq!((due, sent_at), (was + HOUR, 0));
        } else {
            assert!(near(due, was + HOUR - back) && near(sent_at, was - 13 * HOUR - back), "{due} {sent_at}");
        }
    }
}

async fn what_waits_by_a_clock_that_was_set_back_while_no_server_ran_goes_along(store: Store) {
    let seen_at = async || store.read(|tx| setting::find(tx, setting::SEEN_AT)).await;
    let mut job = job_in(State::Unknown, 1);
    job.details.sent_at = Some(NOW - 7 * HOUR);
    store.insert_job(&job).await;
    store.add_task(&job.id, TaskKind::Submit, NOW - HOUR).await;
    store.add_task(&job.id, TaskKind::Poll, NOW + HOUR).await;
    // (what was seen, what a start shows, how far tasks have moved by then)
    for (seen, now, moved) in [
        (None, NOW, 0),
        (Some("no number".to_owned()), NOW, 0),
        (Some((NOW + MINUTE).to_string()), NOW, 0),
        (Some(NOW.to_string()), NOW + HOUR, 0),
        (Some(NOW.to_string()), NOW - 6 * HOUR, 6 * HOUR),
        (Some((NOW - 6 * HOUR + MINUTE + 1).to_string()), NOW - 6 * HOUR, 6 * HOUR + MINUTE + 1),
    ] {
        let said = format!("{seen:?} {now}");
        if let Some(seen) = seen {
            store.write(move |tx| setting::put(tx, setting::SEEN_AT, &seen)).await;
        }
        store.write(move |tx| time::resume(tx, now)).await;
        assert_eq!(seen_at().await, Some(now.to_string()), "{said}");
        assert_eq!(store.due(&job.id, TaskKind::Poll).await, Some(NOW + HOUR - moved), "{said}");
        // How long nobody was there is not known, so its key may be forgotten.
        let sent_at = if moved == 0 { NOW - 7 * HOUR } else { 0 };
        assert_eq!(store.job(&job.id).await.details.sent_at, Some(sent_at), "{said}");
    }
    let submit = NOW - HOUR - 6 * HOUR;
    assert_eq!(
        store.due(&job.id, TaskKind::Submit).await,
        Some(submit),
        "it was due and is, and moves no more"
    );
}
