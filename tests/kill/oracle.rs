//! What was acknowledged, kept outside the process under test, and the comparison at the end.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use reelhook::domain::receipt::{Verdict as Judged, dedup_key};
use reelhook::heygen::sandbox::{Entry, Fault, Tally, What};
use serde_json::json;

use crate::ground::{Ground, is_end};
use crate::server::Client;

/// Jobs the server acknowledged.
#[derive(Default)]
pub struct Ledger {
    jobs: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl Ledger {
    pub fn count(&self) -> usize {
        self.jobs.lock().unwrap().len()
    }

    pub fn jobs(&self) -> Vec<String> {
        self.jobs.lock().unwrap().clone()
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Jobs one caller may have under way. HeyGen's slots grow one by one, and a queue that only grows
/// would still be there at the end.
const UNDER_WAY: usize = 40;

/// A caller that submits one job after another, each insisted on with its own key.
pub async fn submit_for_ever(client: Arc<Client>, ledger: Arc<Ledger>, caller: usize) {
    let (mut nth, mut under_way) = (0, VecDeque::new());
    while !ledger.stopped.load(Ordering::Relaxed) {
        if under_way.len() == UNDER_WAY
            && let Some(oldest) = under_way.front()
        {
            let job = client.insist("GET", &format!("/api/jobs/{oldest}?wait=1"), None, None).await;
            // One that waits for a dead node's lease to end must not hold up the others.
            under_way.rotate_left(1);
            if is_end(&job) {
                under_way.pop_back();
            }
            continue;
        }
        nth += 1;
        let key = format!("caller-{caller}-{nth}");
        let body = match nth % 3 {
            0 => json!({"kind": "video_agent", "request": {"prompt": "p"}, "callback_id": key}),
            _ => json!({
                "kind": "video",
                "request": {"type": "avatar", "avatar_id": "a", "script": "s"},
                "callback_id": key,
            }),
        };
        let job = client.insist("POST", "/api/jobs", Some(&key), Some(&body)).await;
        let id = job["id"].as_str().unwrap().to_owned();
        under_way.push_back(id.clone());
        ledger.jobs.lock().unwrap().push(id);
    }
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub lost_jobs: usize,
    pub stuck: usize,
    pub double_jobs: usize,
    pub paid_twice: usize,
    pub lost_receipts: usize,
    pub wrong_final: usize,
    pub dup_effects: usize,
    pub receipts: usize,
}

impl Verdict {
    /// What must be zero.
    pub fn zeros(&self) -> [(&'static str, usize); 7] {
        [
            ("lost_jobs", self.lost_jobs),
            ("stuck", self.stuck),
            ("double_jobs", self.double_jobs),
            ("paid_twice", self.paid_twice),
            ("lost_events", self.lost_receipts),
            ("wrong_final", self.wrong_final),
            ("dup_effects", self.dup_effects),
        ]
    }
}

/// Waits for every job's end over the API, then compares the sets.
pub async fn compare(ground: &Ground, jobs: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut ended_as = vec![];
    for id in jobs {
        let ended = ground.end_of(id).await;
        ended_as.push((id, ended["state"].as_str().unwrap_or("none").to_owned()));
        verdict.dup_effects += ground.ends_told(id).await.saturating_sub(1);
    }
    // Read after the wait: what a killed process left behind may have been accepted only then.
    let ledger = ground.ledger();
    let failing = failing_upstream(&ledger);
    for (id, state) in ended_as {
        match state.as_str() {
            "completed" => verdict.wrong_final += usize::from(failing.contains(id)),
            "failed" => verdict.wrong_final += usize::from(!failing.contains(id)),
            _ => verdict.stuck += 1,
        }
    }
    let Tally { charges, paid_twice, .. } = Tally::of(&ledger);
    verdict.paid_twice = paid_twice;
    verdict.lost_jobs = jobs.iter().filter(|id| !charges.contains_key(*id)).count();
    let unique: HashSet<&String> = jobs.iter().collect();
    // A job that was made but never acknowledged would be charged under an id no caller has.
    verdict.double_jobs = charges.keys().filter(|id| !unique.contains(id)).count();
    receipts(&mut verdict, &ledger, &ground.client).await;
    verdict
}

/// The jobs that the sandbox was told to fail.
fn failing_upstream(ledger: &[Entry]) -> HashSet<String> {
    let accepted = ledger.iter().filter_map(|entry| match &entry.what {
        What::Accepted { callback_id: Some(id), faults, .. } => Some((id, faults)),
        _ => None,
    });
    accepted.filter(|(_, faults)| faults.contains(&Fault::Fail)).map(|(id, _)| id.clone()).collect()
}

/// Every webhook that was answered 2xx must be in the store, by its exact bytes.
async fn receipts(verdict: &mut Verdict, ledger: &[Entry], client: &Client) {
    let kept = kept(client).await;
    for entry in ledger {
        let What::Webhook { body, status: Some(200..=299), forged: false, .. } = &entry.what else {
            continue;
        };
        verdict.receipts += 1;
        let key = dedup_key(Judged::Signed, None, body.as_bytes());
        verdict.lost_receipts += usize::from(!kept.contains(&key));
    }
}

/// What makes each of the signed receipts in the store itself.
pub async fn kept(client: &Client) -> HashSet<[u8; 16]> {
    let mut kept = HashSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/receipts?limit=200&verdict=signed{cursor}");
        let page = client.insist("GET", &path, None, None).await;
        for row in page["data"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap();
            let receipt = client.insist("GET", &format!("/api/receipts/{id}"), None, None).await;
            let body = base64::engine::general_purpose::STANDARD;
            let body = body.decode(receipt["body_base64"].as_str().unwrap()).unwrap();
            kept.insert(dedup_key(Judged::Signed, None, &body));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return kept,
        }
    }
}
