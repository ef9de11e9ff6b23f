//! Real answers of every route against the description of the API: each status is listed, each
//! field described, none described is missing. The description's own shape is checked in `access`.

use std::collections::{HashMap, HashSet};

use boon::{Compiler, SchemaIndex, Schemas};
use reelhook::domain::dead_letter::{Cause, Trouble};
use reelhook::domain::job::Kind;
use reelhook::domain::task::TaskKind;
use reelhook::http::TABLE;
use reelhook::{flow, store};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job, signed};
use crate::client::{Answer, Headers};
use crate::database::Fresh;
use crate::stream::Stream;

cases! {
    every_answer_is_as_the_description_says,
}

/// The description, strict: a client may meet more fields in a later version, a test may not.
struct Description {
    document: Value,
    schemas: Schemas,
    by_name: HashMap<String, SchemaIndex>,
    /// Routes whose success was seen.
    seen: HashSet<(&'static str, &'static str)>,
}

impl Description {
    async fn of(app: &TestApp) -> Self {
        let mut document = app.get("/api/openapi.json").await.expect(200).json();
        close(&mut document["components"]["schemas"]);
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.enable_format_assertions();
        compiler.add_resource("http://test/api.json", document.clone()).expect("a document");
        let names = document["components"]["schemas"].as_object().expect("schemas").keys();
        let compiled = names.map(|name| {
            let name = format!("#/components/schemas/{name}");
            let schema = compiler.compile(&format!("http://test/api.json{name}"), &mut schemas);
            (name.clone(), schema.unwrap_or_else(|e| panic!("{name}: {e:#}")))
        });
        let by_name = compiled.collect();
        Self { document, schemas, by_name, seen: HashSet::new() }
    }

    /// A call to a route of the table, whose answer must be as described there.
    async fn call(&mut self, app: &TestApp, route: &str, id: &str, body: &Value) -> Answer {
        self.call_with(app, route, id, "", &[], body).await
    }

    async fn call_with(
        &mut self,
        app: &TestApp,
        route: &str,
        id: &str,
        query: &str,
        headers: Headers<'_>,
        body: &Value,
    ) -> Answer {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let doc = TABLE.iter().find(|d| d.method.to_uppercase() == method && d.path == path);
        let doc = doc.unwrap_or_else(|| panic!("{route} is not in the table"));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = app.call(method, &format!("{}{query}", path.replace("{id}", id)), headers, body).await;
        self.check(&self.document["paths"][doc.path][doc.method]["responses"], &answer, route);
        if answer.status < 400 {
            self.seen.insert((doc.method, doc.path));
        }
        answer
    }

    #[track_caller]
    fn check(&self, responses: &Value, answer: &Answer, route: &str) {
        let status = answer.status.to_string();
        let response = match &responses[&status] {
            Value::Null => {
                assert!(answer.status >= 400, "{route}: {status} is not described");
                &responses["default"]
            }
            described => described,
        };
        let Some(content) = response["content"].as_object() else {
            if matches!(answer.status, 204 | 304) {
                assert_eq!(answer.text(), "", "{route}: {status} has no body");
            }
            return;
        };
        let (kind, content) = content.iter().next().expect("one kind of content");
        assert_eq!(answer.header("content-type"), Some(&**kind), "{route}");
        let name = content["schema"]["$ref"].as_str().expect("a schema by its name");
        self.fits(name, &answer.json(), route);
    }

    #[track_caller]
    fn fits(&self, name: &str, value: &Value, route: &str) {
        if let Err(e) = self.schemas.validate(value, self.by_name[name]) {
            panic!("{route} is not as {name} says: {e:#}\n{value:#}");
        }
    }
}

/// No field may be there that is not described.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}

/// A job of every kind and end, with all a caller may add to it.
async fn jobs_of_every_end(app: &mut TestApp, d: &mut Description) -> Vec<String> {
    let mut ids = vec![];
    let ends = [
        ("video", "completed #captions"),
        ("video", "fails #fail"),
        ("video", "never ends #stuck"),
        ("video", "comes late #stuck"),
        ("video", "refused #refuse"),
    ];
    for (kind, title) in ends.into_iter().chain(Kind::ALL.map(|kind| (kind.name(), "completed"))) {
        let mut body = new_job(kind, title);
        body["callback_id"] = json!("mine");
        body["labels"] = json!({"team": "sales"});
        body["metadata"] = json!([1, {"a": null}]);
        let job = d.call(app, "POST /api/jobs", "", &body).await.expect(202).json();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    app.advance_s(60).await;
    ids
}

/// An endpoint that nobody answers at, with all that can be done to it.
async fn endpoints(app: &mut TestApp, d: &mut Description) {
    let none = Value::Null;
    let wishes =
        json!({"url": "http://127.0.0.1:9/", "events": ["*"], "labels": {"a": "b"}, "description": "x"});
    let made = d.call(app, "POST /api/endpoints", "", &wishes).await.expect(201).json();
    let id = made["id"].as_str().unwrap();
    d.call(app, "PATCH /api/endpoints/{id}", id, &json!({"labels": {}})).await.expect(200);
    d.call(app, "POST /api/endpoints/{id}/rotate", id, &none).await.expect(200);
    d.call(app, "POST /api/endpoints/{id}/test", id, &none).await.expect(202);
    d.call(app, "POST /api/endpoints/{id}/enable", id, &none).await.expect(200);
    let mut job = new_job("video", "told");
    job["notify_url"] = json!("http://127.0.0.1:9/own");
    d.call(app, "POST /api/jobs", "", &job).await.expect(202);
    app.settle().await;
    d.call(app, "GET /api/endpoints", "", &none).await.expect(200);
    d.call(app, "GET /api/endpoints/{id}", id, &none).await.expect(200);
    let all = d.call(app, "GET /api/deliveries", "", &none).await.expect(200).json();
    for delivery in all["data"].as_array().unwrap() {
        assert!(delivery["attempts"][0]["error"].as_str().unwrap().starts_with("not sent"), "{delivery}");
        d.call(app, "GET /api/deliveries/{id}", delivery["id"].as_str().unwrap(), &none).await.expect(200);
    }
    dead_letters(app, d, &all).await;
    d.call(app, "DELETE /api/endpoints/{id}", id, &none).await.expect(204);
}

/// What was given up, with all that can be done about it.
async fn dead_letters(app: &mut TestApp, d: &mut Description, deliveries: &Value) {
    let none = Value::Null;
    let ids: Vec<&str> =
        deliveries["data"].as_array().unwrap().iter().filter_map(|v| v["id"].as_str()).collect();
    for id in &ids[..3] {
        let (id, at) = ((*id).to_owned(), app.now());
        let bury = move |tx: &mut store::Tx| {
            let cause = Cause::at(Trouble::Unreachable, "http://127.0.0.1:9/");
            store::task::bury(tx, TaskKind::Deliver, &[&id], 10, (&cause, "not sent"), at)?;
            flow::tell_dead(tx, &[cause], &flow::Stamp::new(at, [7; 16]))
        };
        app.db().write(bury).await.unwrap();
    }
    d.call(app, "GET /api/dead-letters", "", &none).await.expect(200);
    let causes = d.call(app, "GET /api/dead-letters/causes", "", &none).await.expect(200).json();
    let events = app.get("/api/events?limit=200").await.json();
    let told = events["data"].as_array().unwrap().iter().find(|event| event["type"] == "dead_letter.added");
    d.fits("#/components/schemas/Cause", &told.expect("it is told")["data"], "an event");
    d.call(app, "GET /api/dead-letters/{id}", ids[0], &none).await.expect(200);
    let which = json!({"cause": causes["data"][0]["cause"], "rate": 1});
    for (query, status) in [("?dry_run=true", 200), ("", 202)] {
        d.call_with(app, "POST /api/dead-letters/replay", "", query, &[], &which).await.expect(status);
    }
    let replays = d.call(app, "GET /api/replays", "", &none).await.expect(200).json();
    let replay = replays["data"][0]["id"].as_str().unwrap();
    d.call(app, "GET /api/replays/{id}", replay, &none).await.expect(200);
    d.call(app, "POST /api/replays/{id}/stop", replay, &none).await.expect(200);
    d.call(app, "POST /api/deliveries/{id}/replay", ids[0], &none).await.expect(202);
    let all = deliveries["data"].as_array().unwrap();
    let endpoint = all.iter().find_map(|v| v["endpoint_id"].as_str()).unwrap();
    let of_endpoint = json!({"endpoint_id": endpoint, "rate": 50});
    d.call(app, "POST /api/deliveries/replay", "", &of_endpoint).await.expect(202);
    let which = json!({"all": true, "reason": "x"});
    for query in ["?dry_run=true", ""] {
        d.call_with(app, "POST /api/dead-letters/drop", "", query, &[], &which).await.expect(200);
    }
    d.call(app, "GET /api/audit", "", &none).await.expect(200);
}

/// Groups of every way to make and end one. The first one's id.
async fn groups(app: &mut TestApp, d: &mut Description) -> String {
    let none = Value::Null;
    let template = new_job("video", "{{title}}");
    let body =
        json!({"title": "rows.csv", "template": template, "rows": [{"title": "a"}, {"title": "b #fail"}]});
    let new = "POST /api/groups";
    d.call_with(app, new, "", "?dry_run=true", &[], &body).await.expect(200);
    let group = d.call(app, new, "", &body).await.expect(202).json();
    let id = group["id"].as_str().unwrap().to_owned();
    d.call(app, new, "", &json!({"template": {}, "rows": []})).await.expect(422);
    app.advance_s(60).await;
    let mut rows = body.clone();
    rows["more"] = json!(true);
    let open = d.call(app, new, "", &rows).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    let add = "POST /api/groups/{id}/rows";
    d.call(app, add, &open, &rows).await.expect(422);
    rows = json!({"template": body["template"], "rows": body["rows"], "first_row": 3});
    d.call_with(app, add, &open, "?dry_run=true", &[], &rows).await.expect(200);
    d.call(app, add, &open, &rows).await.expect(202);
    d.call(app, add, &open, &rows).await.expect(409);
    d.call(app, "GET /api/groups/{id}", &id, &none).await.expect(200);
    d.call(app, "POST /api/groups/{id}/retry-failed", &id, &none).await.expect(202);
    d.call(app, "POST /api/groups/{id}/retry-failed", &id, &none).await.expect(409);
    let several = json!({"kind": "translation", "request": {
        "video": {"type": "url", "url": "https://x"}, "output_languages": ["German", "French"]}});
    d.call_with(app, "POST /api/jobs", "", "?dry_run=true", &[], &several).await.expect(200);
    let several = d.call(app, "POST /api/jobs", "", &several).await.expect(202).json();
    d.call(app, "POST /api/groups/{id}/cancel", several["id"].as_str().unwrap(), &none).await.expect(200);
    d.call(app, "GET /api/groups", "", &none).await.expect(200);
    app.advance_s(60).await;
    id
}

/// What streams tell, line by line: one of all, which has no end, and one of a job that has ended.
async fn streams(app: &TestApp, d: &mut Description, id: &str) {
    for (path, last) in [("/api/stream", "live"), ("/api/jobs/{id}/stream", "done")] {
        let query = "?since=all&format=ndjson";
        let mut stream = Stream::open(app, &format!("{}{query}", path.replace("{id}", id)), &[]).await;
        let mut kind = String::new();
        while kind != last {
            let told = stream.next().await.expect("a line");
            d.fits("#/components/schemas/Stream", &told, path);
            kind = told["type"].as_str().expect("a type").to_owned();
        }
        d.seen.insert(("get", path));
    }
    let gone = app.call("GET", &format!("/api/jobs/{id}/stream"), &[("last-event-id", "999")], "").await;
    assert_eq!(gone.status, 200, "a gap is told");
}

async fn every_answer_is_as_the_description_says(fresh: &Fresh) {
    let flags = [("allow-private", "127.0.0.1")];
    let mut app = TestApp::with(fresh, Setup { flags: &flags, ..Setup::default() }).await;
    let mut d = Description::of(&app).await;
    let none = Value::Null;
    d.call(&app, "POST /api/webhooks", "", &json!({"events": ["avatar_video.success"]})).await.expect(201);
    d.call(&app, "POST /api/webhooks", "", &none).await.expect(200);
    let endpoint =
        d.call(&app, "GET /api/webhooks", "", &none).await.json()["data"][0]["endpoint_id"].clone();
    let endpoint = endpoint.as_str().unwrap().to_owned();
    d.call(&app, "POST /api/webhooks/{id}/rotate", &endpoint, &none).await.expect(200);
    // The new one: the old one lives on only for a while.
    let secret = app.secrets().await.remove(0);

    let ids = jobs_of_every_end(&mut app, &mut d).await;
    let [done, failed, stuck, late, ..] = &*ids else { panic!("too few jobs") };
    for (verb, body) in [("approve", none.clone()), ("reject", json!({"reason": "no"}))] {
        let mut held = new_job("video", "held");
        held["hold"] = json!(true);
        let id = d.call(&app, "POST /api/jobs", "", &held).await.expect(202).json()["id"].clone();
        let route = format!("POST /api/jobs/{{id}}/{verb}");
        d.call(&app, &route, id.as_str().unwrap(), &body).await.expect(200);
    }
    d.call(&app, "POST /api/jobs/{id}/retry", failed, &none).await.expect(202);
    for dry_run in [true, false] {
        let all = json!({"kind": "video", "since": "2000-01-01T00:00:00Z", "dry_run": dry_run});
        d.call(&app, "POST /api/jobs/adopt", "", &all).await.expect(200);
    }
    d.call(&app, "POST /api/jobs/{id}/refresh", done, &none).await.expect(202);
    d.call(&app, "POST /api/jobs/{id}/cancel", stuck, &none).await.expect(409);
    let canceled = d.call(&app, "POST /api/jobs", "", &new_job("video", "canceled")).await.json();
    d.call(&app, "POST /api/jobs/{id}/cancel", canceled["id"].as_str().unwrap(), &none).await.expect(200);
    let waited = d.call_with(&app, "POST /api/jobs", "", "?wait=0", &[], &new_job("video", "w")).await;
    waited.expect(202);
    let unchecked = json!({"kind": "video", "request": {"type": "film"}, "check": false});
    for (body, mistakes) in [(new_job("video", "dry"), false), (unchecked, true)] {
        let dry =
            d.call_with(&app, "POST /api/jobs", "", "?dry_run=true", &[], &body).await.expect(200).json();
        assert_eq!(dry["errors"] != json!([]), mistakes, "{dry}");
    }

    let group = groups(&mut app, &mut d).await;

    // Two end lost, and of one a file comes after all.
    app.advance_s(25 * 3_600).await;
    let upstream = app.job(late).await["upstream_id"].as_str().unwrap().to_owned();
    for id in [&*upstream, "a stranger's"] {
        let data = json!({"video_id": id, "url": "https://files.heygen.ai/late.mp4"});
        let body = json!({"event_type": "avatar_video.success", "event_data": data}).to_string();
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    }
    app.webhook(&[("signature", "no")], "\u{1}").await.expect(401);
    app.settle().await;
    assert!(app.job(late).await["late_result"].is_object());

    for id in &ids {
        let job = d.call(&app, "GET /api/jobs/{id}", id, &none).await.expect(200);
        let tag = job.header("etag").unwrap().to_owned();
        let headers = [("if-none-match", &*tag)];
        d.call_with(&app, "GET /api/jobs/{id}", id, "", &headers, &none).await.expect(304);
        d.call(&app, "GET /api/videos/{id}", id, &none).await.expect(200);
        d.call(&app, "GET /api/jobs/{id}/events", id, &none).await.expect(200);
        d.call(&app, "GET /api/jobs/{id}/receipts", id, &none).await.expect(200);
    }
    d.call(&app, "POST /api/jobs/{id}/link-token", done, &json!({"minutes": 5})).await.expect(201);
    streams(&app, &mut d, done).await;
    let key = [("idempotency-key", "again")];
    d.call_with(&app, "POST /api/jobs", "", "", &key, &new_job("video", "k")).await.expect(202);
    app.advance_s(60).await;
    d.call_with(&app, "POST /api/jobs", "", "?wait=1", &key, &new_job("video", "k")).await.expect(200);
    let events = d.call_with(&app, "GET /api/events", "", "?limit=200", &[], &none).await.json();
    d.call(&app, "GET /api/events/{id}", "1", &none).await.expect(200);
    let mut groups_ended = 0;
    for event in events["data"].as_array().unwrap() {
        if event["type"].as_str().unwrap().starts_with("job.") {
            d.fits("#/components/schemas/Job", &event["data"], "an event");
        } else if event["type"] == "group.finished" {
            d.fits("#/components/schemas/Group", &event["data"], "an event");
            groups_ended += 1;
        }
    }
    assert!(groups_ended > 0);
    d.call_with(&app, "GET /api/jobs", "", &format!("?group={group}"), &[], &none).await.expect(200);
    for query in ["", "?limit=2", "?state=failed&label=team:sales"] {
        d.call_with(&app, "GET /api/jobs", "", query, &[], &none).await.expect(200);
    }
    let receipts = d.call(&app, "GET /api/receipts", "", &none).await.json();
    for receipt in receipts["data"].as_array().unwrap() {
        d.call(&app, "GET /api/receipts/{id}", receipt["id"].as_str().unwrap(), &none).await.expect(200);
    }
    for route in ["GET /api/doctor", "GET /api/upstream"] {
        d.call(&app, route, "", &none).await.expect(200);
    }
    endpoints(&mut app, &mut d).await;
    app.sandbox.revoke_key(true);
    let sent = d.call(&app, "POST /api/jobs", "", &new_job("video", "paused")).await.expect(202).json();
    app.settle().await;
    assert!(d.call(&app, "GET /api/upstream", "", &none).await.json()["paused"].is_object());
    for route in ["GET /api/doctor", "GET /api/webhooks", "POST /api/webhooks"] {
        d.call(&app, route, "", &none).await;
    }
    app.sandbox.revoke_key(false);
    d.call(&app, "POST /api/upstream/pause", "", &json!({"reason": "a look"})).await.expect(200);
    d.call(&app, "POST /api/upstream/resume", "", &none).await.expect(200);
    d.call(&app, "POST /api/jobs/{id}/cancel", sent["id"].as_str().unwrap(), &none).await.expect(200);
    d.call(&app, "DELETE /api/webhooks/{id}", &endpoint, &none).await.expect(204);
    for route in ["/api/openapi.json", "/errors", "/livez", "/readyz", "/version", "/metrics"] {
        d.call(&app, &format!("GET {route}"), "", &none).await.expect(200);
    }

    let fresh_key = d.call(&app, "POST /api/keys", "", &json!({"name": "ci"})).await.expect(201).json();
    d.call(&app, "GET /api/keys", "", &none).await.expect(401);
    let bearer = format!("Bearer {}", fresh_key["key"].as_str().unwrap());
    let headers = [("authorization", &*bearer)];
    d.call_with(&app, "GET /api/keys", "", "", &headers, &none).await.expect(200);
    let id = fresh_key["id"].as_str().unwrap();
    d.call_with(&app, "DELETE /api/keys/{id}", id, "", &headers, &none).await.expect(204);
    let left: Vec<_> = TABLE.iter().filter(|doc| !d.seen.contains(&(doc.method, doc.path))).collect();
    assert!(left.is_empty(), "never seen: {:?}", left.iter().map(|d| d.path).collect::<Vec<_>>());
    app.leave_it();
}
