//! A job that is not to be sent before a time: it waits, holds nobody up, and begins at that time.

use reelhook::domain::time::{DAY, HOUR, rfc3339};
use serde_json::{Value, json};

use crate::app::{TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    a_job_is_sent_at_its_time_and_not_before,
    one_that_is_put_off_holds_no_other_up,
    it_begins_after_a_restart_that_its_time_fell_into,
    what_is_canceled_before_its_time_is_never_sent,
    approval_and_time_are_both_waited_for,
    a_time_that_has_passed_puts_nothing_off,
    a_deadline_counts_from_when_the_job_may_begin,
}

fn in_an_hour(app: &TestApp, title: &str) -> Value {
    let mut body = new_job("video", title);
    body["not_before"] = json!(rfc3339(app.now() + HOUR));
    body
}

async fn submit(app: &TestApp, body: &Value) -> String {
    app.post("/api/jobs", body).await.expect(202).json()["id"].as_str().expect("an id").to_owned()
}

async fn a_job_is_sent_at_its_time_and_not_before(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let begins_at = rfc3339(app.now() + HOUR);
    let id = submit(&app, &in_an_hour(&app, "later")).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["not_before"]), (&json!("queued"), &json!(begins_at)));
    assert_eq!(job["waiting"]["reason"], "not_before");
    assert_eq!(job["waiting"]["until"], json!(begins_at));
    app.advance_s(3_599).await;
    assert_eq!((app.state(&id).await.as_str(), app.charges(&id)), ("queued", 0));
    app.advance_s(1).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], app.charges(&id)), (&json!("processing"), 1));
    assert_eq!((&job["not_before"], &job["waiting"]), (&Value::Null, &Value::Null));
    app.advance_s(3_600).await;
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}

async fn one_that_is_put_off_holds_no_other_up(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut first = in_an_hour(&app, "first of all");
    first["priority"] = json!(9);
    let mut waiting = vec![];
    for _ in 0..20 {
        waiting.push(submit(&app, &first).await);
    }
    let paid = |app: &TestApp, all: &[String]| all.iter().map(|id| app.charges(id)).sum::<usize>();
    let now = app.submit("video", "now").await;
    app.settle().await;
    assert_eq!((app.state(&now).await.as_str(), paid(&app, &waiting)), ("processing", 0));
    app.advance_s(3_600 * 3).await;
    assert!(waiting.iter().all(|id| app.charges(id) == 1), "once each");
}

async fn it_begins_after_a_restart_that_its_time_fell_into(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, &in_an_hour(&app, "later")).await;
    app.advance_s(3_599).await;
    app.restart().await;
    app.advance_s(7_200).await;
    assert_eq!((app.state(&id).await.as_str(), app.charges(&id)), ("completed", 1));
}

async fn what_is_canceled_before_its_time_is_never_sent(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, &in_an_hour(&app, "later")).await;
    app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    app.advance_s(2 * 86_400).await;
    assert_eq!((app.state(&id).await.as_str(), app.charges(&id)), ("canceled", 0));
}

async fn approval_and_time_are_both_waited_for(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let approve = |id: &str| format!("/api/jobs/{id}/approve");
    let mut body = in_an_hour(&app, "held");
    body["hold"] = json!(true);
    let (early, late) = (submit(&app, &body).await, submit(&app, &body).await);
    app.post(&approve(&early), &json!({})).await.expect(200);
    app.settle().await;
    let job = app.job(&early).await;
    assert_eq!((&job["state"], &job["waiting"]["reason"]), (&json!("queued"), &json!("not_before")));
    app.advance_s(3_600).await;
    assert_eq!((app.charges(&early), app.charges(&late)), (1, 0), "the other one is not approved");
    assert_eq!(
        (app.state(&late).await.as_str(), &app.job(&late).await["not_before"]),
        ("held", &Value::Null)
    );
    app.post(&approve(&late), &json!({})).await.expect(200);
    app.settle().await;
    assert_eq!(app.charges(&late), 1);
}

async fn a_time_that_has_passed_puts_nothing_off(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "now");
    body["not_before"] = json!(rfc3339(app.now()));
    let id = submit(&app, &body).await;
    assert_eq!(app.job(&id).await["not_before"], Value::Null);
    app.settle().await;
    assert_eq!(app.charges(&id), 1);
}

async fn a_deadline_counts_from_when_the_job_may_begin(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut body = in_an_hour(&app, "later");
    let made = app.post("/api/jobs", &body).await.expect(202).json();
    assert_eq!(
        made["deadline_at"],
        json!(rfc3339(app.now() + HOUR + DAY)),
        "a day, unless it says otherwise"
    );
    for (least_or_most, beyond) in [(60_000, 59_999), (30 * DAY, 30 * DAY + 1)] {
        body["deadline"] = json!(rfc3339(app.now() + HOUR + least_or_most));
        app.post("/api/jobs", &body).await.expect(202);
        body["deadline"] = json!(rfc3339(app.now() + HOUR + beyond));
        let answer = app.post("/api/jobs", &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), ["/deadline"]);
        assert!(answer.text().contains("after `not_before`"), "{}", answer.text());
    }
}
