//! The load: callers that submit one job after another and remember what was acknowledged, outside of
//! the process under test.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::client::{Client, Refused};
use crate::domain::job_json::has_ended;

/// Jobs one caller may have under way. HeyGen's slots grow one by one, and a queue that only grows
/// would still be there at the end.
const UNDER_WAY: usize = 40;

/// The body of a caller's n-th submit, from 1, and the key it is known by.
pub type Submit = fn(usize, &str) -> Value;

pub struct Callers {
    told: Arc<Told>,
    running: Vec<JoinHandle<Result<(), Refused>>>,
}

#[derive(Default)]
struct Told {
    /// Jobs the server acknowledged.
    jobs: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl Callers {
    pub fn start(client: &Arc<Client>, count: usize) -> Self {
        Self::of(client, count, "caller", videos)
    }

    /// Callers whose keys begin with this name, and who submit something else.
    pub fn of(client: &Arc<Client>, count: usize, name: &str, submit: Submit) -> Self {
        let told = Arc::new(Told::default());
        let one = |caller| {
            let name = format!("{name}-{caller}");
            tokio::spawn(submit_until_stopped(client.clone(), told.clone(), name, submit))
        };
        let running = (0..count).map(one).collect();
        Self { told, running }
    }

    pub fn acknowledged(&self) -> usize {
        self.told.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The load ends; every job that was acknowledged.
    pub async fn end(self) -> Result<Vec<String>, Refused> {
        self.told.stopped.store(true, Ordering::Relaxed);
        for caller in self.running {
            // One that panicked has acknowledged what it has.
            caller.await.unwrap_or(Ok(()))?;
        }
        Ok(std::mem::take(&mut *self.told.jobs.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn videos(nth: usize, key: &str) -> Value {
    match nth % 3 {
        0 => json!({"kind": "video_agent", "request": {"prompt": "p"}, "callback_id": key}),
        _ => json!({
            "kind": "video",
            "request": {"type": "avatar", "avatar_id": "a", "script": "s"},
            "callback_id": key,
        }),
    }
}

/// Each job is insisted on with its own key.
async fn submit_until_stopped(
    client: Arc<Client>,
    told: Arc<Told>,
    caller: String,
    submit: Submit,
) -> Result<(), Refused> {
    let (mut nth, mut under_way) = (0, VecDeque::new());
    while !told.stopped.load(Ordering::Relaxed) {
        if under_way.len() == UNDER_WAY
            && let Some(oldest) = under_way.front()
        {
            let job = client.insist("GET", &format!("/api/jobs/{oldest}?wait=1"), None, None).await;
            // One that waits for a dead node's lease to end must not hold up the others.
            under_way.rotate_left(1);
            // One that is gone is found missing at the end; one of unknown outcome may wait for a person.
            if job.as_ref().map_or(true, |job| has_ended(job) || job["state"] == "unknown") {
                under_way.pop_back();
            }
            continue;
        }
        nth += 1;
        let key = format!("{caller}-{nth}");
        let body = submit(nth, &key);
        let job = client.insist("POST", "/api/jobs", Some(&key), Some(&body)).await?;
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        under_way.push_back(id.clone());
        told.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
    Ok(())
}
