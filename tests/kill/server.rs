//! The process under test: started, awaited until ready, killed hard; and a client that goes on
//! asking while it is down.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
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
    is_up: watch::Sender<bool>,
}

impl Server {
    /// Starts it, waits for the line that says it is ready, and lets the client know; or what it said
    /// when it ended instead.
    pub async fn start(mut command: Command, client: &Client) -> Result<Self, String> {
        let mut child =
            command.stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = vec![];
        loop {
            match lines.next_line().await.unwrap() {
                Some(line) if line.contains("reelhook is ready") => break,
                Some(line) => said.push(line),
                None => return Err(said.join("\n")),
            }
        }
        // Read on, or the pipe fills up and the server stands still.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        client.is_up.send_replace(true);
        Ok(Self { child, is_up: client.is_up.clone() })
    }

    /// Waits until it has ended by itself, as it does at a fail point.
    pub async fn ended(mut self) {
        let status = self.child.wait().await.unwrap();
        self.is_up.send_replace(false);
        assert!(!status.success(), "it ended, and not at a fail point");
    }

    /// SIGTERM; returns once it has ended, which it must do in order.
    pub async fn terminate(mut self) {
        self.is_up.send_replace(false);
        self.signal("-TERM").await;
        let status = self.child.wait().await.unwrap();
        assert!(status.success(), "it ended in order: {status}");
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(mut self) {
        self.is_up.send_replace(false);
        self.child.kill().await.unwrap();
    }

    /// SIGSTOP: it stands still and holds what it holds.
    pub async fn pause(&self) {
        self.is_up.send_replace(false);
        self.signal("-STOP").await;
    }

    /// SIGCONT.
    pub async fn resume(&self) {
        self.signal("-CONT").await;
        self.is_up.send_replace(true);
    }

    async fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub async fn register(&self, client: &Client) {
        let (status, body) = client.call("POST", "/api/webhooks", None, None).await.unwrap();
        assert_eq!(status, 201, "{body}");
    }
}

pub struct Client {
    pub port: u16,
    net: net::Client,
    /// Whether the server says that it is ready.
    pub is_up: watch::Sender<bool>,
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
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let key = key.map(|key| ("idempotency-key", key));
        let answer = self.raw(method, path, key, body).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status.as_u16(), body))
    }

    /// One call with at most one header of its own, byte for byte.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: Bytes,
    ) -> Result<net::Answer, net::Fault> {
        let call = Call {
            method: method.parse().unwrap(),
            url: format!("http://127.0.0.1:{}{path}", self.port),
            headers: net::headers([("content-type", "application/json")].into_iter().chain(header)),
            body,
            timeout: Duration::from_secs(90),
            max_body_bytes: 64 << 20,
        };
        self.net.call(call).await
    }

    /// A webhook as HeyGen would send it, signed by whoever knows `secret`. How it was answered.
    pub async fn hook(&self, body: impl Into<Bytes>, secret: &str) -> u16 {
        let body = body.into();
        let signature = reelhook::domain::signature::sign(secret, &body);
        let answer = self.raw("POST", "/webhooks/heygen", Some(("signature", &signature)), body).await;
        answer.map_or(0, |answer| answer.status.as_u16())
    }

    /// A number of the metrics page; 0 when it is not there.
    pub async fn metric(&self, line: &str) -> f64 {
        let page = self.raw("GET", "/metrics", None, Bytes::new()).await.unwrap();
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let all = page.lines().filter_map(|l| l.strip_prefix(line)?.rsplit_once(' ')?.1.parse::<f64>().ok());
        all.sum()
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
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("kill_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
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
