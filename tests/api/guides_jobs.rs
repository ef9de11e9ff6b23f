//! What four integration guides in circulation promise their readers about registering, submitting
//! and looking, row by row. The name of a case begins with its guide.

use reelhook::heygen::sandbox::What;
use serde_json::json;

use crate::app::{HEYGEN_KEY, Setup, TestApp, cases, new_job, signed, texts};
use crate::database::Fresh;
use crate::stream::Stream;

cases! {
    guide_000_registering_twice_makes_no_double_and_keeps_the_secret,
    guide_000_an_endpoint_at_a_path_of_a_guide_is_taken_over_and_others_are_left_alone,
    guide_000_registering_checks_the_probe_first,
    guide_000_doctor_says_what_is_wrong_and_what_to_do,
    guide_001_a_producer_approves_or_rejects,
    guide_001_the_log_has_one_line_for_each_end_and_each_stranger,
    guide_003_chosen_events_are_registered,
    guide_003_the_callers_own_id_is_kept_echoed_and_found,
    guide_004_the_heygen_key_is_in_no_answer,
    guide_004_the_job_exists_before_heygen_is_called,
    guide_004_the_small_status_object_answers_by_either_id,
}

async fn guide_000_registering_twice_makes_no_double_and_keeps_the_secret(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let first = app.post("/api/webhooks", &json!({})).await.expect(201).json();
    assert_eq!((&first["action"], &first["secret_stored"]), (&json!("created"), &json!(true)));
    let secret = app.secrets().await;
    let again = app.post("/api/webhooks", &json!({})).await.expect(200).json();
    assert_eq!(again["action"], "updated");
    assert_eq!(again["endpoint_id"], first["endpoint_id"]);
    assert_eq!(app.secrets().await, secret, "the secret stays");
    app.restart().await;
    app.post("/api/webhooks", &json!({})).await.expect(200);
    let list = app.get("/api/webhooks").await.expect(200).json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["data"][0]["is_ours"], true);
    assert_eq!(list["data"][0]["secret_known"], true);
    let body = "{}";
    app.webhook(&[("signature", &signed(&secret[0], body.as_bytes()))], body).await.expect(200);
    app.settle().await;
}

async fn guide_000_an_endpoint_at_a_path_of_a_guide_is_taken_over_and_others_are_left_alone(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let (old, base) = (format!("{}/api/webhooks/heygen/", app.base), app.base.clone());
    // Of other servers: one is elsewhere, one behind the same name.
    let elsewhere = format!("{}/webhooks/heygen", base.replace("127.0.0.1", "localhost"));
    for url in [elsewhere, format!("{base}/webhooks/heygen/more"), old.clone()] {
        app.elsewhere("/v3/webhooks/endpoints", &json!({"url": url, "events": null})).await;
    }
    let list = app.get("/api/webhooks").await.expect(200).json();
    let ours = |list: &serde_json::Value| -> Vec<serde_json::Value> {
        let all = list["data"].as_array().expect("a list");
        all.iter().filter(|e| e["is_ours"] == true).map(|e| e["url"].clone()).collect()
    };
    assert_eq!(ours(&list), [json!(old)]);
    let taken = app.post("/api/webhooks", &json!({})).await.expect(200).json();
    assert_eq!((&taken["action"], &taken["url"]), (&json!("rotated"), &json!(old)), "{taken}");
    let list = app.get("/api/webhooks").await.expect(200).json();
    assert_eq!(
        (ours(&list), list["data"].as_array().map(Vec::len)),
        (vec![json!(old)], Some(3)),
        "no double"
    );
    let report = app.get("/api/doctor").await.expect(200).json();
    let about =
        report["checks"].as_array().unwrap().iter().find(|c| c["check"] == "HeyGen endpoint").unwrap();
    assert_eq!(about["status"], "ok", "{about}");
    app.settle().await;
}

async fn guide_000_registering_checks_the_probe_first(fresh: &Fresh) {
    // Nobody listens there.
    let setup = Setup { flags: &[("public-url", "http://127.0.0.1:9")], ..Setup::default() };
    let app = TestApp::with(fresh, setup).await;
    let problem = app.post("/api/webhooks", &json!({})).await.problem(409, "probe_failed");
    assert!(problem["detail"].as_str().unwrap().contains("127.0.0.1:9"), "{problem}");
    let asked = |e: &&reelhook::heygen::sandbox::Entry| matches!(&e.what, What::Call { path, .. } if path.starts_with("/v3/webhooks"));
    assert_eq!(app.sandbox.ledger().iter().filter(asked).count(), 0, "HeyGen was not asked");
    drop(app);
}

async fn guide_000_doctor_says_what_is_wrong_and_what_to_do(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let check = |report: &serde_json::Value, name: &str| {
        let all = report["checks"].as_array().unwrap();
        all.iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    let before = app.get("/api/doctor").await.expect(200).json();
    assert_eq!(before["healthy"], true, "{before}");
    assert_eq!(check(&before, "HeyGen endpoint")["status"], "warn");
    assert!(check(&before, "HeyGen endpoint")["fix"].as_str().unwrap().contains("webhook register"));
    app.register().await;
    let after = app.get("/api/doctor").await.expect(200).json();
    for name in ["HeyGen endpoint", "webhook secret", "HeyGen key", "public address", "inbox", "store"] {
        assert_eq!(check(&after, name)["status"], "ok", "{name}: {after}");
    }
    app.webhook(&[("signature", &"0".repeat(64))], "{}").await.expect(401);
    app.sandbox.revoke_key(true);
    app.submit("video", "no key").await;
    app.settle().await;
    let ill = app.get("/api/doctor").await.expect(200).json();
    assert_eq!(ill["healthy"], false);
    for (name, status) in [("HeyGen key", "fail"), ("submission", "fail"), ("refused webhooks", "warn")] {
        let found = check(&ill, name);
        assert_eq!(found["status"], status, "{ill}");
        assert!(found["fix"].as_str().is_some_and(|f| !f.is_empty()), "{found}");
    }
    app.leave_it();
}

async fn guide_001_a_producer_approves_or_rejects(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let held = |title: &str| {
        let mut body = new_job("video", title);
        body["hold"] = json!(true);
        body
    };
    let mut ids = vec![];
    for title in ["yes", "no"] {
        let job = app.post("/api/jobs", &held(title)).await.expect(202).json();
        assert_eq!(job["state"], "held");
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    app.advance_s(3_600).await;
    assert_eq!(app.sandbox.tally().accepted + app.sandbox.tally().refused, 0, "nothing was sent");
    let job = app.post(&format!("/api/jobs/{}/approve", ids[0]), &json!({})).await.expect(200).json();
    assert_eq!(job["state"], "queued");
    let reason = json!({"reason": "wrong logo"});
    let job = app.post(&format!("/api/jobs/{}/reject", ids[1]), &reason).await.expect(200).json();
    assert_eq!(job["state"], "canceled");
    assert!(job["cancel_reason"].as_str().unwrap().contains("wrong logo"), "{job}");
    app.advance_s(30).await;
    let job = app.job(&ids[0]).await;
    assert_eq!(job["state"], "completed");
    assert_eq!(app.events(&ids[0]).await, ["job.held", "job.queued", "job.processing", "job.completed"]);
    assert_eq!(app.events(&ids[1]).await, ["job.held", "job.canceled"]);
    assert_eq!((app.charges(&ids[0]), app.charges(&ids[1])), (1, 0));
}

async fn guide_001_the_log_has_one_line_for_each_end_and_each_stranger(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let good = app.submit("video", "good #double").await;
    let bad = app.submit("video", "bad #fail").await;
    app.advance_s(120).await;
    let foreign = json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": "no-reel-of-ours", "url": "https://files.heygen.ai/x.mp4",
    }})
    .to_string();
    app.webhook(&[("signature", &signed(&secret, foreign.as_bytes()))], foreign.clone()).await.expect(200);
    app.settle().await;
    for (id, line) in [(&good, "job completed"), (&bad, "job failed")] {
        let upstream = app.job(id).await["upstream_id"].as_str().unwrap().to_owned();
        let lines = app.log(&[line, &format!("job_id={id}"), &format!("upstream_id=\"{upstream}\"")]);
        assert_eq!(lines.len(), 1, "{line} in {:#?}", app.log(&[]));
    }
    let why = app.log(&["job failed", &bad, "why=\"The video could not be rendered.\""]);
    assert_eq!(why.len(), 1, "{:#?}", app.log(&["job failed"]));
    let strangers = app.log(&["no job has this upstream id", "upstream_id=\"no-reel-of-ours\""]);
    assert_eq!(strangers.len(), 1, "{:#?}", app.log(&[]));
    for n in 0..5 {
        let one = foreign.replace("no-reel-of-ours", &format!("nor-this-{n}"));
        app.webhook(&[("signature", &signed(&secret, one.as_bytes()))], one.clone()).await.expect(200);
    }
    app.settle().await;
    let told = app.log(&["no job has this upstream id", "upstream_id=\"nor-this-"]).len();
    assert_eq!(told, 5, "each has a line, also where they are applied together: {:#?}", app.log(&[]));
    assert!(app.log(&[HEYGEN_KEY]).is_empty() && app.log(&[&secret]).is_empty(), "no credential is logged");
}

async fn guide_003_chosen_events_are_registered(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let some = json!({"events": ["avatar_video.success", "avatar_video.fail"]});
    app.post("/api/webhooks", &some).await.expect(201);
    let list = app.get("/api/webhooks").await.expect(200).json();
    assert_eq!(list["data"][0]["events"], some["events"]);
    // Again with others: they replace those before.
    let others = json!({"events": ["video_agent.success"]});
    app.post("/api/webhooks", &others).await.expect(200);
    let list = app.get("/api/webhooks").await.expect(200).json();
    assert_eq!(list["data"][0]["events"], others["events"]);
    app.post("/api/webhooks", &json!({})).await.expect(200);
    let list = app.get("/api/webhooks").await.expect(200).json();
    assert_eq!(list["data"][0]["events"], json!(null), "all again");
    app.post("/api/webhooks", &json!({"events": ["no.such.event"]})).await.problem(422, "upstream_refused");
}

async fn guide_003_the_callers_own_id_is_kept_echoed_and_found(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "order");
    body["callback_id"] = json!("order 4711/é?&");
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(job["callback_id"], body["callback_id"]);
    app.advance_s(30).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["callback_id"]), (&json!("completed"), &body["callback_id"]));
    let query: String = url::form_urlencoded::byte_serialize("order 4711/é?&".as_bytes()).collect();
    let found = app.get(&format!("/api/jobs?callback_id={query}")).await.expect(200).json();
    assert_eq!(texts(&found["data"], "id"), std::slice::from_ref(&id));
    let page = app.get(&format!("/api/jobs/{id}/events")).await.expect(200).json();
    for event in page["data"].as_array().unwrap() {
        assert_eq!(event["data"]["callback_id"], body["callback_id"], "every event has it");
    }
    // HeyGen was given ours, by which its answers are told apart.
    assert_eq!(app.sandbox.charges().get(&id), Some(&1));
    // A filter, never a path.
    app.get("/api/jobs/order%204711%2F%C3%A9%3F%26").await.problem(404, "not_found");
}

async fn guide_004_the_heygen_key_is_in_no_answer(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = app.submit("video", "secret").await;
    app.advance_s(30).await;
    let secret = app.register().await;
    app.sandbox.revoke_key(true);
    let other = app.submit("video_agent", "refused").await;
    app.settle().await;
    let receipts = app.get("/api/receipts").await.expect(200).json();
    let receipt = receipts["data"][0]["id"].as_str().expect("the callback was kept").to_owned();
    let mark = app.address(&id).rsplit_once('.').unwrap().1.to_owned();
    let mut paths: Vec<String> = reelhook::http::TABLE
        .iter()
        .filter(|doc| doc.method == "get")
        .flat_map(|doc| [&id, &other, &receipt].map(|id| doc.path.replace("{id}", id)))
        .collect();
    paths.push("/".to_owned());
    assert!(paths.len() > 30);
    for path in paths {
        let all = if path.ends_with("/stream") && !path.contains(&receipt) {
            // It has no end; what there is comes before it is told to be live.
            let headers = [("accept", "application/x-ndjson")];
            let mut stream = Stream::open(&app, &format!("{path}?since=all"), &headers).await;
            format!("{} {:?}", json!(stream.until_live().await), stream.headers())
        } else {
            let answer = app.get(&path).await;
            format!("{} {:?}", answer.text(), answer.headers)
        };
        for (what, secret) in [("HeyGen key", HEYGEN_KEY), ("webhook secret", &*secret), ("mark", &*mark)] {
            assert!(!all.contains(secret), "the {what} is in the answer of {path}");
        }
    }
    app.leave_it();
}

async fn guide_004_the_job_exists_before_heygen_is_called(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.set_offline(true);
    let id = app.submit("video", "first of all").await;
    assert_eq!(app.sandbox.tally().accepted + app.sandbox.tally().refused, 0);
    let video = app.get(&format!("/api/videos/{id}")).await.expect(200).json();
    assert_eq!(video["status"], "PROCESSING");
    app.sandbox.set_offline(false);
    app.advance_s(60).await;
    assert_eq!(app.charges(&id), 1);
}

async fn guide_004_the_small_status_object_answers_by_either_id(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let good = app.submit("video", "good").await;
    let bad = app.submit("video", "bad #fail").await;
    let agent = app.submit("video_agent", "an agent's").await;
    let mut held = new_job("video", "held");
    held["hold"] = json!(true);
    let held = app.post("/api/jobs", &held).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    app.settle().await;
    for id in [&good, &bad, &agent, &held] {
        let video = app.get(&format!("/api/videos/{id}")).await.expect(200).json();
        assert_eq!((&video["status"], &video["url"]), (&json!("PROCESSING"), &json!(null)));
    }
    app.advance_s(60).await;
    app.post(&format!("/api/jobs/{held}/reject"), &json!({"reason": "no"})).await.expect(200);
    for (id, status) in [(&good, "COMPLETED"), (&bad, "FAILED"), (&agent, "COMPLETED"), (&held, "FAILED")] {
        let job = app.job(id).await;
        let video = app.get(&format!("/api/videos/{id}")).await.expect(200).json();
        assert_eq!(video["status"], status, "{video}");
        assert_eq!(video["url"].is_string(), status == "COMPLETED", "{video}");
        assert_eq!(video["error"].is_string(), status == "FAILED", "{video}");
        for upstream in [&job["upstream_id"], &job["upstream_video_id"]] {
            let Some(upstream) = upstream.as_str() else { continue };
            let by_theirs = app.get(&format!("/api/videos/{upstream}")).await.expect(200).json();
            assert_eq!(by_theirs, video, "by HeyGen's id");
        }
    }
    let agents = app.job(&agent).await;
    let video = app.get(&format!("/api/videos/{agent}")).await.expect(200).json();
    assert_eq!(video["video_id"], agents["upstream_video_id"], "a session is no video");
    app.get("/api/videos/nobody").await.problem(404, "not_found");
}
