//! The process under test: started, awaited until ready, killed hard; and a client that goes on
//! asking while it is down.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use reelhook::clock::Clock;
use reelhook::net::{self, Call};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

pub struct Server {
    child: Child,
}

impl Server {
    /// Starts the binary, waits for the line that says it is ready, and lets the client know.
    pub async fn start(database: &str, client: &Client, upstream: &str) -> Self {
        let port = client.port;
        let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--database", database])
            .args(["--public-url", &format!("http://127.0.0.1:{port}"), "--heygen-url", upstream])
            .args(["--heygen-api-key", "any", "--slots", "10000", "--first-poll", "1", "--poll-pause", "1"])
            .env_clear()
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = vec![];
        loop {
            match lines.next_line().await.unwrap() {
                Some(line) if line.contains("reelhook is ready") => break,
                Some(line) => said.push(line),
                None => panic!("the server ended before it was ready:\n{}", said.join("\n")),
            }
        }
        // Read on, or the pipe fills up and the server stands still.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        client.is_up.send_replace(true);
        Self { child }
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(mut self, client: &Client) {
        client.is_up.send_replace(false);
        self.child.kill().await.unwrap();
    }

    pub async fn register(&self, client: &Client) {
        let (status, body) = client.call("POST", "/api/webhooks", None, None).await.unwrap();
        assert_eq!(status, 201, "{body}");
    }
}

pub struct Client {
    port: u16,
    net: net::Client,
    /// Whether the server says that it is ready.
    is_up: watch::Sender<bool>,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port, net: net::Client::new(Clock::real(), false), is_up: watch::Sender::new(false) }
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), net::Fault> {
        let mut headers = net::headers([("content-type", "application/json")]);
        if let Some(key) = key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        let call = Call {
            method: method.parse().unwrap(),
            url: format!("http://127.0.0.1:{}{path}", self.port),
            headers,
            body: body.map(|b| Bytes::from(b.to_string())).unwrap_or_default(),
            timeout: Duration::from_secs(90),
            max_body_bytes: 64 << 20,
        };
        let answer = self.net.call(call).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status.as_u16(), body))
    }

    /// Asks until the server, which may be down or starting, answers what is not a 5xx.
    pub async fn insist(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Value {
        loop {
            match self.call(method, path, key, body).await {
                Ok((status, body)) if status < 500 => {
                    assert!(status < 300, "{method} {path}: {status} {body}");
                    return body;
                }
                // Down: asked again when it is ready. Busy, or back already: at once.
                _ => drop(self.is_up.subscribe().wait_for(|up| *up).await.unwrap()),
            }
        }
    }
}

/// A port nobody has; it is asked for again by the server under test.
pub async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// A fresh database on the server the test command started.
pub async fn fresh_postgres() -> String {
    tokio::task::spawn_blocking(|| {
        let server = variable("REELHOOK_TEST_POSTGRES")
            .expect("REELHOOK_TEST_POSTGRES names no server; run scripts/test, which starts one");
        let mut client = postgres::Client::connect(&server, postgres::NoTls).unwrap();
        let name = format!("kill_{}", std::process::id());
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        url.to_string()
    })
    .await
    .unwrap()
}

pub fn number(name: &str) -> Option<usize> {
    variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// How long the run is and where PostgreSQL is are the caller's to say.
#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}
