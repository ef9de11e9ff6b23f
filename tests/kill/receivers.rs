//! What the application and those beside it are promised: that a receiver which hangs, drips or is gone hurts
//! nobody else, that each is treated as it asks, and that a change of secret goes unnoticed.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use reelhook::clock::{Clock, Millis, Stopwatch};
use reelhook::domain::time::{HOUR, SECOND, parse_rfc3339, rfc3339};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::ground::{Engine, Ground, injections};
use crate::outcomes::percentile;
use crate::server::Server;
use crate::told::{Heard, Manner, add};

/// Endpoints beside the three that are bad, which makes as many as there may be.
const HEALTHY: usize = 97;
/// A sender gives up on a receiver after 15 s, so who waited for one to be given up waited longer.
const HELD_UP: f64 = 5.0;

/// B11: one endpoint answers after 29 s, one never, one lets its answer drip, beside 97 others.
pub async fn bad_ones_hurt_nobody(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    let held = json!({"events": ["job.held"]});
    for nth in 0..HEALTHY {
        ground.application.add(&ground.client, &format!("/{nth}"), held.clone()).await;
    }
    // Caches are warm when it is measured.
    let warm = fan_out(&ground, "warm").await;
    let alone = fan_out(&ground, "alone").await;
    let memory = resident_mb(&server);
    ground.application.answer("/slow", &[Manner::Late(29 * SECOND)]);
    ground.application.answer("/never", &[Manner::Late(HOUR)]);
    for url in [ground.application.url("/slow"), ground.application.url("/never"), dripping().await] {
        add(&ground.client, &url, held.clone()).await;
    }
    let beside = fan_out(&ground, "beside").await;
    let begun = ["/slow", "/never"].map(|path| ground.application.heard(path).len());
    let held_up = beside.lags.iter().filter(|lag| **lag > HELD_UP).count();
    let zero = [
        ("lost_notifications", warm.lost + alone.lost + beside.lost),
        ("held_up", held_up),
        ("bad_ones_not_called", begun.iter().filter(|calls| **calls == 0).count()),
    ];
    let (without, with) = (percentile(&alone.lags, 99), percentile(&beside.lags, 99));
    let figures = [
        ("endpoints", (HEALTHY + 3) as f64),
        ("deliveries", beside.lags.len() as f64),
        ("p99_s_alone", without),
        ("p99_s_beside", with),
        ("p99_ratio_goal_1.2", with / without),
        ("rss_mb_alone", memory),
        ("rss_mb_beside", resident_mb(&server)),
    ];
    ground.report("B11", injections(), &zero, &figures);
    server.kill().await;
}

/// How long after the event each healthy endpoint heard of it, in seconds, and how many never did.
struct FanOut {
    lags: Vec<f64>,
    lost: usize,
}

/// One event after another, each once all who are well have heard the one before.
async fn fan_out(ground: &Ground, name: &str) -> FanOut {
    let before = ground.application.heard("/0").len();
    let mut lost = 0;
    for nth in 1..=injections() {
        ground.submit_with(&format!("b11-{name}-{nth}"), "p", json!({"hold": true})).await;
        let paths = (0..HEALTHY).map(|at| format!("/{at}"));
        let heard =
            join_all(paths.map(async |path| ground.application.hears(&path, before + nth).await)).await;
        lost += heard.iter().filter(|heard| !**heard).count();
    }
    let of_path = |at| ground.application.heard(&format!("/{at}")).split_off(before);
    let mut lags: Vec<f64> = (0..HEALTHY).flat_map(of_path).map(|heard| lag(&heard)).collect();
    lags.sort_by(f64::total_cmp);
    FanOut { lags, lost }
}

/// How long after its event it came, in seconds.
pub fn lag(heard: &Heard) -> f64 {
    let told_of = parse_rfc3339(heard.json()["timestamp"].as_str().unwrap()).unwrap();
    (heard.at - told_of) as f64 / 1_000.0
}

/// A receiver whose answer never gets beyond its headers, a byte a second.
async fn dripping() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let clock = Clock::real();
                let _ = socket.read(&mut [0; 4_096]).await;
                let mut answer = b"HTTP/1.1 200 OK\r\nx-drip: ".to_vec();
                while socket.write_all(&answer).await.is_ok() {
                    clock.sleep_until(clock.now() + SECOND).await;
                    answer = vec![b'x'];
                }
            });
        }
    });
    url
}

/// Memory of the server's process.
pub fn resident_mb(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}

/// Ways to answer that ask for something; each round has an endpoint for each of them.
const WAYS: [&str; 7] = ["gone", "seconds", "date", "absurd", "inside", "endless", "late"];
/// So that all endpoints of some rounds fit beside the one that watches.
const ROUNDS_AT_ONCE: usize = 12;
/// Longer than the sender's own pause after a failure, so that it is the wish that counts.
const WISH: Millis = 8 * SECOND;
/// Of an endless answer 64 KiB are read. What lies in the buffers of a connection, on both sides, is taken, too.
const MOST_TAKEN: u64 = (64 << 10) + (1 << 20);

/// B12: 410 disables and tells; `Retry-After` is obeyed however it is said; no redirect is followed; of a
/// gigabyte only the beginning is read; who takes an event after 16 s has not taken it.
pub async fn etiquette_is_kept(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    ground.application.add(&ground.client, "/watch", json!({"events": ["endpoint.disabled"]})).await;
    let rounds: Vec<usize> = (0..injections().div_ceil(WAYS.len())).collect();
    let mut broken = vec![];
    for some in rounds.chunks(ROUNDS_AT_ONCE) {
        let all = some.iter().flat_map(|round| WAYS.map(|way| (*round, way)));
        broken.extend(join_all(all.map(|(round, way)| one_way(&ground, round, way))).await);
    }
    let of = |ways: &[&str]| broken.iter().filter(|(way, broken)| ways.contains(way) && *broken).count();
    let longest = ground.application.longest.load(std::sync::atomic::Ordering::Relaxed);
    let zero = [
        ("gone_and_called_again", of(&["gone"])),
        ("earlier_than_asked", of(&["seconds", "date", "absurd"])),
        ("redirects_followed", of(&["inside"]) + ground.application.heard("/inside").len()),
        ("endless_read_on", of(&["endless"]) + usize::from(longest > MOST_TAKEN)),
        ("late_taken", of(&["late"])),
    ];
    let n = rounds.len() * WAYS.len();
    ground.report("B12", n, &zero, &[("bytes_taken_of_1_gib", longest as f64)]);
    server.kill().await;
}

/// One endpoint that answers one way, and one event for it. Whether it was treated otherwise than it asks.
async fn one_way(ground: &Ground, round: usize, way: &'static str) -> (&'static str, bool) {
    let (application, client) = (&ground.application, &ground.client);
    let (path, name) = (format!("/{way}/{round}"), format!("{way}-{round}"));
    let until = Clock::real().now() + WISH;
    let asks = |value: String| {
        let header = http::header::RETRY_AFTER;
        [Manner::With(if round.is_multiple_of(2) { 429 } else { 503 }, header, value), Manner::Status(200)]
    };
    match way {
        "gone" => application.answer(&path, &[Manner::Status(410)]),
        "seconds" => application.answer(&path, &asks((WISH / SECOND).to_string())),
        "date" => application.answer(&path, &asks(http_date(until))),
        "absurd" => {
            application.answer(&path, &asks(["999999999", "9".repeat(40).as_str()][round % 2].to_owned()))
        }
        "inside" => {
            let to = application.url("/inside");
            application.answer(&path, &[Manner::With(307, http::header::LOCATION, to), Manner::Status(200)]);
        }
        "endless" => application.answer(&path, &[Manner::Endless]),
        _ => application.answer(&path, &[Manner::Late(16 * SECOND), Manner::Status(200)]),
    }
    let wishes = json!({"events": ["job.held"], "labels": {"b12": name}});
    let (endpoint, _) = application.add(client, &path, wishes).await;
    let event = async |nth: usize| {
        let body = json!({"hold": true, "labels": {"b12": name}});
        ground.submit_with(&format!("b12-{name}-{nth}"), "p", body).await
    };
    let job = event(0).await;
    let times = if matches!(way, "gone" | "absurd" | "endless") { 1 } else { 2 };
    let heard_all = application.hears(&path, times).await;
    let of_endpoint = format!("/api/endpoints/{endpoint}");
    let kept = match way {
        "gone" => {
            let is_it = |told: &Heard| told.json()["data"]["id"] == *endpoint;
            let told = application.until("/watch", |all| all.iter().any(is_it)).await;
            event(1).await;
            let shown = client.insist("GET", &of_endpoint, None, None).await;
            told && !shown["disabled_at"].is_null()
        }
        "absurd" => {
            // A day is the longest that anybody is obeyed.
            let delivery = attempted(ground, &job, 1).await;
            let next = delivery["next_attempt_at"].as_str().and_then(parse_rfc3339);
            let day = Clock::real().now() + 24 * HOUR;
            next.is_some_and(|next| (day - 60 * SECOND..=day).contains(&next))
        }
        "endless" => attempted(ground, &job, 1).await["state"] == "delivered",
        "inside" => true,
        // The first was an attempt that failed.
        "late" => attempted(ground, &job, 2).await["state"] == "delivered",
        _ => {
            let heard = application.heard(&path);
            let since = heard.first().map_or(until, |first| first.at + WISH);
            // A date has whole seconds.
            let wish = if way == "date" { until - until % SECOND } else { since };
            heard.get(1).is_some_and(|second| second.at >= wish)
        }
    };
    client.call("DELETE", &of_endpoint, None, None).await.unwrap();
    let exactly = application.heard(&path).len() == times;
    let broken = !(heard_all && kept && exactly);
    if broken {
        println!(
            "B12: {name}: all heard {heard_all}, kept {kept}, called {}",
            application.heard(&path).len()
        );
    }
    (way, broken)
}

/// The one delivery of a job, once that many attempts of it are on record.
async fn attempted(ground: &Ground, job: &str, attempts: i64) -> Value {
    loop {
        let path = format!("/api/deliveries?job_id={job}");
        let mut page = ground.client.insist("GET", &path, None, None).await;
        let delivery = page["data"][0].take();
        if delivery["attempts_made"].as_i64() >= Some(attempts) {
            return delivery;
        }
    }
}

fn http_date(at: Millis) -> String {
    let parsed: jiff::Timestamp = rfc3339(at).parse().unwrap();
    parsed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// B25, outbound: while events are under way the secret is changed again and again. Who knows only the one
/// before, and who knows only the new one, both can verify whatever comes after the change.
pub async fn rotation_loses_nothing(engine: Engine) {
    const JOBS: usize = 20;
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    let wishes = json!({"events": ["job.held"]});
    let (endpoint, first) = ground.application.add(&ground.client, "/rotated", wishes).await;
    let mut secrets = vec![first];
    let (mut jobs, mut before, rotations) = (HashMap::new(), vec![], injections());
    let watch = Stopwatch::start();
    for nth in 0..=rotations {
        let submit =
            async |job| ground.submit_with(&format!("b25-out-{nth}-{job}"), "p", json!({"hold": true})).await;
        let round = join_all((0..JOBS).map(submit)).await;
        // An endpoint has three secrets at most, so the round before must be through, and only that.
        let of_job = |all: &[Heard], id: &String| all.iter().any(|heard| heard.header("reelhook-job") == id);
        let through = |all: &[Heard]| before.iter().all(|id| of_job(all, id));
        assert!(ground.application.until("/rotated", through).await, "the round before {nth} was told");
        if nth < rotations {
            let path = format!("/api/endpoints/{endpoint}/rotate");
            let rotated = ground.client.insist("POST", &path, None, Some(&json!({}))).await;
            secrets.push(rotated["secret"].as_str().unwrap().to_owned());
        }
        jobs.extend(round.iter().map(|id| (id.clone(), nth)));
        before = round;
    }
    ground.application.hears("/rotated", jobs.len()).await;
    let took = watch.elapsed().as_secs_f64();
    let heard = ground.application.heard("/rotated");
    let round = |heard: &Heard| jobs.get(heard.header("reelhook-job")).copied();
    let told: HashSet<&str> = heard.iter().map(|heard| heard.header("reelhook-job")).collect();
    let fails = |before: usize| {
        let fails = |heard: &&Heard| {
            let secret = round(heard).and_then(|round| secrets.get(round.checked_sub(before)?));
            secret.is_some_and(|secret| !heard.is_signed_with(secret))
        };
        heard.iter().filter(fails).count()
    };
    let zero = [
        ("lost_notifications", jobs.len() - told.len()),
        ("refused_by_who_knows_the_new", fails(0)),
        ("refused_by_who_knows_the_old", fails(1)),
    ];
    let figures = [
        ("notifications", jobs.len() as f64),
        ("notifications_per_s", jobs.len() as f64 / took),
        ("dup_notifications", (heard.len() - told.len()) as f64),
    ];
    ground.report("B25 outbound", rotations, &zero, &figures);
    server.kill().await;
}
