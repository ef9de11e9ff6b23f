//! What is known of being charged for a job: every call that could cost something, what came of it, and what follows.
//!
//! Values only: `step.rs` writes them. Never more certain than what HeyGen answered or told, and never a figure:
//! HeyGen names no price.

use serde::{Deserialize, Serialize};

use super::job::{Failure, FoundBy, Job, State};
use super::time::Millis;

/// So many calls of a job are kept one by one, the latest; those before are counted.
pub const MOST_CALLS: usize = 20;

/// Whether HeyGen has taken a job, which is what it charges for (docs/heygen.md, Account).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    None,
    Open,
    Once,
}

impl Charge {
    pub const ALL: [Self; 3] = [Self::None, Self::Open, Self::Once];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Once => "once",
        }
    }

    /// For people.
    pub fn what(self) -> &'static str {
        match self {
            Self::None => "HeyGen surely took nothing",
            Self::Open => "HeyGen may have taken it, and nobody knows yet",
            Self::Once => "HeyGen took it, once",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|charge| charge.name() == name)
    }
}

/// What came of a call that could cost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    Accepted,
    /// Never, whatever the key.
    Refused,
    /// Not now.
    NotTaken,
    /// None that tells whether it was taken.
    NoAnswer,
}

impl CallOutcome {
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::NotTaken, Self::NoAnswer];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::NotTaken => "not_taken",
            Self::NoAnswer => "no_answer",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Written before it was sent.
    pub sent_at: Millis,
    /// The job's `key_number` then.
    pub key_number: u32,
    /// The call before had the same key, so this is no second charge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    /// Nothing while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<CallOutcome>,
}

/// The calls of a job that could cost something, in the order they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    pub latest: Vec<Call>,
    /// How many came before those.
    pub older: u32,
}

impl Calls {
    /// One is about to be sent. What came of one that nobody told of will not be known any more.
    pub fn begin(&mut self, key_number: u32, now: Millis) {
        self.end(CallOutcome::NoAnswer);
        let repeat = self.latest.last().is_some_and(|call| call.key_number == key_number);
        self.latest.push(Call { sent_at: now, key_number, repeat, outcome: None });
        if self.latest.len() > MOST_CALLS {
            self.latest.remove(0);
            self.older += 1;
        }
    }

    /// What came of the one under way. Whether there was one.
    pub fn end(&mut self, outcome: CallOutcome) -> bool {
        let under_way = self.latest.last_mut().filter(|call| call.outcome.is_none());
        under_way.map(|call| call.outcome = Some(outcome)).is_some()
    }

    /// The one under way never left, so it is none. Whether there was one.
    pub fn forget(&mut self) -> bool {
        self.latest.pop_if(|call| call.outcome.is_none()).is_some()
    }
}

impl Job {
    /// The upstream Idempotency-Key of a call with this number.
    pub fn key_of(&self, key_number: u32) -> String {
        format!("{}-{key_number}", self.id)
    }

    /// Nothing is said of a job that was not submitted here.
    pub fn charge(&self) -> Option<Charge> {
        if self.details.adopted {
            return None;
        }
        // Its id was told, or that it goes on.
        let known = self.upstream_id.is_some() || self.details.accepted_at.is_some();
        let refused = self.details.found_by == Some(FoundBy::Submit);
        Some(match self.state {
            _ if known => Charge::Once,
            State::Held | State::Queued | State::Canceled => Charge::None,
            State::Submitting | State::Unknown => Charge::Open,
            State::Failed if refused => Charge::None,
            State::Failed if self.details.failure.as_ref().is_some_and(Failure::may_be_charged) => {
                Charge::Open
            }
            State::Processing | State::Completed | State::Failed => Charge::Once,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::{Input, step};
    use super::super::table::{inputs, send, typical};
    use super::*;

    fn after(job: &Job, input: Input, now: Millis) -> Job {
        step(job, input, now).expect("no refusal").map_or_else(|| job.clone(), |change| change.job)
    }

    fn no_answer() -> Input {
        Input::NoAnswer { why: "w".to_owned() }
    }

    fn not_accepted(sent: bool) -> Input {
        Input::NotAccepted { sent, why: "w".to_owned() }
    }

    fn accepted() -> Input {
        Input::Accepted { upstream_id: "vid_1".to_owned(), upstream_video_id: None }
    }

    /// When, with which key, whether again, and what came of it.
    fn lines(job: &Job) -> Vec<(Millis, u32, bool, Option<&'static str>)> {
        let line = |c: &Call| (c.sent_at, c.key_number, c.repeat, c.outcome.map(CallOutcome::name));
        job.details.calls.latest.iter().map(line).collect()
    }

    #[test]
    fn a_lost_answer_and_a_repeat_with_the_same_key_are_two_calls_and_one_charge() {
        let mut job = typical(State::Queued);
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::None), vec![]));
        job = after(&job, send(), 1);
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::Open), vec![(1, 0, false, None)]));
        job = after(&job, no_answer(), 2);
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::Open), vec![(1, 0, false, Some("no_answer"))]));
        job = after(&job, send(), 3);
        assert_eq!(
            (job.state, job.updated_at),
            (State::Unknown, 2),
            "since when it is open is not forgotten"
        );
        job = after(&job, accepted(), 4);
        let calls = vec![(1, 0, false, Some("no_answer")), (3, 0, true, Some("accepted"))];
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::Once), calls));
    }

    #[test]
    fn after_a_definite_refusal_the_next_call_has_another_key_and_is_no_repeat() {
        let mut job = typical(State::Queued);
        for input in [send(), not_accepted(true)] {
            job = after(&job, input, 1);
        }
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::None), vec![(1, 0, false, Some("not_taken"))]));
        job = after(&job, send(), 2);
        assert_eq!(lines(&job)[1], (2, 1, false, None));
        let failure = Failure::new(None, "no");
        job = after(&job, Input::Refused(failure), 3);
        assert_eq!((job.charge(), lines(&job)[1]), (Some(Charge::None), (2, 1, false, Some("refused"))));
    }

    #[test]
    fn what_never_left_is_no_call() {
        let queued = typical(State::Queued);
        let job = after(&after(&queued, send(), 1), not_accepted(false), 2);
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::None), vec![]));
        let unknown = after(&after(&queued, send(), 1), no_answer(), 2);
        let job = after(&after(&unknown, send(), 3), not_accepted(false), 4);
        assert_eq!((job.charge(), lines(&job)), (Some(Charge::Open), vec![(1, 0, false, Some("no_answer"))]));
    }

    #[test]
    fn a_repeat_that_is_not_taken_proves_nothing_of_the_first() {
        let queued = typical(State::Queued);
        let unknown = after(&after(&queued, send(), 1), no_answer(), 2);
        let job = after(&after(&unknown, send(), 3), not_accepted(true), 4);
        assert_eq!((job.charge(), job.state), (Some(Charge::Open), State::Unknown));
        assert_eq!(lines(&job)[1], (3, 0, true, Some("not_taken")));
        let expired = after(&job, Input::Deadline, job.deadline_at);
        assert_eq!(expired.charge(), Some(Charge::Open));
        for (says, charge) in [("failed, only heard", Charge::Once), ("hint", Charge::Open)] {
            let (_, heard) = inputs().into_iter().find(|(name, _)| *name == says).expect("an input");
            let told = after(&expired, heard, job.deadline_at + 1);
            assert_eq!((told.charge(), told.state), (Some(charge), State::Failed), "{says}, after the end");
        }
    }

    #[test]
    fn a_call_whose_sender_died_has_no_answer_and_one_that_a_webhook_overtook_has_its_own() {
        let sent = after(&typical(State::Queued), send(), 1);
        let job = after(&after(&sent, Input::Interrupted, 2), send(), 3);
        assert_eq!(lines(&job), [(1, 0, false, Some("no_answer")), (3, 0, true, None)]);
        // The second sender died, too, before anything was written of it.
        assert_eq!(lines(&after(&job, send(), 4))[1], (3, 0, true, Some("no_answer")));
        let (_, in_progress) =
            inputs().into_iter().find(|(name, _)| *name == "in progress").expect("an input");
        let told = after(&sent, in_progress, 2);
        assert_eq!((told.charge(), lines(&told)), (Some(Charge::Once), vec![(1, 0, false, None)]));
        assert_eq!(lines(&after(&told, accepted(), 3)), [(1, 0, false, Some("accepted"))]);
        assert_eq!(lines(&after(&told, no_answer(), 3)), [(1, 0, false, Some("no_answer"))]);
        assert_eq!(
            step(&after(&told, accepted(), 3), accepted(), 4),
            Ok(None),
            "told again it is nothing new"
        );
    }

    #[test]
    fn what_heygen_refused_and_told_of_all_the_same_is_not_paid_for_again_unasked() {
        let sent = after(&typical(State::Queued), send(), 1);
        let refused = after(&sent, Input::Refused(Failure::new(None, "no")), 2);
        assert!(!refused.risks_second_charge());
        let all = inputs().into_iter();
        let (_, heard) = all.into_iter().find(|(name, _)| *name == "completed, with file").expect("an input");
        let told = after(&refused, heard, 3);
        assert!(told.state == State::Failed && told.risks_second_charge(), "{told:?}");
    }

    #[test]
    fn twenty_calls_are_kept_and_those_before_are_counted() {
        let mut calls = Calls::default();
        for n in 0..20 {
            calls.begin(0, n);
        }
        assert_eq!((calls.latest.len(), calls.older), (20, 0));
        calls.begin(0, 20);
        assert_eq!((calls.latest.len(), calls.older, calls.latest[0].sent_at), (20, 1, 1));
        assert!(calls.latest.iter().all(|call| call.repeat), "the first of all is not among them");
    }

    #[test]
    fn an_adopted_job_is_not_ours_to_attribute_and_the_words_are_read_back() {
        let mut job = typical(State::Processing);
        assert_eq!(job.charge(), Some(Charge::Once));
        job.details.adopted = true;
        assert_eq!(job.charge(), None);
        assert_eq!(Charge::ALL.map(|charge| Charge::parse(charge.name())), Charge::ALL.map(Some));
    }
}
