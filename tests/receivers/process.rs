//! A receiver in a process of its own, and what it says, line by line.

use std::process::Stdio;
use std::time::Duration;

use reelhook::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Far longer than anything takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Process {
    lines: UnboundedReceiver<String>,
    pub said: Vec<String>,
    _child: Child,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("it starts");
        let (tell, lines) = unbounded_channel();
        read(child.stdout.take().expect("stdout"), tell.clone());
        read(child.stderr.take().expect("stderr"), tell);
        Self { lines, said: vec![], _child: child }
    }

    /// Waits until it has said this.
    pub async fn says(&mut self, words: &str) {
        while !self.said.iter().any(|line| line.contains(words)) {
            match Clock::real().within(PATIENCE, self.lines.recv()).await.flatten() {
                Some(line) => self.said.push(line),
                None => panic!("it does not say {words:?}, but\n{}", self.said.join("\n")),
            }
        }
    }

    /// How often it has said this.
    pub fn times(&self, words: &str) -> usize {
        self.said.iter().filter(|line| line.contains(words)).count()
    }
}

fn read(stream: impl AsyncRead + Send + Unpin + 'static, tell: UnboundedSender<String>) {
    let mut lines = BufReader::new(stream).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            // Nobody listens once the test is over.
            let _ = tell.send(line);
        }
    });
}
