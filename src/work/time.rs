//! Keeps a server's steady clock right. Nodes of one PostgreSQL take their time from it, so that a lease ends
//! for all of them at once. With SQLite the machine's wall clock is right; when that is set, or the machine
//! slept, a lease lasts and what waits waits as long as they would have.

use std::time::Duration;

use crate::clock::{Clock, TRUSTED_WITHIN};
use crate::domain::step::Input;
use crate::domain::time::{MINUTE, Millis, SECOND};
use crate::flow;
use crate::store::{self, Db, Tx, delivery, setting, task, upstream_limit};

/// How often a clock that is trusted is looked at all the same: machines drift by less than 1 ms in it.
const EVERY: Millis = 5 * SECOND;
/// How often it is written down what the clock shows.
const NOTED_EVERY: Millis = MINUTE;
/// Whether it is trusted, is looked at as often.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks again and again, and at once when the clock is not trusted. Never returns.
pub async fn keep(clock: &Clock, db: &Db) {
    let (mut due, mut noted_at) = (clock.now(), clock.now());
    loop {
        if clock.now() >= due || !clock.is_trusted() {
            if let Err(e) = set(clock, db).await {
                tracing::debug!(error = %e, "the clock is not looked at: the database does not say");
            }
            due = clock.now() + EVERY;
        }
        let now = clock.now();
        if (now - noted_at).abs() >= NOTED_EVERY && clock.is_steady() {
            if let Err(e) = db.write_behind(move |tx| note(tx, now)).await {
                tracing::debug!(error = %e, "what the clock shows is not noted");
            }
            noted_at = now;
        }
        clock.sleep(PAUSE).await;
    }
}

/// At a start, before anything is written: sets the clock, if it is a steady one.
pub async fn start(clock: &Clock, db: &Db) -> store::Result<()> {
    if clock.is_steady() {
        clock.shift(missing(clock, db).await?);
        clock.trust();
    }
    Ok(())
}

/// Sets a clock that was right before, if it is a steady one.
pub async fn set(clock: &Clock, db: &Db) -> store::Result<()> {
    if !clock.is_steady() {
        return Ok(());
    }
    let by = missing(clock, db).await?;
    let was = clock.now();
    if by.abs() > TRUSTED_WITHIN {
        tracing::warn!(by_ms = by, "the clock was wrong, or was set: it goes on where it should be");
        // Nothing is claimed until all that was written goes along.
        clock.distrust();
        clock.shift(by);
        if let Err(e) = follow(db, by, was).await {
            // So that the next look finds it as wrong as this one did.
            clock.shift(-by);
            return Err(e);
        }
    } else {
        clock.shift(by);
    }
    clock.trust();
    Ok(())
}

/// How far the clock is behind where it should be.
async fn missing(clock: &Clock, db: &Db) -> store::Result<Millis> {
    let asked = clock.now();
    let told = db.read(|tx| tx.server_time()).await?;
    Ok(told.map_or_else(|| clock.wall_ahead(), |told| off(asked, told, clock.now())))
}

/// A clock that showed `was` was moved by so much.
async fn follow(db: &Db, by: Millis, was: Millis) -> store::Result<()> {
    // Behind all that waits to be written with the time as it was.
    db.write(|_| Ok(())).await?;
    let has_one_owner = db.has_one_owner();
    let move_all = move |tx: &mut Tx| {
        if has_one_owner {
            shift(tx, by, was)?;
        }
        note(tx, was + by)?;
        // Set ahead, or it slept: as much time may have passed.
        if by > 0 {
            return Ok(());
        }
        let aged = match has_one_owner {
            true => Input::SetBack(Some(-by)),
            // Each node finds it out, one after another: none knows how old they were.
            false if by < -MINUTE => Input::Forgotten,
            false => Input::SetBack(None),
        };
        flow::doubt_keys(tx, &aged, was + by)
    };
    db.write_behind(move_all).await
}

/// What waits in a store waits as long as it would have. Only for whoever is alone there.
fn shift(tx: &mut Tx, by: Millis, was: Millis) -> store::Result<()> {
    let mut limit = upstream_limit::lock(tx)?;
    limit.shift(by, was);
    upstream_limit::put(tx, &limit)?;
    task::shift(tx, by, was)?;
    delivery::shift(tx, by, was)?;
    Ok(())
}

/// At a start alone at a store. Where the clock was set back since a server looked at it, that is made up for. How
/// long nobody was there, nobody knows.
pub fn resume(tx: &mut Tx, now: Millis) -> store::Result<()> {
    let seen_at = setting::find(tx, setting::SEEN_AT)?.and_then(|text| text.parse::<Millis>().ok());
    if let Some(seen_at) = seen_at.filter(|at| at.saturating_sub(now) > MINUTE) {
        tracing::warn!(
            by_ms = now - seen_at,
            "the clock was set back while no server ran: what waits goes along"
        );
        shift(tx, now - seen_at, seen_at)?;
        flow::doubt_keys(tx, &Input::Forgotten, now)?;
    }
    note(tx, now)
}

fn note(tx: &mut Tx, now: Millis) -> store::Result<()> {
    setting::put(tx, setting::SEEN_AT, &now.to_string())
}

/// What is missing to the time that was told of between these two; nothing, if it may be right.
fn off(asked: Millis, told: Millis, heard: Millis) -> Millis {
    if (asked..=heard).contains(&told) { 0 } else { told - (asked + heard) / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_moved_only_when_it_is_surely_wrong() {
        for (told, by) in [(1_000, 0), (1_005, 0), (1_010, 0), (1_011, 6), (999, -6), (301_005, 300_000)] {
            assert_eq!(off(1_000, told, 1_010), by, "{told}");
        }
    }
}
