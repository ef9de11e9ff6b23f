//! Endpoints over the API: input, secrets, rotation, test events, disabling and enabling.

use std::time::Duration;

use serde_json::{Value, json};

use super::receiver::{Receiver, Script, add};
use super::{app, deliveries};
use crate::app::{TestApp, cases, signed, texts};
use crate::database::Fresh;

cases! {
    what_is_wrong_with_an_endpoint_is_named,
    an_endpoint_is_added_changed_listed_and_removed,
    there_are_a_hundred_endpoints_at_most,
    only_allowed_places_may_be_sent_to,
    a_secret_is_shown_once_and_both_sign_while_they_overlap,
    a_test_event_tells_how_it_went,
    how_endpoints_fare_is_told,
    an_endpoint_that_will_hear_nothing_of_heygens_says_so,
    what_is_replayed_while_an_endpoint_is_disabled_waits_for_it,
    gone_disables_and_a_test_enables_and_nothing_is_lost,
    a_receiver_written_for_heygen_takes_a_test_and_is_enabled,
    an_endpoint_that_fails_for_days_is_disabled,
}

async fn what_is_wrong_with_an_endpoint_is_named(fresh: &Fresh) {
    let app = app(fresh).await;
    let wrong = async |body: Value| app.post("/api/endpoints", &body).await.expect(422).pointers();
    let url = "https://app.example/hook";
    assert_eq!(wrong(json!({})).await, ["/url"]);
    assert_eq!(wrong(json!({"url": "app.example"})).await, ["/url"]);
    assert_eq!(wrong(json!({"url": 1, "colour": "red"})).await, ["/url", "/colour"]);
    assert_eq!(wrong(json!({"url": url, "events": []})).await, ["/events"]);
    let events = json!([
        "job.completed",
        "job.complete",
        "jobs.*",
        "*.completed",
        "heygen.",
        "heygen.x.*",
        "Job.*",
        7
    ]);
    let named = ["/events/1", "/events/2", "/events/3", "/events/4", "/events/6", "/events/7"];
    assert_eq!(wrong(json!({"url": url, "events": events})).await, named);
    assert_eq!(wrong(json!({"url": url, "kinds": ["video", "film"]})).await, ["/kinds/1"]);
    assert_eq!(wrong(json!({"url": url, "labels": {"a:b": "c"}})).await, ["/labels/a:b"]);
    assert_eq!(wrong(json!({"url": url, "format": "xml"})).await, ["/format"]);
    assert_eq!(
        wrong(json!({"url": url, "format": "heygen", "events": ["job.*"], "kinds": ["video"]})).await,
        ["/events", "/kinds"]
    );
    // Nothing that is asked for may be something that is never sent.
    for (events, pointers) in [
        (json!(["heygen.*"]), &["/kinds"][..]),
        (json!(["heygen.avatar_video.*", "endpoint.disabled"]), &["/kinds"]),
        (json!(["job.failed", "heygen.*", "job.*", "group.finished"]), &["/events/1", "/events/3"]),
        (json!(["*", "dead_letter.*"]), &["/events/1"]),
    ] {
        assert_eq!(wrong(json!({"url": url, "events": events, "kinds": ["video"]})).await, pointers);
    }
    assert_eq!(wrong(json!({"url": url, "events": ["heygen.*"], "labels": {"a": "b"}})).await, ["/labels"]);
    let some = json!({"url": url, "events": ["*", "job.failed"], "kinds": ["video"], "labels": {"a": "b"}});
    let some = app.post("/api/endpoints", &some).await.expect(201).json();
    let path = format!("/api/endpoints/{}", some["id"].as_str().unwrap());
    let change = json!({"events": ["heygen.*"]}).to_string();
    assert_eq!(app.call("PATCH", &path, &[], change).await.expect(422).pointers(), ["/kinds", "/labels"]);
    let change = json!({"events": ["heygen.*"], "kinds": [], "labels": {}}).to_string();
    app.call("PATCH", &path, &[], change).await.expect(200);
    let week = 7 * 86_400;
    for (name, value, pointer) in [
        ("retry_after_s", json!([]), "/retry_after_s"),
        ("retry_after_s", json!(5), "/retry_after_s"),
        ("retry_after_s", json!(vec![1; 21]), "/retry_after_s"),
        ("retry_after_s", json!([5, 0]), "/retry_after_s/1"),
        ("retry_after_s", json!([1.5]), "/retry_after_s/0"),
        ("retry_after_s", json!([week + 1]), "/retry_after_s/0"),
        ("retry_after_s", json!([week, week, 1]), "/retry_after_s"),
        ("give_up_on", json!([399]), "/give_up_on/0"),
        ("give_up_on", json!([400, 500]), "/give_up_on/1"),
        ("give_up_on", json!(["400"]), "/give_up_on/0"),
        ("give_up_on", json!(vec![400; 101]), "/give_up_on"),
    ] {
        assert_eq!(wrong(json!({"url": url, name: value})).await, [pointer], "{value}");
    }
    for right in [
        json!({"url": url, "retry_after_s": [1], "give_up_on": []}),
        json!({"url": url, "retry_after_s": vec![1; 20], "give_up_on": [400, 499]}),
        json!({"url": url, "retry_after_s": [week, week], "give_up_on": vec![400; 100]}),
    ] {
        app.post("/api/endpoints", &right).await.expect(201);
    }
    for (path, method) in [
        ("", "GET"),
        ("", "PATCH"),
        ("", "DELETE"),
        ("/rotate", "POST"),
        ("/test", "POST"),
        ("/enable", "POST"),
    ] {
        let answer = app.call(method, &format!("/api/endpoints/ep_none{path}"), &[], "{}").await;
        answer.problem(404, "not_found");
    }
    app.get("/api/deliveries/dlv_none").await.problem(404, "not_found");
    assert_eq!(app.get("/api/deliveries?state=lost").await.expect(400).pointers(), ["state"]);
}

async fn an_endpoint_is_added_changed_listed_and_removed(fresh: &Fresh) {
    let app = app(fresh).await;
    let (id, _) =
        add(&app, "https://app.example/hook", json!({"description": "shop", "labels": {"a": "b"}})).await;
    let path = format!("/api/endpoints/{id}");
    let shown = app.get(&path).await.expect(200).json();
    assert_eq!(
        (&shown["events"], &shown["format"], &shown["description"]),
        (&json!(["*"]), &json!("standard"), &json!("shop"))
    );
    assert_eq!(
        (&shown["retry_after_s"], &shown["give_up_on"]),
        (&json!([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]), &json!([]))
    );
    let change = json!({"events": ["job.failed"], "labels": {}}).to_string();
    let changed = app.call("PATCH", &path, &[], change).await.expect(200).json();
    assert_eq!(
        (&changed["events"], &changed["labels"], &changed["url"]),
        (&json!(["job.failed"]), &json!({}), &shown["url"])
    );
    let bad = app.call("PATCH", &path, &[], json!({"format": "heygen"}).to_string()).await;
    assert_eq!(bad.expect(422).pointers(), ["/events"], "what does not go with what is there");
    // Ids of one millisecond are in no order.
    app.clock.advance(Duration::from_millis(1));
    let (other, _) = add(&app, "https://app.example/other", json!({"format": "heygen"})).await;
    let list = app.get("/api/endpoints").await.expect(200).json();
    assert_eq!(texts(&list["data"], "id"), [&*other, &*id], "newest first");
    assert_eq!(list["data"][0]["events"], json!(["heygen.*"]));
    app.call("DELETE", &path, &[], "").await.expect(204);
    app.get(&path).await.problem(404, "not_found");
}

async fn there_are_a_hundred_endpoints_at_most(fresh: &Fresh) {
    let app = app(fresh).await;
    let mut ids = vec![];
    for nth in 0..100 {
        ids.push(add(&app, &format!("https://app.example/{nth}"), json!({})).await.0);
    }
    let body = json!({"url": "https://app.example/more"});
    app.post("/api/endpoints", &body).await.problem(409, "too_many_endpoints");
    app.call("DELETE", &format!("/api/endpoints/{}", ids[0]), &[], "").await.expect(204);
    app.post("/api/endpoints", &body).await.expect(201);
}

async fn only_allowed_places_may_be_sent_to(fresh: &Fresh) {
    // Without any network allowed: not even this machine.
    let mut app = TestApp::new(fresh).await;
    for url in [
        "http://127.0.0.1:9/",
        "http://localhost/",
        "http://[::1]/",
        "http://2130706433/",
        "http://169.254.169.254/latest",
    ] {
        let refused = app.post("/api/endpoints", &json!({"url": url})).await.expect(422);
        assert_eq!(refused.pointers(), ["/url"]);
        assert!(refused.text().contains("--allow-private"), "{}", refused.text());
    }
    // A name is judged by its addresses when it is called; this one is of this machine everywhere.
    let receiver = Receiver::start().await;
    let (id, _) = add(&app, "https://app.example/", json!({})).await;
    let inside = receiver.url("/").replace("127.0.0.1", "localhost");
    let refused =
        app.call("PATCH", &format!("/api/endpoints/{id}"), &[], json!({"url": inside}).to_string()).await;
    refused.expect(422);
    app.submit("video", "one").await;
    app.leave_it();
}

async fn a_secret_is_shown_once_and_both_sign_while_they_overlap(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, old) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    let path = format!("/api/endpoints/{id}");
    let rotated = app.post(&format!("{path}/rotate"), &json!({"overlap_s": 3_600})).await.expect(200).json();
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert!(old.starts_with("whsec_") && new.starts_with("whsec_") && old != new);
    let shown = app.get(&path).await.expect(200);
    assert!(!shown.text().contains("whsec_"), "{}", shown.text());
    let hints = texts(&shown.json()["secrets"], "hint");
    assert_eq!(hints, [&new, &old].map(|secret| format!("…{}", &secret[secret.len() - 4..])));

    let signed = async |app: &mut TestApp| {
        app.submit("video", "one").await;
        app.settle().await;
        let last = receiver.heard("/hook").pop().unwrap();
        (last.signed_with(&old), last.signed_with(&new), last.header("webhook-signature").split(' ').count())
    };
    assert_eq!(signed(&mut app).await, (1, 1, 2));
    app.clock.advance(std::time::Duration::from_millis(3_599_999));
    assert_eq!(signed(&mut app).await, (1, 1, 2));
    app.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(signed(&mut app).await, (0, 1, 1));
    for (overlap, status) in
        [(json!(0), 200), (json!(604_800), 200), (json!(604_801), 422), (json!(-1), 422), (json!("1"), 422)]
    {
        app.post(&format!("{path}/rotate"), &json!({"overlap_s": overlap})).await.expect(status);
    }
    app.leave_it();
}

async fn a_test_event_tells_how_it_went(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, secret) = add(&app, &receiver.url("/hook"), json!({"events": ["job.failed"]})).await;
    let path = format!("/api/endpoints/{id}/test");
    let sent = app.post(&path, &json!({})).await.expect(202).json();
    assert_eq!(sent["state"], "pending");
    app.settle().await;
    let one = app.get(&format!("/api/deliveries/{}", sent["id"].as_str().unwrap())).await.json();
    assert_eq!(
        (&one["state"], &one["event_type"], &one["endpoint_id"]),
        (&json!("delivered"), &json!("endpoint.test"), &json!(id))
    );
    let heard = receiver.heard("/hook").remove(0);
    assert_eq!((heard.event_type(), heard.signed_with(&secret)), ("endpoint.test".to_owned(), 1));
    assert!(!app.get(&format!("/api/endpoints/{id}")).await.json()["tested_at"].is_null());

    receiver.next("/hook", &[Script::Body(500, "out of order".into())]);
    // Whoever waits has the answer with it: the bell rings when its delivery is stored.
    let mut bell = app.db().bell.arm();
    let waiting = tokio::spawn({
        let url = format!("{}{path}?wait=60", app.base);
        async move { crate::client::call("POST", &url, &[], "{}".into()).await }
    });
    bell.changed().await.unwrap();
    app.settle().await;
    app.clock.advance(std::time::Duration::from_secs(60));
    let told = waiting.await.unwrap().expect(200).json();
    assert_eq!((&told["state"], &told["attempts"][0]["answer"]), (&json!("dead"), &json!("out of order")));
    app.advance_s(300).await;
    assert_eq!(receiver.heard("/hook").len(), 2, "a test is not tried again, and is no dead letter");
}

async fn gone_disables_and_a_test_enables_and_nothing_is_lost(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    add(&app, &receiver.url("/watch"), json!({"events": ["endpoint.*"]})).await;
    receiver.next("/hook", &[Script::Status(500), Script::Status(410)]);
    let waits = app.submit("video", "waits").await;
    app.settle().await;
    app.clock.advance(std::time::Duration::from_secs(1));
    let refused = app.submit("video", "gone").await;
    app.settle().await;

    let path = format!("/api/endpoints/{id}");
    let shown = app.get(&path).await.json();
    assert!(!shown["disabled_at"].is_null() && shown["disabled_for"] == "it answered 410, gone", "{shown}");
    let watch = receiver.heard("/watch").remove(0).json();
    assert_eq!((&watch["type"], &watch["data"]["id"]), (&json!("endpoint.disabled"), &json!(id)));
    assert_eq!(
        deliveries(&app, &format!("job_id={refused}&state=dead")).await.len(),
        1,
        "what was answered 410 is given up"
    );

    let heard = receiver.heard("/hook").len();
    let unheard = app.submit("video", "unheard").await;
    app.advance_s(3_600).await;
    assert_eq!(receiver.heard("/hook").len(), heard, "nothing is sent to it");
    let missed = app.get(&format!("/api/dead-letters?job_id={unheard}")).await.expect(200).json();
    let cause = format!("endpoint_disabled:{}", receiver.base.strip_prefix("http://").unwrap());
    assert_eq!(
        (&missed["data"][0]["cause"], &missed["data"][0]["attempts_made"]),
        (&json!(cause), &json!(0))
    );
    assert_eq!(
        missed["data"][0]["reason"],
        "not tried: the endpoint was disabled, because it answered 410, gone"
    );
    app.post(&format!("{path}/enable"), &json!({})).await.problem(409, "endpoint_untested");
    receiver.next("/hook", &[Script::Status(500)]);
    app.post(&format!("{path}/test"), &json!({})).await.expect(202);
    app.settle().await;
    app.post(&format!("{path}/enable"), &json!({})).await.problem(409, "endpoint_untested");
    app.post(&format!("{path}/test"), &json!({})).await.expect(202);
    app.settle().await;
    let enabled = app.post(&format!("{path}/enable"), &json!({})).await.expect(200).json();
    assert!(enabled["disabled_at"].is_null() && enabled["disabled_for"].is_null(), "{enabled}");
    app.settle().await;
    let last = receiver.heard("/hook").pop().unwrap();
    assert_eq!(
        (last.event_type(), last.header("reelhook-attempt")),
        ("job.queued".to_owned(), "2"),
        "what waited is told now"
    );
    let which = json!({"endpoint_id": id});
    let dry = app.post("/api/dead-letters/replay?dry_run=true", &which).await.expect(200).json();
    assert_eq!(dry["count"], 2, "what was refused, and what was missed");
    app.post("/api/dead-letters/replay", &which).await.expect(202);
    app.advance_s(1).await;
    let mut told: Vec<String> = receiver
        .heard("/hook")
        .split_off(heard)
        .iter()
        .map(|h| h.header("reelhook-job").to_owned())
        .collect();
    told.sort();
    told.dedup();
    let mut all = ["", &waits, &refused, &unheard];
    all.sort_unstable();
    assert_eq!(told, all, "the tests, and every job: nothing is lost");
    assert_eq!(deliveries(&app, &format!("job_id={unheard}")).await[0]["state"], "delivered");
    app.leave_it();
}

async fn a_receiver_written_for_heygen_takes_a_test_and_is_enabled(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, secret) = add(&app, &receiver.url("/hook"), json!({"format": "heygen"})).await;
    let path = format!("/api/endpoints/{id}");
    let test = async |app: &mut TestApp| {
        let sent = app.post(&format!("{path}/test"), &json!({})).await.expect(202).json();
        app.settle().await;
        app.get(&format!("/api/deliveries/{}", sent["id"].as_str().unwrap())).await.json()["state"].clone()
    };
    assert_eq!(test(&mut app).await, "delivered");
    assert!(!receiver.heard("/hook")[0].headers.contains_key("signature"), "no webhook secret is known");

    let heygens = app.register().await;
    receiver.always("/hook", Script::Heygens(heygens.clone()));
    assert_eq!(test(&mut app).await, "delivered");
    let heard = receiver.heard("/hook").pop().unwrap();
    let body = heard.json();
    assert_eq!(
        (&body["event_type"], &body["event_data"]["endpoint_id"]),
        (&json!("endpoint.test"), &json!(id))
    );
    assert_eq!(body["event_data"]["event_id"], heard.header("webhook-id"));
    assert_eq!(
        (heard.signed_with(&secret), heard.header("reelhook-endpoint")),
        (1, &*id),
        "and ours beside it"
    );

    let send = async |app: &mut TestApp, video: &str| {
        let body =
            format!(r#"{{"event_type":"avatar_video.success","event_data":{{"video_id":"{video}"}}}}"#);
        let signature = signed(&heygens, body.as_bytes());
        app.webhook(&[("signature", &signature)], body).await.expect(200);
        app.settle().await;
    };
    app.clock.advance(Duration::from_secs(1));
    receiver.next("/hook", &[Script::Status(410)]);
    send(&mut app, "gone").await;
    assert!(!app.get(&path).await.json()["disabled_at"].is_null());
    app.post(&format!("{path}/enable"), &json!({})).await.problem(409, "endpoint_untested");
    assert_eq!(test(&mut app).await, "delivered");
    app.post(&format!("{path}/enable"), &json!({})).await.expect(200);
    send(&mut app, "heard").await;
    assert_eq!(receiver.heard("/hook").pop().unwrap().json()["event_data"]["video_id"], "heard");
    // One that knows another secret refuses it, as it would HeyGen's.
    receiver.always("/hook", Script::Heygens("another".to_owned()));
    assert_eq!(test(&mut app).await, "dead");
    app.leave_it();
}

async fn how_endpoints_fare_is_told(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let doctor = async |app: &TestApp| {
        let report = app.get("/api/doctor").await.expect(200).json();
        let all = report["checks"].as_array().unwrap().clone();
        let check = all.into_iter().find(|c| c["check"] == "endpoints").unwrap();
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("detail"), text("fix"))
    };
    let circuit = async |app: &TestApp| {
        let mut all = vec![];
        for state in ["closed", "open", "disabled"] {
            all.push(app.metric(&format!("reelhook_endpoint_circuit_state{{state=\"{state}\"}}")).await);
        }
        all
    };
    assert_eq!(doctor(&app).await.1, "none");
    let (id, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    assert_eq!(doctor(&app).await, ("ok".to_owned(), "1 enabled, none in trouble".to_owned(), String::new()));
    assert_eq!(circuit(&app).await, [1.0, 0.0, 0.0]);
    receiver.always("/hook", Script::With(503, "retry-after", "3600".to_owned()));
    let begun = app.now();
    app.submit("video", "one").await;
    app.settle().await;
    let path = format!("/api/endpoints/{id}");
    let shown = app.get(&path).await.expect(200).json();
    let until = reelhook::domain::time::parse_rfc3339(shown["left_alone_until"].as_str().unwrap()).unwrap();
    assert!((begun + 3_600_000..begun + 3_700_000).contains(&until), "{shown}");
    let listed = app.get("/api/endpoints").await.expect(200).json();
    assert_eq!(listed["data"][0], shown);
    let (status, detail, fix) = doctor(&app).await;
    assert_eq!(status, "warn");
    assert!(detail.starts_with(&format!("1 of 1 in trouble, {id} failing since ")), "{detail}");
    assert!(detail.contains("left alone until") && fix.contains("delivery replay"), "{detail} {fix}");
    assert_eq!(circuit(&app).await, [0.0, 1.0, 0.0]);
    receiver.always("/hook", Script::Status(410));
    app.advance_s(4_000).await;
    let (status, detail, fix) = doctor(&app).await;
    assert_eq!(status, "fail");
    assert_eq!(detail, format!("1 of 1 disabled, {id} because it answered 410, gone"));
    assert!(fix.contains(&format!("endpoint enable {id}")), "{fix}");
    assert_eq!(circuit(&app).await, [0.0, 0.0, 1.0]);
    assert!(app.get(&path).await.json()["left_alone_until"].is_null());
    app.leave_it();
}

async fn what_is_replayed_while_an_endpoint_is_disabled_waits_for_it(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, _) = add(&app, &receiver.url("/old"), json!({"events": ["job.queued"]})).await;
    receiver.always("/old", Script::Status(410));
    app.submit("video", "gone").await;
    app.settle().await;
    let missed = app.submit("video", "missed").await;
    app.settle().await;
    app.post("/api/dead-letters/replay", &json!({"all": true})).await.expect(202);
    app.advance_s(3_600).await;
    assert_eq!(receiver.heard("/old").len(), 1, "disabled is disabled");
    assert_eq!(deliveries(&app, "state=pending").await.len(), 2);
    let path = format!("/api/endpoints/{id}");
    app.call("PATCH", &path, &[], json!({"url": receiver.url("/new")}).to_string()).await.expect(200);
    app.post(&format!("{path}/test"), &json!({})).await.expect(202);
    app.settle().await;
    app.post(&format!("{path}/enable"), &json!({})).await.expect(200);
    app.settle().await;
    assert_eq!(receiver.heard("/new").iter().filter(|h| h.header("reelhook-job") == missed).count(), 1);
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 3);

    receiver.always("/new", Script::Status(410));
    app.submit("video", "gone").await;
    app.settle().await;
    let lost = app.submit("video", "lost").await;
    app.settle().await;
    app.call("DELETE", &path, &[], "").await.expect(204);
    let letters = app.get("/api/dead-letters").await.expect(200).json();
    assert_eq!(letters["data"], json!([]), "a removed endpoint leaves none");
    let lost = deliveries(&app, &format!("job_id={lost}")).await[0]["id"].as_str().unwrap().to_owned();
    app.post(&format!("/api/deliveries/{lost}/replay"), &json!({})).await.problem(409, "nobody_to_tell");
    app.leave_it();
}

async fn an_endpoint_that_fails_for_days_is_disabled(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    receiver.always("/hook", Script::Status(500));
    let day = 86_400;
    let state = async |app: &TestApp| app.get(&format!("/api/endpoints/{id}")).await.json();
    for _ in 0..5 {
        assert!(state(&app).await["disabled_at"].is_null());
        app.submit("video", "one").await;
        app.advance_s(day).await;
    }
    let since = state(&app).await;
    assert!(since["disabled_at"].is_null(), "not before an attempt of the fifth day's end: {since}");
    app.submit("video", "one").await;
    app.settle().await;
    let disabled = state(&app).await;
    assert_eq!(disabled["disabled_for"], "every attempt failed for 5 days", "{disabled}");
    app.leave_it();
}

async fn an_endpoint_that_will_hear_nothing_of_heygens_says_so(fresh: &Fresh) {
    let app = app(fresh).await;
    let url = "http://127.0.0.1:9/hook";
    let mut paths = vec![];
    for wish in [json!({"format": "heygen"}), json!({"events": ["job.*", "heygen.avatar_video.*"]})] {
        let mut body = wish;
        body["url"] = json!(url);
        let made = app.post("/api/endpoints", &body).await.expect(201).json();
        assert!(made["hint"].as_str().unwrap().contains("`reelhook webhook register`"), "{made}");
        paths.push(format!("/api/endpoints/{}", made["id"].as_str().unwrap()));
    }
    let ours = app.post("/api/endpoints", &json!({"url": url})).await.expect(201).json();
    assert_eq!(ours["hint"], Value::Null);
    let hint = async |path: &str| app.get(path).await.expect(200).json()["hint"].is_string();
    assert!(hint(&paths[0]).await && hint(&paths[1]).await);
    app.register().await;
    assert!(!hint(&paths[0]).await && !hint(&paths[1]).await);
}
