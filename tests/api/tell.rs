//! Events on their way to the application: what is sent, what answers mean, and that no receiver
//! hurts another.

mod dead_letters;
mod endpoints;
mod etiquette;
mod origins;
mod receiver;
mod troubles;

use reelhook::domain::time::parse_rfc3339;
use serde_json::{Value, json};

use self::receiver::{Receiver, add};
use crate::app::{Setup, TestApp, cases, new_job, signed, texts};
use crate::database::Fresh;

cases! {
    a_job_is_told_from_its_beginning_to_its_end,
    an_endpoint_hears_only_what_it_wants,
    a_job_tells_where_it_says_too,
    heygens_own_webhooks_are_passed_on_byte_for_byte,
    what_heygens_event_log_told_is_passed_on_signed,
    an_endpoint_of_one_node_is_known_to_the_other,
    without_an_endpoint_nothing_is_kept_to_send,
}

/// Receivers are on this machine.
pub async fn app(fresh: &Fresh) -> TestApp {
    let flags = [("allow-private", "127.0.0.1")];
    TestApp::with(fresh, Setup { flags: &flags, ..Setup::default() }).await
}

/// The deliveries that fit, newest first.
pub async fn deliveries(app: &TestApp, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/api/deliveries?limit=200&{query}")).await.expect(200).json();
    page["data"].as_array().expect("a list").clone()
}

/// What was told of a job, in the order of names: deliveries of one moment overtake each other.
fn story() -> Vec<String> {
    ["job.completed", "job.processing", "job.queued"].map(str::to_owned).to_vec()
}

fn sorted(receiver: &Receiver, path: &str) -> Vec<String> {
    let mut types = receiver.types(path);
    types.sort();
    types
}

async fn a_job_is_told_from_its_beginning_to_its_end(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    app.register().await;
    let (endpoint, secret) = add(&app, &receiver.url("/hook"), json!({})).await;
    let id = app.submit("video", "told").await;
    app.advance_s(60).await;

    assert_eq!(sorted(&receiver, "/hook"), story());
    let mut heard = receiver.heard("/hook");
    heard.sort_by_key(|one| one.json()["job_sequence"].as_i64());
    let events = app.get(&format!("/api/jobs/{id}/events")).await.json();
    for (nth, (one, event)) in heard.iter().zip(events["data"].as_array().unwrap()).enumerate() {
        let body = one.json();
        assert_eq!(one.header("webhook-id"), event["id"].as_str().unwrap());
        assert_eq!((&body["id"], &body["type"]), (&event["id"], &event["type"]));
        assert_eq!((&body["timestamp"], &body["data"]), (&event["created_at"], &event["data"]));
        assert_eq!((&body["job_id"], &body["job_sequence"]), (&json!(id), &json!(nth + 1)));
        assert_eq!(one.header("reelhook-sequence"), (nth + 1).to_string());
        assert_eq!((one.header("reelhook-job"), one.header("reelhook-endpoint")), (&*id, &*endpoint));
        assert_eq!((one.header("reelhook-attempt"), one.header("content-type")), ("1", "application/json"));
        assert!(one.header("user-agent").starts_with("reelhook/"));
        assert_eq!(one.signed_with(&secret), 1);
    }
    let ended = parse_rfc3339(app.job(&id).await["finished_at"].as_str().unwrap()).unwrap();
    assert_eq!(heard[2].header("webhook-timestamp"), (ended / 1_000).to_string());
    assert_eq!(heard[2].json()["data"]["result"]["page_url"], app.job(&id).await["result"]["page_url"]);

    let all = deliveries(&app, &format!("job_id={id}")).await;
    assert_eq!(texts(&json!(all), "state"), ["delivered"; 3]);
    assert_eq!(all[0]["endpoint_id"], endpoint);
    let one =
        app.get(&format!("/api/deliveries/{}", all[0]["id"].as_str().unwrap())).await.expect(200).json();
    assert_eq!((&one["attempts"][0]["status"], &one["attempts_made"]), (&json!(200), &json!(1)));
    assert!(app.metric("reelhook_delivery_attempts_total{outcome=\"taken\"}").await >= 3.0);
}

async fn an_endpoint_hears_only_what_it_wants(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    app.register().await;
    for (path, wishes) in [
        ("/ends", json!({"events": ["job.completed", "job.failed"]})),
        ("/agents", json!({"kinds": ["video_agent"]})),
        ("/sales", json!({"labels": {"team": "sales"}})),
        ("/none", json!({"events": ["endpoint.*"]})),
    ] {
        add(&app, &receiver.url(path), wishes).await;
    }
    app.submit("video", "one").await;
    app.submit("video_agent", "two").await;
    let mut labelled = new_job("video", "three");
    labelled["labels"] = json!({"team": "sales", "more": "x"});
    app.post("/api/jobs", &labelled).await.expect(202);
    app.submit("video", "four #fail").await;
    app.advance_s(120).await;
    assert_eq!(sorted(&receiver, "/ends"), ["job.completed", "job.completed", "job.completed", "job.failed"]);
    assert_eq!((sorted(&receiver, "/agents"), sorted(&receiver, "/sales")), (story(), story()));
    assert_eq!(receiver.types("/none"), [""; 0]);
}

async fn a_job_tells_where_it_says_too(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    app.register().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut job = new_job("video", "one");
    job["notify_url"] = json!(receiver.url("/own"));
    job["notify_secret"] = json!(secret);
    let shown = app.post("/api/jobs", &job).await.expect(202).json();
    assert_eq!(shown["notify_url"], job["notify_url"]);
    assert!(!shown.to_string().contains("whsec_"), "{shown}");
    let mut bare = new_job("video", "two");
    bare["notify_url"] = json!(receiver.url("/bare"));
    app.post("/api/jobs", &bare).await.expect(202);
    app.submit("video", "three").await;
    app.advance_s(60).await;
    assert_eq!((sorted(&receiver, "/own"), sorted(&receiver, "/bare")), (story(), story()));
    assert!(receiver.heard("/own").iter().all(|one| one.signed_with(secret) == 1));
    assert!(receiver.heard("/bare").iter().all(|one| !one.headers.contains_key("webhook-signature")));
    assert!(!receiver.heard("/own")[0].json().to_string().contains("whsec_"));

    for (url, secret) in [
        ("http://10.0.0.1/", Value::Null),
        ("https://u:p@example.com/", Value::Null),
        ("http://localhost.:1/#x", Value::Null),
    ] {
        let mut job = new_job("video", "no");
        job["notify_url"] = json!(url);
        job["notify_secret"] = secret;
        assert_eq!(app.post("/api/jobs", &job).await.expect(422).pointers(), ["/notify_url"], "{url}");
    }
    let mut alone = new_job("video", "no");
    alone["notify_secret"] = json!(secret);
    assert_eq!(app.post("/api/jobs", &alone).await.expect(422).pointers(), ["/notify_secret"]);
}

/// A receiver written for HeyGen stands behind us unchanged: its bytes, its headers, its signature.
async fn heygens_own_webhooks_are_passed_on_byte_for_byte(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let heygens = app.register().await;
    let (_, secret) = add(&app, &receiver.url("/heygen"), json!({"format": "heygen"})).await;
    add(&app, &receiver.url("/both"), json!({"events": ["heygen.avatar_video.*", "job.completed"]})).await;
    let body = "{ \"event_type\" : \"avatar_video.success\",\n \"event_data\": {\"video_id\": \"theirs\", \"url\": \"https://v\"}}";
    let signature = signed(&heygens, body.as_bytes());
    let headers = [
        ("signature", &*signature),
        ("heygen-event-id", "e-1"),
        ("user-agent", "HeyGen/1"),
        ("content-type", "application/json; x=1"),
    ];
    app.webhook(&headers, body).await.expect(200);
    app.webhook(&headers, body).await.expect(200);
    let id = app.submit("video", "ours").await;
    app.advance_s(60).await;

    let heard = receiver.heard("/heygen");
    assert_eq!(heard.len(), 2, "a stranger's and our own, each once");
    assert_eq!(heard[0].body, body);
    for (name, value) in headers {
        assert_eq!(heard[0].header(name), value);
    }
    assert_eq!(heard[0].signed_with(&secret), 1, "and ours beside them");
    for one in &heard {
        assert_eq!(one.header("signature"), signed(&heygens, &one.body));
    }
    let ours = heard[1].json().to_string();
    assert!(ours.contains(&id), "{ours}");
    assert_eq!(
        sorted(&receiver, "/both"),
        ["heygen.avatar_video.success", "heygen.avatar_video.success", "job.completed"]
    );
    let told = receiver.heard("/both");
    assert_eq!(told[0].json()["data"]["event_data"]["video_id"], "theirs");
    assert_eq!(told[0].header("webhook-id"), heard[0].header("webhook-id"), "one id for all who hear it");

    let unheard_of = r#"{"event_type": "wallet.low", "event_data": {"left": 3}}"#;
    app.webhook(&[("signature", &signed(&heygens, unheard_of.as_bytes()))], unheard_of).await.expect(200);
    app.settle().await;
    assert_eq!(receiver.heard("/heygen").pop().unwrap().body, unheard_of, "about nothing we know of");
    for odd in [&b"[]"[..], b"not json", b"{\"event_type\": \"\xff\"}"] {
        app.webhook(&[("signature", &signed(&heygens, odd))], odd).await.expect(200);
        app.settle().await;
        assert_eq!(receiver.heard("/heygen").pop().unwrap().body, odd, "whatever it is");
    }
}

async fn what_heygens_event_log_told_is_passed_on_signed(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let heygens = app.register().await;
    add(&app, &receiver.url("/heygen"), json!({"format": "heygen"})).await;
    app.submit("video", "lost #lost").await;
    app.advance_s(4_000).await;
    let heard = receiver.heard("/heygen");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].header("signature"), signed(&heygens, &heard[0].body));
}

async fn an_endpoint_of_one_node_is_known_to_the_other(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    if fresh.is_sqlite() {
        return;
    }
    let other = app.second_node().await;
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    let body = new_job("video", "there").to_string();
    let json = [("content-type", "application/json")];
    crate::client::call("POST", &format!("{other}/api/jobs"), &json, body.into()).await.expect(202);
    app.settle().await;
    assert_eq!(receiver.types("/hook"), ["job.queued"]);
}

async fn without_an_endpoint_nothing_is_kept_to_send(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    app.register().await;
    let (id, _) = add(&app, &receiver.url("/hook"), json!({})).await;
    app.call("DELETE", &format!("/api/endpoints/{id}"), &[], "").await.expect(204);
    app.submit("video", "nobody").await;
    app.advance_s(60).await;
    assert_eq!(deliveries(&app, "").await, [Value::Null; 0]);
    assert_eq!(receiver.types("/hook"), [""; 0]);
}
