//! The real binary on a store of its own, beside a sandbox, told by its settings that receivers on this
//! machine may be called; or `reelhook demo`, as a newcomer starts it.

use std::path::PathBuf;
use std::sync::Arc;

use reelhook::cli::selftest::client::Client;
use reelhook::cli::selftest::ground::{Ground, free_port};
use reelhook::cli::selftest::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;

/// Signs what a test sends in HeyGen's name.
pub const HEYGEN_SECRET: &str = "whsec_of_the_tests";

pub struct Reelhook {
    client: Arc<Client>,
    _runs: Runs,
}

/// What goes when the test is over.
#[allow(dead_code)]
enum Runs {
    Server(Server, Ground, TempDir),
    Demo(Process, TempDir),
}

impl Reelhook {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("receivers.db").display().to_string();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_reelhook"));
        let ground = Ground::open(directory.path(), program, database, |_| {}).await.expect("a sandbox");
        let settings = [("REELHOOK_ALLOW_PRIVATE", "127.0.0.0/8"), ("HEYGEN_WEBHOOK_SECRET", HEYGEN_SECRET)];
        let mut server = Server::spawn(&ground.setup, &settings).expect("the binary starts");
        server.ready().await.expect("it is ready");
        let made =
            Self { client: ground.setup.client.clone(), _runs: Runs::Server(server, ground, directory) };
        made.call("POST", "/api/webhooks", None).await;
        made
    }

    /// Beside the play that it gives.
    pub async fn demo() -> Self {
        let port = free_port().expect("a port");
        // Killed, it cannot clear a directory of its own away.
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        let command =
            command.args(["demo", "--listen", &format!("127.0.0.1:{port}"), "--dir"]).arg(directory.path());
        // What the tests are told by variables is no setting of reelhook.
        let mut demo = Process::start(command.env_clear());
        demo.says(&format!("server    http://127.0.0.1:{port}")).await;
        demo.says("registered at HeyGen").await;
        Self { client: Arc::new(Client::new(port)), _runs: Runs::Demo(demo, directory) }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client.port)
    }

    /// What was answered, which must be a success.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.client.insist(method, path, None, body).await;
        answer.unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// Has this address told. Id and signing secret of its endpoint.
    pub async fn tell(&self, url: &str, mut wishes: Value) -> (String, String) {
        wishes["url"] = json!(url);
        let made = self.call("POST", "/api/endpoints", Some(&wishes)).await;
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("id"), text("secret"))
    }

    /// Sends a test event, which must be taken.
    pub async fn test(&self, endpoint: &str) {
        let delivery = self.call("POST", &format!("/api/endpoints/{endpoint}/test?wait=20"), None).await;
        assert_eq!(delivery["state"], "delivered", "{delivery:#}");
    }

    /// Takes a job in; `more` are fields beside the request. Its id.
    pub async fn submit(&self, title: &str, more: Value) -> String {
        let request = json!({"type": "avatar", "avatar_id": "a", "script": "Hello!", "title": title});
        let mut job = json!({"kind": "video", "request": request});
        for (name, value) in more.as_object().expect("fields") {
            job[name] = value.clone();
        }
        let job = self.call("POST", "/api/jobs", Some(&job)).await;
        job["id"].as_str().expect("an id").to_owned()
    }
}
