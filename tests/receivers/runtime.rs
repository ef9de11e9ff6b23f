//! Node.js and Python: whether they are here, and an example with what it needs, installed as its lock
//! file says and only when that has changed.

use std::io::Write;
use std::path::{Path, PathBuf};

use tokio::process::Command;
use tokio::sync::Mutex;

#[derive(Debug, Clone, Copy)]
pub enum Runtime {
    Node,
    Python,
    Curl,
}

/// An example of `examples/` that can be run.
pub struct Project {
    runtime: Runtime,
    pub directory: PathBuf,
}

impl Runtime {
    /// Succeeds where this runtime is, and new enough.
    fn probe(self) -> Command {
        let (program, args): (&str, &[&str]) = match self {
            Self::Node => (
                "sh",
                &[
                    "-c",
                    "npm --version && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'",
                ],
            ),
            Self::Python => {
                ("python3", &["-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"])
            }
            Self::Curl => ("curl", &["--version"]),
        };
        let mut command = Command::new(program);
        command.args(args);
        command
    }

    fn name(self) -> &'static str {
        match self {
            Self::Node => "Node.js 18 or newer, with npm",
            Self::Python => "Python 3.11 or newer, with venv",
            Self::Curl => "curl",
        }
    }

    /// Whether it is here. Where it is not, says so past the test harness, or fails, in CI.
    pub async fn is_here(self) -> bool {
        let here = self.probe().output().await.is_ok_and(|done| done.status.success());
        if !here {
            let name = self.name();
            assert!(!in_ci(), "{name}: missing, and needed in CI");
            let _ = writeln!(std::io::stderr(), "SKIPPED, for want of {name}: a test of tests/receivers");
        }
        here
    }

    /// The file that pins what an example needs.
    fn lock(self) -> &'static str {
        match self {
            Self::Node => "package-lock.json",
            _ => "requirements.txt",
        }
    }

    /// What installs that, one command after the other.
    fn install(self) -> Vec<Vec<&'static str>> {
        match self {
            Self::Node => {
                vec![vec!["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]]
            }
            _ => {
                let pip =
                    [".venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
                let pinned = ["--require-hashes", "--only-binary", ":all:", "-r", "requirements.txt"];
                vec![vec!["python3", "-m", "venv", "--clear", ".venv"], [&pip[..], &pinned].concat()]
            }
        }
    }
}

impl Project {
    /// The example with all it needs, in a directory that is kept for the next run; `None` where its
    /// runtime is missing.
    pub async fn install(runtime: Runtime, example: &str) -> Option<Self> {
        // Several tests use one, and the machine is busy enough with one at a time.
        static TURN: Mutex<()> = Mutex::const_new(());
        let _turn = TURN.lock().await;
        if !runtime.is_here().await {
            return None;
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("receivers").join(example);
        let project = Self { runtime, directory };
        std::fs::create_dir_all(&project.directory).expect("a directory below target");
        for entry in std::fs::read_dir(root().join("examples").join(example)).expect("an example") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                project.add(&path);
            }
        }
        let (wanted, installed) =
            (project.directory.join(runtime.lock()), project.directory.join("installed"));
        let wanted = std::fs::read(wanted).expect("what it needs is pinned");
        if std::fs::read(&installed).is_ok_and(|found| found == wanted) {
            return Some(project);
        }
        for line in runtime.install() {
            let done = Command::new(line[0]).args(&line[1..]).current_dir(&project.directory).output().await;
            let done = done.unwrap_or_else(|e| panic!("{line:?}: {e}"));
            let said = || String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{line:?} in {example}: {}", said());
        }
        std::fs::write(installed, wanted).expect("a file below target");
        Some(project)
    }

    /// Puts a file beside the others.
    pub fn add(&self, file: &Path) {
        let name = file.file_name().expect("a file");
        std::fs::copy(file, self.directory.join(name)).expect("a file that can be copied");
    }

    /// Runs a file of the project.
    pub fn run(&self, file: &str) -> Command {
        let program = match self.runtime {
            Runtime::Node => PathBuf::from("node"),
            _ => self.directory.join(".venv/bin/python"),
        };
        let mut command = Command::new(program);
        command.arg(file).current_dir(&self.directory).env("PYTHONUNBUFFERED", "1").kill_on_drop(true);
        command
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// The one variable read here; only config.rs reads those of the program.
#[allow(clippy::disallowed_methods)]
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty())
}
