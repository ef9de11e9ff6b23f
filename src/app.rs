//! The handful of long-lived things of a server, started and stopped in order: store, clients,
//! HTTP, runner. Two apps can live in one process; nothing is process-wide.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::address::Addresses;
use crate::domain::ids;
use crate::domain::outage::Outage;
use crate::domain::pause::Reason;
use crate::domain::signature;
use crate::domain::step::Input;
use crate::domain::time::SECOND;
use crate::fail::FailPoints;
use crate::flow;
use crate::heygen::client::Heygen;
use crate::http::{self, Http, Parts, Settings};
use crate::metrics::Metrics;
use crate::net::Client;
use crate::store::{self, Db, Tx, api_key, inbox, setting, task, upstream_limit};
use crate::work::{self, Budget, Runner, Work};

#[derive(Clone)]
pub struct App {
    pub db: Db,
    pub clock: Clock,
    pub http: Http,
    pub runner: Runner,
    drain: Duration,
    /// The first API key, made now and to be shown once.
    pub first_key: Option<String>,
}

impl App {
    /// Opens the store and prepares everything; nothing runs yet.
    pub async fn prepare(config: &Config, clock: Clock) -> store::Result<Self> {
        let fail = match &config.fail_point {
            Some(text) => FailPoints::parse(text).map_err(store::Error::Bug)?,
            None => FailPoints::default(),
        };
        Self::prepare_with(config, clock, fail).await
    }

    /// The same with fail points of a test.
    pub async fn prepare_with(config: &Config, clock: Clock, fail: FailPoints) -> store::Result<Self> {
        let (address, begun) = (config.database.clone(), clock.now());
        // Opening blocks on the disk or the network.
        let opened = tokio::task::spawn_blocking(move || Db::open(&address, begun)).await;
        let db = opened.map_err(|e| store::Error::Bug(e.to_string()))??;
        work::time::start(&clock, &db).await?;
        let now = clock.now();
        let address_key = hex::encode(clock.random::<32>());
        let settled = config.clone();
        // What a killed server was running is ours at once, unless others may be running it.
        let alone = db.started_alone();
        let address_key = db
            .write(move |tx| {
                if alone {
                    work::time::resume(tx, now)?;
                    task::void_leases(tx)?;
                }
                flow::doubt_keys(tx, &Input::SetBack(None), now)?;
                configure(tx, &settled, now)?;
                work::upkeep::ensure(tx, now)?;
                setting::get_or_put(tx, setting::ADDRESS_KEY, &address_key)
            })
            .await?;
        reconsider_strangers(config, &db, now).await?;
        let first_key = first_key(config, &db, &clock).await?;
        let (proxies, key) = (config.proxies.clone(), config.heygen_api_key.clone());
        let account = format!("{} {}", config.heygen_url, key.as_deref().unwrap_or_default());
        let mut account = signature::sign(&address_key, account.as_bytes());
        // Enough to tell a few apart; every job has it.
        account.truncate(16);
        let heygen = Heygen::new(&config.heygen_url, key, proxies.clone(), clock.clone());
        let metrics = Metrics::new();
        let addresses = Addresses::new(config.hooks_url(), &address_key);
        let work = Work::new(work::Inner {
            db: db.clone(),
            clock: clock.clone(),
            heygen: heygen.clone(),
            account,
            receivers: Client::guarded(clock.clone(), config.guard.clone(), proxies),
            webhook_secrets: config.heygen_webhook_secrets.clone(),
            metrics: metrics.clone(),
            addresses: addresses.clone(),
            outage: Outage::default(),
            unrepeatable: tokio::sync::Mutex::default(),
            adoption: config.adopt_strangers.then(|| settings(config).terms()),
            budget: Budget::new(usize::try_from(config.poll_budget).unwrap_or(1)),
            fail: fail.clone(),
        });
        let http = Http::start(Parts {
            db: db.clone(),
            clock: clock.clone(),
            metrics,
            heygen,
            addresses,
            fail,
            settings: settings(config),
        })
        .await?;
        let drain = Duration::from_secs(config.drain_s.unsigned_abs());
        Ok(Self { db, clock, http, runner: Runner::new(work), drain, first_key })
    }

    pub fn router(&self) -> Router {
        self.http.router()
    }

    /// Serves until told to stop, then stops taking requests, lets work in progress end, and returns.
    pub async fn serve(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let runner = self.runner.clone();
        let (running, drain) = (stop.clone(), self.drain);
        let runner = tokio::spawn(async move { runner.run(running, drain).await });
        let told = |mut stop: watch::Receiver<bool>| async move {
            // An error means that whoever could tell us is gone, which is the same.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        let (stopping, http) = (told(stop.clone()), self.http.clone());
        let last_call = async move {
            stopping.await;
            http.end_streams();
        };
        let serving = http::serve(listener, self.router(), &self.clock, last_call);
        let overdue = async {
            told(stop).await;
            self.clock.sleep(drain).await;
        };
        tokio::select! {
            () = serving => {}
            () = work::time::keep(&self.clock, &self.db) => {}
            // A request that never ends does not hold up the stop for ever.
            () = overdue => {}
        }
        let _ = runner.await;
    }
}

/// Receipts that were parked while strangers were not adopted are understood anew once they are.
async fn reconsider_strangers(config: &Config, db: &Db, now: i64) -> store::Result<()> {
    const AT_ONCE: i64 = 500;
    let adopts = config.adopt_strangers;
    let before = db.read(|tx| setting::find(tx, setting::ADOPTS)).await?;
    if adopts && before.as_deref() != Some("true") {
        while db.write(move |tx| inbox::release_any(tx, AT_ONCE, now)).await? > 0 {}
    }
    // Last: what a crash left over is done by the next start.
    db.write(move |tx| setting::put(tx, setting::ADOPTS, if adopts { "true" } else { "false" })).await
}

/// Takes the settings over. Without a key nothing can be sent.
fn configure(tx: &mut Tx, config: &Config, now: i64) -> store::Result<()> {
    let mut limit = upstream_limit::lock(tx)?;
    let milli = |credits: Option<i64>| credits.map(|credits| credits * 1_000);
    let (daily, least) = (milli(config.daily_credits), milli(config.least_credits));
    limit.configure(config.slots, config.daily_jobs, daily, least);
    let keyless = limit.pause.as_ref().is_some_and(|pause| pause.reason == Reason::NoHeygenKey);
    match &config.heygen_api_key {
        None => limit.block(Reason::NoHeygenKey, now),
        Some(_) if keyless => {
            limit.resume(now);
        }
        Some(_) => {}
    }
    upstream_limit::put(tx, &limit)
}

/// The first API key: when asked for, or when a server that others reach has none.
async fn first_key(config: &Config, db: &Db, clock: &Clock) -> store::Result<Option<String>> {
    let now = clock.now();
    let wanted = config.bootstrap || config.is_exposed();
    if !wanted || db.read(move |tx| api_key::any_live(tx, now)).await? {
        return Ok(None);
    }
    let (text, hash) = http::new_key(clock.random());
    let key = api_key::ApiKey {
        id: ids::new(ids::API_KEY, now, clock.random()),
        name: "first".to_owned(),
        hint: text[text.len() - 4..].to_owned(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    db.write(move |tx| api_key::insert(tx, &key, &hash)).await?;
    Ok(Some(text))
}

fn settings(config: &Config) -> Settings {
    Settings {
        hooks_url: config.hooks_url(),
        exposed: config.is_exposed(),
        accept_unsigned: config.accept_unsigned,
        trusted_proxies: config.trusted_proxies.clone(),
        webhook_secrets: config.heygen_webhook_secrets.clone(),
        deadline: config.deadline_s * SECOND,
        first_poll: config.first_poll_s.map(|s| s * SECOND),
        poll_pause: config.poll_pause_s * SECOND,
        guard: config.guard.clone(),
        proxies: config.proxies.clone(),
        streams: usize::try_from(config.streams).unwrap_or(1),
    }
}
