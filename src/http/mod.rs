//! The HTTP server: one table of routes, problem documents, the webhook door, the API, ops.
//!
//! Handlers parse, call `flow` or read the store, and answer. They never call HeyGen about a job:
//! they only make the work due. What HeyGen has besides our jobs they may list.

mod adopt;
mod answer;
mod audit;
mod auth;
mod dead_letters;
mod deliveries;
mod doctor;
mod endpoints;
mod events;
mod groups;
pub mod hook;
mod input;
mod intake;
mod jobs;
mod keys;
pub mod openapi;
mod ops;
mod peer;
pub mod problem;
mod query;
mod receipts;
mod rotation;
mod routes;
mod rows;
mod secrets;
mod serve;
mod stream;
mod upstream;
mod videos;
mod wait;
mod webhooks;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;

pub use auth::new_key;
pub use routes::{Doc, TABLE};
pub use serve::serve;

use crate::clock::Clock;
use crate::domain::address::Addresses;
use crate::domain::guard::Guard;
use crate::domain::outage::Outage;
use crate::domain::proxy::Proxies;
use crate::domain::time::Millis;
use crate::fail::FailPoints;
use crate::flow::{Stamp, Terms};
use crate::heygen::client::Heygen;
use crate::metrics::Metrics;
use crate::store::{self, Db};

/// What every handler needs; cheap to clone.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

pub struct Inner {
    pub db: Db,
    pub clock: Clock,
    pub metrics: Metrics,
    /// For read-only look-ups and HeyGen's side of webhooks; never about a job.
    pub heygen: Heygen,
    pub addresses: Addresses,
    pub fail: FailPoints,
    pub settings: Settings,
    secrets: secrets::Secrets,
    intake: intake::Intake,
    sampler: hook::Sampler,
    streams: stream::Streams,
    /// Of the webhook door.
    outage: Outage,
}

/// The settings handlers need.
#[derive(Clone, Default)]
pub struct Settings {
    /// Where HeyGen reaches us.
    pub hooks_url: Option<String>,
    /// Anything beyond this machine may reach us.
    pub exposed: bool,
    pub accept_unsigned: bool,
    pub trusted_proxies: Vec<IpAddr>,
    pub webhook_secrets: Vec<String>,
    pub deadline: Millis,
    /// Readers of live streams at once.
    pub streams: usize,
    /// `None`: what the kind usually takes.
    pub first_poll: Option<Millis>,
    pub poll_pause: Millis,
    /// Which addresses callers may have events sent to.
    pub guard: Guard,
    pub proxies: Proxies,
}

impl Settings {
    pub fn terms(&self) -> Terms {
        Terms { deadline_ms: self.deadline, least_poll_ms: self.poll_pause }
    }
}

/// The long-lived things a server is made of.
pub struct Parts {
    pub db: Db,
    pub clock: Clock,
    pub metrics: Metrics,
    pub heygen: Heygen,
    pub addresses: Addresses,
    pub fail: FailPoints,
    pub settings: Settings,
}

impl std::ops::Deref for Http {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Http {
    pub async fn start(parts: Parts) -> store::Result<Self> {
        let Parts { db, clock, metrics, heygen, addresses, fail, settings } = parts;
        let configured = settings.webhook_secrets.clone();
        let secrets = secrets::Secrets::load(db.clone(), configured, clock.now()).await?;
        Ok(Self(Arc::new(Inner {
            intake: intake::Intake::start(db.clone()),
            sampler: hook::Sampler::default(),
            streams: stream::Streams::new(settings.streams),
            outage: Outage::default(),
            secrets,
            db,
            clock,
            metrics,
            heygen,
            addresses,
            fail,
            settings,
        })))
    }

    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }

    /// Ends the answers that have no end of their own, which a stop would wait for.
    pub fn end_streams(&self) {
        self.streams.end();
    }

    fn stamp(&self) -> Stamp {
        Stamp::new(self.clock.now(), self.clock.random())
    }
}
