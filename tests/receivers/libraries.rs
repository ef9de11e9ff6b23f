//! What reelhook really sends, judged by the public Standard Webhooks libraries of Python and JavaScript:
//! every delivery is taken by each live secret, and none with anything changed.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Uri};
use reelhook::clock::Clock;
use reelhook::domain::signature;
use reelhook::net::{Call, Client};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::reelhook::{HEYGEN_SECRET, Reelhook};
use crate::runtime::{Project, Runtime, root};

const OWN_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BIG: usize = 900 << 10;

#[tokio::test]
async fn the_library_of_python_takes_what_is_sent_and_nothing_else() {
    let Some(project) = Project::install(Runtime::Python, "flask").await else { return };
    judge(&project, "verify.py").await;
}

#[tokio::test]
async fn the_library_of_javascript_takes_what_is_sent_and_nothing_else() {
    let Some(project) = Project::install(Runtime::Node, "express").await else { return };
    judge(&project, "verify.js").await;
}

/// A delivery, and a secret to verify it with.
#[derive(Clone)]
struct Case {
    what: String,
    secret: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    accepted: bool,
}

async fn judge(project: &Project, script: &str) {
    project.add(&root().join("tests/receivers").join(script));
    let sent = sent().await;
    let cases: Vec<Case> = sent.iter().flat_map(with_changes).collect();
    let lines = cases.iter().map(|case| {
        let body = STANDARD.encode(&case.body);
        json!({"secret": case.secret, "headers": case.headers, "body": body}).to_string() + "\n"
    });
    let input: String = lines.collect();
    let mut command = project.run(script);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let writing = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let done = child.wait_with_output().await.expect("it ends");
    writing.await.expect("no panic").expect("it reads all");
    assert!(done.status.success(), "{script} ended badly");
    let said = String::from_utf8(done.stdout).expect("text");
    assert_eq!(said.lines().count(), cases.len());
    for (case, verdict) in cases.iter().zip(said.lines()) {
        let expected = if case.accepted { "accepted" } else { "refused" };
        assert_eq!(verdict, expected, "{}: {:#?}", case.what, case.headers);
    }
}

/// The delivery itself, and with one thing changed at a time.
fn with_changes(sent: &Case) -> Vec<Case> {
    let changed = |what: &str, change: &dyn Fn(&mut Case)| {
        let mut case = Case { what: format!("{}, {what}", sent.what), accepted: false, ..sent.clone() };
        change(&mut case);
        case
    };
    let header = |name: &'static str, change: &'static dyn Fn(&str) -> String| {
        changed(&format!("{name} changed"), &|case| {
            let value = case.headers.get_mut(name).expect("it is there");
            *value = change(value);
        })
    };
    vec![
        sent.clone(),
        // A letter for a letter, so that it is still text.
        changed("a byte changed", &|case| {
            let at = case.body.iter().position(u8::is_ascii_alphabetic).expect("a letter");
            case.body[at] ^= 0x20;
        }),
        changed("a byte more", &|case| case.body.push(b' ')),
        changed("a byte less", &|case| case.body.truncate(case.body.len() - 1)),
        changed("another secret", &|case| case.secret = format!("whsec_{}", STANDARD.encode([7; 32]))),
        header("webhook-id", &|id| format!("{id}x")),
        header("webhook-timestamp", &|at| (at.parse::<i64>().expect("a number") + 1).to_string()),
        header("webhook-timestamp", &|at| (at.parse::<i64>().expect("a number") - 301).to_string()),
        header("webhook-signature", &|all| all.replace("v1,", "v2,")),
    ]
}

/// What a server of its own sent: all sizes, all kinds of secrets.
async fn sent() -> Vec<Case> {
    let (reelhook, capture) = (Reelhook::start().await, Capture::start().await);
    let unicode = "Grüße, 日本語 🎬 \u{2028} \"quoted\" \\ and\ttabs";
    let metadata = json!({"note": unicode, "filler": "é".repeat(7_000)});

    let (ours, first) = reelhook.tell(&capture.url("/ours"), json!({"events": ["job.completed"]})).await;
    reelhook.test(&ours).await;
    let own = json!({"notify_url": capture.url("/own"), "notify_secret": OWN_SECRET});
    reelhook.submit(unicode, own).await;
    capture.hears("/ours", 2).await;
    let second = reelhook.call("POST", &format!("/api/endpoints/{ours}/rotate"), Some(&json!({}))).await;
    let second = second["secret"].as_str().expect("a secret").to_owned();
    reelhook.submit("After the rotation", json!({"metadata": metadata})).await;
    capture.hears("/ours", 3).await;
    capture.hears("/own", 3).await;

    let (_, raw) = reelhook.tell(&capture.url("/heygen"), json!({"format": "heygen"})).await;
    for text in [String::new(), format!("{unicode}{}", "x".repeat(BIG))] {
        heygen_sends(&reelhook, &json!({"event_type": "wallet.low", "event_data": {"text": text}})).await;
    }
    capture.hears("/heygen", 2).await;

    let all = capture.all();
    let of = |path: &str| all.iter().filter(|one| one.path == path).collect::<Vec<_>>();
    let (told, passed_on) = (of("/ours"), of("/heygen"));
    assert_eq!(told.iter().map(|one| one.signatures()).collect::<Vec<_>>(), [1, 1, 2]);
    assert!(told[1].text().contains("日本語 🎬") && told[2].body.len() > 14_000);
    assert!(
        passed_on.iter().any(|one| one.body.len() < 100) && passed_on.iter().any(|one| one.body.len() > BIG)
    );
    let case = |one: &&Heard, secret: &str| Case {
        what: format!("{} of {} bytes", one.path, one.body.len()),
        secret: secret.to_owned(),
        headers: one.headers.clone(),
        body: one.body.to_vec(),
        accepted: true,
    };
    let mut cases: Vec<Case> = told.iter().take(2).map(|one| case(one, &first)).collect();
    cases.extend([case(&told[2], &first), case(&told[2], &second)]);
    cases.extend(of("/own").iter().map(|one| case(one, OWN_SECRET)));
    cases.extend(passed_on.iter().map(|one| case(one, &raw)));
    assert_eq!(cases.len(), 9);
    // Of two live secrets each is enough, but not for what was signed before there were two.
    let before = "signed before the rotation".to_owned();
    cases.push(Case { accepted: false, secret: second, what: before, ..cases[0].clone() });
    cases
}

/// A webhook of a type that is new to reelhook, signed as HeyGen signs.
async fn heygen_sends(reelhook: &Reelhook, body: &Value) {
    let body = body.to_string();
    let signed = signature::sign(HEYGEN_SECRET, body.as_bytes());
    let call = Call {
        method: http::Method::POST,
        url: format!("{}/webhooks/heygen", reelhook.url()),
        headers: reelhook::net::headers([("content-type", "application/json"), ("signature", &*signed)]),
        body: body.into(),
        timeout: std::time::Duration::from_secs(60),
        max_body_bytes: 64 << 10,
    };
    let answer = Client::new(Clock::real(), false).call(call).await.expect("it answers");
    assert_eq!(answer.status, 200);
}

struct Heard {
    path: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Heard {
    fn signatures(&self) -> usize {
        self.headers["webhook-signature"].split(' ').count()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// Takes whatever it is sent, and keeps it.
#[derive(Clone)]
struct Capture {
    base: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    news: watch::Sender<()>,
}

impl Capture {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let capture = Self { base, heard: Arc::default(), news: watch::Sender::new(()) };
        let router =
            Router::new().fallback(keep).layer(DefaultBodyLimit::disable()).with_state(capture.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        capture
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns when so many were sent to this path.
    async fn hears(&self, path: &str, count: usize) {
        let heard = || self.all().iter().filter(|one| one.path == path).count() >= count;
        self.news.subscribe().wait_for(|()| heard()).await.expect("it lives");
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().expect("no panic")
    }
}

async fn keep(State(capture): State<Capture>, uri: Uri, headers: HeaderMap, body: Bytes) {
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    let headers = headers.iter().map(text).collect();
    capture.all().push(Heard { path: uri.path().to_owned(), headers, body });
    capture.news.send_replace(());
}
