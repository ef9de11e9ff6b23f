//! Each example as its users run it, against the demo: it hears how jobs end, takes each event once, and refuses what is
//! not signed.

use std::time::Duration;

use bytes::Bytes;
use reelhook::cli::selftest::ground::free_port;
use reelhook::clock::Clock;
use reelhook::domain::signing::{SigningSecret, TOLERANCE, sign, timestamp};
use reelhook::domain::time::Millis;
use reelhook::net::{Call, Client, headers};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::process::Process;
use crate::reelhook::Reelhook;
use crate::runtime::{Project, Runtime, root};

#[tokio::test]
async fn express_hears_how_jobs_end() {
    let Some(project) = Project::install(Runtime::Node, "express").await else { return };
    hears(project.run("server.js")).await;
}

/// The route's own function with the Request that Next.js would give it; Next.js, a third of a gigabyte, is
/// not started.
#[tokio::test]
async fn a_nextjs_route_hears_how_jobs_end() {
    let Some(project) = Project::install(Runtime::Node, "express").await else { return };
    project.add(&root().join("examples/nextjs/app/api/webhooks/reelhook/route.js"));
    project.add(&root().join("tests/receivers/serve_route.js"));
    hears(project.run("serve_route.js")).await;
}

#[tokio::test]
async fn flask_hears_how_jobs_end() {
    let Some(project) = Project::install(Runtime::Python, "flask").await else { return };
    hears(project.run("app.py")).await;
}

#[tokio::test]
async fn fastapi_hears_how_jobs_end() {
    let Some(project) = Project::install(Runtime::Python, "fastapi").await else { return };
    hears(project.run("app.py")).await;
}

async fn hears(mut command: Command) {
    let reelhook = Reelhook::demo().await;
    let port = free_port().expect("a port");
    let address = format!("http://127.0.0.1:{port}/api/webhooks/reelhook");
    let (endpoint, secret) =
        reelhook.tell(&address, json!({"events": ["job.completed", "job.failed"]})).await;
    let mut process = Process::start(command.env("PORT", port.to_string()).env("WEBHOOK_SECRET", &secret));
    process.says(&format!("http://127.0.0.1:{port}")).await;
    reelhook.test(&endpoint).await;
    process.says("endpoint.test").await;

    let job = reelhook.submit("Good", json!({"callback_id": "order-1"})).await;
    reelhook.submit("Bad #fail", json!({"callback_id": "order-2"})).await;
    process.says("order-1: completed, http").await;
    process.says("order-2: failed (").await;

    let events = reelhook.call("GET", &format!("/api/jobs/{job}/events"), None).await;
    let event = events["data"].as_array().and_then(|all| all.last()).expect("events").clone();
    assert_eq!(event["type"], "job.completed");
    let receiver = Sender { address, secret };
    assert_eq!(receiver.send(&event, 0, |_| {}).await, 204, "known by its id");
    let late = -(TOLERANCE + 60_000);
    assert_eq!(receiver.send(&event, late, |_| {}).await, 401, "too old");
    let mut new = event;
    new["id"] = json!("evt_new");
    new["data"]["callback_id"] = json!("order-3");
    assert_eq!(receiver.send(&new, 0, |body| *body = b"\xff\xfe".to_vec()).await, 401, "no text");
    assert_eq!(receiver.send(&new, 0, |body| body[0] = b' ').await, 401, "a changed byte");
    assert_eq!(receiver.send(&new, 0, Vec::clear).await, 401, "nothing");
    assert_eq!(receiver.send(&new, 0, |_| {}).await, 204, "as it was signed");
    process.says("order-3: completed").await;
    // What makes no file, a voice or a look, ends without a link.
    new["id"] = json!("evt_voice");
    new["data"]["callback_id"] = json!("order-4");
    new["data"]["result"] = json!({});
    assert_eq!(receiver.send(&new, 0, |_| {}).await, 204, "a voice");
    process.says("order-4: completed, no video").await;
    for order in 1..=4 {
        assert_eq!(process.times(&format!("order-{order}: ")), 1, "{:#?}", process.said);
    }
}

/// Sends what a test makes up in reelhook's name.
struct Sender {
    address: String,
    secret: String,
}

impl Sender {
    /// The status of the answer to an event that was signed so long from now, and then changed.
    async fn send(&self, event: &Value, off: Millis, change: impl FnOnce(&mut Vec<u8>)) -> u16 {
        let secret = SigningSecret { secret: self.secret.clone(), created_at: 0, ends_at: None };
        let (id, at) = (event["id"].as_str().expect("an id"), Clock::real().now() + off);
        let mut body = event.to_string().into_bytes();
        let signed = sign(&[secret], id, at, &body);
        change(&mut body);
        let call = Call {
            method: http::Method::POST,
            url: self.address.clone(),
            headers: headers([
                ("content-type", "application/json"),
                ("webhook-id", id),
                ("webhook-timestamp", &timestamp(at)),
                ("webhook-signature", &signed),
            ]),
            body: Bytes::from(body),
            timeout: Duration::from_secs(60),
            max_body_bytes: 64 << 10,
        };
        let answer = Client::new(Clock::real(), false).call(call).await.expect("it answers");
        answer.status.as_u16()
    }
}

#[tokio::test]
async fn the_script_submits_waits_and_prints_links() {
    if !Runtime::Curl.is_here().await {
        return;
    }
    let reelhook = Reelhook::demo().await;
    let run = async |order: &str| {
        let script = root().join("examples/submit.sh");
        let done = Command::new("bash").arg(script).arg(order).env("REELHOOK_URL", reelhook.url()).output();
        let done = done.await.expect("it runs");
        (done.status.code(), String::from_utf8(done.stdout).expect("text"), done.stderr)
    };
    let (code, said, errors) = run("order-1").await;
    assert_eq!(code, Some(0), "{said}{}", String::from_utf8_lossy(&errors));
    let names: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["submitted", "completed", "video", "job", "events"], "{said}");
    for line in said.lines().skip(2) {
        assert!(line.contains("  http://127.0.0.1:"), "{line}");
    }
    assert_eq!(run("order-1").await.1, said, "the same order is the same job");
    let (code, said, errors) = run("order #fail").await;
    assert!(code == Some(1) && said.starts_with("submitted"), "{said}");
    assert!(String::from_utf8_lossy(&errors).starts_with("failed     The video could not"));
}
