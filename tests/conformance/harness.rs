//! Runs a case on an engine, and makes the values that cases need.

use reelhook::clock::Clock;
use reelhook::domain::group::Group;
use reelhook::domain::ids;
use reelhook::domain::job::{Job, State};
use reelhook::domain::receipt::{Note, Receipt, Verdict};
use reelhook::domain::table::typical;
use reelhook::domain::task::{Claimed, Lane, TaskKind, TaskOp};
use reelhook::flow::Stamp;
use reelhook::store::{Db, Result, Tx, group, job, task};

use crate::database::{self, Fresh};

/// The time at which cases happen.
pub const NOW: i64 = 1_800_000_000_000;
/// When the leases of cases end.
pub const LEASE: i64 = NOW + 60_000;

/// Stamps out cases, once per engine.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { crate::harness::run_on_sqlite(super::$case) })+
        }
        mod postgres {
            $(#[test] fn $case() { crate::harness::run_on_postgres(super::$case) })+
        }
    };
}
pub(crate) use cases;

/// An open, empty store.
pub struct Store {
    pub db: Db,
}

pub fn run_on_sqlite(case: impl AsyncFnOnce(Store)) {
    run(&database::fresh_sqlite(), case);
}

pub fn run_on_postgres(case: impl AsyncFnOnce(Store)) {
    run(&database::fresh_postgres(), case);
}

fn run(fresh: &Fresh, case: impl AsyncFnOnce(Store)) {
    // Opened and dropped outside the runtime, as the server does it: both block.
    let db = Db::open(&fresh.address, NOW).expect("a new database opens");
    let keeper = db.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(case(Store { db }));
    drop(runtime);
    drop(keeper);
}

impl Store {
    /// Writes what cannot fail in this case.
    pub async fn write<T: Send + 'static>(&self, work: impl Fn(&mut Tx) -> Result<T> + Send + 'static) -> T {
        self.db.write(work).await.expect("the write succeeds")
    }

    pub async fn read<T: Send + 'static>(&self, work: impl Fn(&mut Tx) -> Result<T> + Send + 'static) -> T {
        self.db.read(work).await.expect("the read succeeds")
    }

    pub fn is_postgres(&self) -> bool {
        self.db.engine() == "postgres"
    }

    /// How many rows a query counts.
    pub async fn count(&self, sql: &'static str) -> i64 {
        self.read(move |tx| tx.one(sql, &[])?.map_or(Ok(-1), |mut row| row.int(0))).await
    }

    pub async fn add_task(&self, subject: &str, kind: TaskKind, due_at: i64) {
        let subject = subject.to_owned();
        self.write(move |tx| task::apply(tx, &subject, TaskOp::Add(kind, due_at))).await;
    }

    /// Claims at `NOW` with a lease until `LEASE`.
    pub async fn claim(&self, lane: Lane, most: i64, token: i64) -> Vec<Claimed> {
        self.write(move |tx| task::claim(tx, lane, most, NOW, LEASE, token)).await
    }

    pub async fn claim_one(&self, lane: Lane, token: i64) -> Claimed {
        let mut claimed = self.claim(lane, 2, token).await;
        assert_eq!(claimed.len(), 1, "one task of the lane is due");
        claimed.remove(0)
    }

    pub async fn insert_job(&self, job: &Job) {
        let job = job.clone();
        self.write(move |tx| job::insert(tx, &job, "{}")).await;
    }

    /// An open group of so many jobs, none of them stored.
    pub async fn insert_group(&self, id: &str, jobs: i64) {
        let id = id.to_owned();
        let made = Group {
            id,
            created_at: NOW,
            finished_at: None,
            jobs,
            open: jobs,
            next_row: None,
            title: None,
            retry_of: None,
        };
        self.write(move |tx| group::insert(tx, &made)).await;
    }

    pub async fn job(&self, id: &str) -> Job {
        let id = id.to_owned();
        self.read(move |tx| job::find(tx, &id)).await.expect("the job is there")
    }

    pub async fn due(&self, subject: &str, kind: TaskKind) -> Option<i64> {
        let subject = subject.to_owned();
        self.read(move |tx| task::find_due(tx, &subject, kind)).await
    }
}

/// A new moment with chance of its own; ids made from `n` sort like `n`.
pub fn stamp(n: u8) -> Stamp {
    let mut random = [0; 16];
    random[7] = n;
    Stamp::new(NOW, random)
}

pub fn id(prefix: &str, n: u32) -> String {
    ids::new(prefix, NOW + i64::from(n), [0; 16])
}

/// A job in `state`, typical but for its id, its age and what upstream calls it.
pub fn job_in(state: State, n: u32) -> Job {
    let mut made = typical(state);
    made.id = id(ids::JOB, n);
    made.upstream_id = made.upstream_id.map(|_| format!("vid_{n}"));
    made.created_at = NOW;
    made.updated_at = NOW;
    made.deadline_at += NOW;
    made.finished_at = made.finished_at.map(|_| NOW);
    made
}

pub fn receipt(n: u32, body: &str) -> Receipt {
    Receipt {
        id: id(ids::RECEIPT, n),
        received_at: NOW,
        verdict: Verdict::Signed,
        job_address: None,
        signed_by: Some("whs_1".to_owned()),
        path: "/hook".to_owned(),
        remote: Some("192.0.2.1".to_owned()),
        headers: "{}".to_owned(),
        body: body.as_bytes().to_vec(),
        note: Note::default(),
    }
}

/// Waits for what must come; a wait without an end would hide that it did not.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let patience = std::time::Duration::from_secs(20);
    let Some(done) = Clock::real().within(patience, work).await else { panic!("no {what} within 20 s") };
    done
}
