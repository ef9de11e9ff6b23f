//! What a browser may see by a link token: one job, for some minutes, and nothing else.

use std::time::Duration;

use reelhook::domain::time::rfc3339;
use serde_json::{Value, json};

use crate::app::{TestApp, cases, new_job};
use crate::client::Answer;
use crate::database::Fresh;
use crate::stream::{LINES, Stream};

cases! {
    a_link_token_opens_one_job_for_some_minutes,
    a_link_token_is_judged,
    a_link_token_hides_where_the_application_is_told,
}

/// Without any credential but what is in the address.
async fn by_link(app: &TestApp, url: &str) -> Answer {
    let stranger = [("host", "reelhook.example.com"), ("origin", "https://app.example.com")];
    app.call("GET", url, &stranger, "").await
}

async fn link(app: &TestApp, id: &str, body: &Value) -> Value {
    app.post(&format!("/api/jobs/{id}/link-token"), body).await.expect(201).json()
}

async fn a_link_token_opens_one_job_for_some_minutes(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "one").await;
    let made = link(&app, &id, &json!({})).await;
    assert_eq!((&made["job_id"], &made["expires_at"]), (&json!(id), &json!(rfc3339(app.now() + 900_000))));
    let url = |name: &str| made[name].as_str().unwrap().to_owned();
    let page = [("host", "reelhook.example.com"), ("origin", "https://app.example.com"), LINES];
    let mut stream = Stream::open(&app, &url("stream_url"), &page).await;
    assert_eq!(stream.headers()["access-control-allow-origin"], "*", "the page is the application's");
    stream.expect("snapshot").await;
    stream.expect("live").await;
    app.settle().await;
    app.clock.advance(Duration::from_secs(1));
    stream.expect("job.processing").await;
    let shown = by_link(&app, &url("status_url")).await.expect(200);
    assert_eq!(
        (shown.json()["id"].clone(), shown.header("access-control-allow-origin")),
        (json!(id), Some("*"))
    );
    by_link(&app, &format!("/api/videos/{id}?token={}", url("token"))).await.expect(200);
    by_link(&app, &format!("/api/jobs/{id}?wait=0&token={}", url("token"))).await.expect(202);
    // Nothing else, and nothing that changes anything.
    for path in [format!("/api/jobs/{id}/events"), "/api/jobs".to_owned(), "/api/stream".to_owned()] {
        by_link(&app, &format!("{path}?token={}", url("token"))).await.problem(401, "unauthorized");
    }
    let cancel = format!("/api/jobs/{id}/cancel?token={}", url("token"));
    app.call("POST", &cancel, &page, "").await.problem(401, "unauthorized");
    assert_eq!(app.log(&[&url("token")]), [""; 0], "it is in no line of the log");

    // To the second; an open stream ends with it.
    app.clock.advance(Duration::from_millis(898_999));
    by_link(&app, &url("status_url")).await.expect(200);
    app.clock.advance(Duration::from_millis(1));
    by_link(&app, &url("status_url")).await.problem(401, "link_token_expired");
    while let Some(told) = stream.next().await {
        assert_ne!(told["type"], "done");
    }
    app.leave_it();
}

async fn a_link_token_is_judged(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let (id, other) = (app.submit("video", "one").await, app.submit("video", "two").await);
    let token = link(&app, &id, &json!({"minutes": 60})).await["token"].as_str().unwrap().to_owned();
    let of_another = by_link(&app, &format!("/api/jobs/{other}?token={token}")).await;
    of_another.problem(403, "link_token_of_another_job");
    let forged = [
        token.replace(&id, &other),
        format!("{token}0"),
        token[..token.len() - 1].to_owned(),
        app.app().http.addresses.mark(&id),
        "x".to_owned(),
        String::new(),
    ];
    for forged in forged {
        for path in ["", "/stream"] {
            let answer = by_link(&app, &format!("/api/jobs/{other}{path}?token={forged}")).await;
            answer.problem(401, "invalid_link_token");
            assert!(forged.len() < 9 || !answer.text().contains(&forged), "it is not repeated");
        }
    }
    for (minutes, status) in
        [(json!(0), 422), (json!(1), 201), (json!(60), 201), (json!(61), 422), (json!("5"), 422)]
    {
        app.post(&format!("/api/jobs/{id}/link-token"), &json!({"minutes": minutes})).await.expect(status);
    }
    app.post("/api/jobs/none/link-token", &json!({})).await.problem(404, "not_found");
    // A token made by one node, or before a restart, is good at the next.
    app.restart().await;
    by_link(&app, &format!("/api/jobs/{id}?token={token}")).await.expect(200);
    app.leave_it();
}

async fn a_link_token_hides_where_the_application_is_told(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut job = new_job("video", "one");
    job["notify_url"] = json!("https://app.example.com/hook?key=4711");
    job["hold"] = json!(true);
    let id = app.post("/api/jobs", &job).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    let token = link(&app, &id, &json!({})).await["token"].as_str().unwrap().to_owned();
    for path in ["", "/stream?since=all&"] {
        let path = format!("/api/jobs/{id}{path}");
        let with_key = app.get(path.trim_end_matches('&')).await.expect(200).text();
        assert!(with_key.contains("4711"), "{with_key}");
        let join = if path.contains('?') { "" } else { "?" };
        let by_link = by_link(&app, &format!("{path}{join}token={token}")).await.expect(200).text();
        assert!(by_link.contains(&id) && !by_link.contains("4711"), "{by_link}");
    }
    app.leave_it();
}
