//! A stateful fake of HeyGen's v3 API, with troubles on order and a ledger of all it did.
//!
//! The tests use it as their oracle, `reelhook sandbox` serves it, `reelhook demo` runs on it. It
//! knows HeyGen only from what is public, and never talks to the real one. No lock is held while
//! anything is awaited.

mod answer;
mod catalog;
mod control;
mod create;
mod deliver;
mod dialect;
mod endpoints;
mod events;
mod faults;
mod idempotency;
mod jobs;
mod ledger;
mod media;
mod options;
mod routes;
mod seal;
mod validate;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

pub use self::faults::{Fault, Stage, UnknownFault};
pub use self::jobs::Phase;
pub use self::ledger::{Entry, Tally, What};
pub use self::media::File;
pub use self::options::Options;
pub use self::routes::Twist;

use self::ledger::Ledger;
use self::media::Links;
use self::world::World;
use crate::clock::{Clock, Millis};
use crate::net;

/// What every job costs, in credits. HeyGen's own prices depend on length and engine.
pub const PRICE: f64 = 1.0;

/// Deliveries under way at once in `run`.
const DELIVERIES_AT_ONCE: usize = 64;

/// Cheap to clone; every clone is the same sandbox.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    options: Options,
    links: Links,
    /// Seeded apart from the clock: rolled faults and render times repeat even on a real clock.
    dice: Clock,
    /// Ids and secrets: truly random on a real clock. On a manual one they have a seed of their
    /// own, so that what else rolls that clock's dice is not disturbed by calls made here.
    ids: Clock,
    ledger: Ledger,
    client: net::Client,
    wake: Notify,
    world: Mutex<World>,
}

impl Sandbox {
    /// Fails only when the ledger's file cannot be opened.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let clock = options.clock.clone();
        let ids = if clock.is_manual() { Clock::manual(0, !options.seed) } else { Clock::real() };
        let links = Links {
            base_url: options.base_url.trim_end_matches('/').to_owned(),
            secret: ids.random(),
            life_ms: i64::try_from(options.link_life.as_millis()).unwrap_or(i64::MAX),
        };
        Ok(Self(Arc::new(Inner {
            links,
            dice: Clock::manual(0, options.seed),
            ids,
            ledger: Ledger::open(options.ledger_file.as_deref())?,
            // No reuse: a receiver that was restarted gets a fresh connection.
            client: net::Client::new(clock, false),
            wake: Notify::new(),
            world: Mutex::new(World::new(options.balance)),
            options,
        })))
    }

    /// The whole fake: API, files, and the control routes under `/sandbox/`.
    pub fn router(&self) -> axum::Router {
        routes::router(self)
    }

    /// Does everything that is due now, deliveries one after the other in the order they fall due.
    /// Returns how many deliveries were tried.
    pub async fn settle(&self) -> usize {
        let mut tried = 0;
        while let Some(delivery) = self.next_delivery() {
            self.attempt(delivery).await;
            tried += 1;
        }
        tried
    }

    /// When `settle` next has something to do.
    pub fn next_due(&self) -> Option<Millis> {
        self.world().next_due()
    }

    /// Does what is due whenever it is due, for ever. A receiver that hangs delays nobody else.
    pub async fn run(&self) {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < DELIVERIES_AT_ONCE
                && let Some(delivery) = self.next_delivery()
            {
                let sandbox = self.clone();
                under_way.spawn(async move { sandbox.attempt(delivery).await });
            }
            let full = under_way.len() >= DELIVERIES_AT_ONCE;
            let next = if full { None } else { self.next_due() };
            tokio::select! {
                () = self.sleep_until(next) => {}
                () = self.0.wake.notified() => {}
                _ = under_way.join_next(), if !under_way.is_empty() => {}
            }
        }
    }

    async fn sleep_until(&self, at: Option<Millis>) {
        match at {
            Some(at) => self.0.options.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// The next new job gets these faults. Each call is for one job; calls queue up.
    /// Several languages of one translation share theirs, and tags in the body come on top.
    pub fn script_next(&self, faults: Vec<Fault>) {
        self.world().script.push_back(faults);
    }

    /// While revoked, every call on the API is answered 401.
    pub fn revoke_key(&self, revoked: bool) {
        self.world().revoked = revoked;
    }

    pub fn set_balance(&self, credits: f64) {
        self.world().balance = credits;
    }

    /// While offline, the API and the files answer 503 to all. Webhooks are still delivered.
    pub fn set_offline(&self, offline: bool) {
        self.world().offline = offline;
    }

    /// While silent, every webhook that is sent is lost on the way for good.
    pub fn set_silent(&self, silent: bool) {
        self.world().silent = silent;
    }

    /// What happens from now on is not sent to this endpoint. False where there is none.
    pub fn disable_endpoint(&self, id: &str) -> bool {
        self.world().endpoint_mut(id).map(|endpoint| endpoint.enabled = false).is_ok()
    }

    /// What becomes of every call to this path, or `METHOD path`, from now on, until it is `None` again.
    pub fn twist(&self, path: &str, twist: Option<Twist>) {
        let mut world = self.world();
        match twist {
            Some(twist) => world.twists.insert(path.to_owned(), twist),
            None => world.twists.remove(path),
        };
    }

    /// What happened so far, oldest first.
    pub fn ledger(&self) -> Vec<Entry> {
        self.0.ledger.entries()
    }

    /// What happens from now on, as it happens.
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.0.ledger.listen()
    }

    /// The ledger, counted.
    pub fn tally(&self) -> Tally {
        self.0.ledger.tally()
    }

    /// Charges per client job; see [`Tally::charges`].
    pub fn charges(&self) -> BTreeMap<String, usize> {
        self.tally().charges
    }

    /// The bytes behind a link, to compare a kept copy with. `id` is the video's or translation's.
    pub fn file(&self, id: &str, file: File) -> bytes::Bytes {
        file.bytes(id)
    }

    fn now(&self) -> Millis {
        self.0.options.clock.now()
    }

    fn links(&self) -> &Links {
        &self.0.links
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: What) {
        self.0.ledger.note(self.now(), what);
    }

    /// Before an answer leaves: what it rests on is on the disk.
    fn sync(&self) {
        self.0.ledger.sync();
    }

    fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// 32 hex characters, as HeyGen's video ids are.
    fn new_id(&self) -> String {
        hex::encode(self.0.ids.random::<16>())
    }
}
