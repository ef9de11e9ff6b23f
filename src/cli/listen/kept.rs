//! What `listen` keeps between its runs, in the state folder of the user: the secret it signs with, and for each
//! pair of a server and a receiver how far it came.
//!
//! Where there is no such folder both last for one run, and that is said.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::{CliError, Result};
use crate::clock::Clock;
use crate::config::Given;
use crate::domain::signing::{SigningSecret, is_secret};

const FOLDER: &str = "reelhook";
const SECRET: &str = "listen-secret";

pub struct Kept {
    folder: Option<PathBuf>,
    pub secret: SigningSecret,
}

impl Kept {
    pub fn open(given: &Given, clock: &Clock) -> Result<Self> {
        let of = |name: &str| given.variable(name).map(|(path, _)| PathBuf::from(path));
        let base = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")));
        let folder = base.map(|base| base.join(FOLDER));
        let fresh = SigningSecret::new(clock.random(), 0);
        let Some(folder) = folder else { return Ok(Self { folder: None, secret: fresh }) };
        let path = folder.join(SECRET);
        let failed = |e: std::io::Error| CliError::failure(format!("{}: {e}", path.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let secret = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                replace(&path, &fresh.secret).map_err(failed)?;
                fresh.secret
            }
            Err(e) => return Err(failed(e)),
        };
        if !is_secret(&secret) {
            let why = format!("{}: that is no signing secret; remove the file for a new one", path.display());
            return Err(CliError::failure(why));
        }
        Ok(Self { folder: Some(folder), secret: SigningSecret { secret, created_at: 0, ends_at: None } })
    }

    pub fn is_lasting(&self) -> bool {
        self.folder.is_some()
    }

    /// How far `what` came, as the stream takes it.
    pub fn position(&self, what: &What) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.as_ref()?.join(what.file())).ok()?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        kept["position"].as_str().map(str::to_owned)
    }

    pub fn keep(&self, what: &What, position: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join(what.file());
        let text = json!({"server": what.server, "forward_to": what.forward_to, "events": what.events, "position": position});
        replace(&path, &text.to_string()).map_err(|e| CliError::failure(format!("{}: {e}", path.display())))
    }
}

/// Whose position it is: another receiver, or other events, begin anew.
pub struct What {
    pub server: String,
    pub forward_to: Option<String>,
    pub events: String,
}

impl What {
    fn file(&self) -> String {
        let all = format!("{}\n{}\n{}", self.server, self.forward_to.as_deref().unwrap_or(""), self.events);
        format!("listen-{}.json", &hex::encode(Sha256::digest(all))[..16])
    }
}

/// The whole of it or nothing, for the user alone.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(|_| ()).map_err(|e| e.error)
}
