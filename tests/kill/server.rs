//! The process under test and the client that goes on asking while it is down, both the selftest's,
//! with a panic where that would tell.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use reelhook::cli::selftest::ground::free_port;
use reelhook::cli::selftest::{client, server};
use reelhook::store::scratch;
use serde_json::Value;
use tokio::process::Command;

pub use reelhook::cli::selftest::server::Setup;

pub struct Server(server::Server);

impl Server {
    /// Starts the binary, waits for the line that says it is ready, and lets the client know.
    pub async fn start(setup: &Setup, variables: &[(&str, &str)]) -> Self {
        Self::try_start(setup, variables)
            .await
            .unwrap_or_else(|said| panic!("the server ended before it was ready:\n{said}"))
    }

    /// The same, or what it said when it ended instead.
    pub async fn try_start(setup: &Setup, variables: &[(&str, &str)]) -> Result<Self, String> {
        let mut server = server::Server::spawn(setup, variables).unwrap();
        server.ready().await.map(|()| Self(server))
    }

    /// Waits until it has ended by itself, as it does at a fail point.
    pub async fn ended(mut self) {
        let status = self.0.ended().await.unwrap();
        assert!(!status.success(), "it ended, and not at a fail point");
    }

    /// SIGTERM; returns once it has ended, which it must do in order.
    pub async fn terminate(mut self) {
        self.signal("-TERM").await;
        let status = self.0.ended().await.unwrap();
        assert!(status.success(), "it ended in order: {status}");
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(self) {
        self.0.kill().await.unwrap();
    }

    pub async fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    pub fn id(&self) -> u32 {
        self.0.id().expect("it runs")
    }

    pub async fn register(&self, client: &Client) {
        let (status, body) = client.call("POST", "/api/webhooks", None, None).await.unwrap();
        assert_eq!(status, 201, "{body}");
    }
}

#[derive(Clone)]
pub struct Client(pub Arc<client::Client>);

impl Deref for Client {
    type Target = client::Client;

    fn deref(&self) -> &client::Client {
        &self.0
    }
}

impl Client {
    /// Of a server that is to be started.
    pub fn new() -> Self {
        Self(Arc::new(client::Client::new(free_port().unwrap())))
    }

    /// Asks until the server, which may be down or starting, answers what is not a 5xx.
    pub async fn insist(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Value {
        self.0.insist(method, path, key, body).await.unwrap()
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
}

/// A fresh database on the server the test command started.
pub async fn fresh_postgres() -> String {
    tokio::task::spawn_blocking(|| {
        let server = variable("REELHOOK_TEST_POSTGRES")
            .expect("REELHOOK_TEST_POSTGRES names no server; run scripts/test, which starts one");
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("kill_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        scratch::remove(&server, &name).unwrap();
        scratch::create(&server, &name).unwrap()
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
