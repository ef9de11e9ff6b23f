//! What must hold of `domain::step` whatever arrives, how often, and in which order: a job ends
//! once, by its deadline at the latest, and the end does not depend on who spoke first.

use std::collections::BTreeSet;

use proptest::prelude::*;

use reelhook::domain::charge::{Charge, MOST_CALLS};
use reelhook::domain::event::EventType;
use reelhook::domain::job::{Failure, FoundBy, Job, Observation, Output, Says, State};
use reelhook::domain::step::{Input, next_ask, step};
use reelhook::domain::table::{inputs, markdown, send, typical};
use reelhook::domain::task::{TaskKind, TaskOp};

/// A job with what was published of it and what waits for it, as `flow` would keep them.
#[derive(Clone)]
struct World {
    job: Job,
    published: Vec<EventType>,
    waiting: BTreeSet<TaskKind>,
}

impl World {
    fn new(state: State) -> Self {
        let work = match state {
            State::Held => None,
            State::Queued | State::Submitting | State::Unknown => Some(TaskKind::Submit),
            _ => Some(TaskKind::Poll),
        };
        let waiting = [TaskKind::Deadline].into_iter().chain(work).collect();
        Self { job: typical(state), published: vec![], waiting }
    }

    /// Whether it changed the job.
    fn take(&mut self, input: Input, now: i64) -> bool {
        let Ok(Some(change)) = step(&self.job, input, now) else { return false };
        self.job = change.job;
        self.published.extend(change.events);
        for op in change.tasks {
            match op {
                TaskOp::Add(kind, _) => self.waiting.insert(kind),
                TaskOp::Queue(..) => self.waiting.insert(TaskKind::Submit),
                TaskOp::Hasten(..) => false,
                TaskOp::Drop(kind) => self.waiting.remove(&kind),
            };
        }
        true
    }

    fn ends(&self) -> usize {
        let ends = [EventType::Completed, EventType::Failed, EventType::Canceled];
        self.published.iter().filter(|event| ends.contains(event)).count()
    }
}

/// The inputs of the table, and observations that know less or come by another way.
fn all_inputs() -> Vec<Input> {
    let mut all: Vec<Input> = inputs().into_iter().map(|(_, input)| input).collect();
    for input in all.clone() {
        let Input::Observed(seen) = input else { continue };
        let nameless = Observation { upstream_id: None, found_by: FoundBy::Webhook, ..seen.clone() };
        all.push(Input::Observed(nameless));
        all.push(Input::Observed(Observation { found_by: FoundBy::Refresh, ..seen }));
    }
    all
}

fn is_hint(input: &Input) -> bool {
    matches!(input, Input::Observed(Observation { says: Says::Hint, .. }))
}

/// What arrives: an input by its position, and how many milliseconds after the one before.
fn arrivals() -> impl Strategy<Value = Vec<(usize, i64)>> {
    let pause = prop_oneof![4 => 0..120_000_i64, 1 => 0..20_000_000_i64];
    prop::collection::vec((0..all_inputs().len(), pause), 0..50)
}

fn beginnings() -> impl Strategy<Value = State> {
    prop::sample::select(vec![State::Held, State::Queued])
}

proptest! {
    // A case that failed is shown whole and becomes a test of its own, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_a_job_ends_once_and_is_never_stuck(begin in beginnings(), arrivals in arrivals()) {
        let all = all_inputs();
        let mut world = World::new(begin);
        let mut now = 0;
        for (at, pause) in arrivals {
            now += pause;
            let input = all[at].clone();
            let before = world.clone();
            world.take(input.clone(), now);
            let (old, new) = (&before.job, &world.job);

            if old.state.is_terminal() {
                prop_assert_eq!(new.state, old.state, "an end is for good: {:?}", input);
                prop_assert_eq!(new.finished_at, old.finished_at);
                prop_assert_eq!(&new.details.failure, &old.details.failure);
                prop_assert_eq!(new.details.found_by, old.details.found_by);
            }
            if is_hint(&input) && new.state != old.state {
                prop_assert_eq!(new.state, State::Processing, "a hint decides nothing");
                prop_assert!(old.upstream_id.is_some(), "and knows no id of its own");
            }
            prop_assert!(world.published.starts_with(&before.published));
            prop_assert!(new.details.key_number >= old.details.key_number, "a key is never used again");
            prop_assert!(old.upstream_id.is_none() || new.upstream_id.is_some(), "an id is never forgotten");

            prop_assert!(old.charge() != Some(Charge::Once) || new.charge() == Some(Charge::Once), "taken is for good");
            let surely_not = matches!(input, Input::NotAccepted { .. } | Input::Refused(_));
            let closed = old.charge() == Some(Charge::Open) && new.charge() == Some(Charge::None);
            prop_assert!(!closed || surely_not, "only a definite no closes an open charge");
            let calls = &new.details.calls;
            prop_assert!(calls.latest.len() <= MOST_CALLS);
            let ended = calls.latest.iter().rev().skip(1).all(|call| call.outcome.is_some());
            prop_assert!(ended, "one call at a time");

            prop_assert_eq!(world.ends(), usize::from(new.state.is_terminal()));
            prop_assert_eq!(new.finished_at.is_some(), new.state.is_terminal());
            prop_assert_eq!(new.details.found_by.is_some(), new.state.is_terminal());
            let late = world.published.iter().filter(|event| **event == EventType::LateResult).count();
            prop_assert!(late <= 1);
            prop_assert_eq!(late == 1, new.details.late_result.is_some());
            let waits = |kind| world.waiting.contains(&kind);
            prop_assert_eq!(waits(TaskKind::Deadline), !new.state.is_terminal(), "an open job ends by time");
            prop_assert!(new.state != State::Processing || waits(TaskKind::Poll), "nobody would ask");
            prop_assert!(
                !matches!(new.state, State::Queued | State::Submitting | State::Unknown) || waits(TaskKind::Submit),
                "nobody would send"
            );
            prop_assert!(new.state != State::Canceled || new.details.accepted_at.is_none());
        }
        let open = !world.job.state.is_terminal();
        let deadline = world.job.deadline_at;
        if now < deadline {
            let early = world.take(Input::Deadline, deadline - 1);
            prop_assert!(!early, "not a moment before");
        }
        let ended = world.take(Input::Deadline, now.max(deadline));
        prop_assert_eq!(ended, open);
        prop_assert!(world.job.state.is_terminal());
        prop_assert_eq!(world.ends(), 1);
    }
}

/// One thing that may arrive of a job that upstream has accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Success,
    SuccessWithCaption,
    FailureHeard,
    Caption,
    Progress,
    /// A poll that asked before the end and answers whenever it likes.
    PollInProgress,
    /// A poll that asked after the end.
    PollEnd,
}

fn url(text: &str) -> Option<String> {
    Some(format!("https://{text}"))
}

fn failure() -> Failure {
    Failure::new(Some("e".to_owned()), "words of HeyGen")
}

fn input(word: Word, succeeds: bool) -> Input {
    let file = Output { video_url: url("video"), ..Output::default() };
    let both = Output { caption_url: url("caption"), ..file.clone() };
    let caption = Output { caption_url: url("caption"), ..Output::default() };
    let says = match word {
        Word::PollEnd if succeeds => Says::Completed(Box::new(both)),
        Word::PollEnd => Says::Failed { failure: failure(), confirmed: true },
        Word::Success => Says::Completed(Box::new(file)),
        Word::SuccessWithCaption => Says::Completed(Box::new(both)),
        Word::FailureHeard => Says::Failed { failure: failure(), confirmed: false },
        Word::Caption => Says::Extra(Box::new(caption)),
        Word::Progress | Word::PollInProgress => Says::InProgress { progress: Some(50) },
    };
    let polled = matches!(word, Word::PollInProgress | Word::PollEnd);
    let found_by = if polled { FoundBy::Poll } else { FoundBy::Webhook };
    Input::Observed(Observation { found_by, upstream_id: url("id"), upstream_video_id: None, says })
}

/// Every sequence of up to `most` of these words, each word as often as the list has it.
fn sequences(words: &[Word], most: usize, begun: &mut Vec<Word>, visit: &mut impl FnMut(&[Word])) {
    visit(begun);
    if begun.len() == most {
        return;
    }
    for at in 0..words.len() {
        // Equal words at other places would only repeat the sequence.
        if words[..at].contains(&words[at]) {
            continue;
        }
        let mut rest = words.to_vec();
        begun.push(rest.remove(at));
        sequences(&rest, most, begun, visit);
        begun.pop();
    }
}

/// The world after these words, and after the poll that was left waiting.
fn world_after(begin: State, words: &[Word], succeeds: bool) -> World {
    let mut world = World::new(begin);
    let mut now = 60_000;
    for word in words {
        world.take(input(*word, succeeds), now);
        now += 1;
    }
    if !world.job.state.is_terminal() {
        world.take(input(Word::PollEnd, succeeds), now);
    }
    world
}

#[test]
fn the_end_does_not_depend_on_the_order_of_what_arrives() {
    use Word::*;
    let happy =
        [Success, Success, SuccessWithCaption, FailureHeard, Caption, Progress, PollInProgress, PollEnd];
    let sad = [FailureHeard, FailureHeard, Caption, Progress, Progress, PollInProgress, PollEnd, PollEnd];
    let mut tried = 0;
    for begin in [State::Submitting, State::Unknown, State::Processing] {
        for (words, succeeds) in [(happy, true), (sad, false)] {
            sequences(&words, 5, &mut vec![], &mut |order| {
                let world = world_after(begin, order, succeeds);
                let expected = if succeeds { State::Completed } else { State::Failed };
                assert_eq!(world.job.state, expected, "{begin:?} {order:?}");
                assert_eq!(world.ends(), 1, "{begin:?} {order:?}");
                // What a webhook told of the end is completed by one more look.
                let was_told = world.job.details.found_by == Some(FoundBy::Webhook);
                assert_eq!(world.waiting.contains(&TaskKind::Poll), was_told, "{begin:?} {order:?}");
                assert_eq!(world.job.details.failure, (!succeeds).then(failure), "{begin:?} {order:?}");
                let output = &world.job.details.output;
                if succeeds {
                    assert_eq!(output.video_url, url("video"), "{begin:?} {order:?}");
                }
                if succeeds && order.contains(&Caption) {
                    assert_eq!(output.caption_url, url("caption"), "{begin:?} {order:?}");
                }
                tried += 1;
            });
        }
    }
    assert!(tried > 10_000, "only {tried} orders");
}

/// A failure only heard ends nothing, however often it is heard; it makes upstream be asked.
#[test]
fn a_failure_only_heard_is_asked_for_first() {
    let mut world = World::new(State::Processing);
    let now = 600_000;
    let change =
        step(&world.job, input(Word::FailureHeard, false), now).expect("not refused").expect("a change");
    assert_eq!(change.tasks, [TaskOp::Hasten(TaskKind::Poll, now)]);
    for n in 0..50 {
        world.take(input(Word::FailureHeard, false), now + n);
    }
    assert_eq!((world.job.state, world.ends()), (State::Processing, 0));
}

#[test]
fn the_next_poll_waits_for_the_expected_end_and_no_longer_when_the_clock_was_set_back() {
    let mut job = typical(State::Processing);
    job.details.accepted_at = Some(600_000);
    job.details.first_poll_ms = 90_000;
    for (now, at) in [(600_000, 690_000), (670_000, 690_000), (685_000, 695_000), (100_000, 190_000)] {
        assert_eq!(next_ask(&job, 10_000, now), at, "{now}");
    }
}

/// However many hints come, one of them is asked for in a minute; and none is dropped.
#[test]
fn a_hint_within_the_pause_is_put_off() {
    let mut world = World::new(State::Processing);
    let mut hint = |now: i64| {
        let seen = Observation {
            found_by: FoundBy::Webhook,
            upstream_id: None,
            upstream_video_id: None,
            says: Says::Hint,
        };
        let change = step(&world.job, Input::Observed(seen), now).expect("not refused");
        change.map(|change| {
            world.job = change.job;
            change.tasks
        })
    };
    let due = |at| Some(vec![TaskOp::Hasten(TaskKind::Poll, at)]);
    assert_eq!(hint(600_000), due(600_000));
    assert_eq!(hint(600_000), due(660_000), "as late as the one before");
    assert_eq!(hint(659_999), None, "it is to be asked for already");
    assert_eq!(hint(660_000), due(720_000));
    assert_eq!(hint(900_000), due(900_000));
    assert_eq!(hint(100_000), due(160_000), "the clock was put back");
}

/// HeyGen answers a key it has seen with what it did then, so a key that was used up is never sent again.
#[test]
fn only_a_request_that_arrived_uses_its_key_up() {
    let mut world = World::new(State::Queued);
    let mut keys = vec![world.job.upstream_key()];
    for sent in [true, false, true, true] {
        world.take(send(), 1);
        world.take(Input::NotAccepted { sent, why: "busy".to_owned() }, 2);
        assert_eq!(world.job.state, State::Queued);
        keys.push(world.job.upstream_key());
    }
    assert_eq!(world.job.details.refusals, 4);
    assert_eq!(keys[1], keys[2]);
    keys.dedup();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 4, "{keys:?}");
    world.take(send(), 3);
    world.take(Input::NoAnswer { why: "reset".to_owned() }, 4);
    world.take(Input::NotAccepted { sent: true, why: "busy".to_owned() }, 5);
    assert_eq!(
        (world.job.state, Some(&world.job.upstream_key())),
        (State::Unknown, keys.last()),
        "the outcome stays open"
    );
}

/// The names of inputs, so that a new one cannot be left out of the table.
fn name(input: &Input) -> &'static str {
    match input {
        Input::Approve => "approve",
        Input::Reject { .. } => "reject",
        Input::Cancel => "cancel",
        Input::Send { .. } => "send",
        Input::Interrupted => "interrupted",
        Input::SetBack(_) => "set back",
        Input::Forgotten => "forgotten",
        Input::Accepted { .. } => "accepted",
        Input::Refused(_) => "refused",
        Input::NotAccepted { .. } => "not accepted",
        Input::NoAnswer { .. } => "no answer",
        Input::Observed(seen) => match &seen.says {
            Says::Hint => "hint",
            Says::InProgress { .. } => "in progress",
            Says::Completed(_) => "completed",
            Says::Failed { .. } => "failed",
            Says::Extra(_) => "one more file",
        },
        Input::Unanswered { .. } => "unanswered",
        Input::Refresh => "refresh",
        Input::Begin => "begin",
        Input::Late => "late",
        Input::Deadline => "deadline",
    }
}

#[test]
fn the_table_has_every_state_and_every_input() {
    let names: BTreeSet<&str> = inputs().iter().map(|(_, input)| name(input)).collect();
    assert_eq!(names.len(), 21, "one for each arm of `name`: {names:?}");
    let page = markdown();
    for (row, input) in inputs() {
        assert!(row.starts_with(name(&input)), "{row} is called what it is");
        let line = page.lines().find(|line| line.starts_with(&format!("| {row} |"))).expect("a row");
        assert_eq!(line.matches(" |").count(), State::ALL.len() + 1, "{line}");
    }
}

#[test]
fn no_pair_of_state_and_input_panics_at_any_time() {
    for state in State::ALL {
        for input in all_inputs() {
            for now in [i64::MIN, -1, 0, 1, typical(state).deadline_at, i64::MAX] {
                let _ = step(&typical(state), input.clone(), now);
            }
        }
    }
}
