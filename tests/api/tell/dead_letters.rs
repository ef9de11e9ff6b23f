//! What was given up: listed by cause, replayed with a rate, stopped, dropped, told of, forgotten.

use std::time::Duration;

use reelhook::domain::dead_letter::KEPT_FOR;
use reelhook::domain::time::SECOND;
use reelhook::store::Tx;
use serde_json::{Value, json};

use super::receiver::{Receiver, Script, add};
use super::{app, deliveries};
use crate::app::{TestApp, cases, texts};
use crate::database::Fresh;

cases! {
    what_was_given_up_is_listed_by_cause_and_replayed,
    all_that_waits_for_an_endpoint_is_made_due_together,
    a_replay_keeps_its_rate_over_a_restart_and_can_be_stopped,
    two_nodes_and_two_replays_send_nothing_twice,
    what_is_not_wanted_any_more_is_dropped_with_a_reason,
    what_is_wrong_with_a_replay_is_named,
    a_delivery_that_was_taken_is_sent_again,
    giving_up_is_told_once_an_hour_and_never_of_itself,
    guide_003_a_receipt_that_cannot_be_applied_is_tried_again_then_kept_for_review,
    what_ended_is_forgotten_after_a_month,
    two_changes_of_one_endpoint_are_judged_together,
}

/// So many deliveries that were given up at once, because the receiver refuses them.
async fn refused(fresh: &Fresh, count: usize) -> (TestApp, Receiver, String) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.always("/hook", Script::With(401, "webhook-delivery", "abort-message".to_owned()));
    let (endpoint, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    for _ in 0..count {
        app.submit("video", "one").await;
    }
    app.settle().await;
    app.leave_it();
    (app, receiver, endpoint)
}

fn cause(receiver: &Receiver) -> String {
    format!("answers_401:{}", receiver.base.strip_prefix("http://").unwrap())
}

async fn list(app: &TestApp, path: &str) -> Vec<Value> {
    app.get(path).await.expect(200).json()["data"].as_array().expect("a list").clone()
}

async fn what_was_given_up_is_listed_by_cause_and_replayed(fresh: &Fresh) {
    let (mut app, receiver, endpoint) = refused(fresh, 3).await;
    let causes = list(&app, "/api/dead-letters/causes").await;
    assert_eq!(causes.len(), 1);
    assert_eq!((&causes[0]["cause"], &causes[0]["count"]), (&json!(cause(&receiver)), &json!(3)));
    assert!(causes[0]["title"].as_str().unwrap().ends_with(" answers 401"), "{causes:?}");
    assert!(causes[0]["fix"].as_str().unwrap().contains("signing secret"));
    let page = app.get("/api/dead-letters?limit=2").await.expect(200).json();
    let more = format!("/api/dead-letters?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    let all = [texts(&page["data"], "id"), texts(&json!(list(&app, &more).await), "id")].concat();
    assert_eq!((all.len(), page["has_more"] == true), (3, true));
    let one = app.get(&format!("/api/dead-letters/{}", all[0])).await.expect(200).json();
    assert_eq!((&one["task"], &one["reason"]), (&json!("deliver"), &json!("answered 401")));
    assert_eq!((&one["endpoint_id"], &one["event_type"]), (&json!(endpoint), &json!("job.queued")));
    app.get(one["about_url"].as_str().unwrap()).await.expect(200);
    for (query, count) in [
        (format!("endpoint_id={endpoint}"), 3),
        (format!("job_id={}", one["job_id"].as_str().unwrap()), 1),
        (format!("cause={}", cause(&receiver)), 3),
        ("task=apply".to_owned(), 0),
        ("since=2026-11-22T00:00:00Z".to_owned(), 0),
        ("until=2026-11-22T00:00:00Z".to_owned(), 3),
        ("until=2026-11-20T00:00:00Z".to_owned(), 0),
    ] {
        assert_eq!(list(&app, &format!("/api/dead-letters?{query}")).await.len(), count, "{query}");
    }
    let line = "reelhook_dead_letters{task=\"deliver\",reason=\"answers\"}";
    assert!((app.metric(line).await - 3.0).abs() < 0.1);
    let doctor = app.get("/api/doctor").await.expect(200).text();
    assert!(doctor.contains("3 given up") && doctor.contains("answers 401"), "{doctor}");

    receiver.always("/hook", Script::Status(200));
    let which = json!({"cause": cause(&receiver)});
    let dry = app.post("/api/dead-letters/replay?dry_run=true", &which).await.expect(200).json();
    assert_eq!((&dry["count"], &dry["causes"]), (&json!(3), &json!(causes)));
    app.advance_s(60).await;
    assert_eq!(receiver.heard("/hook").len(), 3, "a dry run does nothing");
    let made = app.post("/api/dead-letters/replay", &which).await.expect(202);
    let (path, made) = (made.header("location").unwrap().to_owned(), made.json());
    assert_eq!((&made["count"], &made["done"], &made["state"]), (&json!(3), &json!(0), &json!("running")));
    app.advance_s(1).await;
    let done = app.get(&path).await.expect(200).json();
    assert_eq!(
        (&done["done"], &done["state"], &done["by"]),
        (&json!(3), &json!("finished"), &json!("local"))
    );
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 3);
    let heard = receiver.heard("/hook");
    let mut ids: Vec<(&str, &[u8])> = heard.iter().map(|h| (h.header("webhook-id"), &*h.body)).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((heard.len(), ids.len()), (6, 3), "each twice, with its id and its bytes");
    assert!(app.metric(line).await < 0.1);
    app.get(&format!("/api/dead-letters/{}", all[0])).await.problem(404, "not_found");
    let audit = list(&app, "/api/audit").await;
    assert_eq!((&audit[0]["action"], &audit[0]["who"]), (&json!("dead_letter.replay"), &json!("local")));
    assert_eq!(
        (&audit[0]["details"]["count"], &audit[0]["details"]["filter"]["cause"]),
        (&json!(3), &which["cause"])
    );
}

async fn all_that_waits_for_an_endpoint_is_made_due_together(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    // One is given up, some wait for hours, as the receiver asked.
    receiver.next("/hook", &[Script::Status(413)]);
    app.submit("video", "one").await;
    app.settle().await;
    receiver.always("/hook", Script::With(503, "retry-after", "36000".to_owned()));
    for _ in 0..5 {
        app.submit("video", "one").await;
        app.settle().await;
    }
    receiver.always("/hook", Script::Status(200));
    app.advance_s(600).await;
    let told = receiver.heard("/hook").len();
    assert_eq!(deliveries(&app, "state=pending").await.len(), 5, "ten hours are not over");

    for (body, pointer) in [
        (json!({}), "/endpoint_id"),
        (json!({"endpoint_id": id, "rate": 0}), "/rate"),
        (json!({"endpoint_id": id, "cause": "x"}), "/cause"),
    ] {
        assert_eq!(app.post("/api/deliveries/replay", &body).await.expect(422).pointers(), [pointer]);
    }
    app.post("/api/deliveries/replay", &json!({"endpoint_id": "ep_none"})).await.problem(404, "not_found");
    let made = app.post("/api/deliveries/replay", &json!({"endpoint_id": id})).await.expect(202).json();
    assert_eq!((&made["pending"], &made["filter"]["endpoint_id"]), (&json!(true), &json!(id)));
    app.advance_s(2).await;
    let done = app.get(made["status_url"].as_str().unwrap()).await.expect(200).json();
    assert_eq!(done["state"], "finished");
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 6, "what waited, and what was given up");
    assert_eq!((receiver.heard("/hook").len() - told, list(&app, "/api/dead-letters").await.len()), (6, 0));
    assert_eq!(list(&app, "/api/audit").await[0]["action"], "delivery.replay");
    app.leave_it();
}

async fn a_replay_keeps_its_rate_over_a_restart_and_can_be_stopped(fresh: &Fresh) {
    let (mut app, receiver, endpoint) = refused(fresh, 6).await;
    receiver.always("/hook", Script::Status(200));
    let which = json!({"endpoint_id": endpoint, "rate": 1});
    let id = app.post("/api/dead-letters/replay", &which).await.expect(202).json()["id"].clone();
    let path = format!("/api/replays/{}", id.as_str().unwrap());
    let done = async |app: &TestApp| app.get(&path).await.expect(200).json()["done"].as_i64().unwrap();
    app.advance(Duration::from_millis(1)).await;
    assert_eq!(done(&app).await, 1);
    app.advance(Duration::from_millis(999)).await;
    assert_eq!(done(&app).await, 1, "one a second");
    app.restart().await;
    app.advance_s(2).await;
    assert_eq!(done(&app).await, 3);
    let stopped = app.post(&format!("{path}/stop"), &json!({})).await.expect(200).json();
    assert_eq!(
        (&stopped["state"], &stopped["done"], &stopped["stop_url"]),
        (&json!("stopped"), &json!(3), &Value::Null)
    );
    app.post(&format!("{path}/stop"), &json!({})).await.problem(409, "replay_ended");
    app.advance_s(600).await;
    assert_eq!((receiver.heard("/hook").len(), deliveries(&app, "state=dead").await.len()), (9, 3));
    assert_eq!(texts(&json!(list(&app, "/api/replays").await), "state"), ["stopped"]);
    assert_eq!(
        texts(&json!(list(&app, "/api/audit").await), "action"),
        ["replay.stop", "dead_letter.replay"]
    );
    app.get("/api/replays/rpl_none").await.problem(404, "not_found");
    app.post("/api/replays/rpl_none/stop", &json!({})).await.problem(404, "not_found");
}

async fn two_nodes_and_two_replays_send_nothing_twice(fresh: &Fresh) {
    let (mut app, receiver, _) = refused(fresh, 20).await;
    receiver.always("/hook", Script::Status(200));
    for _ in 0..2 {
        app.post("/api/dead-letters/replay", &json!({"all": true})).await.expect(202);
    }
    app.clock.advance(Duration::from_millis(1));
    if !fresh.is_sqlite() {
        let other = app.second_app().await;
        let runs = [app.work_of(&other), app.work_of(app.app()), app.work_of(&other)];
        for run in runs {
            run.await.unwrap().unwrap();
        }
    }
    app.advance_s(10).await;
    assert_eq!((receiver.heard("/hook").len(), deliveries(&app, "state=delivered").await.len()), (40, 20));
    let replays = list(&app, "/api/replays").await;
    assert_eq!(texts(&json!(replays), "state"), ["finished"; 2]);
    assert_eq!(replays.iter().filter_map(|r| r["done"].as_i64()).sum::<i64>(), 20, "each was made due once");
}

async fn what_is_not_wanted_any_more_is_dropped_with_a_reason(fresh: &Fresh) {
    let (mut app, receiver, _) = refused(fresh, 3).await;
    let all = json!({"all": true});
    assert_eq!(app.post("/api/dead-letters/drop", &all).await.expect(422).pointers(), ["/reason"]);
    let dry = app.post("/api/dead-letters/drop?dry_run=true", &all).await.expect(200).json();
    assert_eq!(dry["count"], 3);
    let one = list(&app, "/api/dead-letters").await[0]["id"].clone();
    let some = json!({"ids": [one], "reason": "told by mail"});
    let dropped = app.post("/api/dead-letters/drop", &some).await.expect(200).json();
    assert_eq!(dropped, json!({"dropped": 1, "left": 0}));
    assert_eq!(list(&app, "/api/dead-letters").await.len(), 2);
    let path = format!("/api/deliveries/{}", one.as_str().unwrap());
    assert_eq!(app.get(&path).await.expect(200).json()["state"], "dead", "the delivery itself stays");
    let audit = list(&app, "/api/audit").await;
    assert_eq!(
        (&audit[0]["action"], &audit[0]["details"]["reason"]),
        (&json!("dead_letter.drop"), &json!("told by mail"))
    );
    app.advance_s(600).await;
    assert_eq!(receiver.heard("/hook").len(), 3);
}

async fn what_is_wrong_with_a_replay_is_named(fresh: &Fresh) {
    let app = app(fresh).await;
    for (body, pointer) in [
        (json!({}), "/all"),
        (json!({"all": true, "cause": "x"}), "/all"),
        (json!({"all": "yes"}), "/all"),
        (json!({"all": true, "rate": 0}), "/rate"),
        (json!({"all": true, "rate": 1_001}), "/rate"),
        (json!({"ids": []}), "/ids"),
        (json!({"ids": vec!["x"; 101]}), "/ids"),
        (json!({"task": "submit"}), "/task"),
        (json!({"since": "yesterday"}), "/since"),
        (json!({"until": "today"}), "/until"),
        (json!({"all": true, "colour": "red"}), "/colour"),
    ] {
        assert_eq!(
            app.post("/api/dead-letters/replay", &body).await.expect(422).pointers(),
            [pointer],
            "{body}"
        );
    }
    for query in
        ["task=submit", "since=yesterday", "until=x", "cursor=x", "cursor=x.y", "limit=201", "colour=red"]
    {
        let answer = app.get(&format!("/api/dead-letters?{query}")).await.expect(400);
        assert_eq!(answer.pointers(), [query.split('=').next().unwrap()]);
    }
    for body in [json!({"all": true, "rate": 1_000}), json!({"ids": vec!["x"; 100], "rate": 1})] {
        app.post("/api/dead-letters/replay", &body).await.expect(202);
    }
    for _ in 0..8 {
        app.post("/api/dead-letters/replay", &json!({"all": true})).await.expect(202);
    }
    app.post("/api/dead-letters/replay", &json!({"all": true})).await.problem(409, "too_many_replays");
    app.get("/api/dead-letters/dlv_none").await.problem(404, "not_found");
    let mut app = app;
    app.advance_s(1).await;
}

async fn a_delivery_that_was_taken_is_sent_again(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (endpoint, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    app.submit("video", "one").await;
    app.settle().await;
    let id = deliveries(&app, "").await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/deliveries/{id}");
    let again = app.post(&format!("{path}/replay"), &json!({})).await.expect(202).json();
    assert_eq!((&again["state"], &again["attempts_made"]), (&json!("pending"), &json!(0)));
    app.settle().await;
    assert_eq!(app.get(&path).await.json()["state"], "delivered");
    let heard = receiver.heard("/hook");
    assert_eq!((heard.len(), &heard[0].body), (2, &heard[1].body));
    assert_eq!(heard[0].header("webhook-id"), heard[1].header("webhook-id"));
    assert_eq!(list(&app, "/api/audit").await[0]["action"], "delivery.replay");
    app.call("DELETE", &format!("/api/endpoints/{endpoint}"), &[], "").await.expect(204);
    app.post(&format!("{path}/replay"), &json!({})).await.problem(409, "nobody_to_tell");
    app.post("/api/deliveries/dlv_none/replay", &json!({})).await.problem(404, "not_found");
}

async fn giving_up_is_told_once_an_hour_and_never_of_itself(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.always("/hook", Script::With(500, "webhook-delivery", "abort-message".to_owned()));
    // It is told of its own failure, too, and does not take that either.
    let both = json!({"events": ["job.queued", "dead_letter.added"]});
    add(&app, &receiver.url("/hook"), both).await;
    add(&app, &receiver.url("/ops"), json!({"events": ["dead_letter.*"]})).await;
    for _ in 0..3 {
        app.submit("video", "one").await;
        app.settle().await;
    }
    let told = receiver.heard("/ops");
    assert_eq!(told.len(), 1);
    let data = &told[0].json()["data"];
    assert_eq!(
        (&data["count"], &data["title"]),
        (&json!(1), &json!(format!("{} answers 500", &receiver.base[7..])))
    );
    assert!(data["fix"].as_str().unwrap().contains("its own log"), "{data}");
    assert_eq!(list(&app, "/api/dead-letters").await.len(), 4, "three events, and what told of them");
    app.advance_s(3_600).await;
    app.submit("video", "one").await;
    app.settle().await;
    assert_eq!(receiver.types("/ops"), ["dead_letter.added"; 2]);
    assert_eq!(receiver.heard("/ops")[1].json()["data"]["count"], 5);
    app.leave_it();
}

async fn guide_003_a_receipt_that_cannot_be_applied_is_tried_again_then_kept_for_review(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let secret = app.register().await;
    let body =
        r#"{"event_type": "avatar_video.success", "event_data": {"video_id": "v", "url": "https://v"}}"#;
    let hide = |sql: &'static str| app.db().write(move |tx| tx.execute(sql, &[]).map(|_| ()));
    hide("ALTER TABLE job RENAME TO hidden").await.unwrap();
    app.webhook(&[("signature", &crate::app::signed(&secret, body.as_bytes()))], body).await.expect(200);
    // Tried again, each time after a longer wait.
    app.advance_s(60).await;
    let attempts = |tx: &mut Tx| tx.one("SELECT attempt, dead_at FROM task WHERE kind = 'apply'", &[]);
    let mut row = app.db().read(attempts).await.unwrap().expect("it is still to be applied");
    assert!(row.int(0).unwrap() >= 4 && row.opt_int(1).unwrap().is_none());
    app.advance_s(3 * 3_600).await;
    let hide = |sql: &'static str| app.db().write(move |tx| tx.execute(sql, &[]).map(|_| ()));
    hide("ALTER TABLE hidden RENAME TO job").await.unwrap();
    let dead = list(&app, "/api/dead-letters").await;
    assert_eq!(
        (dead.len(), &dead[0]["task"], &dead[0]["cause"]),
        (1, &json!("apply"), &json!("not_applied"))
    );
    let id = dead[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(dead[0]["about_url"], format!("/api/receipts/{id}"));
    let events = list(&app, "/api/events").await;
    assert!(texts(&json!(events), "type").contains(&"dead_letter.added".to_owned()));
    app.post("/api/dead-letters/replay", &json!({"ids": [id]})).await.expect(202);
    app.advance_s(1).await;
    assert!(app.get(&format!("/api/receipts/{id}")).await.json()["applied_at"].is_string());
    assert_eq!(list(&app, "/api/dead-letters").await.len(), 0);
}

async fn what_ended_is_forgotten_after_a_month(fresh: &Fresh) {
    let (mut app, receiver, _) = refused(fresh, 2).await;
    add(&app, &receiver.url("/gone"), json!({"events": ["job.queued"]})).await;
    app.submit("video", "one").await;
    app.settle().await;
    assert_eq!(deliveries(&app, "").await.len(), 4);
    let month = u64::try_from(KEPT_FOR / SECOND).unwrap();
    // In one leap: by steps of minutes it would take minutes.
    app.clock.advance(Duration::from_secs(month - 3_600));
    app.settle().await;
    assert_eq!((deliveries(&app, "").await.len(), list(&app, "/api/dead-letters").await.len()), (4, 3));
    app.clock.advance(Duration::from_secs(2 * 3_600));
    app.settle().await;
    assert_eq!((deliveries(&app, "").await.len(), list(&app, "/api/dead-letters").await.len()), (0, 0));
}

async fn two_changes_of_one_endpoint_are_judged_together(fresh: &Fresh) {
    let app = app(fresh).await;
    for _ in 0..5 {
        let (id, _) = add(&app, "https://app.example/", json!({"events": ["heygen.*"]})).await;
        let path = format!("/api/endpoints/{id}");
        let change = |body: Value| app.call("PATCH", &path, &[], body.to_string());
        let (one, other) = futures_util::future::join(
            change(json!({"format": "heygen"})),
            change(json!({"events": ["job.*"]})),
        )
        .await;
        assert_eq!([one.status, other.status].iter().filter(|status| **status == 422).count(), 1);
    }
}
