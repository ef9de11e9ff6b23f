//! The load of kinds beside videos under kills: two whose calls HeyGen knows by a key in another place or
//! for a language, and two it is not known to know at all. Of those a call without an answer is never sent
//! again: it is confirmed by what HeyGen tells, or it stays `unknown`, listed, with what a person can do.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use reelhook::cli::selftest::callers::Callers;
use reelhook::clock::{Clock, Stopwatch};
use reelhook::domain::job::Kind;
use reelhook::domain::time::{MINUTE, SECOND, rfc3339};
use reelhook::heygen::kinds::{self, Repeat};
use reelhook::heygen::sandbox::{Entry, Tally, What};
use serde_json::{Value, json};

use crate::ground::{Ground, PATIENCE, has_ended, is_long};

const KINDS: [Kind; 4] = [Kind::VoiceClone, Kind::BackgroundRemoval, Kind::AiClipping, Kind::Translation];
/// What its note says to a person who may decide.
const ADVICE: &str = "accept_second_charge";

pub fn callers(ground: &Ground) -> Callers {
    Callers::of(&ground.client.0, 1, "kinds", submit)
}

/// Its title is how the sandbox's ledger names it, as not all of these kinds take a callback id there.
fn submit(nth: usize, key: &str) -> Value {
    let kind = KINDS[nth % KINDS.len()];
    let mut request = kinds::example(kind);
    // Now and then an answer is lost for certain.
    let trouble = if nth.is_multiple_of(5) && !has_key(kind) { " #error_504_after" } else { "" };
    request["title"] = json!(format!("{key}{trouble}"));
    json!({"kind": kind.name(), "request": request, "callback_id": key})
}

fn has_key(kind: Kind) -> bool {
    kinds::route(kind).repeat != Repeat::Never
}

/// How these jobs stand when the load is over.
pub struct Others {
    /// Those that ended, or should have.
    pub jobs: Vec<String>,
    /// Nobody knows whether HeyGen took them, and a call of them must not be repeated.
    open: Vec<Value>,
    /// Ids by their callers' keys.
    names: HashMap<String, String>,
    without_key: usize,
}

/// Waits until each has ended, or says that a person must decide.
pub async fn settled(ground: &Ground, jobs: &[String]) -> Others {
    let watch = Stopwatch::start();
    let (mut ended, mut open, mut names, mut without_key) = (vec![], vec![], HashMap::new(), 0);
    for shown in join_all(jobs.iter().map(|id| settled_one(ground, id, &watch))).await {
        let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
        let is_keyless = Kind::parse(&text("kind")).is_some_and(|kind| !has_key(kind));
        without_key += usize::from(is_keyless);
        names.insert(text("callback_id"), text("id"));
        match is_keyless && shown["state"] == "unknown" {
            true => open.push(shown),
            false => ended.push(text("id")),
        }
    }
    Others { jobs: ended, open, names, without_key }
}

async fn settled_one(ground: &Ground, id: &str, watch: &Stopwatch) -> Value {
    loop {
        let job = ground.client.insist("GET", &format!("/api/jobs/{id}?wait=1"), None, None).await;
        let is_open = job["state"] == "unknown" && is_advised(&job);
        if has_ended(&job) || is_open || watch.elapsed() > PATIENCE {
            return job;
        }
    }
}

fn is_advised(job: &Value) -> bool {
    job["note"].as_str().is_some_and(|note| note.contains(ADVICE))
}

impl Others {
    /// The ledger as the comparison reads it: each job of these kinds under its own id, and none of those
    /// whose outcome is open.
    pub fn known(&self, ledger: Vec<Entry>) -> Vec<Entry> {
        let open: HashSet<&str> = self.open.iter().filter_map(|job| job["id"].as_str()).collect();
        let is_known = |entry: &Entry| match &entry.what {
            What::Accepted { callback_id: Some(id), .. } | What::Charged { callback_id: Some(id), .. } => {
                !open.contains(id.as_str())
            }
            _ => true,
        };
        self.named(ledger).into_iter().filter(is_known).collect()
    }

    fn named(&self, mut ledger: Vec<Entry>) -> Vec<Entry> {
        let id_of = |title: &Option<String>| self.names.get(title.as_deref()?.split(' ').next()?).cloned();
        for entry in &mut ledger {
            match &mut entry.what {
                What::Accepted { callback_id, title, .. } => {
                    *callback_id = id_of(title).or(callback_id.take())
                }
                What::Charged { callback_id, title, language, .. } => {
                    *callback_id = id_of(title).or(callback_id.take());
                    // A job asks for one.
                    *language = None;
                }
                _ => {}
            }
        }
        ledger
    }

    /// The line of what must not be sent again.
    pub async fn report(&self, ground: &Ground, row: &str, kills: usize) {
        let charges = Tally::of(&self.named(ground.ledger())).charges;
        let times = |job: &Value| charges.get(job["id"].as_str().unwrap()).copied().unwrap_or(0);
        let ours: HashSet<&String> = self.names.values().collect();
        let paid_twice = charges.iter().filter(|(id, times)| ours.contains(id) && **times > 1).count();
        let (mut without_advice, mut retried_unasked) = (0, 0);
        let listed = listed(ground).await;
        for job in &self.open {
            let id = job["id"].as_str().unwrap();
            // What HeyGen told of it since has ended it.
            let is_listed = listed.contains(id)
                || has_ended(&ground.client.insist("GET", &format!("/api/jobs/{id}"), None, None).await);
            let says_so = is_advised(job) && job["charge"]["state"] == "open";
            without_advice += usize::from(!is_listed || !says_so);
            let path = format!("/api/jobs/{id}/retry");
            let (status, _) = ground.client.call("POST", &path, None, None).await.unwrap();
            retried_unasked += usize::from(status != 409);
        }
        let doctor_silent = usize::from(!listed.is_empty() && !doctor_tells(ground).await);
        let mut zero = vec![
            ("paid_twice", paid_twice),
            ("unknown_without_advice", without_advice),
            ("sent_again_unasked", retried_unasked),
            ("doctor_silent", doctor_silent),
        ];
        // It takes a minute.
        if is_long() {
            zero.push(("deadline_without_advice", usize::from(!is_ended_with_advice(ground).await)));
        }
        let taken = self.open.iter().filter(|job| times(job) > 0).count();
        let figures = [
            ("jobs", self.names.len() as f64),
            ("jobs_without_key", self.without_key as f64),
            ("left_to_a_person", self.open.len() as f64),
            ("of_these_taken_by_heygen", taken as f64),
        ];
        ground.report(row, kills, &zero, &figures);
        assert!(!self.open.is_empty(), "the load must be real: no outcome is open");
    }
}

/// The ids of all that are listed as unknown.
async fn listed(ground: &Ground) -> HashSet<String> {
    let (mut ids, mut cursor) = (HashSet::new(), String::new());
    loop {
        let path = format!("/api/jobs?state=unknown&limit=200{cursor}");
        let page = ground.client.insist("GET", &path, None, None).await;
        let rows = page["data"].as_array().unwrap();
        ids.extend(rows.iter().filter_map(|job| job["id"].as_str().map(str::to_owned)));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// Whether `doctor` warns of them and says where they are.
async fn doctor_tells(ground: &Ground) -> bool {
    let told = ground.client.insist("GET", "/api/doctor", None, None).await;
    let checks = told["checks"].as_array().unwrap();
    checks.iter().any(|check| {
        let fix = check["fix"].as_str().unwrap_or_default();
        check["check"] == "unknown outcomes" && check["status"] != "ok" && fix.contains("--state unknown")
    })
}

/// Whether one that nobody decides about ends at its deadline, once, and says what may have happened.
async fn is_ended_with_advice(ground: &Ground) -> bool {
    let mut body = submit(KINDS.len(), "kinds-deadline #error_504_after");
    body["deadline"] = json!(rfc3339(Clock::real().now() + MINUTE + SECOND));
    let job = ground.client.insist("POST", "/api/jobs", Some("kinds-deadline"), Some(&body)).await;
    let id = job["id"].as_str().unwrap();
    let ended = ground.end_of(id).await;
    let failure = &ended["failure"];
    let says = failure["message"].as_str().is_some_and(|text| text.contains("may have been charged"));
    ended["state"] == "failed"
        && failure["code"] == "outcome_unknown"
        && ended["charge"]["state"] == "open"
        && says
        && failure["advice"].is_string()
        && ground.ends_told(id).await == 1
}
