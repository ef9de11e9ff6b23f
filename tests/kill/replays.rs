//! Dead letters that are replayed beside live traffic, by somebody who presses twice, on a server that is killed
//! meanwhile, and stopped and begun again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::join;
use serde_json::{Value, json};

use crate::ground::{Engine, Ground, injections};
use crate::outcomes::percentile;
use crate::receivers::lag;
use crate::told::Manner;

/// Dead letters for each injection.
const LETTERS: usize = 400;
const PATH: &str = "/letters";
/// Live events that are measured before there is a replay beside them.
const LIVE: usize = 300;
/// Letters a second, of both who press together: slow enough that kill and stop come in the middle.
const RATE: usize = 250;

/// B14: nothing is told twice otherwise than it was, nothing stays dead that was pressed for, a kill does not end
/// a replay, and a stop does.
pub async fn replays_are_safe(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let mut server = ground.serve().await;
    let letters = injections() * LETTERS;
    let jobs = give_up(&ground, letters).await;
    ground.application.answer(PATH, &[Manner::Status(200)]);
    let live = json!({"events": ["job.held"], "labels": {"b14": "live"}});
    ground.application.add(&ground.client, "/live", live).await;
    let alone = live_lags(&ground, "alone", LIVE, &AtomicBool::new(false)).await;

    let both = join(press(&ground, RATE / 2), press(&ground, RATE / 2)).await;
    ground.application.hears(PATH, letters + letters / 4).await;
    server.kill().await;
    server = ground.serve().await;
    let resumed = ground.application.hears(PATH, letters + letters / 2).await;
    let (mut went_on, mut stopped) = (0, vec![]);
    for id in [both.0, both.1] {
        let path = format!("/api/replays/{id}/stop");
        // One may be done already.
        ground.client.call("POST", &path, None, None).await.unwrap();
        stopped.push((id.clone(), replay(&ground, &id, 0).await["done"].clone()));
    }
    live_lags(&ground, "stopped", LIVE, &AtomicBool::new(false)).await;
    for (id, done) in stopped {
        went_on += usize::from(replay(&ground, &id, 0).await["done"] != done);
    }
    let left = dead(&ground).await;
    assert!(left > 0, "the stop came in the middle");

    let over = AtomicBool::new(false);
    let rest = async {
        let id = press(&ground, RATE).await;
        while replay(&ground, &id, 60).await["state"] == "running" {}
        over.store(true, Ordering::Relaxed);
    };
    let ((), beside) = join(rest, live_lags(&ground, "beside", usize::MAX, &over)).await;
    let told = |heard: &[crate::told::Heard]| {
        let told: HashSet<&str> = heard[letters..].iter().map(|one| one.header("reelhook-job")).collect();
        told.len() >= letters
    };
    ground.application.until(PATH, |heard| heard.len() >= 2 * letters && told(heard)).await;
    let heard = ground.application.heard(PATH);
    let mut bodies: HashMap<&str, HashSet<&Bytes>> = HashMap::new();
    for one in &heard {
        bodies.entry(one.header("reelhook-job")).or_default().insert(&one.body);
    }
    let after: HashSet<&str> = heard[letters..].iter().map(|one| one.header("reelhook-job")).collect();
    let zero = [
        ("lost_notifications", jobs.iter().filter(|id| !after.contains(id.as_str())).count()),
        ("dup_effects", bodies.values().map(|bodies| bodies.len() - 1).sum()),
        ("letters_left", dead(&ground).await),
        ("not_resumed", usize::from(!resumed)),
        ("went_on_after_stop", went_on),
    ];
    let (without, with) = (percentile(&alone, 99), percentile(&beside, 99));
    let figures = [
        ("letters_after_stop", left as f64),
        ("dup_notifications", (heard.len() - letters - after.len()) as f64),
        ("live_p99_s_alone", without),
        ("live_p99_s_beside", with),
        ("p99_ratio_goal_1.5", with / without),
        ("live_events_beside", beside.len() as f64),
    ];
    ground.report("B14", letters, &zero, &figures);
    server.kill().await;
}

/// So many deliveries that are given up at once. Their jobs.
async fn give_up(ground: &Ground, letters: usize) -> Vec<String> {
    const MOST: usize = 10_000;
    ground.application.answer(PATH, &[Manner::Status(413)]);
    let wishes = json!({"events": ["job.held"], "labels": {"b14": "letters"}});
    ground.application.add(&ground.client, PATH, wishes).await;
    for begin in (0..letters).step_by(MOST) {
        let rows: Vec<Value> =
            (begin..letters.min(begin + MOST)).map(|nth| json!({"nth": nth.to_string()})).collect();
        let request = json!({"prompt": "{{nth}}"});
        let template =
            json!({"kind": "video_agent", "request": request, "hold": true, "labels": {"b14": "letters"}});
        let group = json!({"template": template, "rows": rows});
        let key = format!("b14-{begin}");
        ground.client.insist("POST", "/api/groups", Some(&key), Some(&group)).await;
    }
    ground.application.hears(PATH, letters).await;
    while dead(ground).await < letters {}
    let heard = ground.application.heard(PATH);
    heard.iter().map(|one| one.header("reelhook-job").to_owned()).collect()
}

/// How many dead letters there are.
async fn dead(ground: &Ground) -> usize {
    let would = json!({"all": true});
    let found =
        ground.client.insist("POST", "/api/dead-letters/replay?dry_run=true", None, Some(&would)).await;
    usize::try_from(found["count"].as_u64().unwrap()).unwrap()
}

/// Begins a replay of all there is. Its id.
async fn press(ground: &Ground, rate: usize) -> String {
    let wish = json!({"all": true, "rate": rate});
    let made = ground.client.insist("POST", "/api/dead-letters/replay", None, Some(&wish)).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn replay(ground: &Ground, id: &str, wait: usize) -> Value {
    ground.client.insist("GET", &format!("/api/replays/{id}?wait={wait}"), None, None).await
}

/// How long after its event each live notification came, in seconds, one after the other: at most so many,
/// until it is over.
async fn live_lags(ground: &Ground, name: &str, most: usize, over: &AtomicBool) -> Vec<f64> {
    let before = ground.application.heard("/live").len();
    let mut sent = 0;
    while sent < most && !over.load(Ordering::Relaxed) {
        sent += 1;
        let body = json!({"hold": true, "labels": {"b14": "live"}});
        ground.submit_with(&format!("b14-{name}-{sent}"), "p", body).await;
        assert!(ground.application.hears("/live", before + sent).await, "live traffic goes on");
    }
    let mut lags: Vec<f64> = ground.application.heard("/live")[before..].iter().map(lag).collect();
    lags.sort_by(f64::total_cmp);
    lags
}
