//! The same commands against the whole application on a SQLite file. Nothing runs in the
//! background, so nothing has to be waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reelhook::app::App;
use reelhook::clock::Clock;
use reelhook::config::{Config, Given};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{Ran, nowhere, run_in};

pub struct Server {
    pub url: String,
    app: App,
    _directory: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("cli.db").to_str().expect("a path").to_owned();
        let flags = [
            ("database", database),
            ("heygen-url", nowhere()),
            ("heygen-api-key", "key".to_owned()),
            ("heygen-webhook-secret", "whsec_real".to_owned()),
        ];
        let flags: BTreeMap<String, String> = flags.map(|(name, value)| (name.to_owned(), value)).into();
        let given = Given { flags, ..Given::default() };
        let config = Config::resolve(&given).expect("the settings are right");
        let app = App::prepare(&config, Clock::real()).await.expect("the store opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = app.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, app, _directory: directory }
    }

    /// Does what is due.
    pub async fn settle(&self) {
        while self.app.runner.settle().await.expect("the store works") > 0 {}
    }

    pub async fn run(&self, args: &[&str]) -> Ran {
        run_in(&[("REELHOOK_URL", &self.url), ("HEYGEN_WEBHOOK_SECRET", "whsec_real")], args, "").await
    }
}

#[tokio::test]
async fn a_job_is_submitted_once_found_and_canceled() {
    let server = Server::start().await;
    let submit = [
        "job",
        "submit",
        "--kind",
        "video_agent",
        "--request",
        r#"{"prompt": "Hi"}"#,
        "--label",
        "team=sales",
    ];
    let submit = [&submit[..], &["--hold", "--idempotency-key", "k1"]].concat();
    let job = server.run(&submit).await.expect(0).json();
    let id = job["id"].as_str().unwrap();
    assert_eq!(job["state"], "held");
    assert_eq!(server.run(&submit).await.expect(0).json()["id"], id, "the same key, the same job");
    let list =
        server.run(&["job", "list", "--label", "team=sales", "--state", "held"]).await.expect(0).json();
    assert_eq!(list["data"][0]["id"], id);
    let events = server.run(&["job", "events", id]).await.expect(0).json();
    assert_eq!(events["data"][0]["type"], "job.held");
    assert_eq!(server.run(&["job", "cancel", id]).await.expect(0).json()["state"], "canceled");
    assert_eq!(server.run(&["job", "approve", id]).await.expect(6).problem()["code"], "not_held");
    server.run(&["job", "wait", id]).await.expect(7);
    server.run(&["job", "get", "job_none"]).await.expect(5);
    let table = server.run(&["job", "list", "--output", "table"]).await.expect(0);
    assert!(table.out.contains(id) && table.out.contains("canceled"), "{}", table.out);
    let bad = ["job", "submit", "--kind", "video", "--request", r#"{"type": "avatar"}"#];
    let ran = server.run(&bad).await.expect(2);
    assert_eq!(ran.problem()["errors"][0]["pointer"], "/request/avatar_id");
    let dry = [&bad[..], &["--dry-run"]].concat();
    let refused = server.run(&dry).await.expect(2).problem();
    assert_eq!(refused["errors"], ran.problem()["errors"], "refused as the submit is");
    let dry = [&dry[..], &["--no-check"]].concat();
    let would = server.run(&dry).await.expect(0).json();
    assert_eq!((&would["path"], &would["body"]["type"]), (&"/v3/videos".into(), &"avatar".into()));
    let list = server.run(&["job", "list"]).await.expect(0).json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "a dry run makes nothing");
}

#[tokio::test]
async fn guide_003_a_simulated_webhook_becomes_a_receipt() {
    let server = Server::start().await;
    server.run(&["simulate", "--event", "all"]).await.expect(0);
    server.run(&["simulate", "--dialect", "all"]).await.expect(0);
    server.run(&["simulate", "--forge"]).await.expect(0);
    let receipts = server.run(&["receipt", "list", "--all"]).await.expect(0).json();
    let verdicts: Vec<&str> =
        receipts["data"].as_array().unwrap().iter().filter_map(|r| r["verdict"].as_str()).collect();
    assert_eq!(verdicts.iter().filter(|v| **v == "refused").count(), 1);
    assert!(verdicts.iter().filter(|v| **v == "signed").count() >= 46, "{verdicts:?}");
    let refused = server.run(&["receipt", "list", "--verdict", "refused"]).await.expect(0).json();
    let id = refused["data"][0]["id"].as_str().unwrap();
    let shown = server.run(&["receipt", "show", id, "--output", "table"]).await.expect(0).out;
    let (above, _) = shown.split_once("Headers").unwrap();
    assert!(above.lines().all(|line| line.chars().count() <= 80), "{above}");
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "refused",
        "Signature",
        "1. signature: 64 hex digits, but made with none of the 1 secret(s) that live now, or over other bytes",
        "2. so it is not signed: the signature was made with another secret or over other bytes",
        "refused: the signature was made with another secret",
        "sha256",
        "Headers",
        "Body, ",
        "avatar_video.success",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn once_there_is_a_key_it_is_needed() {
    let server = Server::start().await;
    let key = server.run(&["key", "create", "ci"]).await.expect(0).json();
    let (id, text) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    assert_eq!(server.run(&["key", "list"]).await.expect(3).problem()["code"], "unauthorized");
    let keyed = ["key", "list", "--api-key", text];
    assert_eq!(server.run(&keyed).await.expect(0).json()["data"][0]["name"], "ci");
    server.run(&["upstream", "show", "--api-key", text]).await.expect(0);
    // HeyGen cannot be reached here, so the doctor has something to say.
    let doctor = server.run(&["doctor", "--api-key", text]).await.expect(1);
    assert_eq!(doctor.json()["healthy"], false);
    server.run(&["key", "revoke", id, "--yes", "--api-key", text]).await.expect(0);
}

#[tokio::test]
async fn guide_001_a_producer_approves_or_rejects_on_the_command_line() {
    let server = Server::start().await;
    let mut ids = vec![];
    for prompt in ["yes", "no"] {
        let request = format!(r#"{{"prompt": "{prompt}"}}"#);
        let submit = ["job", "submit", "--kind", "video_agent", "--hold", "--request", &request];
        ids.push(server.run(&submit).await.expect(0).json()["id"].as_str().unwrap().to_owned());
    }
    let held = server.run(&["job", "list", "--state", "held", "--output", "table"]).await.expect(0).out;
    assert!(ids.iter().all(|id| held.contains(id)), "{held}");
    assert_eq!(server.run(&["job", "approve", &ids[0]]).await.expect(0).json()["state"], "queued");
    let rejected = server.run(&["job", "reject", &ids[1], "--reason", "wrong logo"]).await.expect(0).json();
    assert_eq!(
        (&rejected["state"], &rejected["cancel_reason"]),
        (&"canceled".into(), &"rejected: wrong logo".into())
    );
    assert_eq!(server.run(&["job", "reject", &ids[0]]).await.expect(6).problem()["code"], "not_held");
}
