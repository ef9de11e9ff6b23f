//! Which job is sent next, and when none is: priority, the caps of a day, the bound that nodes share
//! and that follows what HeyGen takes.

use std::time::Duration;

use reelhook::domain::time::{HOUR, MINUTE};
use reelhook::heygen::sandbox::{Fault, Options, What};
use serde_json::{Value, json};

use crate::app::{START, Setup, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    a_higher_priority_goes_first_and_then_the_oldest,
    a_priority_is_a_small_whole_number,
    a_retry_and_an_approved_job_keep_their_priority,
    jobs_beyond_the_days_cap_wait_for_midnight_and_say_so,
    what_heygen_refused_does_not_count_for_the_day,
    credits_of_a_day_are_what_the_balance_fell,
    a_balance_that_is_not_told_cannot_cap_anything,
    the_bound_shrinks_to_what_heygen_takes_and_grows_back,
    retry_after_holds_every_job_up,
    a_job_that_was_not_taken_waits_like_any_other,
    while_nothing_can_be_reached_one_tries_at_a_time,
    two_nodes_share_one_bound,
}

/// Our ids of the jobs HeyGen took, in order.
fn taken(app: &TestApp) -> Vec<String> {
    let all = app.sandbox.ledger().into_iter();
    all.filter_map(|e| match e.what {
        What::Accepted { callback_id, .. } => callback_id,
        _ => None,
    })
    .collect()
}

async fn upstream(app: &TestApp) -> Value {
    app.get("/api/upstream").await.expect(200).json()
}

async fn submit_with(app: &TestApp, extra: Value) -> String {
    let mut body = new_job("video", "queued");
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    // Each is older than the next.
    app.clock.advance(Duration::from_millis(1));
    job["id"].as_str().unwrap().to_owned()
}

async fn submit_many(app: &TestApp, n: usize) -> Vec<String> {
    let mut ids = vec![];
    for nth in 0..n {
        ids.push(app.submit("video", &format!("number {nth}")).await);
        // Each is older than the next.
        app.clock.advance(Duration::from_millis(1));
    }
    ids
}

async fn a_higher_priority_goes_first_and_then_the_oldest(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: &[("slots", "1")], ..Setup::default() }).await;
    app.register().await;
    let mut ids = vec![];
    for priority in [json!(5), json!(1), json!(9), json!(null), json!(9)] {
        ids.push(submit_with(&app, json!({"priority": priority})).await);
    }
    app.advance_s(120).await;
    assert_eq!(taken(&app), [2, 4, 0, 3, 1].map(|n: usize| ids[n].clone()));
    assert_eq!(app.job(&ids[3]).await["priority"], 5, "in the middle by default");
}

async fn a_priority_is_a_small_whole_number(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for good in [1, 9] {
        let id = submit_with(&app, json!({"priority": good, "hold": true})).await;
        assert_eq!(app.job(&id).await["priority"], good);
    }
    for bad in [json!(0), json!(10), json!(-1), json!(5.5), json!("5"), json!(true)] {
        let mut body = new_job("video", "bad");
        body["priority"] = bad;
        let problem = app.post("/api/jobs", &body).await.problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/priority");
        assert!(problem["errors"][0]["message"].as_str().unwrap().contains("1 to 9"), "{problem}");
    }
}

async fn a_retry_and_an_approved_job_keep_their_priority(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: &[("slots", "1")], ..Setup::default() }).await;
    app.register().await;
    let canceled = submit_with(&app, json!({"priority": 8, "hold": true})).await;
    app.post(&format!("/api/jobs/{canceled}/reject"), &json!({})).await.expect(200);
    let usual = submit_with(&app, json!({})).await;
    let held = submit_with(&app, json!({"priority": 7, "hold": true})).await;
    app.post(&format!("/api/jobs/{held}/approve"), &json!({})).await.expect(200);
    let retried = app.post(&format!("/api/jobs/{canceled}/retry"), &json!({})).await.expect(202).json();
    assert_eq!(retried["priority"], 8);
    app.post(retried["approve_url"].as_str().unwrap(), &json!({})).await.expect(200);
    app.advance_s(60).await;
    assert_eq!(taken(&app), [retried["id"].as_str().unwrap(), &held, &usual]);
}

async fn jobs_beyond_the_days_cap_wait_for_midnight_and_say_so(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: &[("daily-jobs", "3")], ..Setup::default() }).await;
    app.register().await;
    let ids = submit_many(&app, 8).await;
    let midnight = START + 14 * HOUR;
    let waiting = |job: &Value| (job["waiting"]["reason"].clone(), job["waiting"]["until"].clone());
    let told = (json!("daily_jobs"), json!(reelhook::domain::time::rfc3339(midnight)));
    let fresh_tag = app.get(&format!("/api/jobs/{}", ids[7])).await.header("etag").unwrap().to_owned();
    app.advance_s(60).await;
    assert_eq!(taken(&app), ids[..3]);
    assert_eq!(waiting(&app.job(&ids[7]).await), told);
    let path = format!("/api/jobs/{}", ids[7]);
    let seen = app.call("GET", &path, &[("if-none-match", &fresh_tag)], "").await.expect(200);
    let tag = seen.header("etag").unwrap().to_owned();
    app.call("GET", &path, &[("if-none-match", &tag)], "").await.expect(304);
    let state = upstream(&app).await;
    assert_eq!((&state["today"]["jobs"], &state["today"]["most_jobs"]), (&json!(3), &json!(3)));
    assert_eq!((&state["waiting"]["reason"], &state["today"]["ends_at"]), (&told.0, &told.1));
    let checks = app.get("/api/doctor").await.expect(200).json()["checks"].clone();
    let check = checks.as_array().unwrap().iter().find(|c| c["check"] == "submission").unwrap().clone();
    assert_eq!(check["status"], "warn", "{check}");
    app.restart().await;
    app.advance_s(3_600).await;
    assert_eq!(taken(&app).len(), 3, "a restart does not begin the day anew");
    let left = u64::try_from((midnight - app.now()) / 1_000 + 1).unwrap();
    app.advance_s(left - 1).await;
    assert_eq!(taken(&app).len(), 3);
    app.advance_s(1).await;
    assert_eq!(taken(&app), ids[..6]);
    assert_eq!(app.job(&ids[0]).await["waiting"], json!(null), "one that was sent waits for nothing");
    for id in &ids[6..] {
        app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    }
    app.advance_s(60).await;
}

async fn what_heygen_refused_does_not_count_for_the_day(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: &[("daily-jobs", "2")], ..Setup::default() }).await;
    app.register().await;
    for fault in [Fault::Refuse, Fault::RateBare, Fault::NoCredit] {
        app.sandbox.script_next(vec![fault]);
    }
    let ids = submit_many(&app, 3).await;
    app.advance_s(900).await;
    let states = [app.state(&ids[0]).await, app.state(&ids[1]).await, app.state(&ids[2]).await];
    assert_eq!(states, ["failed", "completed", "completed"]);
    assert_eq!(upstream(&app).await["today"]["jobs"], 2);
}

async fn credits_of_a_day_are_what_the_balance_fell(fresh: &Fresh) {
    let flags = &[("daily-credits", "4"), ("slots", "1")];
    let mut app = TestApp::with(fresh, Setup { flags, ..Setup::default() }).await;
    app.register().await;
    app.settle().await;
    let ids = submit_many(&app, 40).await;
    app.advance_s(600).await;
    let state = upstream(&app).await;
    assert_eq!(state["waiting"]["reason"], "daily_credits");
    assert_eq!(state["today"]["most_credits"], 4.0);
    let spent = state["today"]["credits"].as_f64().unwrap();
    #[allow(clippy::cast_precision_loss)]
    let sent = taken(&app).len() as f64;
    // Looked up every minute, and one slot makes a video in 4 to 9 s: what comes on top is bounded.
    assert!((4.0..=20.0).contains(&spent) && (spent..=spent + 1.0).contains(&sent), "{spent} {sent}");
    app.sandbox.set_balance(5_000.0);
    app.advance_s(600).await;
    assert_eq!(upstream(&app).await["waiting"]["reason"], "daily_credits", "a top-up is no new day");
    for id in &ids[taken(&app).len()..] {
        app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    }
}

async fn a_balance_that_is_not_told_cannot_cap_anything(fresh: &Fresh) {
    let setup = Setup { flags: &[("daily-credits", "4")], sandbox: |o| o.balance = 1e15, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    app.settle().await;
    let id = app.submit("video", "waits").await;
    app.advance_s(120).await;
    let paused = upstream(&app).await["paused"].clone();
    assert_eq!(paused["reason"], "balance_not_told");
    assert!(paused["fix"].as_str().unwrap().contains("--daily-jobs"), "{paused}");
    assert_eq!(app.state(&id).await, "queued");
    app.sandbox.set_balance(100.0);
    app.advance_s(120).await;
    assert_eq!(app.state(&id).await, "completed");
}

fn three_at_once(options: &mut Options) {
    options.concurrency = 3;
    options.render = 60_000..=60_000;
}

async fn the_bound_shrinks_to_what_heygen_takes_and_grows_back(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { sandbox: three_at_once, ..Setup::default() }).await;
    app.register().await;
    let ids = submit_many(&app, 30).await;
    app.settle().await;
    assert_eq!((taken(&app).len(), upstream(&app).await["slots"].clone()), (3, json!(3)));
    let refused = app.sandbox.tally().refused;
    assert!(refused <= 1, "what was claimed with the first refused one is not sent: {refused}");
    app.advance_s(900).await;
    let refused = app.sandbox.tally().refused;
    assert!(refused <= 20, "about one a minute finds out whether there is more: {refused}");
    assert!(upstream(&app).await["slots"].as_i64().unwrap() <= 4);
    for id in ids {
        assert_eq!(app.state(&id).await, "completed");
    }
}

async fn retry_after_holds_every_job_up(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Rate]);
    let ids = submit_many(&app, 4).await;
    app.settle().await;
    assert_eq!(taken(&app), [""; 0]);
    let job = app.job(&ids[3]).await;
    assert_eq!(job["waiting"]["reason"], "held_by_heygen");
    assert_eq!(job["waiting"]["until"], reelhook::domain::time::rfc3339(app.now() + 2_000));
    app.advance_s(2).await;
    assert_eq!(taken(&app)[0], ids[0], "the oldest goes first again");
    app.advance_s(60).await;
    assert_eq!(taken(&app).len(), 4);
}

async fn lane_of(app: &TestApp, id: &str) -> i64 {
    let sql = format!("SELECT lane FROM task WHERE subject = '{id}' AND kind = 'submit'");
    app.db().read(move |tx| tx.one(&sql, &[])?.map_or(Ok(-1), |mut row| row.int(0))).await.expect("the lane")
}

async fn a_job_that_was_not_taken_waits_like_any_other(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for fault in [Fault::Rate, Fault::RateBare, Fault::NoCredit] {
        app.sandbox.script_next(vec![fault]);
        let id = app.submit("video", fault.word()).await;
        app.work().await;
        assert_eq!((app.state(&id).await, lane_of(&app, &id).await), ("queued".to_owned(), 1), "{fault}");
        app.post("/api/upstream/pause", &json!({})).await.expect(200);
        app.advance_s(600).await;
        assert_eq!(app.state(&id).await, "queued", "{fault}: a pause is for this one, too");
        app.post("/api/upstream/resume", &json!({})).await.expect(200);
        app.advance_s(60).await;
        assert_eq!(app.state(&id).await, "completed", "{fault}");
    }
    // One whose outcome is open does not wait: it holds its slot already.
    app.sandbox.script_next(vec![Fault::Error500]);
    let id = app.submit("video", "open").await;
    app.work().await;
    assert_eq!((app.state(&id).await, lane_of(&app, &id).await), ("unknown".to_owned(), 2));
    app.advance_s(60).await;
}

async fn while_nothing_can_be_reached_one_tries_at_a_time(fresh: &Fresh) {
    let setup = Setup { flags: &[("heygen-url", "http://127.0.0.1:9")], ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let ids = submit_many(&app, 50).await;
    app.advance_s(600).await;
    let tries = app.metric("reelhook_upstream_calls_total{call=\"create\",outcome=\"fault\"}").await;
    assert!((1.0..=3.0).contains(&tries), "then it is known: {tries}");
    let looks = app.metric("reelhook_upstream_calls_total{call=\"me\",outcome=\"fault\"}").await;
    assert!((50.0..=60.0).contains(&looks), "one every ten seconds: {looks}");
    assert_eq!(app.state(&ids[0]).await, "queued");
    app.leave_it();
}

async fn two_nodes_share_one_bound(fresh: &Fresh) {
    if fresh.is_sqlite() {
        // A file has one owner.
        return;
    }
    let mut app = TestApp::with(fresh, Setup { flags: &[("daily-jobs", "35")], ..Setup::default() }).await;
    app.register().await;
    let other = app.second_app().await;
    let ids = submit_many(&app, 40).await;
    app.work_of(&other).await.expect("no panic").expect("the second node works");
    assert_eq!(taken(&app), ids[..10], "the second node fills the slots");
    app.work().await;
    assert_eq!(taken(&app).len(), 10, "and the first finds none");
    for _ in 0..MINUTE / 1_000 {
        let beside = app.work_of(&other);
        app.settle().await;
        beside.await.expect("no panic").expect("the second node works");
        let used = upstream(&app).await["slots_in_use"].as_i64().unwrap();
        assert!(used <= 10, "{used} slots in use");
        app.advance_s(1).await;
    }
    assert_eq!(app.sandbox.tally().refused, 0, "HeyGen never had to refuse an eleventh");
    assert_eq!(taken(&app).len(), 35, "they share the cap of the day, too");
    for id in ids.iter().filter(|id| !taken(&app).contains(id)) {
        app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    }
}
