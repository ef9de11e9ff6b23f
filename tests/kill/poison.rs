//! What can never be delivered, and what was made to break a reader, beside what goes well: given up once and
//! after the tries that were set, and slowing nobody down.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;
use reelhook::clock::Stopwatch;
use reelhook::domain::signature::sign;
use reelhook::domain::time::HOUR;
use serde_json::json;

use crate::door::poison;
use crate::ground::{Engine, Ground, PATIENCE, SECRET, injections, is_long};
use crate::outcomes::percentile;
use crate::told::Manner;

/// Seconds between the tries of a delivery, so it has one more try than that.
const WAITS: [i64; 2] = [1, 1];
const TRIES: usize = WAITS.len() + 1;
/// Each of these takes three timeouts of 15 s.
const UNANSWERED: usize = 2;
/// Jobs of one round, by so many callers.
const JOBS: usize = 60;
const CALLERS: usize = 4;

/// B13: what a receiver never takes ends as one dead letter, after the tries its endpoint was given; those who
/// are well hear all the same.
pub async fn is_given_up_once(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    ground.application.add(&ground.client, "/well", json!({"events": ["job.held"]})).await;
    let mut bad = vec![("/fails", Manner::Status(500), injections())];
    // It takes a minute.
    if is_long() {
        bad.push(("/silent", Manner::Late(HOUR), UNANSWERED));
    }
    let mut endpoints = vec![];
    for (path, manner, count) in &bad {
        ground.application.answer(path, std::slice::from_ref(manner));
        let wishes = json!({"events": ["job.held"], "labels": {"b13": path}, "retry_after_s": WAITS});
        endpoints.push(ground.application.add(&ground.client, path, wishes).await.0);
        for nth in 0..*count {
            let body = json!({"hold": true, "labels": {"b13": path}});
            ground.submit_with(&format!("b13-{path}-{nth}"), "p", body).await;
        }
    }
    let sent: usize = bad.iter().map(|(.., count)| count).sum();
    let (mut wrong_tries, mut not_once) = (0, 0);
    for ((path, _, count), endpoint) in bad.iter().zip(&endpoints) {
        let letters = given_up(&ground, endpoint, *count).await;
        let (heard, jobs) = (ground.application.heard(path), letters.len());
        let mut tries: HashMap<&str, usize> = HashMap::new();
        for one in &heard {
            *tries.entry(one.header("reelhook-job")).or_default() += 1;
        }
        wrong_tries += tries.values().filter(|tries| **tries != TRIES).count() + count.abs_diff(tries.len());
        not_once += letters.values().filter(|times| **times != 1).count() + count.abs_diff(jobs);
    }
    // What comes after them is told like what came before.
    ground.submit_with("b13-after", "p", json!({"hold": true})).await;
    let well = ground.application.hears("/well", sent + 1).await;
    let zero = [
        ("not_one_dead_letter", not_once),
        ("other_than_the_tries_set", wrong_tries),
        ("others_not_told", usize::from(!well)),
        ("panics", ground.client.metric("reelhook_task_panics_total").await as usize),
    ];
    let figures = [("tries_set", TRIES as f64), ("of_these_never_answered", (sent - injections()) as f64)];
    ground.report("B13 given up", sent, &zero, &figures);
    server.kill().await;
}

/// The dead letters of an endpoint by job, when there are so many, or as they are after `PATIENCE`.
async fn given_up(ground: &Ground, endpoint: &str, count: usize) -> HashMap<String, usize> {
    let watch = Stopwatch::start();
    loop {
        let (mut letters, mut cursor) = (HashMap::new(), Some(String::new()));
        while let Some(from) = cursor {
            let path = format!("/api/dead-letters?limit=200&endpoint_id={endpoint}{from}");
            let page = ground.client.insist("GET", &path, None, None).await;
            for letter in page["data"].as_array().unwrap() {
                *letters.entry(letter["job_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
        }
        if letters.len() >= count || watch.elapsed() > PATIENCE {
            return letters;
        }
    }
}

/// B13: jobs go through as fast beside poison at the door and a second receiver that fails as with one that is
/// well, measured in turns.
pub async fn slows_nobody(engine: Engine) {
    let ground = Ground::new(engine, |options| options.render = 100..=100).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    ground.application.register(&ground.client).await;
    ground.application.answer("/fails", &[Manner::Status(500)]);
    for (path, name) in [("/well", "alone"), ("/fails", "beside")] {
        let wishes = json!({"events": ["job.*"], "labels": {"b13": name}, "retry_after_s": WAITS});
        ground.application.add(&ground.client, path, wishes).await;
    }
    let mut jobs = round(&ground, "warm", 0).await.1;
    let (mut alone, mut beside, mut sent) = (vec![], vec![], 0);
    for nth in 1..=if is_long() { 20 } else { 2 } {
        let bodies = signed_poison(nth);
        sent += bodies.len();
        let without = round(&ground, "alone", nth).await;
        let client = ground.client.clone();
        let poisoning = tokio::spawn(async move {
            for (body, signature) in bodies {
                // Refused, cut off or taken: the other row counts that.
                let _ = client.raw("POST", "/webhooks/heygen", Some(("signature", &signature)), body).await;
            }
        });
        let with = round(&ground, "beside", nth).await;
        poisoning.await.unwrap();
        alone.push(without.0);
        beside.push(with.0);
        jobs.extend(without.1);
        jobs.extend(with.1);
    }
    let told = ground.application.compare(&jobs).await;
    let zero = [
        ("lost_notifications", told.lost),
        ("dup_effects", told.different),
        ("panics", ground.client.metric("reelhook_task_panics_total").await as usize),
    ];
    for rates in [&mut alone, &mut beside] {
        rates.sort_by(f64::total_cmp);
    }
    let (without, with) = (percentile(&alone, 50), percentile(&beside, 50));
    let figures = [
        ("jobs", jobs.len() as f64),
        ("jobs_per_s_alone", without),
        ("jobs_per_s_beside", with),
        ("throughput_ratio_goal_0.95", with / without),
    ];
    ground.report("B13 beside", sent, &zero, &figures);
    server.kill().await;
}

/// Jobs a second, from the first submit until the end of each was told; and the jobs.
async fn round(ground: &Ground, name: &'static str, nth: usize) -> (f64, Vec<String>) {
    let watch = Stopwatch::start();
    let caller = async |caller: usize| {
        let mut jobs = vec![];
        for job in 0..JOBS / CALLERS {
            let body = json!({"labels": {"b13": name}});
            jobs.push(ground.submit_with(&format!("b13-{name}-{nth}-{caller}-{job}"), "p", body).await);
        }
        jobs
    };
    let jobs = join_all((0..CALLERS).map(caller)).await.concat();
    ground.application.compare(&jobs).await;
    (jobs.len() as f64 / watch.elapsed().as_secs_f64(), jobs)
}

/// Made different each time, or it would be known already.
fn signed_poison(nth: usize) -> Vec<(Bytes, String)> {
    let bodies = poison().into_iter().map(|body| Bytes::from([body, vec![b' '; nth]].concat()));
    bodies.map(|body| (body.clone(), sign(SECRET, &body))).collect()
}
