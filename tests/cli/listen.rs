//! `listen`: events of a reelhook elsewhere reach a receiver here, none is lost while nobody listens, and what it says
//! is true.

use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use reelhook::clock::Clock;
use reelhook::domain::signature;
use reelhook::domain::signing::{SigningSecret, sign};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::canned::{Asked, Canned};
use crate::real::Server;
use crate::{nowhere, run_in};

/// What is not said by then is not said at all.
const PATIENCE: Duration = Duration::from_secs(60);

struct Listening {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Listening {
    /// `state` is the user's state folder.
    fn start(url: &str, state: &TempDir, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
            .arg("listen")
            .args(args)
            .env_clear()
            .env("REELHOOK_URL", url)
            .env("XDG_STATE_HOME", state.path())
            .current_dir(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let err = BufReader::new(child.stderr.take().expect("stderr")).lines();
        Self { child, out, err }
    }

    /// Reads what it says up to the line that holds `words`.
    async fn says(&mut self, words: &str) -> String {
        let mut said = String::new();
        let reading = async {
            while let Some(line) = self.err.next_line().await.expect("text") {
                if line.contains(words) {
                    return line;
                }
                said = said.clone() + &line + "\n";
            }
            panic!("it ended without saying `{words}`: {said}")
        };
        Clock::real().within(PATIENCE, reading).await.unwrap_or_else(|| panic!("it does not say `{words}`"))
    }

    /// The next line on stdout.
    async fn line(&mut self) -> String {
        let line = Clock::real().within(PATIENCE, self.out.next_line()).await.expect("a line in time");
        line.expect("text").expect("a line")
    }

    async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    async fn ends(mut self) -> i32 {
        let ended = Clock::real().within(PATIENCE, self.child.wait()).await.expect("it ends");
        ended.expect("a status").code().expect("an exit code")
    }

    async fn interrupt(self) -> i32 {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await.expect("a signal");
        assert!(sent.success());
        self.ends().await
    }
}

fn state() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

async fn receiver() -> Canned {
    Canned::saying(200, json!({"thanks": true})).await
}

async fn submit(server: &Server) -> String {
    let args = ["job", "submit", "--kind", "video_agent", "--hold", "--request", r#"{"prompt": "Hi"}"#];
    server.run(&args).await.expect(0).json()["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn an_event_reaches_the_receiver_signed_as_an_endpoint_would_get_it() {
    let (server, receiver, state) = (Server::start().await, receiver().await, state());
    submit(&server).await;
    let hook = format!("{}/hook", receiver.url);
    let mut listening = Listening::start(&server.url, &state, &["--forward-to", &hook]);
    listening.says("ready: nothing was waiting").await;
    let id = submit(&server).await;
    let told = listening.json().await;
    assert_eq!((&told["event"]["type"], &told["event"]["job_id"]), (&json!("job.held"), &json!(id)));
    assert_eq!((&told["came"]["status"], &told["came"]["error"]), (&json!(200), &Value::Null));

    let environment = [("XDG_STATE_HOME", state.path().to_str().unwrap())];
    let secret =
        run_in(&environment, &["listen", "--print-secret"], "").await.expect(0).out.trim().to_owned();
    let asked = receiver.asked();
    assert_eq!(asked.len(), 1, "not what was there before");
    let header = |name: &str| asked[0].header(name).unwrap_or_default().to_owned();
    assert_eq!(
        (asked[0].line(), header("webhook-id")),
        ("POST /hook".into(), told["event"]["id"].as_str().unwrap().into())
    );
    let at = header("webhook-timestamp").parse::<i64>().unwrap() * 1_000;
    let secret = SigningSecret { secret, created_at: 0, ends_at: None };
    assert_eq!(header("webhook-signature"), sign(&[secret], &header("webhook-id"), at, &asked[0].body));
    let body = asked[0].json();
    assert_eq!(
        (&body["type"], &body["job_id"], &body["data"]),
        (&json!("job.held"), &json!(id), &told["event"]["data"])
    );
    assert_eq!((header("reelhook-job"), header("reelhook-attempt")), (id, "1".to_owned()));
    assert_eq!(listening.interrupt().await, 130);
}

#[tokio::test]
async fn what_happens_while_nobody_listens_waits() {
    let (server, receiver, state) = (Server::start().await, receiver().await, state());
    let listen = |receiver: &str| Listening::start(&server.url, &state, &["--forward-to", receiver]);
    let mut listening = listen(&receiver.url);
    listening.says("ready: nothing").await;
    listening.interrupt().await;
    let missed = [submit(&server).await, submit(&server).await];
    let mut listening = listen(&receiver.url);
    listening.says("from where it was left, behind event 0").await;
    listening.says("ready: 2 events were waiting").await;
    for id in &missed {
        assert_eq!(listening.json().await["event"]["job_id"], *id);
    }
    listening.interrupt().await;
    // Killed hard, it knows what it handed over.
    let mut listening = listen(&receiver.url);
    listening.says("ready: nothing").await;
    listening.child.kill().await.expect("it is killed");
    submit(&server).await;
    let mut listening = listen(&receiver.url);
    listening.says("ready: one event was waiting").await;
    assert_eq!(receiver.asked().len(), 3);
    // Another receiver has a place of its own, and all of it may be asked for.
    let mut other = Listening::start(&server.url, &state, &["--since", "all"]);
    other.says("ready: 3 events were waiting").await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_yet_is_waited_for() {
    let (server, state) = (Server::start().await, state());
    let at = nowhere();
    let mut listening = Listening::start(&server.url, &state, &["--forward-to", &at]);
    listening.says("ready").await;
    let ids = [submit(&server).await, submit(&server).await];
    listening.says("nobody is at").await;
    let receiver = Canned::at(at.strip_prefix("http://").unwrap(), |nth, _| {
        let status = if nth == 0 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        (status, "said\u{1b}[31m").into_response()
    });
    let receiver = receiver.await;
    let first = listening.json().await;
    assert_eq!((&first["event"]["job_id"], &first["came"]["status"]), (&json!(ids[0]), &json!(500)));
    assert_eq!(listening.json().await["event"]["job_id"], ids[1], "one that was refused holds up nothing");
    assert!(receiver.asked()[0].header("reelhook-attempt").unwrap().parse::<u32>().unwrap() > 1);
}

#[tokio::test]
async fn heygens_own_come_byte_for_byte_with_the_check_of_their_signature() {
    let (server, receiver, state) = (Server::start().await, receiver().await, state());
    server.run(&["simulate", "--event", "avatar_video.success"]).await.expect(0);
    server.settle().await;
    let args = ["--events", "heygen.*", "--since", "1h", "--forward-to", &receiver.url];
    let mut listening = Listening::start(&server.url, &state, &args);
    listening.says("ready: one event was waiting").await;
    let told = listening.json().await;
    assert_eq!(told["event"]["type"], "heygen.avatar_video.success");
    let steps = told["signature_check"].as_array().unwrap();
    assert!(steps[0].as_str().unwrap().starts_with("signature: the HMAC-SHA256 of the"), "{steps:?}");
    let asked = receiver.asked().remove(0);
    assert_eq!(asked.header("signature"), Some(&*signature::sign("whsec_real", &asked.body)));
    assert!(asked.header("user-agent").unwrap().starts_with("reelhook-simulate"), "its own headers, too");

    let mut people = Listening::start(&server.url, &state, &[&args[..], &["--output", "table"]].concat());
    let mut shown = vec![];
    while !shown.last().is_some_and(|line: &String| line.contains("200 in ")) {
        shown.push(people.line().await);
    }
    assert!(shown[0].contains("  heygen.avatar_video.success  rcp_"), "{shown:?}");
    assert!(shown[1].contains("1. signature: the HMAC-SHA256"), "{shown:?}");
    assert!(shown.iter().all(|line| line.chars().count() <= 80 && !line.contains('\u{1b}')), "{shown:?}");
}

/// `listen` in a terminal, which `script` is here, so that somebody can press keys.
#[cfg(target_os = "linux")]
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
}

#[cfg(target_os = "linux")]
impl Terminal {
    fn start(server: &Server, forward_to: &str, state: &TempDir) -> Self {
        let command = format!("{} listen --forward-to {forward_to}", env!("CARGO_BIN_EXE_reelhook"));
        let mut child = Command::new("/usr/bin/script")
            .args(["-qec", &command, "/dev/null"])
            .env_clear()
            // Nothing here opens a browser.
            .env("PATH", state.path())
            .env("SHELL", "/bin/sh")
            .env("REELHOOK_URL", &server.url)
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`script` is part of every Debian");
        let keys = child.stdin.take().expect("stdin");
        let screen = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, keys, screen }
    }

    async fn says(&mut self, words: &str) {
        let reading = async {
            while let Some(line) = self.screen.next_line().await.expect("text") {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended without saying `{words}`")
        };
        let said = Clock::real().within(PATIENCE, reading).await;
        said.unwrap_or_else(|| panic!("it does not say `{words}`"));
    }

    async fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).await.expect("a key is pressed");
    }

    async fn ends_well(mut self) {
        let ended = Clock::real().within(PATIENCE, self.child.wait()).await.expect("it ends");
        assert!(ended.expect("a status").success());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn keys_resend_show_open_and_quit() {
    let (server, receiver, state) = (Server::start().await, receiver().await, state());
    let mut terminal = Terminal::start(&server, &format!("{}/hook", receiver.url), &state);
    terminal.says("r resend, d details, o open, q quit").await;
    let id = submit(&server).await;
    terminal.says("200 in ").await;
    for (key, words) in [
        ("r", "again: job.held"),
        ("x", ""),
        ("d", "reelhook-attempt: 2"),
        ("o", &format!("open it yourself: {}/api/jobs/{id}?token=", server.url)),
    ] {
        terminal.press(key).await;
        terminal.says(words).await;
    }
    terminal.press("q").await;
    terminal.ends_well().await;
    assert_eq!(receiver.asked().len(), 2, "once, and once more for the key");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_receiver_that_hangs_does_not_keep_anybody_from_quitting() {
    let (server, state) = (Server::start().await, state());
    // It listens, and nobody takes the connection up.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", mute.local_addr().expect("an address"));
    let mut terminal = Terminal::start(&server, &address, &state);
    terminal.says("q quit").await;
    submit(&server).await;
    terminal.says("job.held").await;
    terminal.press("q").await;
    terminal.ends_well().await;
}

fn documents(all: &[Value]) -> Response {
    let text: String = all.iter().map(|one| format!("{one}\n")).collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from(text)).into_response()
}

#[tokio::test]
async fn a_lost_connection_is_told_and_made_again_from_where_it_was() {
    let mark = |kind: &str, position: i64| json!({"type": kind, "log": "0a1b", "position": position});
    let event = |number: i64| {
        json!({"number": number, "id": format!("evt_{number}"), "type": "job.held", "job_id": "job_1",
            "job_sequence": 1, "created_at": "2026-11-21T10:00:00.000Z", "receipt_id": null, "data": {}})
    };
    let busy = json!({"code": "too_many_streams", "retryable": true, "detail": "256 are open"});
    let answers = move |nth: usize, _: &Asked| match nth {
        0 => documents(&[mark("snapshot", 7), mark("live", 7), event(8)]),
        1 => (StatusCode::SERVICE_UNAVAILABLE, axum::Json(busy.clone())).into_response(),
        2 => documents(&[
            mark("snapshot", 8),
            json!({"type": "keepalive"}),
            event(9),
            event(10),
            mark("live", 10),
        ]),
        3 => documents(&[
            mark("snapshot", 3),
            json!({"type": "gap", "position": 3, "asked": 10}),
            mark("live", 3),
        ]),
        _ => {
            let problem = json!({"code": "unauthorized", "detail": "this API key was revoked"});
            (StatusCode::UNAUTHORIZED, axum::Json(problem)).into_response()
        }
    };
    let (server, state) = (Canned::start(answers).await, state());
    let mut listening = Listening::start(&server.url, &state, &[]);
    listening.says("ready: nothing was waiting").await;
    listening.says("not connected (the server closed the connection); trying again in 1 s").await;
    listening.says("not connected (256 are open); trying again in 2 s").await;
    listening.says("ready: 2 events were waiting").await;
    listening.says("nothing at event 10, no longer or not in this one: going on behind event 3").await;
    assert_eq!(listening.ends().await, 3);
    let asked: Vec<String> = server.asked().iter().map(|asked| asked.uri.to_string()).collect();
    assert_eq!(
        asked,
        ["", "&since=0a1b.8", "&since=0a1b.8", "&since=0a1b.10", "&since=0a1b.3"]
            .map(|since| format!("/api/stream?events=*{since}"))
    );
}

#[tokio::test]
async fn a_mistake_is_said_before_anything_is_said_to_be_ready() {
    let state = state();
    let environment = [("XDG_STATE_HOME", state.path().to_str().unwrap())];
    let run = async |args: &[&str]| run_in(&environment, &[&["listen"], args].concat(), "").await;
    let none = run(&["--url", &nowhere()]).await.expect(1);
    assert_eq!(none.problem()["code"], "cli_no_server");
    assert!(!none.err.contains("ready"), "{}", none.err);
    assert_eq!(run(&["--forward-to", "localhost:3000"]).await.expect(2).problem()["code"], "cli_usage");
    let server = Server::start().await;
    let wrong = run(&["--url", &server.url, "--events", "job.done"]).await.expect(2);
    assert_eq!(wrong.problem()["errors"][0]["pointer"], "events");
    run(&["--url", &server.url, "--since", "soon"]).await.expect(2);
    let elsewhere = Canned::saying(200, json!({"hello": 1})).await;
    assert_eq!(run(&["--url", &elsewhere.url]).await.expect(1).problem()["code"], "cli_not_reelhook");
    // Where nothing can be kept, that is said.
    let secret = run_in(&[], &["listen", "--print-secret"], "").await.expect(0).out;
    assert!(secret.starts_with("whsec_"));
    let kept = [run(&["--print-secret"]).await.expect(0).out, run(&["--print-secret"]).await.expect(0).out];
    assert_eq!(kept[0], kept[1], "the same at every run");
}

#[tokio::test]
async fn one_event_is_shown_by_number_or_id() {
    let server = Server::start().await;
    let id = submit(&server).await;
    let event = server.run(&["event", "show", "1"]).await.expect(0).json();
    assert_eq!((&event["type"], &event["job_id"]), (&json!("job.held"), &json!(id)));
    let by_id =
        server.run(&["event", "show", event["id"].as_str().unwrap(), "--output", "table"]).await.expect(0);
    for part in ["job.held", "number", &id, "\"kind\": \"video_agent\""] {
        assert!(by_id.out.contains(part), "{part}: {}", by_id.out);
    }
    server.run(&["event", "show", "2"]).await.expect(5);
}
