//! A HeyGen that cannot even be called: its name leads nowhere, or what answers there speaks no TLS. Nothing is
//! sent, so jobs wait and say why, it is looked at now and then, and all of them end when it can be called again.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reelhook::clock::Stopwatch;
use reelhook::domain::limit::LOOK_WHILE_DOWN;
use reelhook::heygen::sandbox::Tally;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::disk::mounting;
use crate::ground::{Engine, Ground, injections, is_long};
use crate::outcomes::{ends, submit_many};
use crate::server::Setup;

/// HeyGen's name, for as long as the test has it lead anywhere.
const NAME: &str = "heygen.reelhook.invalid";
const HOME: &str = "127.0.0.1";

/// B10: HeyGen's name cannot be looked up, and later it can. Where the test cannot change names, the server is
/// started anew with an address that is right.
pub async fn a_lost_name_is_ridden_out(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let place = tempfile::tempdir().unwrap();
    let hosts = place.path().join("hosts");
    fs::write(&hosts, "").unwrap();
    registered(&ground).await;
    let setup = ground.setup();
    let named = Setup { upstream: setup.upstream.replace(HOME, NAME), ..setup };
    let seen =
        mounting(&format!("mount --bind '{}' /etc/hosts", hosts.display()), &hosts, &named.program).await;
    let program = seen.clone().unwrap_or(named.program.clone());
    let mut server = ground.serve_as(Setup { program, ..named }, &[]).await;
    // Nobody outside sees a name that is not found, so the server's own count has to do.
    let calls = async || ground.client.metric("reelhook_upstream_calls_total").await as usize;
    let down = Down::watch(&ground, "b10-name", "failed to lookup", calls).await;
    let watch = Stopwatch::start();
    match seen {
        Some(_) => fs::write(&hosts, format!("{HOME} {NAME}\n")).unwrap(),
        None => {
            server.kill().await;
            server = ground.serve().await;
        }
    }
    down.report(&ground, "B10 name", &watch, ("without_a_restart", seen.is_some())).await;
    server.kill().await;
}

/// B10: who answers at HeyGen's address speaks no TLS. The address is put right with a restart.
pub async fn broken_tls_is_ridden_out(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    registered(&ground).await;
    let listener = TcpListener::bind((HOME, 0)).await.unwrap();
    let upstream = format!("https://{}", listener.local_addr().unwrap());
    let called = Arc::new(AtomicUsize::new(0));
    let count = called.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let server = ground.serve_as(Setup { upstream, ..ground.setup() }, &[]).await;
    let down =
        Down::watch(&ground, "b10-tls", "no TLS connection", async || called.load(Ordering::SeqCst)).await;
    server.kill().await;
    let watch = Stopwatch::start();
    let server = ground.serve().await;
    down.report(&ground, "B10 TLS", &watch, ("without_a_restart", false)).await;
    server.kill().await;
}

/// HeyGen knows where to tell of the ends.
async fn registered(ground: &Ground) {
    let server = ground.serve().await;
    server.register(&ground.client).await;
    server.terminate().await;
}

/// What was seen while HeyGen could not be called.
struct Down {
    jobs: Vec<String>,
    /// Not waiting, or for another reason, or with a note that does not name the trouble.
    without_reason: usize,
    /// Of which it is said that HeyGen may have them.
    maybe_sent: usize,
    looks: usize,
    too_often: usize,
}

impl Down {
    /// `calls` says how often HeyGen was called, or was to be.
    async fn watch(ground: &Ground, name: &str, why: &str, calls: impl AsyncFn() -> usize) -> Self {
        let jobs = submit_many(ground, name, injections(), "p").await;
        // None of them ends, so this is how time goes by.
        let wait = async |s: usize| {
            ground.client.insist("GET", &format!("/api/jobs/{}?wait={s}", jobs[0]), None, None).await
        };
        while ground.client.insist("GET", "/api/upstream", None, None).await["waiting"]["reason"]
            != "heygen_down"
        {
            wait(1).await;
        }
        // What was under way when it became known is over by then.
        wait(1).await;
        let (before, watch) = (calls().await, Stopwatch::start());
        wait(if is_long() { 45 } else { 11 }).await;
        let looks = calls().await - before;
        let granted = watch.elapsed().as_millis() as usize / usize::try_from(LOOK_WHILE_DOWN).unwrap() + 1;
        let (mut without_reason, mut maybe_sent) = (0, 0);
        for id in &jobs {
            let job = ground.client.insist("GET", &format!("/api/jobs/{id}"), None, None).await;
            let is_told = job["state"] == "queued" && job["waiting"]["reason"] == "heygen_down";
            // Those that were not tried yet have none.
            let says = job["note"].as_str().is_none_or(|note| note.contains(why));
            without_reason += usize::from(!(is_told && says));
            maybe_sent +=
                usize::from(job["charge"]["state"] != "none" || job["charge"]["calls"] != json!([]));
        }
        Self { jobs, without_reason, maybe_sent, looks, too_often: looks.saturating_sub(granted) }
    }

    /// Waits for all ends; `back` began when HeyGen could be called again.
    async fn report(&self, ground: &Ground, row: &str, back: &Stopwatch, how: (&'static str, bool)) {
        let (stuck, _) = ends(ground, &self.jobs).await;
        let recovery = back.elapsed().as_secs_f64();
        let tally = Tally::of(&ground.ledger());
        let zero = [
            ("stuck", stuck),
            ("lost_jobs", self.jobs.iter().filter(|id| !tally.charges.contains_key(*id)).count()),
            ("paid_twice", tally.paid_twice),
            ("without_reason", self.without_reason),
            ("maybe_sent", self.maybe_sent),
            ("calls_beyond_one_in_10_s", self.too_often),
            ("not_recovered_within_60_s", usize::from(recovery > 60.0)),
        ];
        let figures = [
            ("looks_while_down", self.looks as f64),
            ("recovery_s", recovery),
            (how.0, f64::from(u8::from(how.1))),
        ];
        ground.report(row, self.jobs.len(), &zero, &figures);
    }
}
