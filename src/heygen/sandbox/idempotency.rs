//! `Idempotency-Key` as HeyGen documents it: for 24 hours the stored answer is given again, even
//! to another body; 409 while the first call runs; one scope per route and path parameter.
//!
//! Never stores a failed attempt: a key that was refused may be tried again.

use http::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::answer::Problem;
use super::world::World;
use crate::clock::Millis;

const LIFE_MS: i64 = 24 * 3_600 * 1_000;
/// Above this many the dead ones are swept out.
const SWEEP_ABOVE: usize = 10_000;

pub struct Stored {
    body_hash: String,
    /// None while the first call runs.
    answer: Option<(u16, Value)>,
    /// The first call counts as running until then.
    ready_at: Millis,
    dies_at: Millis,
}

pub enum Earlier {
    None,
    Running,
    Answered { status: u16, value: Value, same_body: bool },
}

/// The key of a call, if it has one, or why it is none.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.chars().all(fine) => Ok(Some(key.to_owned())),
        _ => {
            Err(Problem::param("Idempotency-Key", "1 to 255 characters of A-Z a-z 0-9 _ - : . are allowed."))
        }
    }
}

/// What tells two bodies apart.
pub fn body_hash(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// Where a key counts: this route with these path parameters, and nowhere else.
pub fn scope(path: &str, key: &str) -> String {
    format!("POST {path} {key}")
}

impl World {
    pub fn earlier(&mut self, scope: &str, body_hash: &str, now: Millis) -> Earlier {
        let Some(stored) = self.stored.get(scope) else { return Earlier::None };
        match &stored.answer {
            _ if now >= stored.dies_at => {
                self.stored.remove(scope);
                Earlier::None
            }
            Some((status, value)) if now >= stored.ready_at => {
                let same_body = stored.body_hash == body_hash;
                Earlier::Answered { status: *status, value: value.clone(), same_body }
            }
            _ => Earlier::Running,
        }
    }

    /// Marks a call as running, for the routes that wait for something.
    pub fn begin(&mut self, scope: &str, body_hash: &str, now: Millis) {
        self.keep(scope, body_hash, None, now, now);
    }

    /// Stores the answer of an accepted call, which leaves at `ready_at`.
    pub fn remember(&mut self, scope: &str, body_hash: &str, value: &Value, now: Millis, ready_at: Millis) {
        self.keep(scope, body_hash, Some((200, value.clone())), now, ready_at);
    }

    fn keep(&mut self, scope: &str, hash: &str, answer: Option<(u16, Value)>, now: Millis, ready_at: Millis) {
        if self.stored.len() > SWEEP_ABOVE {
            self.stored.retain(|_, stored| stored.dies_at > now);
        }
        let dies_at = now.saturating_add(LIFE_MS);
        self.stored
            .insert(scope.to_owned(), Stored { body_hash: hash.to_owned(), answer, ready_at, dies_at });
    }

    /// Forgets a call that was refused or dropped while it ran; an answered one stays.
    pub fn abandon(&mut self, scope: &str) {
        if self.stored.get(scope).is_some_and(|stored| stored.answer.is_none()) {
            self.stored.remove(scope);
        }
    }
}
