//! Looking: lists that page stably and filter, a job that is waited for, and answers that are not
//! sent twice.

use reelhook::domain::time::rfc3339;
use serde_json::{Value, json};

use crate::app::{START, TestApp, cases, new_job, signed, texts};
use crate::client::Answer;
use crate::database::Fresh;

cases! {
    a_list_pages_through_everything_once_while_it_grows,
    each_filter_finds_what_it_says_and_nothing_else,
    receipts_and_events_page_too,
    a_job_that_did_not_change_is_304,
    wait_ends_when_the_job_does,
    wait_ends_when_its_time_is_up,
    prefer_wait_is_honoured,
    a_submit_may_wait_for_the_end,
}

/// Follows `next_cursor` to the end; calls `between` after each page.
async fn walk(app: &TestApp, path: &str, between: impl AsyncFn()) -> Vec<Value> {
    let (mut all, mut next) = (vec![], None::<String>);
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let url = match &next {
            None => path.to_owned(),
            Some(cursor) => format!("{path}{joint}cursor={cursor}"),
        };
        let answer = app.get(&url).await.expect(200);
        let page = answer.json();
        all.extend(page["data"].as_array().expect("a list").clone());
        next = page["next_cursor"].as_str().map(str::to_owned);
        assert_eq!(page["has_more"], json!(next.is_some()));
        match &next {
            None => {
                assert_eq!(answer.header("link"), None);
                return all;
            }
            Some(cursor) => {
                let link = answer.header("link").expect("a Link header");
                let target = link
                    .strip_prefix('<')
                    .and_then(|l| l.strip_suffix(">; rel=\"next\""))
                    .unwrap_or_else(|| panic!("{link}"));
                let linked = app.get(target).await.expect(200).json();
                let own = app.get(&format!("{path}{joint}cursor={cursor}")).await.json();
                assert_eq!(linked["data"], own["data"], "the link leads where the cursor does");
            }
        }
        between().await;
    }
}

async fn held(app: &TestApp, title: &str) -> String {
    let mut body = new_job("video", title);
    body["hold"] = json!(true);
    app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned()
}

async fn a_list_pages_through_everything_once_while_it_grows(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let mut ids = vec![];
    for nth in 0..23 {
        ids.push(held(&app, &format!("number {nth}")).await);
        if nth % 4 == 0 {
            app.advance_s(1).await;
        }
    }
    app.advance_s(1).await;
    let grown = async || {
        held(&app, "came meanwhile").await;
    };
    let all = walk(&app, "/api/jobs?limit=5", grown).await;
    let mut found = texts(&json!(all), "id");
    let is_newest_first = found.windows(2).all(|w| w[0] > w[1]);
    assert!(is_newest_first, "newest first");
    found.sort();
    ids.sort();
    assert_eq!(found, ids, "each once, and none that came meanwhile");
    let page = app.get("/api/jobs").await.json();
    assert_eq!(page["data"].as_array().unwrap().len(), 27, "fifty by default");
}

async fn each_filter_finds_what_it_says_and_nothing_else(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let done = app.submit("translation", "Sommerfest 100%").await;
    app.advance_s(30).await;
    let waits = held(&app, "Winter_Market").await;
    app.advance_s(10).await;
    let mut body = new_job("video_agent", "prompt");
    body["callback_id"] = json!("order-77");
    body["labels"] = json!({"team": "ads", "lang": "de:AT"});
    let agent = app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    let upstream = app.job(&done).await["upstream_id"].as_str().unwrap().to_owned();
    let at = |s: i64| rfc3339(START + s * 1_000);
    let found = async |query: &str| {
        let page = app.get(&format!("/api/jobs?{query}")).await.expect(200).json();
        texts(&page["data"], "id")
    };
    for (query, expected) in [
        ("state=completed".to_owned(), vec![&done]),
        ("state=held".to_owned(), vec![&waits]),
        ("state=queued".to_owned(), vec![&agent]),
        ("state=failed".to_owned(), vec![]),
        ("kind=video".to_owned(), vec![&waits]),
        ("kind=video_agent".to_owned(), vec![&agent]),
        ("callback_id=order-77".to_owned(), vec![&agent]),
        ("callback_id=order-7".to_owned(), vec![]),
        ("label=team:ads".to_owned(), vec![&agent]),
        ("label=lang:de:AT".to_owned(), vec![&agent]),
        ("label=team:ad".to_owned(), vec![]),
        (format!("created_after={}", at(30)), vec![&agent]),
        (format!("created_after={}", at(29)), vec![&agent, &waits]),
        (format!("created_before={}", at(30)), vec![&done]),
        (format!("created_after={}&created_before={}", at(0), at(40)), vec![&waits]),
        ("q=sommerFEST".to_owned(), vec![&done]),
        ("q=100%25".to_owned(), vec![&done]),
        ("q=winter_m".to_owned(), vec![&waits]),
        ("q=winterxm".to_owned(), vec![]),
        ("q=r_m".to_owned(), vec![&waits]),
        ("q=order-77".to_owned(), vec![&agent]),
        ("q=ads".to_owned(), vec![&agent]),
        (format!("q={}", upstream.to_uppercase()), vec![&done]),
        ("q=%27%20OR%201=1--".to_owned(), vec![]),
        ("state=queued&kind=video".to_owned(), vec![]),
        ("state=queued&label=team:ads&q=order".to_owned(), vec![&agent]),
    ] {
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(found(&query).await, expected, "{query}");
    }
    app.advance_s(60).await;
}

async fn receipts_and_events_page_too(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    for nth in 0..7 {
        let body = json!({"event_type": "x.y", "event_data": {"video_id": nth.to_string()}}).to_string();
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
        app.advance_s(1).await;
    }
    app.webhook(&[("signature", &"0".repeat(64))], "{}").await.expect(401);
    let nothing = async || {};
    let receipts = walk(&app, "/api/receipts?limit=2", nothing).await;
    assert_eq!(receipts.len(), 8);
    let signed = walk(&app, "/api/receipts?verdict=signed&limit=3", nothing).await;
    let names: Vec<String> = texts(&json!(signed), "parked_under");
    assert_eq!(names, ["6", "5", "4", "3", "2", "1", "0"], "newest first");
    let events = walk(&app, "/api/events?limit=2", nothing).await;
    let numbers: Vec<i64> = events.iter().map(|e| e["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7], "oldest first, without holes");
    let id = app.submit("video", "t").await;
    app.advance_s(30).await;
    let own = walk(&app, &format!("/api/jobs/{id}/events?limit=1"), nothing).await;
    let sequence: Vec<i64> = own.iter().map(|e| e["job_sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequence, [1, 2, 3]);
    assert_eq!(texts(&json!(own), "type"), ["job.queued", "job.processing", "job.completed"]);
    // An event's body is the job as it was then.
    let states: Vec<&Value> = own.iter().map(|e| &e["data"]["state"]).collect();
    assert_eq!(states, ["queued", "processing", "completed"]);
}

async fn a_job_that_did_not_change_is_304(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "tagged").await;
    let path = format!("/api/jobs/{id}");
    let url = format!("{}{path}", app.base);
    let ask = async |tag: &str| crate::client::call("GET", &url, &[("if-none-match", tag)], "".into()).await;
    let first = app.get(&path).await.expect(200);
    let tag = first.header("etag").expect("an ETag").to_owned();
    assert!(first.header("retry-after").is_some(), "a hint for those who poll");
    let same = ask(&tag).await.expect(304);
    assert_eq!((same.body.len(), same.header("etag")), (0, Some(&*tag)));
    // RFC 9110 13.1.2: a list, a weak tag, and any.
    for also in [format!("\"other\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
        ask(&also).await.expect(304);
    }
    ask("\"other\"").await.expect(200);
    app.advance_s(30).await;
    let changed = ask(&tag).await.expect(200);
    assert_ne!(changed.header("etag"), Some(&*tag));
    assert_eq!(changed.header("retry-after"), None, "it has ended");
}

/// The answer to `request`, while time passes until it comes; and how much passed, in milliseconds.
async fn while_time_passes(app: &TestApp, request: impl Future<Output = Answer>) -> (Answer, i64) {
    let (clock, start) = (app.clock.clone(), app.now());
    tokio::pin!(request);
    loop {
        tokio::select! {
            biased;
            answer = &mut request => return (answer, clock.now() - start),
            () = tokio::task::yield_now() => clock.advance(std::time::Duration::from_millis(20)),
        }
    }
}

async fn wait_ends_when_the_job_does(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = held(&app, "waited for").await;
    let url = format!("{}/api/jobs/{id}?wait=60", app.base);
    let waiting = tokio::spawn(async move { crate::client::call("GET", &url, &[], "".into()).await });
    app.post(&format!("/api/jobs/{id}/reject"), &json!({"reason": "no"})).await.expect(200);
    let (answer, _) = while_time_passes(&app, async { waiting.await.expect("an answer") }).await;
    assert_eq!(answer.expect(200).json()["state"], "canceled");
    // What has ended is answered at once, without a tick of the clock.
    let answer = app.get(&format!("/api/jobs/{id}?wait=60")).await.expect(200);
    assert_eq!(answer.json()["state"], "canceled");
    app.settle().await;
}

async fn wait_ends_when_its_time_is_up(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let id = held(&app, "goes on").await;
    for seconds in [1, 30] {
        let path = format!("/api/jobs/{id}?wait={seconds}");
        let (answer, passed) = while_time_passes(&app, app.get(&path)).await;
        assert_eq!(answer.expect(202).json(), app.job(&id).await, "the same object, and no end");
        assert!(passed >= seconds * 1_000, "{passed} ms of {seconds} s");
    }
    let (answer, _) = while_time_passes(&app, app.get(&format!("/api/jobs/{id}?wait=0"))).await;
    assert_eq!(answer.expect(202).json()["state"], "held");
    app.get(&format!("/api/jobs/{id}")).await.expect(200);
}

async fn prefer_wait_is_honoured(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let id = held(&app, "preferred").await;
    let path = format!("/api/jobs/{id}");
    let asked = app.call("GET", &path, &[("prefer", "respond-async, wait=7")], "");
    let (answer, passed) = while_time_passes(&app, asked).await;
    assert_eq!(answer.expect(202).json()["state"], "held");
    assert!(passed >= 7_000, "{passed} ms");
    // A preference that cannot be met is no error.
    let asked = app.call("GET", &path, &[("prefer", "wait=9999")], "");
    let (answer, passed) = while_time_passes(&app, asked).await;
    answer.expect(202);
    assert!(passed >= 60_000, "{passed} ms");
    app.call("GET", &path, &[("prefer", "wait=soon, handling=lenient")], "").await.expect(200);
}

async fn a_submit_may_wait_for_the_end(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "held");
    body["hold"] = json!(true);
    // Unfinished: as without waiting, 202 and the first answer.
    let post = app.call("POST", "/api/jobs?wait=2", &[("idempotency-key", "w")], body.to_string());
    let (answer, passed) = while_time_passes(&app, post).await;
    let job = answer.expect(202).json();
    assert_eq!(job["state"], "held");
    assert!(passed >= 2_000, "{passed} ms");
    let id = job["id"].as_str().unwrap().to_owned();
    app.post(&format!("/api/jobs/{id}/reject"), &json!({})).await.expect(200);
    // Finished: 200 with the job as it ended.
    let post = app.call("POST", "/api/jobs?wait=2", &[("idempotency-key", "w")], body.to_string()).await;
    assert_eq!(post.header("location"), Some(&*format!("/api/jobs/{id}")));
    assert_eq!(post.expect(200).json()["state"], "canceled");
    app.settle().await;
}
