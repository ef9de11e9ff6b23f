//! The live webhook secrets, kept at hand for the door and read again when something does not fit,
//! when one of them ends, and now and then: another node may have registered, rotated or removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;

use crate::domain::time::{MINUTE, Millis, SECOND};
use crate::store::{self, Db, setting, webhook_secret};

/// Least time between two readings, however many deliveries do not fit.
const REREAD_AFTER: Millis = SECOND;
/// What another node has retired verifies here no longer than this.
const KEPT_AT_HAND: Millis = MINUTE;
/// A rotation that never told its end is taken for over after this long.
pub const ROTATION_LIMIT: Millis = 5 * MINUTE;
/// The setting that holds since when a secret is being replaced.
pub const ROTATING_SINCE: &str = "webhook_rotating_since";

#[derive(Default)]
pub struct Live {
    /// Names and secrets in the order in which they are tried.
    pub names: Vec<String>,
    pub secrets: Vec<String>,
    pub rotating: bool,
    /// When the first of them stops verifying.
    ends_at: Option<Millis>,
}

#[derive(Clone)]
pub struct Secrets {
    db: Db,
    /// From settings, not from the store.
    configured: Arc<Vec<String>>,
    live: Arc<ArcSwap<Live>>,
    read_at: Arc<AtomicI64>,
}

impl Secrets {
    pub async fn load(db: Db, configured: Vec<String>, now: Millis) -> store::Result<Self> {
        let secrets = Self {
            db,
            configured: Arc::new(configured),
            live: Arc::new(ArcSwap::from_pointee(Live::default())),
            read_at: Arc::new(AtomicI64::new(0)),
        };
        secrets.reload(now).await?;
        Ok(secrets)
    }

    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Those that verify at `now`.
    pub async fn live_at(&self, now: Millis) -> store::Result<Arc<Live>> {
        let live = self.live();
        let read_at = self.read_at.load(Ordering::Relaxed);
        let fresh = (read_at..read_at.saturating_add(KEPT_AT_HAND)).contains(&now);
        if fresh && live.ends_at.is_none_or(|at| now < at) {
            return Ok(live);
        }
        self.reload(now).await?;
        Ok(self.live())
    }

    pub async fn reload(&self, now: Millis) -> store::Result<()> {
        let read = move |tx: &mut store::Tx| {
            let stored = webhook_secret::list_live(tx, now)?;
            Ok((stored, setting::find(tx, ROTATING_SINCE)?))
        };
        let (stored, since) = self.db.read(read).await?;
        let mut live = Live::default();
        for secret in stored {
            live.ends_at = [live.ends_at, secret.retired_at].into_iter().flatten().min();
            live.names.push(secret.endpoint_id);
            live.secrets.push(secret.secret);
        }
        for (nth, secret) in self.configured.iter().enumerate() {
            live.names.push(format!("setting {}", nth + 1));
            live.secrets.push(secret.clone());
        }
        let since = since.and_then(|s| s.parse::<Millis>().ok());
        live.rotating = since.is_some_and(|since| now.saturating_sub(since) < ROTATION_LIMIT);
        self.live.store(Arc::new(live));
        self.read_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Reads again unless that was done a moment ago. Whether it was read.
    pub async fn refresh(&self, now: Millis) -> store::Result<bool> {
        let last = self.read_at.load(Ordering::Relaxed);
        if now.saturating_sub(last) < REREAD_AFTER && now >= last {
            return Ok(false);
        }
        self.reload(now).await?;
        Ok(true)
    }
}
