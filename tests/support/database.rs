//! Databases for tests: a new file, or a new schema on the PostgreSQL server that `scripts/test`
//! starts. Each is used by one test and removed with its guard.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};

use reelhook::clock::Clock;
use reelhook::store::db::Address;

/// A database that exists for as long as this value.
pub struct Fresh {
    pub address: Address,
    _guard: Guard,
}

enum Guard {
    Directory { _kept: tempfile::TempDir },
    Server { url: String, undo: String },
}

pub fn fresh_sqlite() -> Fresh {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = Address::Sqlite(directory.path().join("reelhook.db"));
    Fresh { address, _guard: Guard::Directory { _kept: directory } }
}

/// A schema of its own: made in a tenth of the time a database takes. What belongs to a database
/// as a whole, as notifications and advisory locks do, is shared with the other tests.
pub fn fresh_postgres() -> Fresh {
    let (server, name) = (server(), new_name());
    admin(&server, &format!("CREATE SCHEMA {name}"));
    let mut url: url::Url = server.parse().expect(NO_ADDRESS);
    url.query_pairs_mut().append_pair("options", &format!("-csearch_path={name}"));
    let address = Address::Postgres(url.as_str().replace('+', "%20"));
    Fresh { address, _guard: Guard::Server { url: server, undo: format!("DROP SCHEMA {name} CASCADE") } }
}

// Only where notifications are tested, which one of the programs that share this file does.
#[allow(dead_code)]
pub fn fresh_postgres_database() -> Fresh {
    let (server, name) = (server(), new_name());
    admin(&server, &format!("CREATE DATABASE {name} TEMPLATE template0"));
    let mut url: url::Url = server.parse().expect(NO_ADDRESS);
    url.set_path(&name);
    // By force: a listener ends up to a second after its `Db`.
    let undo = format!("DROP DATABASE {name} WITH (FORCE)");
    Fresh { address: Address::Postgres(url.into()), _guard: Guard::Server { url: server, undo } }
}

const NO_ADDRESS: &str = "REELHOOK_TEST_POSTGRES is a postgres:// address";

/// No other test has it, nor one of a run before this one on the same server.
fn new_name() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let chance = hex::encode(Clock::real().random::<8>());
    format!("reelhook_{chance}_{}", MADE.fetch_add(1, Ordering::Relaxed))
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Self::Server { url, undo } = self
            && let Ok(mut client) = Client::connect(url, NoTls)
        {
            // A server that is gone, or going, needs no tidying up.
            let _ = client.batch_execute(undo);
        }
    }
}

fn admin(server: &str, statement: &str) {
    let mut client = Client::connect(server, NoTls).expect("the server of REELHOOK_TEST_POSTGRES answers");
    client.batch_execute(statement).expect("its user may make databases and schemas");
}

/// Absent is a failure and not a skip: a suite that ran on one engine proves nothing of the other.
// The one variable tests read; only config.rs reads those of the program.
#[allow(clippy::disallowed_methods)]
fn server() -> String {
    std::env::var("REELHOOK_TEST_POSTGRES")
        .expect("no REELHOOK_TEST_POSTGRES: run `scripts/test`, which starts a PostgreSQL server and sets it")
}
