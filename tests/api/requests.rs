//! What every answer has, success or not: an id of the request, in a header, in the problem document
//! and in the log; and in a problem what HeyGen itself said.

use serde_json::json;

use crate::app::{HEYGEN_KEY, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    every_answer_has_a_request_id_and_a_callers_own_is_kept,
    an_id_no_log_should_hold_is_replaced,
    the_log_names_the_request_that_took_a_job_in,
    a_problem_names_the_path_but_no_credential,
    what_heygen_said_is_in_the_problem,
    the_page_a_problem_leads_to_is_there,
    each_404_says_what_is_not_there_and_where_to_look,
}

async fn every_answer_has_a_request_id_and_a_callers_own_is_kept(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut seen = vec![];
    for (method, path) in [
        ("GET", "/api/jobs"),
        ("GET", "/api/jobs/none"),
        ("GET", "/nowhere"),
        ("PUT", "/api/jobs"),
        ("POST", "/webhooks/heygen"),
        ("OPTIONS", "/webhooks/heygen"),
        ("GET", "/livez"),
    ] {
        let answer = app.call(method, path, &[], "").await;
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert!(id.starts_with("req_") && !seen.contains(&id), "{method} {path}: {id}");
        seen.push(id);
        let longest = "x".repeat(128);
        for own in ["7", "Root=1-67891233-abcdef;Self=2", &longest] {
            let answer = app.call(method, path, &[("x-request-id", own)], "").await;
            assert_eq!(answer.header("x-request-id"), Some(own), "{method} {path}");
        }
    }
}

async fn an_id_no_log_should_hold_is_replaced(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let too_long = "x".repeat(129);
    for bad in ["", "two words", "tab\there", &too_long] {
        let answer = app.call("GET", "/api/jobs/none", &[("x-request-id", bad)], "").await;
        answer.problem(404, "not_found");
        let id = answer.header("x-request-id").expect("an id");
        assert!(id.starts_with("req_") && id.len() == 30, "{bad:?} became {id}");
    }
}

async fn the_log_names_the_request_that_took_a_job_in(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let body = new_job("video", "t").to_string();
    let job = app.call("POST", "/api/jobs", &[("x-request-id", "order-4711")], body).await.expect(202).json();
    let id = job["id"].as_str().unwrap();
    assert_eq!(app.log(&["job taken in", id, "request_id=\"order-4711\""]).len(), 1, "{:?}", app.log(&[]));
    app.leave_it();
}

async fn a_problem_names_the_path_but_no_credential(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let instance = |answer: crate::client::Answer| answer.json()["instance"].clone();
    assert_eq!(instance(app.get("/api/jobs/none?wait=1").await), "/api/jobs/none");
    let longest = format!("/{}", "p".repeat(254));
    assert_eq!(instance(app.get(&longest).await), *longest);
    assert_eq!(instance(app.get(&format!("{longest}p")).await), json!(null), "too long to repeat");
    let address = app.address(&app.submit("video", "t").await);
    let refused = app.call("POST", &format!("{address}x"), &[], "{}").await;
    refused.problem(401, "unknown_webhook_address");
    assert_eq!(instance(refused), "/webhooks/heygen");
    app.leave_it();
}

async fn what_heygen_said_is_in_the_problem(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.sandbox.revoke_key(true);
    let answer = app.post("/api/webhooks", &json!({})).await;
    let problem = answer.problem(502, "upstream_blocked");
    assert_eq!(problem["retryable"], false);
    assert!(
        problem["detail"].as_str().is_some_and(|why| why.contains("not valid; repair the key")),
        "{problem}"
    );
    let said = &problem["upstream"];
    assert_eq!(said["code"], "unauthorized");
    assert_eq!(said["message"], "The API key is missing or not valid.");
    assert_eq!(said["request_id"].as_str().map(str::len), Some(32), "HeyGen's own id of the call: {problem}");
    assert!(!answer.text().contains(HEYGEN_KEY));
    app.sandbox.revoke_key(false);
    let problem = app.call("DELETE", "/api/webhooks/ep_none", &[], "").await.problem(404, "not_found");
    assert_eq!(problem["upstream"]["code"], "webhook_not_found");
    // HeyGen was not asked.
    assert_eq!(app.get("/api/jobs/none").await.json()["upstream"], json!(null));
}

async fn the_page_a_problem_leads_to_is_there(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let problem = app.get("/nowhere").await.problem(404, "no_route");
    let (path, code) = problem["type"].as_str().unwrap().split_once('#').unwrap();
    let page = app.get(path).await.expect(200);
    assert!(page.text().contains(&format!("<a id=\"{code}\"></a>`{code}`")));
}

async fn each_404_says_what_is_not_there_and_where_to_look(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for (method, path, what) in [
        ("GET", "/api/jobs/none", "callback_id="),
        ("POST", "/api/jobs/none/cancel", "callback_id="),
        ("GET", "/api/videos/none", "callback_id="),
        ("GET", "/api/receipts/none", "no receipt has the id none"),
        ("DELETE", "/api/keys/none", "no API key that works has the id none"),
        ("POST", "/api/webhooks/none/rotate", "no webhook endpoint with the id none"),
        ("DELETE", "/api/webhooks/none", "no webhook endpoint with the id none"),
    ] {
        let problem = app.call(method, path, &[], "").await.problem(404, "not_found");
        assert!(problem["detail"].as_str().unwrap().contains(what), "{path}: {problem}");
        assert!(!problem["hint"].as_str().unwrap().contains("job"), "it is true of all of them: {problem}");
    }
}
