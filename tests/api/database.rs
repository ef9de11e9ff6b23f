//! Databases for this suite: a new SQLite file, or a new database on the PostgreSQL server that
//! `scripts/test` starts. Each serves one case and goes with its guard.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};
use reelhook::store::{self, Db};

/// A database that exists for as long as this value.
pub struct Fresh {
    /// As `--database` takes it.
    pub address: String,
    guard: Guard,
}

enum Guard {
    Directory { _kept: tempfile::TempDir },
    Server { url: String, name: String },
}

impl Fresh {
    pub fn is_sqlite(&self) -> bool {
        matches!(self.guard, Guard::Directory { .. })
    }

    /// Until it is mended it takes nothing: a full disk on SQLite, a lost server on PostgreSQL.
    pub async fn break_down(&self, db: &Db) {
        match &self.guard {
            Guard::Directory { .. } => {
                // Of its one writer; fewer than there are means that no more are given.
                let full = |tx: &mut store::Tx| tx.query("PRAGMA max_page_count = 1", &[]).map(drop);
                db.write(full).await.expect("the limit is set");
            }
            Guard::Server { url, name } => {
                let all = format!(
                    "ALTER DATABASE {name} ALLOW_CONNECTIONS false; \
                     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'; \
                     ALTER DATABASE {name} RENAME TO {name}_gone"
                );
                admin_elsewhere(url, all).await;
            }
        }
    }

    /// For whoever opens it next.
    pub async fn mend(&self) {
        if let Guard::Server { url, name } = &self.guard {
            let all = format!(
                "ALTER DATABASE {name}_gone RENAME TO {name}; ALTER DATABASE {name} ALLOW_CONNECTIONS true"
            );
            admin_elsewhere(url, all).await;
        }
    }
}

pub fn sqlite() -> Fresh {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = directory.path().join("reelhook.db").display().to_string();
    Fresh { address, guard: Guard::Directory { _kept: directory } }
}

pub fn postgres() -> Fresh {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let server = server();
    let name = format!("reelhook_api_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    admin(&server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    admin(&server, &format!("CREATE DATABASE {name} TEMPLATE template0"));
    let mut url: url::Url = server.parse().expect("REELHOOK_TEST_POSTGRES is a postgres:// address");
    url.set_path(&name);
    Fresh { address: url.into(), guard: Guard::Server { url: server, name } }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Self::Server { url, name } = self
            && let Ok(mut client) = Client::connect(url, NoTls)
        {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// The client blocks, so it works on a thread of its own; a statement is a transaction.
async fn admin_elsewhere(server: &str, statements: String) {
    let server = server.to_owned();
    let work = move || statements.split("; ").for_each(|statement| admin(&server, statement));
    tokio::task::spawn_blocking(work).await.expect("the server does as it is told");
}

fn admin(server: &str, statement: &str) {
    let mut client = Client::connect(server, NoTls).expect("the server of REELHOOK_TEST_POSTGRES answers");
    client.batch_execute(statement).expect("its user may make and drop databases");
}

/// Absent is a failure and not a skip: a suite that ran on one engine proves nothing of the other.
// The one variable this suite reads; only config.rs reads those of the program.
#[allow(clippy::disallowed_methods)]
fn server() -> String {
    std::env::var("REELHOOK_TEST_POSTGRES")
        .expect("no REELHOOK_TEST_POSTGRES: run `scripts/test`, which starts a PostgreSQL server and sets it")
}
