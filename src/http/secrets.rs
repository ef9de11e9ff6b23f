//! The live webhook secrets, kept at hand for the door and read again when something does not fit,
//! when one of them ends, and now and then: another node may have registered, rotated or removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::rotation::{self, Doubts};
use crate::domain::time::{MINUTE, Millis};
use crate::store::{self, Db, webhook_secret};

/// What another node has retired verifies here no longer than this.
const KEPT_AT_HAND: Millis = MINUTE;
#[derive(Default)]
pub struct Live {
    /// Names and secrets in the order in which they are tried.
    pub names: Vec<String>,
    pub secrets: Vec<String>,
    /// What HeyGen was asked to make a secret for, and has not told us: it may sign with one we do
    /// not know.
    pub doubts: Doubts,
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
    readings: Arc<Readings>,
}

/// Readings are numbered, one at a time, and shared.
#[derive(Default)]
struct Readings {
    turn: Mutex<()>,
    begun: AtomicU64,
    /// The last that succeeded.
    done: AtomicU64,
}

impl Secrets {
    pub async fn load(db: Db, configured: Vec<String>, now: Millis) -> store::Result<Self> {
        let secrets = Self {
            db,
            configured: Arc::new(configured),
            live: Arc::new(ArcSwap::from_pointee(Live::default())),
            read_at: Arc::new(AtomicI64::new(0)),
            readings: Arc::default(),
        };
        secrets.reload(now).await?;
        for about in secrets.live().doubts.keys() {
            tracing::warn!(about, "a webhook rotation has no end yet: run `reelhook webhook rotate` again");
        }
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
            Ok((stored, rotation::find(tx)?))
        };
        let (stored, doubts) = self.db.read(read).await?;
        let mut live = Live { doubts, ..Live::default() };
        for secret in stored {
            live.ends_at = [live.ends_at, secret.retired_at].into_iter().flatten().min();
            live.names.push(secret.endpoint_id);
            live.secrets.push(secret.secret);
        }
        for (nth, secret) in self.configured.iter().enumerate() {
            live.names.push(format!("setting {}", nth + 1));
            live.secrets.push(secret.clone());
        }
        self.live.store(Arc::new(live));
        self.read_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Reads again, so that whatever was stored before this call is seen. Those who wait at the same
    /// time share a reading, so that a flood of forgeries costs no more than one after the other.
    pub async fn refresh(&self, now: Millis) -> store::Result<()> {
        let readings = &self.readings;
        // One that begins from now on will do.
        let wanted = readings.begun.load(Ordering::SeqCst) + 1;
        let _turn = readings.turn.lock().await;
        if readings.done.load(Ordering::SeqCst) >= wanted {
            return Ok(());
        }
        let number = readings.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.reload(now).await?;
        readings.done.store(number, Ordering::SeqCst);
        Ok(())
    }
}
