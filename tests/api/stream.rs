//! The event log as it grows: where a reader begins, that one who comes back misses nothing, and how a stream ends.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use reelhook::clock::Clock;
use reelhook::domain::time::rfc3339;
use reelhook::net::{self, Reading};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::app::{Setup, TestApp, cases, new_job, signed, texts};
use crate::client::{Answer, Headers};
use crate::database::Fresh;

cases! {
    a_stream_begins_with_how_things_stand_and_goes_on,
    lines_of_json_say_the_same,
    a_poll_ends_with_what_is_there,
    who_comes_back_misses_nothing,
    a_stream_begins_where_it_is_asked_to,
    a_position_that_is_not_there_is_told_as_a_gap,
    events_are_chosen_by_type_kind_and_label,
    heygens_own_events_are_told_as_they_came,
    a_job_is_followed_to_its_end,
    silence_is_broken_every_five_seconds,
    streams_are_bounded_and_looked_at_cost_none,
    a_stop_lets_readers_go,
    what_one_node_publishes_is_told_by_the_other,
    an_event_is_found_by_its_number_and_its_id,
}

/// A case that waits longer than this for a line has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);
pub const LINES: (&str, &str) = ("accept", "application/x-ndjson");

pub struct Stream(Reading);

impl Stream {
    pub async fn open(app: &TestApp, path: &str, headers: Headers<'_>) -> Self {
        let call = net::Call {
            method: Method::GET,
            url: format!("{}{path}", app.base),
            headers: net::headers(headers.iter().copied()),
            body: Bytes::new(),
            timeout: PATIENCE,
            max_body_bytes: 1 << 20,
        };
        let reading = net::Client::new(Clock::real(), false).open(call).await.expect("a head");
        assert_eq!(reading.status, 200, "{path}");
        Self(reading)
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The next line, `None` at the end.
    async fn line(&mut self) -> Option<String> {
        let line =
            Clock::real().within(PATIENCE, self.0.line()).await.expect("a line in time").expect("no fault");
        line.map(|line| String::from_utf8(line.to_vec()).expect("text"))
    }

    /// The next document of a stream of lines, but for those that only break a silence.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let told: Value = serde_json::from_str(&self.line().await?).expect("JSON");
            if told["type"] != "keepalive" {
                return Some(told);
            }
        }
    }

    pub async fn expect(&mut self, event_type: &str) -> Value {
        let told = self.next().await.expect("a line");
        assert_eq!(told["type"], event_type, "{told}");
        told
    }

    /// Everything until it is told that all was told.
    pub async fn until_live(&mut self) -> Vec<Value> {
        let mut all = vec![];
        loop {
            let told = self.next().await.expect("a line");
            if told["type"] == "live" {
                return all;
            }
            all.push(told);
        }
    }
}

async fn lines(app: &TestApp, query: &str) -> Stream {
    Stream::open(app, &format!("/api/stream{query}"), &[LINES]).await
}

/// The numbers of what a stream tells until it has caught up, the snapshot left out.
async fn told(app: &TestApp, query: &str, headers: Headers<'_>) -> Vec<i64> {
    let mut stream = Stream::open(app, &format!("/api/stream{query}"), headers).await;
    stream.expect("snapshot").await;
    stream.until_live().await.iter().map(|e| e["number"].as_i64().expect("an event")).collect()
}

/// The numbers of our own events, as the list has them.
async fn listed(app: &TestApp) -> Vec<i64> {
    let (mut all, mut cursor) = (vec![], json!("0"));
    while let Some(after) = cursor.as_str() {
        let page = app.get(&format!("/api/events?limit=200&cursor={after}")).await.expect(200).json();
        all.extend(page["data"].as_array().expect("a list").clone());
        cursor = page["next_cursor"].clone();
    }
    let ours = all.iter().filter(|e| !e["type"].as_str().expect("a type").starts_with("heygen."));
    ours.map(|e| e["number"].as_i64().expect("a number")).collect()
}

async fn a_stream_begins_with_how_things_stand_and_goes_on(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.submit("video", "before").await;
    let mut stream = Stream::open(&app, "/api/stream", &[]).await;
    let head = stream.headers();
    assert_eq!(head["content-type"], "text/event-stream");
    assert_eq!(
        (&head["cache-control"], &head["x-accel-buffering"]),
        (&"no-store".parse().unwrap(), &"no".parse().unwrap())
    );
    assert_eq!(stream.line().await.unwrap(), "retry: 3000");
    let id = stream.line().await.unwrap();
    assert_eq!(stream.line().await.unwrap(), "event: snapshot");
    let data = stream.line().await.unwrap();
    let snapshot: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&snapshot["position"], &snapshot["open_jobs"]["queued"]), (&json!(1), &json!(1)));
    assert_eq!(id, format!("id: {}.1", snapshot["log"].as_str().unwrap()));
    assert_eq!(stream.line().await.unwrap(), "");
    assert_eq!((stream.line().await.unwrap(), stream.line().await.unwrap()), (id, "event: live".into()));
    stream.line().await;
    stream.line().await;

    let id = app.submit("video", "after").await;
    app.advance_s(1).await;
    // The first goes on to HeyGen, and the second.
    let mut types = vec![];
    for _ in 0..3 {
        let number = stream.line().await.unwrap();
        let name = stream.line().await.unwrap();
        let data = stream.line().await.unwrap();
        assert_eq!(stream.line().await.unwrap(), "");
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(number, format!("id: {}.{}", snapshot["log"].as_str().unwrap(), event["number"]));
        assert_eq!(name, format!("event: {}", event["type"].as_str().unwrap()));
        types.push((event["type"].as_str().unwrap().to_owned(), event["job_id"] == id));
    }
    assert_eq!(types[0], ("job.queued".to_owned(), true));
    assert!(types[1..].iter().all(|(name, _)| name == "job.processing"), "{types:?}");
    app.advance_s(60).await;
}

async fn lines_of_json_say_the_same(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.submit("video", "one").await;
    app.advance_s(60).await;
    for (path, headers) in
        [("/api/stream?since=all", &[LINES][..]), ("/api/stream?since=all&format=ndjson", &[])]
    {
        let mut stream = Stream::open(&app, path, headers).await;
        assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
        let all = [vec![stream.expect("snapshot").await], stream.until_live().await].concat();
        assert_eq!(texts(&json!(all), "type"), ["snapshot", "job.queued", "job.processing", "job.completed"]);
        let page = app.get("/api/events").await.json();
        let listed = page["data"].as_array().unwrap().iter().filter(|e| !e["job_id"].is_null());
        assert_eq!(listed.collect::<Vec<_>>(), all[1..].iter().collect::<Vec<_>>(), "the events of the list");
    }
}

async fn a_poll_ends_with_what_is_there(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "one").await;
    app.settle().await;
    for (path, types) in [
        ("/api/stream?since=all&poll=true".to_owned(), &["job.queued", "job.processing"][..]),
        ("/api/stream?poll=true".to_owned(), &[]),
        (format!("/api/jobs/{id}/stream?since=all&poll=1"), &["job.queued", "job.processing"]),
    ] {
        let mut stream = Stream::open(&app, &path, &[LINES]).await;
        stream.expect("snapshot").await;
        assert_eq!(texts(&json!(stream.until_live().await), "type"), types, "{path}");
        assert_eq!(stream.next().await, None, "{path}: it ends");
    }
    app.get("/api/stream?poll=yes").await.problem(400, "invalid_parameter");
}

async fn who_comes_back_misses_nothing(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut stream = lines(&app, "").await;
    stream.expect("snapshot").await;
    stream.expect("live").await;
    app.submit("video", "one").await;
    app.advance_s(1).await;
    let seen = stream.expect("job.queued").await["number"].to_string();
    drop(stream);
    for n in 0..60 {
        app.submit("video", &format!("{n}")).await;
    }
    app.advance_s(120).await;
    let missed: Vec<i64> = listed(&app).await.into_iter().filter(|n| n.to_string() != "1").collect();
    assert!(missed.len() > 120, "more than a look takes in at once");
    assert_eq!(told(&app, "", &[LINES, ("last-event-id", &*seen)]).await, missed);
    assert_eq!(told(&app, &format!("?since={seen}"), &[LINES]).await, missed);
    let header = [LINES, ("last-event-id", &*seen)];
    assert_eq!(told(&app, "?since=all", &header).await, missed, "the header goes before the address");
    app.restart().await;
    assert_eq!(told(&app, &format!("?since={seen}"), &[LINES]).await, missed, "a new process knows no less");
}

async fn a_stream_begins_where_it_is_asked_to(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.submit("video", "one").await;
    app.clock.advance(Duration::from_secs(600));
    let then = rfc3339(app.now());
    app.submit("video", "two").await;
    app.clock.advance(Duration::from_secs(600));
    app.submit("video", "three").await;
    for (query, numbers) in [
        ("?since=all", vec![1, 2, 3]),
        ("?since=0", vec![1, 2, 3]),
        ("?since=2", vec![3]),
        ("?since=3", vec![]),
        ("", vec![]),
        ("?since=1h", vec![1, 2, 3]),
        ("?since=10m", vec![2, 3]),
        ("?since=9m59s", vec![3]),
        (&format!("?since={then}"), vec![2, 3]),
    ] {
        assert_eq!(told(&app, query, &[LINES]).await, numbers, "{query}");
    }
    for wrong in ["since=soon", "since=-1", "format=xml", "events=job.done", "kinds=film", "labels=x", "x=1"]
    {
        let problem = app.get(&format!("/api/stream?{wrong}")).await;
        let name = wrong.split('=').next().unwrap();
        problem.problem(400, "invalid_parameter");
        assert_eq!(problem.pointers(), [name], "{wrong}");
    }
    let wrong = app.call("GET", "/api/stream", &[("last-event-id", "x")], "").await;
    assert_eq!(wrong.expect(400).pointers(), ["Last-Event-ID"]);
    app.leave_it();
}

async fn a_position_that_is_not_there_is_told_as_a_gap(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    for n in 0..5 {
        app.submit("video", &format!("{n}")).await;
    }
    app.db().write(|tx| tx.execute("DELETE FROM event WHERE number < 3", &[])).await.expect("they are gone");
    for (since, gap) in [("1", true), ("2", false), ("5", false), ("6", true)] {
        let mut stream = lines(&app, &format!("?since={since}")).await;
        let snapshot = stream.expect("snapshot").await;
        let mut all = stream.until_live().await;
        if gap {
            let gap = all.remove(0);
            let expected = json!({"type": "gap", "position": 2, "asked": since.parse::<i64>().unwrap()});
            assert_eq!(gap, expected, "of a log that was cut, and of one that is not ours");
            assert_eq!((&snapshot["position"], all.len()), (&json!(2), 3), "with the oldest that is kept");
        } else {
            assert_eq!(all.len(), 5 - since.parse::<usize>().unwrap());
        }
    }
    let log = lines(&app, "").await.expect("snapshot").await["log"].as_str().expect("a name").to_owned();
    assert_eq!(told(&app, &format!("?since={log}.4"), &[LINES]).await, [5]);
    let mut stream = lines(&app, "?since=0a1b2c3d.4").await;
    stream.expect("snapshot").await;
    assert_eq!(stream.until_live().await[0]["type"], "gap", "the same number in the log of another store");
    assert_eq!(
        told(&app, "?since=all", &[LINES]).await,
        [3, 4, 5],
        "who asks for all there is misses nothing"
    );
    app.leave_it();
}

async fn events_are_chosen_by_type_kind_and_label(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.submit("video", "one").await;
    app.submit("video_agent", "two").await;
    let mut labelled = new_job("video", "three #fail");
    labelled["labels"] = json!({"team": "sales", "more": "x"});
    app.post("/api/jobs", &labelled).await.expect(202);
    app.advance_s(120).await;
    for (query, types) in [
        ("events=job.completed,job.failed", vec!["job.completed", "job.completed", "job.failed"]),
        ("events=endpoint.*", vec![]),
        ("kinds=video_agent", vec!["job.completed", "job.processing", "job.queued"]),
        ("labels=team:sales", vec!["job.failed", "job.processing", "job.queued"]),
        ("labels=team:press", vec![]),
        ("labels=team:sales&kinds=video&events=job.queued", vec!["job.queued"]),
    ] {
        let mut stream = lines(&app, &format!("?since=all&{query}")).await;
        stream.expect("snapshot").await;
        let mut found = texts(&json!(stream.until_live().await), "type");
        found.sort();
        assert_eq!(found, types, "{query}");
    }
}

async fn heygens_own_events_are_told_as_they_came(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let id = app.submit("video", "ours").await;
    app.advance_s(60).await;
    let body =
        "{ \"event_type\": \"odd\\n\\nid: 9\", \"event_data\": {\"video_id\": \"theirs\", \"n\": 1.50} }";
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
    app.settle().await;
    let mut stream = lines(&app, "?since=all&events=heygen.*").await;
    stream.expect("snapshot").await;
    let all = stream.until_live().await;
    assert_eq!(texts(&json!(all), "type"), ["heygen.avatar_video.success", "heygen.odd  id: 9"]);
    assert_eq!(
        all[0]["data"]["event_data"]["callback_id"], id,
        "also that of a job of ours, endpoint or not"
    );
    assert_eq!(
        all[1]["data"],
        json!({"event_type": "odd\n\nid: 9", "event_data": {"video_id": "theirs", "n": 1.5}})
    );
    for event in &all {
        let receipt = app.get(&format!("/api/receipts/{}", event["receipt_id"].as_str().unwrap())).await;
        let body: Value = serde_json::from_str(receipt.expect(200).json()["body"].as_str().unwrap()).unwrap();
        assert_eq!(body, event["data"]);
        assert_eq!(event["job_id"], Value::Null, "what it says of a job is told by that job's events");
    }
    // What HeyGen calls its events cannot end the line it stands in.
    let mut stream = Stream::open(&app, "/api/stream?since=all&events=heygen.*", &[]).await;
    let mut names = vec![];
    while names.last().is_none_or(|name| name != "event: live") {
        let line = stream.line().await.unwrap();
        assert_ne!(line, "id: 9");
        names.extend(line.starts_with("event:").then_some(line));
    }
    assert_eq!(names[2], "event: heygen.odd  id: 9");
}

async fn a_job_is_followed_to_its_end(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let (id, other) = (app.submit("video", "one").await, app.submit("video", "other").await);
    app.settle().await;
    let path = format!("/api/jobs/{id}/stream");
    let mut stream = Stream::open(&app, &path, &[LINES]).await;
    let job = stream.expect("snapshot").await["job"].clone();
    assert_eq!(job, app.job(&id).await, "the same object everywhere");
    let range = &job["expected"];
    assert!(
        range["from"].as_str().unwrap() < range["to"].as_str().unwrap(),
        "when it is expected to end: {job}"
    );
    stream.expect("live").await;
    app.advance_s(60).await;
    let end = stream.expect("job.completed").await;
    assert_eq!(end["data"]["result"]["page_url"], app.job(&id).await["result"]["page_url"]);
    let done = stream.expect("done").await;
    assert_eq!((&done["job_id"], &done["state"]), (&json!(id), &json!("completed")));
    assert_eq!(stream.next().await, None, "and it ends");

    let position = done["position"].to_string();
    let answer = app.call("GET", &path, &[("last-event-id", &*position)], "").await;
    assert_eq!(answer.expect(204).text(), "", "a browser that comes back is told not to");
    let before = (position.parse::<i64>().unwrap() - 1).to_string();
    let back = app.call("GET", &path, &[LINES, ("last-event-id", &*before)], "").await.expect(200);
    assert_eq!(types(&back), ["snapshot", "job.completed", "live", "done"], "what it missed is told first");
    let late = app.call("GET", &path, &[LINES], "").await.expect(200);
    assert_eq!(types(&late), ["snapshot", "live", "done"]);
    let all = app.get(&format!("{path}?since=all&format=ndjson")).await.expect(200);
    let whole = ["snapshot", "job.queued", "job.processing", "job.completed", "live", "done"];
    assert_eq!(types(&all), whole, "and nothing of {other}");
    app.get("/api/jobs/none/stream").await.problem(404, "not_found");
    app.get(&format!("{path}?events=job.*")).await.problem(400, "invalid_parameter");
}

fn types(answer: &Answer) -> Vec<String> {
    let all = answer.text();
    let all = all.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.map(|told| told["type"].as_str().expect("a type").to_owned()).collect()
}

async fn silence_is_broken_every_five_seconds(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut events = Stream::open(&app, "/api/stream", &[]).await;
    let mut documents = lines(&app, "").await;
    while events.line().await.unwrap() != "event: live" {}
    assert!(events.line().await.unwrap().starts_with("data: "));
    assert_eq!(events.line().await.unwrap(), "");
    documents.expect("snapshot").await;
    documents.expect("live").await;
    for _ in 0..3 {
        app.clock.advance(Duration::from_secs(5));
        assert_eq!(events.line().await.unwrap(), ": keepalive");
        assert_eq!(events.line().await.unwrap(), "");
        assert_eq!(documents.line().await.unwrap(), "{\"type\":\"keepalive\"}");
    }
}

async fn streams_are_bounded_and_looked_at_cost_none(fresh: &Fresh) {
    const MOST: usize = 20;
    let app = TestApp::with(fresh, Setup { flags: &[("streams", "20")], ..Setup::default() }).await;
    let router = app.app().router();
    // Without sockets, which take longer.
    let open = |method: &str| {
        let mut request = Request::builder().method(method).uri("/api/stream").header("host", "localhost");
        let peer: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        request.extensions_mut().expect("a request").insert(ConnectInfo(peer));
        let request = request.body(Body::empty()).expect("a request");
        async { router.clone().oneshot(request).await.expect("an answer") }
    };
    let mut streams = vec![];
    for _ in 0..MOST {
        let answer = open("GET").await;
        assert_eq!(answer.status(), 200);
        streams.push(answer);
    }
    assert_eq!(app.metric("reelhook_stream_clients").await, MOST as f64);
    app.get("/api/stream").await.problem(503, "too_many_streams");
    streams.pop();
    drop(open("HEAD").await);
    let mut stream = lines(&app, "").await;
    stream.expect("snapshot").await;
    app.get("/api/stream").await.problem(503, "too_many_streams");
}

async fn a_stop_lets_readers_go(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut stream = lines(&app, "").await;
    stream.expect("snapshot").await;
    stream.expect("live").await;
    app.app().http.end_streams();
    assert_eq!(stream.next().await, None);
}

async fn what_one_node_publishes_is_told_by_the_other(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    if fresh.is_sqlite() {
        return;
    }
    let other = app.second_node().await;
    let mut stream = lines(&app, "").await;
    stream.expect("snapshot").await;
    stream.expect("live").await;
    // Not by the look that follows a silence: nothing but the bell can wake it.
    app.clock.advance(Duration::from_secs(1));
    let body = new_job("video", "there").to_string();
    let json = [("content-type", "application/json")];
    crate::client::call("POST", &format!("{other}/api/jobs"), &json, body.into()).await.expect(202);
    stream.expect("job.queued").await;
    app.leave_it();
}

async fn an_event_is_found_by_its_number_and_its_id(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.submit("video", "one").await;
    let event = app.get("/api/events").await.json()["data"][0].clone();
    assert_eq!(app.get("/api/events/1").await.expect(200).json(), event);
    let by_id = app.get(&format!("/api/events/{}", event["id"].as_str().unwrap())).await;
    assert_eq!(by_id.expect(200).json(), event);
    for none in ["2", "evt_none", "-1", "99999999999999999999"] {
        app.get(&format!("/api/events/{none}")).await.problem(404, "not_found");
    }
    app.leave_it();
}
