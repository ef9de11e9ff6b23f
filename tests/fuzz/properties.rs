//! What must hold whatever the bytes: one function per fuzz target. Each panics on what must not
//! be. Shared by `fuzz/`, which searches, and by `tests/fuzz.rs`, which repeats what was found.

use std::cell::OnceCell;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use reelhook::app::App;
use reelhook::clock::Clock;
use reelhook::config::{Config, Given};
use reelhook::domain::job::{FoundBy, Kind, Observation, Says, State};
use reelhook::domain::signature::{HEADERS, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE, decode, sign, verify};
use reelhook::domain::step::{Input, step};
use reelhook::domain::table::typical;
use reelhook::heygen::wire;
use reelhook::http::problem;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

const NOW: i64 = 1_795_255_200_000;

/// Secret, header value and timestamp, a line each; the rest is the body. Only the right digest of
/// exactly these bytes is accepted, in whatever header and spelling it comes.
pub fn signature(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (secret, value, stamp) = (text(), text(), text());
    let body = parts.next().unwrap_or_default();
    let secrets = ["another".to_owned(), secret.clone()];
    let judge = |body: &[u8], name: &str, value: &str| {
        verify(body, |asked| (asked == name).then_some(value), &secrets, NOW)
    };
    let right = sign(&secret, body);
    let theirs = sign("another", body);
    let spelled = [right.clone(), right.to_uppercase(), format!("sha256={right}"), format!(" {right} ")];
    let position = usize::from(secret != "another");
    for name in HEADERS {
        for good in &spelled {
            assert_eq!(judge(body, name, good), Ok(position), "a right signature is accepted");
        }
        let accepted = judge(body, name, &value).is_ok();
        let digest = decode(&value).map(hex::encode);
        let made_here = digest.is_some_and(|digest| digest == right || digest == theirs);
        assert_eq!(accepted, made_here, "accepted exactly when it is the digest");
        if let Some(bytes) = decode(&value) {
            assert!(value.to_ascii_lowercase().contains(&hex::encode(bytes)), "decoded what stands there");
        }
    }
    let mut longer = body.to_vec();
    longer.push(b' ');
    assert!(judge(&longer, "signature", &right).is_err(), "one byte more is another body");
    if let Some(at) = value.bytes().map(usize::from).sum::<usize>().checked_rem(body.len()) {
        let mut changed = body.to_vec();
        changed[at] ^= 1;
        assert!(judge(&changed, "signature", &right).is_err(), "a changed bit is another body");
    }
    with_timestamp(&secret, body, &right, &stamp);
}

/// A timestamp beside a right signature may be five minutes off, and nothing but a time.
fn with_timestamp(secret: &str, body: &[u8], right: &str, stamp: &str) {
    let header = |name: &str| match name {
        "signature" => Some(right),
        TIMESTAMP_HEADER => Some(stamp),
        _ => None,
    };
    let near = stamp.trim().parse::<i128>().is_ok_and(|s| {
        s.saturating_mul(1_000).saturating_sub(NOW.into()).saturating_abs() <= TIMESTAMP_TOLERANCE.into()
    });
    let judged = verify(body, header, &[secret.to_owned()], NOW);
    assert_eq!(judged.is_ok(), near, "a stamp counts when it is near: {stamp:?}");
}

/// A body of a stranger, read by every reader: what is read stays within its bounds, says the same
/// when it is written and read again, and ends no job it should not.
pub fn wire(data: &[u8]) {
    let again = serde_json::from_slice::<Value>(data).ok().map(|value| value.to_string());
    if let Ok(heard) = wire::hear(data) {
        if let Some(again) = &again {
            assert_eq!(wire::hear(again.as_bytes()).as_ref(), Ok(&heard), "written and read again");
        }
        let ids = heard.upstream_ids.iter().chain(&heard.callback_id).chain(&heard.event_id);
        for id in ids {
            assert!(!id.is_empty() && id.chars().count() <= 255, "an id is bounded: {id:?}");
            assert!(!id.chars().any(char::is_control), "an id can be stored and shown: {id:?}");
        }
        let unique: std::collections::HashSet<&String> = heard.upstream_ids.iter().collect();
        assert_eq!(unique.len(), heard.upstream_ids.len(), "each id once");
        if let Some(name) = &heard.event_type {
            assert!(name.chars().count() <= 200 && !name.chars().any(char::is_control), "{name:?}");
        }
        assert!(!heard.summary().contains('\n'), "a summary is one line");
        for kind in Kind::ALL {
            believed_no_more_than_it_may(kind, heard.observe(kind, FoundBy::Webhook), data);
        }
    }
    for kind in Kind::ALL {
        let status = wire::read_status(kind, data, FoundBy::Poll);
        if let Some(again) = &again {
            assert_eq!(wire::read_status(kind, again.as_bytes(), FoundBy::Poll), status);
        }
        if let Ok(Observation { says: Says::Completed(output), .. }) = &status {
            assert!(output.completes(kind), "completed means there is what the kind is for");
        }
        if let Ok(created) = wire::read_created(kind, data) {
            assert!(!created.upstream_id.is_empty() && created.upstream_id.chars().count() <= 255);
        }
    }
    for status in [200, 400, 429, 500] {
        let error = wire::read_error(status, data);
        assert!(!error.message.is_empty() && error.message.chars().count() <= 500, "{:?}", error.message);
    }
    // No answer of its own to hold against anything: it must only end.
    let _ = wire::read_page(data);
}

/// A webhook never makes a job fail, completes one only with a file, and never moves one that ended.
fn believed_no_more_than_it_may(kind: Kind, seen: Observation, data: &[u8]) {
    let has_file = matches!(&seen.says, Says::Completed(output) if output.completes(kind));
    assert!(!matches!(seen.says, Says::Failed { confirmed: true, .. }), "nobody confirmed it");
    for state in State::ALL {
        let mut job = typical(state);
        job.kind = kind;
        let Ok(Some(change)) = step(&job, Input::Observed(seen.clone()), NOW) else { continue };
        let (before, after) = (job.state, change.job.state);
        let said = String::from_utf8_lossy(data);
        assert!(!before.is_terminal() || before == after, "{before:?} became {after:?} by {said}");
        let completed = after == State::Completed && before != after;
        assert!(!completed || has_file, "{before:?} completed without a file by {said}");
        assert!(before == after || !matches!(after, State::Failed | State::Canceled), "{after:?} by {said}");
    }
}

/// The whole app behind its router, in one thread, on a store that goes with it.
struct Served {
    runtime: tokio::runtime::Runtime,
    app: App,
    _directory: tempfile::TempDir,
}

thread_local! {
    static SERVED: OnceCell<Served> = const { OnceCell::new() };
}

/// The bytes as a submit and as a rejection: the answer is a problem document or the job that was
/// asked for, the same each time, and never a fault of ours.
pub fn api_body(data: &[u8]) {
    SERVED.with(|cell| {
        let served = cell.get_or_init(serve);
        served.runtime.block_on(async {
            submit(&served.app, data).await;
            reject(&served.app, data).await;
        });
    });
}

fn serve() -> Served {
    // In memory where the machine has such a place: nothing here is about durability.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let mut given = Given::default();
    let database = directory.path().join("fuzz.db").display().to_string();
    for (name, value) in [("database", &*database), ("heygen-url", "http://127.0.0.1:9")] {
        given.flags.insert(name.to_owned(), value.to_owned());
    }
    let config = Config::resolve(&given).expect("settings that are right");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let app = runtime.block_on(App::prepare(&config, Clock::manual(NOW, 7))).expect("the app starts");
    Served { runtime, app, _directory: directory }
}

async fn submit(app: &App, data: &[u8]) {
    let key = hex::encode(Sha256::digest(data));
    let (status, answer) = call(app, "POST", "/api/jobs", &key, data).await;
    let (status_again, again) = call(app, "POST", "/api/jobs", &key, data).await;
    assert_eq!((status, &answer), (status_again, &again), "the same key gets the same answer");
    if status != 202 {
        return is_problem(status, &answer);
    }
    let asked: Value = serde_json::from_slice(data).expect("what was taken is JSON");
    let made: Value = serde_json::from_slice(&answer).expect("a job is JSON");
    let id = made["id"].as_str().expect("an id");
    let first = if asked["hold"] == true { "held" } else { "queued" };
    assert_eq!(made["state"], first, "{made}");
    for name in ["kind", "callback_id", "metadata"] {
        assert_eq!(made[name], asked[name], "{name} is kept as it was given");
    }
    if asked["labels"].is_object() {
        assert_eq!(made["labels"], asked["labels"]);
    }
    let (status, shown) = call(app, "GET", &format!("/api/jobs/{id}"), "", b"").await;
    assert_eq!(status, 200, "a job that was accepted is there");
    let mut shown: Value = serde_json::from_slice(&shown).expect("a job is JSON");
    // What it waits for is told of the moment it is asked.
    shown["waiting"] = made["waiting"].clone();
    assert_eq!(shown, made, "and is what was answered");
}

async fn reject(app: &App, data: &[u8]) {
    let held = br#"{"kind":"video_agent","request":{"prompt":"p"},"hold":true}"#;
    let (_, answer) = call(app, "POST", "/api/jobs", "", held).await;
    let made: Value = serde_json::from_slice(&answer).expect("a job is JSON");
    let path = format!("/api/jobs/{}/reject", made["id"].as_str().expect("an id"));
    let (status, answer) = call(app, "POST", &path, "", data).await;
    if status != 200 {
        return is_problem(status, &answer);
    }
    let rejected: Value = serde_json::from_slice(&answer).expect("a job is JSON");
    assert_eq!(rejected["state"], "canceled", "{rejected}");
}

fn is_problem(status: u16, answer: &[u8]) {
    let problem: Value = serde_json::from_slice(answer).expect("a problem document is JSON");
    let kind = problem::Kind::ALL.iter().find(|kind| problem["code"] == kind.code());
    let kind = kind.unwrap_or_else(|| panic!("no such code: {problem}"));
    assert!(status < 500, "it is not our fault: {problem}");
    assert_eq!((kind.status(), &problem["status"]), (status, &Value::from(status)), "{problem}");
    for name in ["type", "title", "hint"] {
        assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "no {name} in {problem}");
    }
    let errors = problem["errors"].as_array();
    if kind.code() == "invalid_request" {
        let named = errors.is_some_and(|all| all.iter().all(|e| e["pointer"].is_string()));
        assert!(named && errors.is_some_and(|all| !all.is_empty()), "names what is wrong: {problem}");
    }
}

async fn call(app: &App, method: &str, path: &str, key: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1{path}"))
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, "application/json")
        // Given, so that two answers to one request are the same to the byte.
        .header("x-request-id", "req_fuzz")
        .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))));
    if !key.is_empty() {
        request = request.header("idempotency-key", key);
    }
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    let answer = app.router().oneshot(request).await.expect("the router answers");
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.expect("a whole answer").to_bytes().to_vec())
}
