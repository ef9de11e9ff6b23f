//! The whole state machine as a table, computed by asking it. `docs/states.md` is generated from
//! here, and a test fails when the two differ.

use std::fmt::Write;

use super::charge::Charge;
use super::job::{DEFAULT_DEADLINE, Details, Failure, FoundBy, Job, Kind, Observation, Output, Says, State};
use super::step::{Input, Step, step};
use super::task::TaskOp;
use super::time::{HOUR, MINUTE};

/// A moment between submit and deadline, later than a video usually takes.
const NOW: i64 = 11 * MINUTE;

/// Every input with the name it has in the table. `Observed` appears once per thing it can say.
pub fn inputs() -> Vec<(&'static str, Input)> {
    let file = || Box::new(Output { video_url: Some("https://v".to_owned()), ..Output::default() });
    let caption = || Box::new(Output { caption_url: Some("https://c".to_owned()), ..Output::default() });
    let failure = || Failure::new(None, "words of HeyGen");
    let seen = |says| {
        Input::Observed(Observation {
            found_by: FoundBy::Poll,
            upstream_id: Some("vid_1".to_owned()),
            upstream_video_id: None,
            says,
        })
    };
    vec![
        ("approve", Input::Approve),
        ("reject", Input::Reject { reason: "no".to_owned() }),
        ("cancel", Input::Cancel),
        ("send", send()),
        ("interrupted", Input::Interrupted),
        ("set back", Input::SetBack(None)),
        ("set back by an hour", Input::SetBack(Some(HOUR))),
        ("forgotten", Input::Forgotten),
        ("accepted", Input::Accepted { upstream_id: "vid_1".to_owned(), upstream_video_id: None }),
        ("refused", Input::Refused(failure())),
        ("not accepted, unsent", Input::NotAccepted { sent: false, why: "w".to_owned() }),
        ("not accepted, sent", Input::NotAccepted { sent: true, why: "w".to_owned() }),
        ("no answer", Input::NoAnswer { why: "w".to_owned() }),
        ("hint", seen(Says::Hint)),
        ("in progress", seen(Says::InProgress { progress: None })),
        ("completed, with file", seen(Says::Completed(file()))),
        ("completed, no file", seen(Says::Completed(Box::default()))),
        ("failed, confirmed", seen(Says::Failed { failure: failure(), confirmed: true })),
        ("failed, only heard", seen(Says::Failed { failure: failure(), confirmed: false })),
        ("one more file", seen(Says::Extra(caption()))),
        ("unanswered", Input::Unanswered { why: "w".to_owned() }),
        ("refresh", Input::Refresh),
        ("begin", Input::Begin),
        ("late", Input::Late),
        ("deadline", Input::Deadline),
    ]
}

/// With some account.
pub fn send() -> Input {
    Input::Send { account: "a".to_owned() }
}

/// A typical job in `state`.
pub fn typical(state: State) -> Job {
    let sent = !matches!(state, State::Held | State::Queued | State::Canceled);
    let known = matches!(state, State::Processing | State::Completed);
    Job {
        id: "job_00000000000000000000000000".to_owned(),
        version: 1,
        kind: Kind::Video,
        state,
        callback_id: None,
        upstream_id: known.then(|| "vid_1".to_owned()),
        upstream_video_id: None,
        retry_of: None,
        group_id: None,
        created_at: 0,
        updated_at: 0,
        deadline_at: DEFAULT_DEADLINE,
        finished_at: state.is_terminal().then_some(1),
        details: Details {
            first_poll_ms: 5 * MINUTE,
            least_poll_ms: MINUTE / 4,
            sent_at: sent.then_some(0),
            accepted_at: known.then_some(1),
            unknown_since: (state == State::Unknown).then_some(1),
            ..Details::default()
        },
    }
}

pub fn markdown() -> String {
    let mut page = String::from(
        "# States of a job\n\n\
         Generated from `src/domain/step.rs` by `scripts/generate`; do not edit.\n\n\
         A row is an input, a column the state it meets. **bold** is the state that follows, then the\n\
         event it publishes; `+task` has the task due, `-task` drops it, `>task` makes it due sooner.\n\
         A dot is nothing new; *refused* is an answer to a caller who asks the impossible.\n\n| input |",
    );
    for state in State::ALL {
        let _ = write!(page, " {} |", state.name());
    }
    page.push_str("\n| --- |");
    page.push_str(&" --- |".repeat(State::ALL.len()));
    page.push('\n');
    for (name, input) in inputs() {
        let _ = write!(page, "| {name} |");
        for state in State::ALL {
            let now = if input == Input::Deadline { DEFAULT_DEADLINE } else { NOW };
            let mut job = typical(state);
            job.details.not_before = (input == Input::Begin).then_some(NOW);
            if matches!(input, Input::SetBack(_) | Input::Forgotten) && job.details.sent_at.is_some() {
                job.details.sent_at = Some(NOW + HOUR);
            }
            // One that HeyGen had taken; of one that it refused nothing can be asked.
            job.upstream_id =
                job.upstream_id.or_else(|| (state == State::Failed).then(|| "vid_1".to_owned()));
            let _ = write!(page, " {} |", cell(&job, step(&job, input.clone(), now)));
        }
        page.push('\n');
    }
    page.push_str("\nWhat a job says of being charged, in `charge`:\n\n| `state` | means | of a job |\n| --- | --- | --- |\n");
    for (charge, of) in [
        (Charge::None, "held, queued, canceled, or failed because HeyGen refused it"),
        (Charge::Open, "submitting or unknown, or failed as `outcome_unknown`"),
        (Charge::Once, "that HeyGen accepted, or told of, whatever became of it"),
    ] {
        let _ = writeln!(page, "| `{}` | {} | {of} |", charge.name(), charge.what());
    }
    page
}

fn cell(before: &Job, step: Step) -> String {
    let change = match step {
        Err(refused) => return format!("*refused: {refused:?}*"),
        Ok(None) => return "·".to_owned(),
        Ok(Some(change)) => change,
    };
    let mut words = vec![];
    if change.job.state != before.state {
        words.push(format!("**{}**", change.job.state.name()));
    } else {
        words.push("kept".to_owned());
    }
    words.extend(change.events.iter().map(|event| event.name().to_owned()));
    words.extend(change.tasks.iter().map(|op| match op {
        TaskOp::Add(kind, _) => format!("+{}", kind.name()),
        TaskOp::Queue(..) => "+submit".to_owned(),
        TaskOp::Hasten(kind, _) => format!(">{}", kind.name()),
        TaskOp::Drop(kind) => format!("-{}", kind.name()),
    }));
    words.join(" ")
}
