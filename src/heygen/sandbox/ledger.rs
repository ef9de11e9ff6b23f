//! What the sandbox did, in order: the oracle of the tests. Entries are only ever appended; with
//! a file they are also written as JSON lines and synced before the sandbox answers.
//!
//! Never holds a decision: it is written after the fact and read by nobody inside the sandbox.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::Fault;
use super::jobs::Phase;
use crate::clock::Millis;
use crate::domain::job::Kind;

/// Entries kept in memory; the file keeps all.
const KEPT: usize = 250_000;
/// Entries a slow listener may lag behind before it misses some.
const LISTENER_LAG: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without holes.
    pub seq: u64,
    pub at: Millis,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A create call was accepted; from here on its jobs exist and are paid for.
    Accepted {
        route: String,
        kind: Kind,
        key: Option<String>,
        body_hash: String,
        callback_id: Option<String>,
        title: Option<String>,
        ids: Vec<String>,
        faults: Vec<Fault>,
    },
    /// One job was paid for.
    Charged {
        id: String,
        route: String,
        key: Option<String>,
        callback_id: Option<String>,
        title: Option<String>,
        language: Option<String>,
        credits: f64,
        balance: f64,
    },
    /// A create call was not accepted. No `status`: it was never answered.
    Refused {
        route: String,
        key: Option<String>,
        body_hash: String,
        callback_id: Option<String>,
        status: Option<u16>,
        code: String,
        fault: Option<Fault>,
    },
    /// A stored answer was given again.
    Replayed { route: String, key: String, callback_id: Option<String>, same_body: bool },
    /// A job ended at `done_at`; `at` is only when the sandbox came round to it.
    Ended { id: String, kind: Kind, callback_id: Option<String>, phase: Phase, done_at: Millis },
    /// An event entered the event log.
    Event { event_id: String, event_type: String, id: String },
    /// One try of one delivery, and how it was answered.
    Webhook {
        event_id: Option<String>,
        event_type: String,
        id: String,
        callback_id: Option<String>,
        /// None: to the job's own `callback_url`.
        endpoint_id: Option<String>,
        url: String,
        body: String,
        /// The name of the header that carried a true signature.
        signed: Option<String>,
        forged: bool,
        attempt: u32,
        sent_at: Millis,
        status: Option<u16>,
        fault: Option<String>,
    },
    /// A delivery will not be tried again.
    GaveUp { event_id: Option<String>, id: String, url: String, attempts: u32, why: String },
    /// Any other call on the API.
    Call { method: String, path: String, query: Option<String>, status: u16 },
    /// A file was asked for by a link.
    Served { id: String, name: String, status: u16, range: Option<String>, bytes: u64 },
}

/// Counts drawn from entries, in memory or read back from a ledger file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    pub accepted: usize,
    pub refused: usize,
    pub replayed: usize,
    /// Charges per client job: the callback id, else route and idempotency key, else our own id;
    /// with the language where one call made several jobs.
    pub charges: BTreeMap<String, usize>,
    /// Charges beyond one per client job.
    pub paid_twice: usize,
    pub ended: usize,
    pub webhooks_tried: usize,
    /// Webhooks answered 2xx, forged ones left out.
    pub webhooks_ok: usize,
    pub calls: usize,
    pub files_served: usize,
}

impl Tally {
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut tally = Self::default();
        for entry in entries {
            tally.add(&entry.what);
        }
        tally.paid_twice = tally.charges.values().map(|n| n - 1).sum();
        tally
    }

    fn add(&mut self, what: &What) {
        match what {
            What::Accepted { .. } => self.accepted += 1,
            What::Refused { .. } => self.refused += 1,
            What::Replayed { .. } => self.replayed += 1,
            What::Charged { id, route, key, callback_id, language, .. } => {
                let keyed = key.as_ref().map(|key| format!("{route} {key}"));
                let mut client = callback_id.clone().or(keyed).unwrap_or_else(|| id.clone());
                if let Some(language) = language {
                    client.push('/');
                    client.push_str(language);
                }
                *self.charges.entry(client).or_default() += 1;
            }
            What::Ended { .. } => self.ended += 1,
            What::Webhook { status, forged, .. } => {
                self.webhooks_tried += 1;
                let ok = status.is_some_and(|s| (200..300).contains(&s));
                self.webhooks_ok += usize::from(ok && !forged);
            }
            What::Call { .. } => self.calls += 1,
            What::Served { status, .. } => self.files_served += usize::from(*status < 300),
            What::Event { .. } | What::GaveUp { .. } => {}
        }
    }
}

pub struct Ledger {
    lines: Mutex<Lines>,
    disk: Option<Disk>,
    listeners: broadcast::Sender<Entry>,
}

struct Lines {
    kept: VecDeque<Entry>,
    last: u64,
}

struct Disk {
    file: File,
    dirty: AtomicBool,
    /// Held while syncing: who waits for it also waits for the sync that covers his own lines.
    syncing: Mutex<()>,
}

impl Ledger {
    pub fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let disk = match path {
            None => None,
            Some(path) => Some(Disk {
                file: OpenOptions::new().create(true).append(true).open(path)?,
                dirty: AtomicBool::new(false),
                syncing: Mutex::new(()),
            }),
        };
        let lines = Mutex::new(Lines { kept: VecDeque::new(), last: 0 });
        Ok(Self { lines, disk, listeners: broadcast::Sender::new(LISTENER_LAG) })
    }

    pub fn note(&self, at: Millis, what: What) {
        let mut lines = self.lines();
        lines.last += 1;
        let entry = Entry { seq: lines.last, at, what };
        if let Some(disk) = &self.disk {
            disk.append(&entry);
        }
        // Nobody listening is the usual case.
        let _ = self.listeners.send(entry.clone());
        lines.kept.push_back(entry);
        if lines.kept.len() > KEPT {
            lines.kept.pop_front();
        }
    }

    /// Returns when all that was noted before is on the disk; at once without a file.
    pub fn sync(&self) {
        let Some(disk) = &self.disk else { return };
        let _turn = disk.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.dirty.swap(false, Ordering::SeqCst)
            && let Err(e) = disk.file.sync_data()
        {
            disk.failed(&e);
        }
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.lines().kept.iter().cloned().collect()
    }

    /// At most `limit` entries after number `seq`.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<Entry> {
        let lines = self.lines();
        let start = lines.kept.partition_point(|entry| entry.seq <= seq);
        lines.kept.iter().skip(start).take(limit).cloned().collect()
    }

    pub fn tally(&self) -> Tally {
        Tally::of(&self.lines().kept)
    }

    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.listeners.subscribe()
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn append(&self, entry: &Entry) {
        let written = serde_json::to_vec(entry).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            (&self.file).write_all(&line)
        });
        match written {
            Ok(()) => self.dirty.store(true, Ordering::SeqCst),
            Err(e) => self.failed(&e),
        }
    }

    /// The sandbox goes on: the one who reads the ledger sees the hole in its numbers.
    fn failed(&self, e: &std::io::Error) {
        tracing::error!(error = %e, "the sandbox cannot write its ledger");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(id: &str, callback_id: Option<&str>) -> What {
        What::Charged {
            id: id.into(),
            route: "/v3/videos".into(),
            key: None,
            callback_id: callback_id.map(Into::into),
            title: None,
            language: None,
            credits: 1.0,
            balance: 9.0,
        }
    }

    #[test]
    fn the_file_reads_back_as_the_same_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let ledger = Ledger::open(Some(&path)).unwrap();
        ledger.note(5, charge("v1", Some("a")));
        ledger.note(6, What::Call { method: "GET".into(), path: "/".into(), query: None, status: 404 });
        ledger.sync();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, ledger.entries());
        assert_eq!(ledger.after(1, 10).len(), 1);
    }

    #[test]
    fn a_second_charge_for_one_client_job_is_paid_twice() {
        let ledger = Ledger::open(None).unwrap();
        ledger.note(1, charge("v1", Some("a")));
        ledger.note(2, charge("v2", Some("b")));
        assert_eq!(ledger.tally().paid_twice, 0);
        ledger.note(3, charge("v3", Some("a")));
        assert_eq!(ledger.tally().paid_twice, 1);
        assert_eq!(ledger.tally().charges["a"], 2);
    }
}
