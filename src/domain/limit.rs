//! How much may be outstanding upstream, and whether anything may be sent at all: one value that all
//! nodes share, changed by what upstream answers, by the account's balance, and by a person.
//!
//! Pure: what is outstanding is counted from the states of jobs by whoever asks. It never changes a job.

use serde::{Deserialize, Serialize};

use super::pause::{Pause, Reason};
use super::retry::{MAX_RETRY_AFTER, submit_backoff};
use super::time::{DAY, MINUTE, Millis, SECOND};

/// The bound a new store begins with: upstream's own on pay-as-you-go plans (docs/heygen.md, Limits).
pub const FIRST_SLOTS: i64 = 10;
/// After upstream said "too many", this long nothing beyond what it had then is tried.
pub const GROWS_AFTER: Millis = MINUTE;

/// The subject of the duty that looks the account up; its task is there while somebody wants the look.
pub const LOOK: &str = "account";
pub const LOOK_EVERY: Millis = MINUTE;
/// A balance of a look longer ago than this says nothing: two looks in a row may fail.
pub const BALANCE_COUNTS_FOR: Millis = 3 * LOOK_EVERY;
/// After so many calls in a row without an answer upstream is down: nothing goes out but a look, so often.
pub const MOST_SILENCES: i64 = 3;
pub const LOOK_WHILE_DOWN: Millis = 10 * SECOND;

/// Thousandths of a credit or of a dollar, whichever the account counts in.
pub type Milli = i64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// So many outstanding jobs upstream has taken.
    pub slots: i64,
    /// The setting: never more than this.
    pub most_slots: i64,
    /// From then on one more than `slots` is tried.
    pub grows_at: Millis,
    /// Upstream wants nothing before.
    pub held_until: Millis,
    /// Create calls in a row that it did not take, over all jobs. Those that were under way together are
    /// one.
    pub misses: i64,
    pub missed_at: Millis,
    /// Calls of any sort in a row that upstream did not answer, or with its own trouble only.
    pub silences: i64,
    pub down_since: Option<Millis>,
    pub pause: Option<Pause>,
    /// An answer to what was sent before then is no reason for a new pause.
    pub resumed_at: Millis,
    pub daily_jobs: Option<i64>,
    pub daily_credits: Option<Milli>,
    /// The setting: with a balance below this nothing is sent.
    pub least_credits: Option<Milli>,
    pub today: Today,
    /// What the account had when it was last looked up, and when that was.
    pub balance: Option<(Milli, Millis)>,
    /// A server started since with a least balance to keep: another look comes before the next job.
    pub look_first: bool,
}

/// What was sent and spent on one day, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Today {
    /// Days since the Unix epoch.
    pub day: i64,
    pub jobs: i64,
    /// By how much the balance fell from look to look; what others spend from it counts, too.
    pub spent: Milli,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            slots: FIRST_SLOTS,
            most_slots: FIRST_SLOTS,
            grows_at: 0,
            held_until: 0,
            misses: 0,
            missed_at: 0,
            silences: 0,
            down_since: None,
            pause: None,
            resumed_at: 0,
            daily_jobs: None,
            daily_credits: None,
            least_credits: None,
            today: Today::default(),
            balance: None,
            look_first: false,
        }
    }
}

/// What the answer to a call says about sending more; that to a create call, unless it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// It never reached upstream.
    NotSent,
    /// 429, with upstream's own wish when to come again.
    TooMany {
        after: Option<Millis>,
    },
    Blocked(Reason),
    /// No answer, or one of upstream's own troubles: nobody knows whether it was taken.
    Unanswered {
        /// Whether the call may be repeated, so that its own next try finds out.
        repeats: bool,
    },
    /// The same of a call that asks and costs nothing.
    AskUnanswered,
    /// It concerns that one job.
    Other,
}

/// Every reason of a `Wait` that is no pause.
pub const WAITS: [&str; 6] =
    ["heygen_down", "daily_jobs", "daily_credits", "balance_not_seen", "least_credits", "held_by_heygen"];

/// Why jobs that could be sent are not, and until when, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Stable for ever.
    pub reason: &'static str,
    pub what: &'static str,
    pub until: Option<Millis>,
}

impl Limit {
    /// Takes the settings over; what was learned stays.
    pub fn configure(
        &mut self,
        most_slots: i64,
        daily_jobs: Option<i64>,
        daily_credits: Option<Milli>,
        least_credits: Option<Milli>,
    ) {
        self.most_slots = most_slots;
        self.slots = self.slots.min(most_slots);
        self.daily_jobs = daily_jobs;
        self.daily_credits = daily_credits;
        self.least_credits = least_credits;
        self.look_first = least_credits.is_some();
    }

    /// How many may be outstanding now.
    pub fn bound(&self, now: Millis) -> i64 {
        let waits = is_soon(self.grows_at, GROWS_AFTER, now);
        (self.slots + i64::from(!waits)).min(self.most_slots)
    }

    /// How many more may be sent now, when so many are outstanding and `claimed` are on their way.
    pub fn room(&self, outstanding: i64, claimed: i64, now: Millis) -> i64 {
        let opened = match &self.pause {
            None => i64::MAX,
            Some(pause) if pause.opened => 1,
            Some(_) => 0,
        };
        let left = self.daily_jobs.map_or(i64::MAX, |most| most - self.today_at(now).jobs);
        // While it is open whether upstream takes any, one finds out.
        let tried = if self.is_trying() { 1 } else { i64::MAX };
        let free = self.bound(now) - outstanding;
        let most = free.min(left).min(opened).min(tried);
        if self.wait(now).is_some() { 0 } else { most.saturating_sub(claimed).max(0) }
    }

    /// What holds every job up, if anything does. Full slots are no such thing: they empty by themselves.
    pub fn wait(&self, now: Millis) -> Option<Wait> {
        let today = self.today_at(now);
        let reached = |most: Option<i64>, have: i64| most.is_some_and(|most| have >= most);
        let midnight = Some((today.day + 1) * DAY);
        let wait = |reason, what, until| Some(Wait { reason, what, until });
        if let Some(pause) = self.pause.as_ref().filter(|pause| !pause.opened) {
            return wait(pause.reason.name(), pause.reason.what(), None);
        }
        if self.down_since.is_some() {
            return wait("heygen_down", "HeyGen does not answer; it is looked at every 10 s", None);
        }
        if reached(self.daily_jobs, today.jobs) {
            return wait("daily_jobs", "as many jobs were sent today as --daily-jobs allows", midnight);
        }
        if reached(self.daily_credits, today.spent) {
            return wait("daily_credits", "as much was spent today as --daily-credits allows", midnight);
        }
        if let Some(wait) = self.lacks_credit(now) {
            return Some(wait);
        }
        let held = wait("held_by_heygen", "HeyGen did not take the last one yet", Some(self.held_until));
        held.filter(|_| is_soon(self.held_until, MAX_RETRY_AFTER, now))
    }

    /// That the balance is below the least, or is not known to be more.
    pub fn lacks_credit(&self, now: Millis) -> Option<Wait> {
        let least = self.least_credits?;
        let counts = |at: Millis| !self.look_first && (now - at).abs() <= BALANCE_COUNTS_FOR;
        let (reason, what) = match self.balance.filter(|(_, at)| counts(*at)) {
            Some((has, _)) if has >= least => return None,
            Some(_) => (
                "least_credits",
                "the balance is below --least-credits, and is looked up every minute; add credit at HeyGen",
            ),
            None => (
                "balance_not_seen",
                "--least-credits is set, and the balance was not seen lately; it is looked up every minute",
            ),
        };
        Some(Wait { reason, what, until: None })
    }

    /// The figures of the day it is now.
    pub fn today_at(&self, now: Millis) -> Today {
        let day = now.div_euclid(DAY);
        if self.today.day == day { self.today } else { Today { day, ..Today::default() } }
    }

    /// One job is about to be sent. Whether it is the one that finds out whether a pause is over.
    pub fn count(&mut self, now: Millis) -> bool {
        self.today = self.today_at(now);
        self.today.jobs += 1;
        self.pause.as_mut().is_some_and(|pause| std::mem::take(&mut pause.opened))
    }

    /// One that was counted when it was sent was definitely not taken.
    pub fn uncount(&mut self, sent_at: Millis) {
        if sent_at.div_euclid(DAY) == self.today.day {
            self.today.jobs = (self.today.jobs - 1).max(0);
        }
    }

    /// Learns from the answer to a call begun at `sent_at`, while `others` were outstanding.
    pub fn learn(&mut self, answer: Answer, others: i64, sent_at: Millis, jitter: f64, now: Millis) {
        match answer {
            Answer::Accepted => {
                self.misses = 0;
                self.slots = self.slots.max(others + 1).min(self.most_slots);
                if self.pause.as_ref().is_some_and(|p| p.reason.ends_by_success() && sent_at >= p.since) {
                    self.resume(now);
                }
            }
            Answer::Other => {}
            Answer::NotSent | Answer::Unanswered { .. } => {
                self.silent(now);
                if answer == (Answer::Unanswered { repeats: false }) {
                    // Not one more of these is risked: a look finds out, which costs nothing.
                    self.down_since.get_or_insert(now);
                }
                // Those that were under way together are one miss; a lost answer alone concerns its job.
                if sent_at >= self.missed_at {
                    self.miss(now);
                    // While it is down nothing is sent anyway, and when it is back nothing is to be waited for.
                    if self.down_since.is_none() && (answer == Answer::NotSent || self.is_trying()) {
                        self.hold(None, jitter, now);
                    }
                }
            }
            Answer::AskUnanswered => self.silent(now),
            Answer::TooMany { after } => {
                self.slots = self.slots.min(others).max(1);
                // With nothing outstanding it was not their number that was too many.
                self.grows_at = if others > 0 { now + GROWS_AFTER } else { now };
                self.miss(now);
                self.hold(after, jitter, now);
            }
            Answer::Blocked(reason) => {
                if sent_at >= self.resumed_at {
                    self.block(reason, now);
                } else {
                    // Not believed yet, so the next one has to find out; but not at once.
                    self.miss(now);
                    self.hold(None, jitter, now);
                }
            }
        }
    }

    /// Whether one job at a time is sent, to find out whether upstream takes any.
    pub fn is_trying(&self) -> bool {
        self.misses > 1
    }

    /// Upstream answered a call, whatever it said. Whether that is news.
    pub fn answered(&mut self) -> bool {
        let news = self.silences > 0 || self.down_since.is_some();
        (self.silences, self.down_since) = (0, None);
        news
    }

    fn silent(&mut self, now: Millis) {
        self.silences += 1;
        if self.silences >= MOST_SILENCES {
            self.down_since.get_or_insert(now);
        }
    }

    fn miss(&mut self, now: Millis) {
        self.misses += 1;
        self.missed_at = now;
    }

    /// The clock was set by so much, when it showed `was`: what holds lasts as long as it would have.
    pub fn shift(&mut self, by: Millis, was: Millis) {
        if self.held_until >= was.saturating_add(by) && by > 0 {
            // Held since, by the clock as it is.
            return;
        }
        for at in [&mut self.held_until, &mut self.grows_at, &mut self.missed_at, &mut self.resumed_at] {
            *at += by;
        }
        self.down_since = self.down_since.map(|at| at + by);
        if let Some(pause) = &mut self.pause {
            pause.since += by;
        }
    }

    /// Nobody is sent for a while: as long as upstream says, else longer with each miss in a row.
    fn hold(&mut self, after: Option<Millis>, jitter: f64, now: Millis) {
        let pause = after.unwrap_or_else(|| submit_backoff(self.misses, jitter));
        let until = now + pause.clamp(SECOND, MAX_RETRY_AFTER);
        let holds = is_soon(self.held_until, MAX_RETRY_AFTER, now);
        self.held_until = if holds { self.held_until.max(until) } else { until };
    }

    /// Pauses for a reason upstream gave. What it would not end by itself is kept: a person's pause, a
    /// missing key, and jobs that fail after they were taken, which only a higher balance ends.
    pub fn block(&mut self, reason: Reason, now: Millis) {
        use Reason::{JobsFailForCredit, NoHeygenKey, Operator};
        let stays = |pause: &Pause| {
            pause.reason == reason || matches!(pause.reason, Operator | NoHeygenKey | JobsFailForCredit)
        };
        if !self.pause.as_ref().is_some_and(stays) {
            self.pause = Some(Pause::new(reason, now));
        }
    }

    pub fn pause_by(&mut self, who: &str, note: Option<String>, now: Millis) {
        self.pause = Some(Pause { by: Some(who.to_owned()), note, ..Pause::new(Reason::Operator, now) });
    }

    /// Whether there was a pause to end.
    pub fn resume(&mut self, now: Millis) -> bool {
        self.resumed_at = now;
        self.pause.take().is_some()
    }

    /// Whether the account is to be looked up. While a job may go and find out, that is what ends a
    /// pause; that upstream is down, only a look.
    pub fn wants_look(&self) -> bool {
        let may_end = |pause: &Pause| pause.reason.wants_look() && !pause.opened;
        let waits = self.needs_balance() || self.down_since.is_some();
        waits || self.pause.as_ref().is_some_and(may_end)
    }

    fn needs_balance(&self) -> bool {
        self.daily_credits.is_some() || self.least_credits.is_some()
    }

    pub fn next_look(&self, now: Millis) -> Millis {
        now + if self.down_since.is_some() { LOOK_WHILE_DOWN } else { LOOK_EVERY }
    }

    /// The key works, and the account has this balance, if upstream tells one.
    pub fn looked(&mut self, balance: Option<Milli>, now: Millis) {
        self.today = self.today_at(now);
        if let (Some((before, at)), Some(balance)) = (self.balance, balance)
            // What was spent since a day before is of no day we could name.
            && at.div_euclid(DAY) == self.today.day
        {
            self.today.spent += (before - balance).max(0);
        }
        self.balance = balance.map(|balance| (balance, now)).or(self.balance);
        self.look_first &= balance.is_none();
        if self.needs_balance() && balance.is_none() {
            self.block(Reason::BalanceNotTold, now);
        }
        let Some(pause) = &mut self.pause else { return };
        match pause.reason {
            Reason::Operator | Reason::NoHeygenKey => {}
            Reason::HeygenKeyRefused | Reason::NotHeygen => pause.opened = true,
            Reason::OutOfCredit => pause.opened = balance.is_none_or(|has| has > 0),
            Reason::BalanceNotTold => {
                if balance.is_some() || !self.needs_balance() {
                    self.resume(now);
                }
            }
            Reason::JobsFailForCredit => {
                let Some(has) = balance else { return };
                if has > *pause.balance.get_or_insert(has) {
                    self.resume(now);
                }
            }
        }
    }
}

/// Whether `at` is ahead, and no further than it was ever set: a clock that was put back does not
/// make anybody wait longer than was meant.
fn is_soon(at: Millis, most: Millis, now: Millis) -> bool {
    (1..=most).contains(&(at - now))
}

#[cfg(test)]
mod tests;
