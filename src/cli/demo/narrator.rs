//! Tells the demo: a line for what the sandbox does, for how each job ends, and for what the application
//! makes of it, as they happen. It only listens; what it reads is the sandbox's ledger and reelhook's
//! event log.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::Verdict;
use super::play::Role;
use super::receiver;
use crate::cli::output::{terminal_width, wrapped};
use crate::clock::{Clock, Millis};
use crate::domain::event::is_upstream;
use crate::domain::job_json::has_ended;
use crate::heygen::sandbox::{Entry, Fault, Sandbox, What};
use crate::store::{Db, event};

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const BLUE: &str = "36";
const MAGENTA: &str = "35";
const DIM: &str = "2";
const BOLD: &str = "1";

/// The column in which what happened is told.
const TEXT_AT: usize = 33;

pub struct Narrator {
    teller: Arc<Teller>,
    db: Db,
}

struct Teller {
    clock: Clock,
    began: Millis,
    color: bool,
    width: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Names of the jobs, by our id and by HeyGen's.
    names: HashMap<String, String>,
    /// The last event told.
    position: i64,
    webhooks: HashMap<String, u32>,
}

impl Narrator {
    pub fn start(clock: Clock, sandbox: &Sandbox, db: Db) -> Self {
        let began = clock.now();
        let color = std::io::stdout().is_terminal() && !crate::config::no_color();
        let width = terminal_width().into();
        let teller = Arc::new(Teller { clock, began, color, width, known: Mutex::default() });
        let (listener, mut entries) = (teller.clone(), sandbox.listen());
        tokio::spawn(async move {
            loop {
                match entries.recv().await {
                    Ok(entry) => listener.tell_upstream(&entry),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        let (listener, log) = (teller.clone(), db.clone());
        tokio::spawn(async move {
            loop {
                let mut bell = log.bell.arm();
                if listener.tell_events(&log).await.is_err() || bell.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { teller, db }
    }

    /// Tells what is in the log and not told yet.
    pub async fn settle(&self) {
        let _ = self.teller.tell_events(&self.db).await;
    }

    pub fn introduce(&self, role: &Role) {
        let kind = role.kind.replace('_', " ");
        self.teller.line("you", BLUE, role.name, &format!("submit a {kind}: {}", role.story));
    }

    pub fn opening(&self, base: &str, upstream: &str, dir: &Path) {
        let t = &self.teller;
        say(&format!("\n  {}", t.paint(BOLD, "reelhook demo")));
        say(&format!("  server    {base}"));
        say(&format!("  store     {}", dir.join("demo.db").display()));
        say(&format!("  sandbox   {upstream}, a fake HeyGen: no key, no credits\n"));
    }

    pub fn registered(&self) {
        self.teller.line("reelhook", GREEN, "", "registered at HeyGen; its secret is kept");
    }

    pub fn added(&self, receiver: &str) {
        self.teller.line("app", MAGENTA, "", &format!("listens at {receiver}; its secret is kept"));
    }

    /// The application heard something, and this is what it made of it.
    pub async fn told(&self, event: &Value, verdict: &receiver::Verdict) {
        // What it heard of is told before.
        self.settle().await;
        let t = &self.teller;
        let (event_type, data) = (event["type"].as_str().unwrap_or("-"), &event["data"]);
        let (color, what) = match verdict {
            // Told already; only of ends a line is worth it.
            receiver::Verdict::Taken { .. } if !has_ended(data) => return,
            receiver::Verdict::Taken { after_failure: false } => (MAGENTA, "signature right: took it"),
            receiver::Verdict::Taken { after_failure: true } => (MAGENTA, "again, the same id: took it"),
            receiver::Verdict::Known => (MAGENTA, "again, known by its id: dropped it"),
            receiver::Verdict::Fails => (RED, "answered 500, as applications do"),
            receiver::Verdict::Refused(why) => (RED, *why),
        };
        let name = data["callback_id"].as_str().unwrap_or_default();
        t.line("app", color, name, &format!("{event_type}, {what}"));
    }

    pub fn submitted(&self) {
        self.teller.line("reelhook", GREEN, "", "each was on disk before HeyGen heard of it");
    }

    pub(super) fn closing(&self, base: &str, verdict: &Verdict) {
        let t = &self.teller;
        let head = "job          ended     found by  paid  submitted  rendered  heard   told  ok";
        say(&format!("\n  {}", t.paint(BOLD, head)));
        for line in &verdict.lines {
            let color = if line.state == "completed" { GREEN } else { YELLOW };
            let [submitted, rendered, heard, told] =
                line.times.map(|at| at.map_or("-".to_owned(), |at| t.since_start(at)));
            say(&format!(
                "  {:<12} {} {:<9} {:<5} {submitted:>9} {rendered:>9} {heard:>6} {told:>6}  {}",
                line.name,
                t.paint(color, &format!("{:<9}", line.state)),
                line.found_by,
                format!("{}x", line.charges),
                if line.as_scripted { t.paint(GREEN, "yes") } else { t.paint(RED, "NO") },
            ));
        }
        let end = if verdict.as_scripted {
            let told = format!("{} events, each verified by its signature and taken once.", verdict.events);
            let jobs = "Every job ended once, was paid for once, and your application was told:";
            t.paint(GREEN, &wrapped(&format!("{jobs} {told}"), t.width, 2))
        } else {
            format!("{} See {base}/api/events.", t.paint(RED, "Something is not as scripted."))
        };
        say(&format!("\n  {end}"));
    }

    pub fn try_it(&self, base: &str, example: &str) {
        let mut text = String::from("\n  Try it; the server keeps running until Ctrl-C.\n\n");
        for (what, line) in [
            ("all jobs", format!("curl {base}/api/jobs")),
            ("one job and what happened to it", format!("curl {base}/api/jobs/{example}/events")),
            (
                "a job of your own; put #lost, #fail, #double … into its title",
                format!(
                    "curl {base}/api/jobs -d '{{\"kind\":\"video\",\"request\":{{\"type\":\"avatar\",\
                     \"avatar_id\":\"a\",\"script\":\"Hi\",\"title\":\"Mine\"}}}}'"
                ),
            ),
            ("what your application was told", format!("curl {base}/api/deliveries")),
            ("webhooks as they arrived", format!("curl {base}/api/receipts")),
            ("whether all is well", format!("curl {base}/api/doctor")),
        ] {
            let _ = writeln!(text, "    {}\n    {line}\n", self.teller.paint(DIM, &format!("# {what}")));
        }
        say(text.trim_end_matches('\n'));
    }
}

/// A closed pipe ends the telling, not the demo.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

impl Teller {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, who: &str, color: &str, job: &str, what: &str) {
        let time = self.paint(DIM, &format!("{:>7}", self.since_start(self.clock.now())));
        let what = wrapped(what, self.width, TEXT_AT);
        say(&format!("{time}  {}  {job:<13} {what}", self.paint(color, &format!("{who:<8}"))));
    }

    fn since_start(&self, at: Millis) -> String {
        let ms = at.saturating_sub(self.began);
        format!("{}.{}s", ms / 1_000, ms % 1_000 / 100)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name_of(&self, job_id: Option<&str>) -> String {
        let found = job_id.and_then(|id| self.known().names.get(id).cloned());
        found.unwrap_or_default()
    }

    async fn tell_events(&self, db: &Db) -> crate::store::Result<()> {
        let after = self.known().position;
        let events = db.read(move |tx| event::list(tx, None, after, 200)).await?;
        for e in events {
            {
                let mut known = self.known();
                if e.number <= known.position {
                    continue;
                }
                known.position = e.number;
            }
            let job: Value = serde_json::from_str(&e.data).unwrap_or(Value::Null);
            if let (Some(id), Some(name)) = (e.job_id.as_deref(), job["callback_id"].as_str()) {
                self.known().names.insert(id.to_owned(), name.to_owned());
            }
            self.tell_event(&e.event_type, e.job_id.as_deref(), &job);
        }
        Ok(())
    }

    fn tell_event(&self, event_type: &str, job_id: Option<&str>, job: &Value) {
        let found_by = job["found_by"].as_str().unwrap_or("-");
        let (color, what) = match event_type {
            // Told already: by whoever submitted it, and by HeyGen.
            "job.queued" | "job.processing" => return,
            heygens if is_upstream(heygens) => return,
            "job.completed" => (GREEN, format!("{}, found by {found_by}", self.paint(BOLD, "completed"))),
            "job.failed" => {
                let why = job["failure"]["message"].as_str().unwrap_or("no reason given");
                (YELLOW, format!("{}, found by {found_by}: {why}", self.paint(BOLD, "failed")))
            }
            other => (GREEN, other.to_owned()),
        };
        self.line("reelhook", color, &self.name_of(job_id), &what);
    }

    fn tell_upstream(&self, entry: &Entry) {
        let heygen = |callback_id: &Option<String>, color: &str, what: &str| {
            self.line("HeyGen", color, &self.name_of(callback_id.as_deref()), what);
        };
        match &entry.what {
            What::Accepted { callback_id, faults, ids, .. } => {
                let name = self.name_of(callback_id.as_deref());
                self.known().names.extend(ids.iter().map(|id| (id.clone(), name.clone())));
                let lost = faults.contains(&Fault::ResetAfter);
                let what = if lost {
                    "accepted, 1 credit charged; its answer is lost"
                } else {
                    "accepted, 1 credit charged"
                };
                heygen(callback_id, BLUE, what);
            }
            What::Ended { callback_id, .. } => heygen(callback_id, BLUE, "rendered"),
            What::Replayed { callback_id, .. } => {
                heygen(callback_id, BLUE, "same key again: its first answer, no charge");
            }
            What::Call { method, path, .. } if method == "GET" => {
                let name = self.name_of(path.rsplit('/').next());
                if !name.is_empty() {
                    self.line("reelhook", GREEN, &name, "asks HeyGen how it stands");
                }
            }
            What::Webhook { callback_id, event_type, forged, status, fault, id, .. } => {
                let name = self.name_of(callback_id.as_deref());
                let what = self.webhook(event_type, id, *forged, *status, fault.as_deref());
                let (who, color) = if *forged { ("stranger", RED) } else { ("HeyGen", BLUE) };
                self.line(who, color, &name, &what);
            }
            What::Refused { callback_id, status, code, .. } => {
                let status = status.map_or(String::new(), |status| format!(" {status}"));
                heygen(callback_id, YELLOW, &format!("refused:{status} {code}"));
            }
            _ => {}
        }
    }

    fn webhook(
        &self,
        event_type: &str,
        id: &str,
        forged: bool,
        status: Option<u16>,
        fault: Option<&str>,
    ) -> String {
        let answer = match status {
            Some(status) => format!("answered {status}"),
            None => format!("no answer ({})", fault.unwrap_or("unknown")),
        };
        if forged {
            return format!("{event_type}, forged: {answer}");
        }
        let mut known = self.known();
        let times = known.webhooks.entry(format!("{event_type} {id}")).or_default();
        *times += 1;
        let how = if *times > 1 { "again" } else { "signed" };
        format!("{event_type}, {how}: {answer}")
    }
}
