//! What becomes of groups: one end, a cancel as far as it goes, a retry of what failed, a job for each
//! language.

use std::time::Duration;

use reelhook::heygen::sandbox::What;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job, request, texts};
use crate::database::Fresh;
use crate::groups::{group, ids, jobs, made, sheet};

cases! {
    a_group_ends_once_with_its_counts,
    jobs_of_a_group_that_end_together_end_it_once,
    a_wait_ends_with_the_group,
    a_group_is_canceled_as_far_as_it_can_be,
    what_failed_is_retried_once_as_a_group_of_its_own,
    what_nobody_approved_of_a_group_waits_for_it_again,
    what_may_have_been_charged_is_left_unless_that_is_accepted,
    a_retried_job_of_a_group_is_not_retried_again_with_it,
    several_languages_make_a_group_of_a_job_each,
    several_languages_in_rows_make_a_job_for_each,
    groups_are_listed_and_their_jobs_found,
    a_group_that_is_not_there_is_404,
    rows_that_come_in_parts_make_one_group_with_one_end,
    a_group_that_waits_for_rows_takes_none_once_it_is_canceled,
    a_group_outlives_a_restart_in_the_middle,
}

/// The ends of groups that were published.
async fn ends(app: &TestApp) -> Vec<Value> {
    let page = app.get("/api/events?limit=200").await.expect(200).json();
    assert_eq!(page["has_more"], false);
    let all = page["data"].as_array().expect("a list").clone();
    all.into_iter().filter(|e| e["type"] == "group.finished").map(|e| e["data"].clone()).collect()
}

async fn a_group_ends_once_with_its_counts(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let group_made = made(&app, &sheet(&["a", "b #lost", "c #fail", "d #refuse", "e #late"])).await;
    assert_eq!(
        (&group_made["jobs"], &group_made["counts"]["queued"], &group_made["finished_at"]),
        (&json!(5), &json!(5), &Value::Null)
    );
    app.settle().await;
    let going = group(&app, &group_made).await;
    assert_eq!((&going["progress"], &going["counts"]["failed"]), (&json!(20), &json!(1)), "one was refused");
    app.advance(Duration::from_secs(3_600)).await;
    let ended = group(&app, &group_made).await;
    assert_eq!((&ended["ended"], &ended["progress"]), (&json!(5), &json!(100)));
    assert_eq!((&ended["counts"]["completed"], &ended["counts"]["failed"]), (&json!(3), &json!(2)));
    assert!(ended["finished_at"].is_string());
    assert_eq!((&group_made["retry_failed_url"], &ended["cancel_url"]), (&Value::Null, &Value::Null));
    assert_eq!(going["retry_failed_url"], ended["retry_failed_url"], "one may be retried already");
    assert_eq!(ends(&app).await, std::slice::from_ref(&ended), "told once, as it is");
    app.advance(Duration::from_secs(3_600)).await;
    assert_eq!(ends(&app).await.len(), 1);
}

async fn jobs_of_a_group_that_end_together_end_it_once(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = sheet(&["a"; 12]);
    body["template"]["hold"] = json!(true);
    let group = made(&app, &body).await;
    let all = jobs(&app, &group).await;
    let rejected = ids(&all).into_iter().map(|id| {
        let (url, none) = (format!("{}/api/jobs/{id}/reject", app.base), bytes::Bytes::new());
        async move { crate::client::call("POST", &url, &[], none).await.expect(200) }
    });
    futures_util::future::join_all(rejected).await;
    let ends = ends(&app).await;
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0]["counts"]["canceled"], 12);
    app.settle().await;
}

async fn a_wait_ends_with_the_group(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let group = made(&app, &sheet(&["a", "b"])).await;
    let path = format!("{}?wait=0", group["status_url"].as_str().unwrap());
    let open = app.get(&path).await.expect(202);
    assert_eq!(open.header("retry-after"), Some("5"));
    assert_eq!(open.json()["finished_at"], Value::Null);
    app.advance_s(60).await;
    let ended = app.get(&path.replace("wait=0", "wait=60")).await.expect(200);
    assert_eq!((ended.header("retry-after"), &ended.json()["progress"]), (None, &json!(100)));
    app.get(&path.replace("wait=0", "wait=61")).await.problem(400, "invalid_parameter");
}

async fn a_group_is_canceled_as_far_as_it_can_be(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let group_made = made(&app, &sheet(&["#stuck"; 30])).await;
    app.settle().await;
    let cancel = group_made["cancel_url"].as_str().unwrap();
    app.post(cancel, &json!({"why": 1})).await.problem(422, "invalid_request");
    let answer = app.post(cancel, &json!({})).await.expect(200).json();
    assert_eq!(
        (&answer["canceled"], &answer["not_canceled"]),
        (&json!(20), &json!(10)),
        "ten slots were in use"
    );
    assert_eq!(answer["group"]["counts"]["canceled"], 20);
    let again = app.post(cancel, &json!({})).await.expect(200).json();
    assert_eq!((&again["canceled"], &again["not_canceled"]), (&json!(0), &json!(10)));
    assert_eq!(ends(&app).await, [Value::Null; 0], "it goes on");
    app.advance(Duration::from_secs(25 * 3_600)).await;
    assert_eq!(group(&app, &group_made).await["counts"]["failed"], 10);
    let page = app.get("/api/events?limit=200").await.json();
    assert!(texts(&page["data"], "type").contains(&"group.finished".to_owned()));
    let none = app.post(cancel, &json!({})).await.expect(200).json();
    assert_eq!(
        (&none["canceled"], &none["not_canceled"]),
        (&json!(0), &json!(0)),
        "nothing was left to cancel"
    );
}

async fn what_failed_is_retried_once_as_a_group_of_its_own(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let old = made(&app, &sheet(&["a", "b #fail", "c #fail"])).await;
    let path = &format!("{}/retry-failed", old["status_url"].as_str().unwrap());
    app.post(path, &json!({})).await.problem(409, "nothing_to_retry");
    app.advance_s(60).await;
    let retry = async |key| app.call("POST", path, &[("idempotency-key", key)], "{}").await;
    let answer = retry("k").await.expect(202);
    let new = answer.json()["group"].clone();
    assert_eq!(answer.header("location"), new["status_url"].as_str());
    assert_eq!((&new["retry_of"], &new["jobs"], &new["title"]), (&old["id"], &json!(2), &old["title"]));
    assert_eq!(answer.json()["left"], json!([]));
    let (olds, news) = (jobs(&app, &old).await, jobs(&app, &new).await);
    assert_eq!(texts(&json!(news), "retry_of"), ids(&olds[1..]));
    assert_eq!((&news[0]["group_row"], &news[1]["group_row"]), (&json!(2), &json!(3)));
    assert_eq!(retry("k").await.expect(202).body, answer.body, "the same key, the same group");
    retry("another").await.problem(409, "nothing_to_retry");
    app.advance_s(60).await;
    assert_eq!(group(&app, &new).await["counts"]["failed"], 2);
    assert_eq!(group(&app, &old).await["counts"]["failed"], 2, "the old group stays as it ended");
    assert_eq!(ends(&app).await.len(), 2);
    let link = group(&app, &new).await["retry_failed_url"].as_str().unwrap().to_owned();
    let third = app.post(&link, &json!({})).await.expect(202).json();
    assert_eq!(third["group"]["retry_of"], new["id"]);
    app.advance_s(60).await;
}

async fn what_may_have_been_charged_is_left_unless_that_is_accepted(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let old = made(&app, &sheet(&["a #stuck", "b #fail"])).await;
    app.advance(Duration::from_secs(25 * 3_600)).await;
    let lost = ids(&jobs(&app, &old).await).remove(0);
    let path = &format!("{}/retry-failed", old["status_url"].as_str().unwrap());
    let answer = app.post(path, &json!({})).await.expect(202).json();
    assert_eq!((&answer["group"]["jobs"], &answer["left"]), (&json!(1), &json!([lost])));
    let refused = app.post(path, &json!({})).await.problem(409, "second_charge");
    assert!(refused["detail"].as_str().unwrap().contains(&lost), "{refused}");
    let accepted = app.post(path, &json!({"accept_second_charge": true})).await.expect(202).json();
    assert_eq!((&accepted["group"]["jobs"], &accepted["left"]), (&json!(1), &json!([])));
    app.post(path, &json!({"accept_second_charge": "yes"})).await.problem(422, "invalid_request");
    app.advance(Duration::from_secs(25 * 3_600)).await;
}

async fn a_retried_job_of_a_group_is_not_retried_again_with_it(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let old = made(&app, &sheet(&["a #fail"])).await;
    app.advance_s(60).await;
    let failed = ids(&jobs(&app, &old).await).remove(0);
    let again = app.post(&format!("/api/jobs/{failed}/retry"), &json!({})).await.expect(202).json();
    assert_eq!((&again["group_id"], &again["group_row"]), (&Value::Null, &json!(1)), "a job by itself");
    let link = group(&app, &old).await["retry_failed_url"].as_str().unwrap().to_owned();
    app.post(&link, &json!({})).await.problem(409, "nothing_to_retry");
    app.advance_s(60).await;
}

async fn several_languages_make_a_group_of_a_job_each(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("translation", "talk");
    body["request"]["output_languages"] = json!(["German", "French", "Hindi"]);
    body["callback_id"] = json!("mine");
    let key = [("idempotency-key", "k")];
    let answer = app.call("POST", "/api/jobs", &key, body.to_string()).await.expect(202);
    let made = answer.json();
    assert_eq!((&made["jobs"], &made["title"]), (&json!(3), &json!("talk")));
    assert_eq!(answer.header("location"), made["status_url"].as_str());
    let again = app.call("POST", "/api/jobs", &key, body.to_string()).await.expect(202);
    assert_eq!(again.body, answer.body);
    app.advance_s(60).await;
    let jobs = jobs(&app, &made).await;
    assert_eq!(texts(&json!(jobs), "callback_id"), ["mine"; 3]);
    for id in ids(&jobs) {
        assert_eq!((app.state(&id).await, app.charges(&id)), ("completed".to_owned(), 1));
    }
    let accepted = app.sandbox.ledger().into_iter().filter(|e| matches!(e.what, What::Accepted { .. }));
    assert_eq!(accepted.count(), 3, "a call for each, none of them a batch");
    let ended = app.call("POST", "/api/jobs?wait=1", &key, body.to_string()).await.expect(200).json();
    assert_eq!((&ended["id"], &ended["counts"]["completed"]), (&made["id"], &json!(3)));
    let dry = app.post("/api/jobs?dry_run=true", &body).await.expect(200).json();
    assert_eq!((&dry["jobs"], &dry["first"]["body"]["output_languages"]), (&json!(3), &json!(["German"])));
}

async fn several_languages_in_rows_make_a_job_for_each(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut template =
        json!({"kind": "translation", "hold": true, "request": request("translation", "{{title}}")});
    template["request"]["output_languages"] = json!(["{{first}}", "{{second}}"]);
    let rows = json!([
        {"title": "a", "first": "German", "second": "French"}, {"title": "b", "first": "Hindi", "second": "Greek"}]);
    let mut body = json!({"template": template, "rows": rows});
    let group = made(&app, &body).await;
    let jobs = jobs(&app, &group).await;
    let rows: Vec<i64> = jobs.iter().filter_map(|job| job["group_row"].as_i64()).collect();
    assert_eq!(rows, [1, 1, 2, 2]);
    body["rows"][1]["second"] = json!("Hindi");
    let twice = app.post("/api/groups", &body).await;
    assert_eq!(twice.pointers(), ["/rows/1/second"]);
}

async fn groups_are_listed_and_their_jobs_found(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let first = made(&app, &sheet(&["a", "b #fail"])).await;
    app.advance_s(60).await;
    let second = made(&app, &sheet(&["c"])).await;
    app.submit("video", "alone").await;
    let list = async |query: &str| app.get(&format!("/api/groups{query}")).await.expect(200).json();
    let all = list("").await;
    assert_eq!(all["data"], json!([group(&app, &second).await, group(&app, &first).await]));
    let page = list("?limit=1").await;
    assert_eq!((&page["data"][0]["id"], &page["has_more"]), (&second["id"], &json!(true)));
    let next = list(&format!("?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&next["data"][0]["id"], &next["has_more"]), (&first["id"], &json!(false)));
    assert_eq!(jobs(&app, &second).await.len(), 1);
    let failed = app.get(&format!("{}&state=failed", first["jobs_url"].as_str().unwrap())).await.json();
    assert_eq!(texts(&failed["data"], "title"), ["b #fail"]);
    app.get("/api/groups?cursor=job_1").await.problem(400, "invalid_parameter");
    app.advance_s(60).await;
}

async fn a_group_that_is_not_there_is_404(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.get("/api/groups/grp_none").await.problem(404, "not_found");
    app.get("/api/groups/grp_none?wait=1").await.problem(404, "not_found");
    for verb in ["cancel", "retry-failed"] {
        app.post(&format!("/api/groups/grp_none/{verb}"), &json!({})).await.problem(404, "not_found");
    }
}

async fn a_group_outlives_a_restart_in_the_middle(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: &[("slots", "2")], ..Setup::default() }).await;
    app.register().await;
    let made = made(&app, &sheet(&["a"; 9])).await;
    app.settle().await;
    app.restart().await;
    app.advance(Duration::from_secs(3_600)).await;
    let ended = group(&app, &made).await;
    assert_eq!(ended["counts"]["completed"], 9);
    assert_eq!(ends(&app).await.len(), 1);
    for id in ids(&jobs(&app, &made).await) {
        assert_eq!(app.charges(&id), 1);
    }
}

async fn what_nobody_approved_of_a_group_waits_for_it_again(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = sheet(&["a", "b"]);
    body["template"]["hold"] = json!(true);
    let old = made(&app, &body).await;
    app.advance(Duration::from_secs(25 * 3_600)).await;
    assert_eq!(group(&app, &old).await["counts"]["canceled"], 2, "they expired");
    let path = format!("{}/retry-failed", old["status_url"].as_str().unwrap());
    let new = app.post(&path, &json!({})).await.expect(202).json()["group"].clone();
    app.settle().await;
    assert_eq!(group(&app, &new).await["counts"]["held"], 2);
}

async fn rows_that_come_in_parts_make_one_group_with_one_end(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut first = sheet(&["a", "b"]);
    first["more"] = json!(true);
    let opened = made(&app, &first).await;
    assert_eq!(opened["next_row"], 3);
    app.advance_s(600).await;
    let waits = group(&app, &opened).await;
    assert_eq!(
        (&waits["progress"], &waits["finished_at"], &waits["next_row"]),
        (&json!(100), &Value::Null, &json!(3))
    );
    assert_eq!(ends(&app).await, [Value::Null; 0], "more come");

    let path = format!("{}/rows", opened["status_url"].as_str().unwrap());
    let mut rest = sheet(&["c #fail", "d", "e"]);
    app.post(&path, &rest).await.problem(422, "invalid_request");
    rest.as_object_mut().unwrap().remove("title");
    assert_eq!(app.post(&path, &rest).await.pointers(), ["/first_row"]);
    for wrong in [2, 4] {
        rest["first_row"] = json!(wrong);
        app.post(&path, &rest).await.problem(409, "wrong_row");
        app.post(&format!("{path}?dry_run=true"), &rest).await.problem(409, "wrong_row");
    }
    rest["first_row"] = json!(3);
    let mut wrong = rest.clone();
    wrong["rows"][1]["title"] = json!(null);
    assert_eq!(app.post(&path, &wrong).await.pointers(), ["/rows/1/title"]);
    let dry = app.post(&format!("{path}?dry_run=true"), &rest).await.expect(200).json();
    assert_eq!((&dry["jobs"], &group(&app, &opened).await["jobs"]), (&json!(3), &json!(2)));
    let add = async |body: &Value| {
        app.call("POST", &path, &[("idempotency-key", "part-2")], body.to_string()).await
    };
    let added = add(&rest).await.expect(202);
    assert_eq!(added.header("location"), opened["status_url"].as_str());
    assert_eq!((&added.json()["jobs"], &added.json()["next_row"]), (&json!(5), &Value::Null));
    assert_eq!(add(&rest).await.expect(202).body, added.body, "the same key, nothing added");
    let other = made(&app, &first).await;
    let elsewhere = format!("{}/rows", other["status_url"].as_str().unwrap());
    let moved = app.call("POST", &elsewhere, &[("idempotency-key", "part-2")], rest.to_string()).await;
    moved.problem(422, "idempotency_key_reused");
    app.post(&path, &rest).await.problem(409, "group_whole");
    app.post(&format!("{path}?dry_run=true"), &rest).await.problem(409, "group_whole");

    app.advance_s(600).await;
    let ended = group(&app, &opened).await;
    assert_eq!((&ended["counts"]["completed"], &ended["counts"]["failed"]), (&json!(4), &json!(1)));
    assert_eq!(ends(&app).await, [ended], "once, and the other still waits for rows");
    let all = jobs(&app, &opened).await;
    let rows: Vec<&Value> = all.iter().map(|job| &job["group_row"]).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5]);
    for id in ids(&all) {
        assert_eq!(app.charges(&id), 1);
    }
}

async fn a_group_that_waits_for_rows_takes_none_once_it_is_canceled(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = sheet(&["a"]);
    body["more"] = json!(true);
    let opened = made(&app, &body).await;
    app.advance_s(600).await;
    assert!(group(&app, &opened).await["cancel_url"].is_string(), "though none can be canceled");
    let cancel = format!("{}/cancel", opened["status_url"].as_str().unwrap());
    let answer = app.post(&cancel, &json!({})).await.expect(200).json();
    assert_eq!((&answer["canceled"], &answer["group"]["next_row"]), (&json!(0), &Value::Null));
    assert!(answer["group"]["finished_at"].is_string());
    assert_eq!(ends(&app).await.len(), 1);
    app.post(&cancel, &json!({})).await.expect(200);
    assert_eq!(ends(&app).await.len(), 1, "told once");
    body.as_object_mut().unwrap().remove("title");
    body["first_row"] = json!(2);
    let path = format!("{}/rows", opened["status_url"].as_str().unwrap());
    app.post(&path, &body).await.problem(409, "group_whole");
    app.post("/api/groups/grp_none/rows", &body).await.problem(404, "not_found");
}
