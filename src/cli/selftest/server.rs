//! The process under test: a program's own `serve`, started, awaited until ready, killed hard. Its
//! environment is what is named here and nothing else, so it never meets a real key or store.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;

use super::client::Client;

/// What a server is started with, each time anew.
#[derive(Clone)]
pub struct Setup {
    pub program: PathBuf,
    pub database: String,
    /// Where HeyGen is for it.
    pub upstream: String,
    pub client: Arc<Client>,
    /// It runs here, where no `.env` is.
    pub directory: PathBuf,
    /// All it says is appended to this file.
    pub log: Option<PathBuf>,
}

pub struct Server {
    child: Child,
    client: Arc<Client>,
    ready: Option<oneshot::Receiver<Result<(), String>>>,
}

impl Server {
    /// Starts it; `variables` are more of its environment.
    pub fn spawn(setup: &Setup, variables: &[(&str, &str)]) -> std::io::Result<Self> {
        let port = setup.client.port;
        let mut child = Command::new(&setup.program)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--heygen-url", &setup.upstream, "--heygen-api-key", "any"])
            .env_clear()
            .env("REELHOOK_FIRST_POLL", "1")
            .env("REELHOOK_POLL_PAUSE", "1")
            .env("REELHOOK_POLL_BUDGET", "6000")
            .env("REELHOOK_PUBLIC_URL", format!("http://127.0.0.1:{port}"))
            .env("REELHOOK_SLOTS", "10000")
            // It may hold a password, which others could read on a command line.
            .env("DATABASE_URL", &setup.database)
            .envs(variables.iter().copied())
            .current_dir(&setup.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let log = match &setup.log {
            Some(path) => Some(std::fs::File::options().create(true).append(true).open(path)?),
            None => None,
        };
        let (tell, ready) = oneshot::channel();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(read(stderr, log, tell));
        }
        Ok(Self { child, client: setup.client.clone(), ready: Some(ready) })
    }

    /// Waits for the line that says so, and lets the client know; or what it said when it ended instead.
    pub async fn ready(&mut self) -> Result<(), String> {
        if let Some(ready) = &mut self.ready {
            let said = ready.await.unwrap_or_else(|_| Err("its output cannot be read".to_owned()));
            self.ready = None;
            said?;
            self.client.is_up.send_replace(true);
        }
        Ok(())
    }

    /// Waits until it has ended by itself, or by another's hand.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.client.is_up.send_replace(false);
        status
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(mut self) -> std::io::Result<()> {
        self.client.is_up.send_replace(false);
        self.child.kill().await
    }

    /// SIGTERM is for who has the id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Reads to the end, or the pipe fills up and the server stands still.
async fn read(
    stderr: ChildStderr,
    mut log: Option<std::fs::File>,
    tell: oneshot::Sender<Result<(), String>>,
) {
    let (mut lines, mut tell, mut said) = (BufReader::new(stderr).lines(), Some(tell), vec![]);
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(log) = &mut log {
            // A log that cannot be written must not end the test.
            let _ = writeln!(log, "{line}");
        }
        if tell.is_none() {
            continue;
        }
        if line.contains("reelhook is ready") {
            // Nobody waits when the run was interrupted.
            let _ = tell.take().map(|tell| tell.send(Ok(())));
        } else {
            said.push(line);
        }
    }
    let _ = tell.map(|tell| tell.send(Err(said.join("\n"))));
}
