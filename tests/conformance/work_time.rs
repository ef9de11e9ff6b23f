//! `work::time::set`: a server's clock, what waits by it, and how old keys of open calls are.

use reelhook::clock::Clock;
use reelhook::domain::job::State;
use reelhook::domain::task::TaskKind;
use reelhook::domain::time::{HOUR, MINUTE, Millis};
use reelhook::work::time;

use crate::harness::{Store, cases, job_in};

cases![a_clock_and_what_was_written_by_it_move_together_or_not_at_all];

async fn a_clock_and_what_was_written_by_it_move_together_or_not_at_all(store: Store) {
    // As after the wall clock, or PostgreSQL's, was set back by so much.
    let (clock, back) = (Clock::steady(), 12 * HOUR);
    clock.shift(back);
    let was = clock.now();
    let near = |a: Millis, b: Millis| (a - b).abs() < MINUTE;
    let mut job = job_in(State::Unknown, 1);
    job.details.sent_at = Some(was - HOUR);
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
        if store.is_postgres() {
            // All nodes would move what waits, each for itself, and none knows what PostgreSQL's clock went through.
            assert_eq!((due, sent_at), (was + HOUR, 0));
        } else {
            assert!(near(due, was + HOUR - back) && near(sent_at, was - HOUR - back), "{due} {sent_at}");
        }
    }
}
