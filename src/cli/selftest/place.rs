//! Where a run lives: a directory and, on PostgreSQL, a database of its own. Both are new, and go when
//! nothing was broken; else they are kept and named.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::machine;
use crate::cli::output::Output;
use crate::cli::{CliError, Exit, Result};
use crate::clock::Clock;
use crate::store::{Error, file_system, scratch};

pub struct Place {
    directory: TempDir,
    /// Where it really is: the server has another working directory.
    path: PathBuf,
    own: Option<Own>,
}

/// A database of our own.
struct Own {
    /// The one beside which it was made.
    server: String,
    name: String,
    address: String,
}

impl Place {
    pub async fn open(inside: Option<&Path>, server: Option<&str>) -> Result<Self> {
        let wrong = |e: std::io::Error| match inside {
            Some(inside) => CliError::usage(format!("--dir {}: {e}", inside.display())),
            None => CliError::failure(format!("no temporary directory: {e}; choose one with --dir")),
        };
        let mut named = tempfile::Builder::new();
        named.prefix("reelhook-selftest-");
        let made = inside.map_or_else(|| named.tempdir(), |inside| named.tempdir_in(inside));
        let directory = made.map_err(wrong)?;
        let path = directory.path().canonicalize().map_err(wrong)?;
        let own = match server {
            Some(server) => Some(Own::create(server).await?),
            None => None,
        };
        Ok(Self { directory, path, own })
    }

    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// As `--database` takes it.
    pub fn database(&self) -> String {
        match &self.own {
            Some(own) => own.address.clone(),
            None => self.path.join("selftest.db").display().to_string(),
        }
    }

    pub fn opening(&self) -> String {
        let files = format!("files of this run: {}", self.path.display());
        match &self.own {
            Some(own) => format!("{files}; its database: {}", own.name),
            None => files,
        }
    }

    pub async fn conditions(&self, seed: u64) -> Vec<(&'static str, String)> {
        let build = if cfg!(debug_assertions) { "debug build, which is slower" } else { "release build" };
        let store = match &self.own {
            Some(own) => own.describe().await.unwrap_or_else(|e| format!("PostgreSQL; {e}")),
            None => "SQLite, WAL, synchronous FULL".to_owned(),
        };
        // Where a PostgreSQL server keeps its data is its own affair.
        let files = match file_system::kind(&self.path).filter(|_| self.own.is_none()) {
            Some(kind) if kind == "tmpfs" => "tmpfs, which is memory; --dir chooses a disk".to_owned(),
            kind => kind.unwrap_or_default(),
        };
        let all = [
            ("version", format!("{}, {build}", env!("CARGO_PKG_VERSION"))),
            ("store", store),
            ("file system", files),
            ("processor", machine::processor()),
            ("seed", seed.to_string()),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// Removes everything.
    pub async fn clear(self, out: &Output) -> Result<()> {
        if let Some(own) = &self.own
            && let Err(e) = own.remove().await
        {
            out.note(&format!("the database {} is still there: {e}; DROP DATABASE {0}", own.name));
        }
        let path = self.path;
        self.directory.close().map_err(|e| CliError::failure(format!("{}: {e}", path.display())))
    }

    /// Leaves everything as it is, with the report beside it, and says where.
    pub fn keep(self, mut e: CliError, report: Option<&Value>) -> CliError {
        let directory = self.directory.keep();
        if let Some(report) = report {
            // It was shown already; this is for whoever looks later.
            let _ = std::fs::write(directory.join("report.json"), format!("{report:#}\n"));
        }
        let mut kept =
            format!("kept in {}: ledger.jsonl, server.log and what else there is", directory.display());
        if let Some(own) = &self.own {
            kept += &format!("; and the database {0}, to be dropped with DROP DATABASE {0}", own.name);
        }
        let hint = e.problem["hint"].as_str().map_or(kept.clone(), |hint| format!("{hint}; {kept}"));
        e.problem["hint"] = hint.into();
        e
    }
}

impl Own {
    async fn create(server: &str) -> Result<Self> {
        let name = format!("reelhook_selftest_{}", hex::encode(Clock::real().random::<4>()));
        let (at, called) = (server.to_owned(), name.clone());
        let address = blocking(move || scratch::create(&at, &called)).await.map_err(|why| {
            let hint =
                "the role must be allowed to, by ALTER ROLE … CREATEDB; what is there already is never used";
            let why = format!("--database: no database of its own can be made there: {why}");
            CliError::new(Exit::Failure, "cli_store", why, Some(hint))
        })?;
        Ok(Self { server: server.to_owned(), name, address })
    }

    async fn describe(&self) -> std::result::Result<String, String> {
        let address = self.address.clone();
        blocking(move || scratch::describe(&address)).await
    }

    async fn remove(&self) -> std::result::Result<(), String> {
        let (server, name) = (self.server.clone(), self.name.clone());
        blocking(move || scratch::remove(&server, &name)).await
    }
}

/// What the store does here blocks; of a fault only the server's own words are told.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::store::Result<T> + Send + 'static,
) -> std::result::Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| match e {
            Error::Unavailable(why) | Error::Bug(why) => why,
            other => other.to_string(),
        }),
        Err(e) => Err(e.to_string()),
    }
}
