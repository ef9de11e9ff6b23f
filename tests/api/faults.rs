//! Every trouble the sandbox can make of a job: it ends as it must, and is paid for once or not at
//! all. The list is checked by the compiler, so a new fault has to be judged here.

use reelhook::domain::job::{Kind, Output};
use reelhook::heygen::kinds::{self, Repeat};
use reelhook::heygen::sandbox::{Fault, Options};
use serde_json::json;

use crate::app::{Setup, TestApp, cases, new_job, texts};
use crate::database::Fresh;

cases! {
    every_fault_of_a_video_ends_as_it_must,
    every_fault_of_an_agent_ends_as_it_must,
    every_fault_of_a_translation_ends_as_it_must,
    every_fault_of_every_other_kind_ends_as_it_must,
    every_fault_without_a_registered_endpoint_ends_as_it_must,
    every_kind_tells_why_it_failed,
    an_open_outcome_is_shown_as_unknown_and_resent_with_the_same_key,
    a_crash_while_sending_is_resolved_with_the_same_key,
    a_crash_with_an_answer_lost_is_never_paid_twice,
    a_call_of_open_outcome_is_not_repeated_with_another_heygen_key,
    an_error_in_a_200_says_what_it_would_say_in_its_own_status,
    a_new_key_is_used_only_after_a_definite_refusal,
}

/// State, charges, and the code of a failure.
type End = (&'static str, usize, Option<&'static str>);

const DONE: End = ("completed", 1, None);

fn end_of(kind: Kind, fault: Fault) -> End {
    use Fault::*;
    let route = kinds::route(kind);
    let repeats = route.repeat != Repeat::Never;
    match fault {
        // Nothing was accepted, and what was answered says so for good.
        Refuse => ("failed", 0, Some("invalid_parameter")),
        // Nothing was accepted; it is tried again.
        NoCredit | Rate | RateBare => DONE,
        // Nothing was accepted, which nobody can know: tried again with the same key, or never.
        Error500 | Error503 | Error502Html | Error200 | HangBefore | ResetBefore => match repeats {
            true => DONE,
            false => ("failed", 0, Some("outcome_unknown")),
        },
        // Accepted, and the answer was lost. Where it is not asked for again, a webhook may tell.
        Error504After | Hang | ResetAfter | Truncated | Stall => match repeats || route.callback {
            true => DONE,
            false => ("failed", 1, Some("outcome_unknown")),
        },
        Slow => DONE,
        Fail => ("failed", 1, Some("rendering_failed")),
        FailCredit => ("failed", 1, Some("MOVIO_PAYMENT_INSUFFICIENT_CREDIT")),
        Stuck => ("failed", 1, Some("lost_upstream")),
        // Whatever befalls the webhook, the job is not harmed.
        Lost | Late | Double | Reorder | Forged | Unsigned | NoLink | DeadLink | WrongHeader
        | HeygenHeader | Captions => DONE,
        DialectFlat | DialectStatus | DialectCompleted | DialectData | DialectEvent | DialectEnvelope
        | DialectSkill | DialectTop | DialectV3Fail | DialectLog | DialectString | DialectUnknown
        | DialectEmpty => DONE,
        Get500 | FileCut | FileSoon => DONE,
    }
}

async fn every_fault(fresh: &Fresh, kinds: &[Kind], registered: bool) {
    let mut app = TestApp::new(fresh).await;
    if registered {
        app.register().await;
    }
    let mut wrong = vec![];
    for kind in kinds {
        for fault in Fault::ALL {
            wrong.extend(one_fault(&mut app, *kind, *fault).await);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn one_fault(app: &mut TestApp, kind: Kind, fault: Fault) -> Vec<String> {
    let mut wrong = vec![];
    app.sandbox.script_next(vec![fault]);
    let mut body = new_job(kind.name(), &format!("fault {fault}"));
    body["deadline"] = json!(reelhook::domain::time::rfc3339(app.now() + 3_600_000));
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    let id = job["id"].as_str().expect("an id").to_owned();
    app.settle().await;
    for _ in 0..40 {
        if app.job(&id).await["finished_at"].is_string() {
            break;
        }
        app.advance_s(100).await;
    }
    if fault == Fault::FailCredit {
        // As it must, it stops all others until somebody tops the wallet up.
        app.post("/api/upstream/resume", &json!({})).await.expect(200);
    }
    // What comes after the end changes nothing: late ones in ten minutes, others within one.
    app.advance_s(if fault == Fault::Late { 1_200 } else { 90 }).await;
    let job = app.job(&id).await;
    let found = (
        job["state"].as_str().unwrap().to_owned(),
        app.charges(&id),
        job["failure"]["code"].as_str().map(str::to_owned),
    );
    let (state, charges, code) = end_of(kind, fault);
    // Only these tell a code (docs/heygen.md, Statuses).
    let told = matches!(kind, Kind::Video | Kind::Template | Kind::Avatar);
    let code_fits = found.2.as_deref() == code || !told && matches!(fault, Fault::Fail | Fault::FailCredit);
    if (&*found.0, found.1) != (state, charges) || !code_fits {
        wrong.push(format!("{kind:?} {fault}: {found:?} and not {:?}; {job}", end_of(kind, fault)));
    }
    let charge = match (code, charges) {
        (Some("outcome_unknown"), _) => "open",
        (_, 0) => "none",
        _ => "once",
    };
    let keys = texts(&job["charge"]["calls"], "idempotency_key");
    let newest =
        app.keys_sent(&id).split_off(job["charge"]["older_calls"].as_u64().map_or(0, |n| n as usize));
    if job["charge"]["state"] != charge || keys != newest {
        wrong.push(format!("{kind:?} {fault}: {charge}, sent {newest:?}, and not {}", job["charge"]));
    }
    let events = app.events(&id).await;
    let ends =
        events.iter().filter(|e| matches!(e.as_str(), "job.completed" | "job.failed" | "job.canceled"));
    if ends.count() != 1 {
        wrong.push(format!("{kind:?} {fault}: events {events:?}"));
    }
    let result: Output = serde_json::from_value(job["result"].clone()).unwrap_or_default();
    if state == "completed" && !result.completes(kind) {
        wrong.push(format!("{kind:?} {fault}: completed without a file: {job}"));
    }
    wrong
}

async fn every_fault_of_a_video_ends_as_it_must(fresh: &Fresh) {
    every_fault(fresh, &[Kind::Video, Kind::Template], true).await;
}

async fn every_fault_of_an_agent_ends_as_it_must(fresh: &Fresh) {
    every_fault(fresh, &[Kind::VideoAgent], true).await;
}

async fn every_fault_of_a_translation_ends_as_it_must(fresh: &Fresh) {
    every_fault(fresh, &[Kind::Translation], true).await;
}

async fn every_fault_of_every_other_kind_ends_as_it_must(fresh: &Fresh) {
    let own_cases = [Kind::Video, Kind::Template, Kind::VideoAgent, Kind::Translation];
    let others: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !own_cases.contains(kind)).collect();
    every_fault(fresh, &others, true).await;
}

async fn every_fault_without_a_registered_endpoint_ends_as_it_must(fresh: &Fresh) {
    every_fault(fresh, &[Kind::Video], false).await;
}

/// An agent's session tells it in its messages, the others in a field (docs/heygen.md, Statuses).
async fn every_kind_tells_why_it_failed(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut ids = vec![];
    for kind in ["video", "video_agent", "translation"] {
        app.sandbox.script_next(vec![Fault::FailCredit]);
        ids.push(app.submit(kind, "no credit").await);
    }
    app.advance_s(120).await;
    for id in &ids {
        let failure = app.job(id).await["failure"].clone();
        assert_eq!(failure["message"], "Insufficient credit. This operation requires 'api' credits.");
    }
}

fn long_render(options: &mut Options) {
    options.render = 300_000..=300_000;
}

async fn an_open_outcome_is_shown_as_unknown_and_resent_with_the_same_key(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { sandbox: long_render, ..Setup::default() }).await;
    app.register().await;
    for (fault, wait_s) in [
        (Fault::Error500, 0),
        (Fault::Error503, 0),
        (Fault::Error502Html, 0),
        (Fault::ResetBefore, 0),
        (Fault::HangBefore, 120),
        (Fault::Error504After, 0),
        (Fault::ResetAfter, 0),
        (Fault::Truncated, 0),
        (Fault::Hang, 120),
        (Fault::Stall, 120),
    ] {
        app.sandbox.script_next(vec![fault]);
        let id = app.submit("video", fault.word()).await;
        app.settle().await;
        if wait_s > 0 {
            assert_eq!(app.state(&id).await, "submitting", "{fault}");
            app.advance_s(wait_s).await;
        }
        let job = app.job(&id).await;
        assert_eq!(job["state"], "unknown", "{fault}");
        assert!(job["note"].as_str().is_some_and(|n| !n.is_empty()), "{fault}: it says why: {job}");
        app.advance_s(10).await;
        assert_eq!(app.state(&id).await, "processing", "{fault}");
        let keys = app.keys_sent(&id);
        assert!(keys.len() == 2 && keys[0] == keys[1], "{fault}: {keys:?}");
        assert_eq!(app.charges(&id), 1, "{fault}");
        app.advance_s(400).await;
        assert_eq!(app.state(&id).await, "completed", "{fault}");
    }
}

async fn a_crash_while_sending_is_resolved_with_the_same_key(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { sandbox: long_render, ..Setup::default() }).await;
    // Where another node lives, the lease of the dead may be its, and is waited for.
    let beside = if fresh.is_sqlite() { None } else { Some(app.second_app().await) };
    // Once with the call accepted, once not.
    for fault in [Fault::Hang, Fault::HangBefore] {
        app.sandbox.script_next(vec![fault]);
        let id = app.submit("video", "crash").await;
        app.settle().await;
        assert_eq!(app.state(&id).await, "submitting");
        app.restart().await;
        app.settle().await;
        let (resolved, keys) = if beside.is_none() { ("processing", 2) } else { ("submitting", 1) };
        assert_eq!((&*app.state(&id).await, app.keys_sent(&id).len()), (resolved, keys), "{fault}");
        app.advance_s(200).await;
        assert_eq!(app.state(&id).await, "processing", "{fault}");
        let keys = app.keys_sent(&id);
        assert!(keys.len() == 2 && keys[0] == keys[1], "{fault}: {keys:?}");
        assert_eq!(app.charges(&id), 1, "{fault}");
        app.advance_s(700).await;
        assert_eq!(app.state(&id).await, "completed");
    }
}

async fn a_crash_with_an_answer_lost_is_never_paid_twice(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::ResetAfter]);
    let id = app.submit("video", "crash after").await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    for _ in 0..3 {
        app.restart().await;
        app.work().await;
    }
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
    assert_eq!(app.charges(&id), 1);
}

async fn a_call_of_open_outcome_is_not_repeated_with_another_heygen_key(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    // (fault, whether HeyGen has it, and so its log)
    for (fault, taken) in [(Fault::ResetAfter, true), (Fault::Error503, false)] {
        app.sandbox.script_next(vec![fault, Fault::Lost]);
        let id = app.submit("video", fault.word()).await;
        app.work().await;
        assert_eq!(app.state(&id).await, "unknown", "{fault}");
        app.restart_with(|config| config.heygen_api_key = Some(format!("another, {fault}"))).await;
        app.advance_s(1_200).await;
        assert_eq!(
            app.keys_sent(&id).len(),
            1,
            "{fault}: it may be another account's, which knows no such key"
        );
        let state = if taken { "completed" } else { "unknown" };
        assert_eq!((&*app.state(&id).await, app.charges(&id)), (state, usize::from(taken)), "{fault}");
    }
    // And with the one it was sent with it is.
    app.sandbox.script_next(vec![Fault::Error503]);
    let id = app.submit("video", "back").await;
    app.work().await;
    app.restart_with(|config| config.heygen_api_key = Some("a third".to_owned())).await;
    app.advance_s(60).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], app.keys_sent(&id).len()), (&json!("unknown"), 1));
    let note = job["note"].as_str().unwrap_or_default();
    assert!(note.contains("another HeyGen key") && note.contains("accept_second_charge"), "{note}");
    app.restart_with(|config| config.heygen_api_key = Some(format!("another, {}", Fault::Error503))).await;
    app.advance_s(1_200).await;
    assert_eq!((&*app.state(&id).await, app.keys_sent(&id).len(), app.charges(&id)), ("completed", 2, 1));
    app.leave_it();
}

/// HTTP 200 with an error inside (docs/heygen.md, Field reports): what it says counts, and `internal_error` says
/// as little about the charge as a 500 does.
async fn an_error_in_a_200_says_what_it_would_say_in_its_own_status(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Error200]);
    let id = app.submit("video", "200").await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
    assert_eq!(app.charges(&id), 1);
}

async fn a_new_key_is_used_only_after_a_definite_refusal(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Rate, Fault::Error500, Fault::NoCredit]);
    let id = app.submit("video", "keys").await;
    app.advance_s(1_200).await;
    assert_eq!(app.state(&id).await, "completed");
    let keys = app.keys_sent(&id);
    // 429: a new key. 500: the same again, and a 402 to it says nothing of the first.
    assert_eq!(keys[0], format!("{id}-0"));
    assert!(keys[1..].iter().all(|key| *key == format!("{id}-1")), "{keys:?}");
    assert_eq!(app.charges(&id), 1);
}
