//! Groups: rows in, jobs out. Everything is checked before anything is stored, a group is made once and
//! whole, ends once, and what failed is tried again once.

use reelhook::domain::group::MAX_JOBS;
use reelhook::heygen::sandbox::What;
use serde_json::{Value, json};

use crate::app::{TestApp, cases, new_job, texts};
use crate::client::Answer;
use crate::database::Fresh;

cases! {
    rows_become_jobs_with_their_values_filled_in,
    a_place_takes_numbers_and_lists_as_they_are,
    the_same_key_gives_the_same_group_and_charges_once,
    one_wrong_row_refuses_all_and_is_named,
    every_mistake_of_a_sheet_is_named_by_row_and_column,
    a_mistake_of_the_template_is_told_once_and_not_for_every_row,
    mistakes_are_counted_and_a_hundred_listed,
    what_is_no_group_is_refused_by_its_field,
    rows_hold_their_limit_from_both_sides,
    bytes_hold_their_limit_from_both_sides,
    a_dry_run_counts_and_keeps_nothing,
}

/// A template whose title and script come from columns, for the sandbox's `#words`.
pub fn sheet(titles: &[&str]) -> Value {
    let mut template = new_job("video", "{{title}}");
    template["request"]["script"] = json!("Hello {{name}}.");
    let rows = titles.iter().enumerate().map(|(n, title)| json!({"title": title, "name": format!("N{n}")}));
    json!({"title": "rows.csv", "template": template, "rows": rows.collect::<Vec<_>>()})
}

pub async fn made(app: &TestApp, body: &Value) -> Value {
    let answer = app.post("/api/groups", body).await.expect(202);
    let group = answer.json();
    let path = format!("/api/groups/{}", group["id"].as_str().expect("an id"));
    assert_eq!(answer.header("location"), Some(&*path));
    assert_eq!(group["status_url"], path);
    group
}

pub async fn group(app: &TestApp, of: &Value) -> Value {
    app.get(of["status_url"].as_str().expect("a link")).await.expect(200).json()
}

/// By row.
pub async fn jobs(app: &TestApp, of: &Value) -> Vec<Value> {
    let page =
        app.get(&format!("{}&limit=200", of["jobs_url"].as_str().expect("a link"))).await.expect(200).json();
    let mut jobs = page["data"].as_array().expect("a list").clone();
    jobs.reverse();
    jobs
}

pub fn ids(jobs: &[Value]) -> Vec<String> {
    jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

async fn nothing_was_made(app: &TestApp) {
    assert_eq!(app.get("/api/jobs").await.json()["data"], json!([]));
    assert_eq!(app.get("/api/groups").await.json()["data"], json!([]));
}

/// Pointer and message of each mistake.
fn told(answer: &Answer) -> Vec<(String, String)> {
    answer.problem(422, "invalid_request");
    let errors = answer.json()["errors"].as_array().expect("errors").clone();
    let text = |e: &Value, name: &str| e[name].as_str().expect("a text").to_owned();
    errors.iter().map(|e| (text(e, "pointer"), text(e, "message"))).collect()
}

async fn rows_become_jobs_with_their_values_filled_in(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let template = json!({
        "kind": "video", "callback_id": "order-{{order}}", "labels": {"lang": "{{lang}}"}, "metadata": {"n": "{{order}}"},
        "priority": 7, "request": {
            "type": "avatar", "avatar_id": "A", "title": "For {{name}}", "script": "Hello {{name}}, {{ name }}!"},
    });
    let rows =
        json!([{"order": 7, "lang": "de", "name": "Ada \"A\""}, {"order": 8, "lang": "fr", "name": "Bo"}]);
    let group = made(&app, &json!({"template": template, "rows": rows})).await;
    let jobs = jobs(&app, &group).await;
    let job = &jobs[0];
    assert_eq!((&job["group_id"], &job["group_row"]), (&group["id"], &json!(1)));
    assert_eq!((&job["callback_id"], &job["labels"]["lang"]), (&json!("order-7"), &json!("de")));
    assert_eq!((&job["metadata"], &job["priority"]), (&json!({"n": 7}), &json!(7)), "a number stays one");
    assert_eq!(texts(&json!(jobs), "title"), ["For Ada \"A\"", "For Bo"]);
    app.settle().await;
    let wanted = json!({"type": "avatar", "avatar_id": "A", "title": "For Ada \"A\"",
        "script": "Hello Ada \"A\", Ada \"A\"!", "callback_id": job["id"]});
    let sent = app.sandbox.ledger().into_iter().find_map(|e| match e.what {
        What::Accepted { body_hash, callback_id, .. } if callback_id.as_deref() == job["id"].as_str() => {
            Some(body_hash)
        }
        _ => None,
    });
    assert_eq!(sent, Some(crate::submit::sha256(wanted.to_string().as_bytes())), "one call for each job");
    app.advance_s(60).await;
}

async fn a_place_takes_numbers_and_lists_as_they_are(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let template = json!({"kind": "video", "hold": true, "request": {
        "type": "cinematic_avatar", "prompt": "A dune", "avatar_id": "{{looks}}", "duration": "{{seconds:json}}"}});
    let dry = async |row: Value| {
        let body = json!({"template": template, "rows": [row]});
        app.post("/api/groups?dry_run=true", &body).await
    };
    let typed = dry(json!({"looks": ["a", "b"], "seconds": 12})).await.expect(200).json();
    assert_eq!(
        (&typed["first"]["body"]["avatar_id"], &typed["first"]["body"]["duration"]),
        (&json!(["a", "b"]), &json!(12))
    );
    let cells = dry(json!({"looks": ["a"], "seconds": "12.5"})).await.expect(200).json();
    assert_eq!(cells["first"]["body"]["duration"], json!(12.5));
    let wrong = told(&dry(json!({"looks": ["a"], "seconds": "long"})).await);
    assert_eq!(wrong[0].0, "/rows/0/seconds");
    let long = told(&dry(json!({"looks": ["a"], "seconds": "16"})).await);
    assert_eq!(
        long,
        [(
            "/rows/0/seconds".to_owned(),
            "row 1, column seconds: as /request/duration it must be a number from 4 to 15".to_owned()
        )]
    );
}

async fn the_same_key_gives_the_same_group_and_charges_once(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let post = async |body: &Value| {
        app.call("POST", "/api/groups", &[("idempotency-key", "k1")], body.to_string()).await
    };
    let body = sheet(&["a", "b"]);
    let first = post(&body).await.expect(202);
    let again = post(&body).await.expect(202);
    assert_eq!(
        (again.body, again.headers.get("location")),
        (first.body.clone(), first.headers.get("location"))
    );
    post(&sheet(&["a", "c"])).await.problem(422, "idempotency_key_reused");
    let job =
        app.call("POST", "/api/jobs", &[("idempotency-key", "k1")], new_job("video", "x").to_string()).await;
    job.problem(422, "idempotency_key_reused");
    app.advance_s(60).await;
    let group = first.json();
    for id in ids(&jobs(&app, &group).await) {
        assert_eq!((app.state(&id).await, app.charges(&id)), ("completed".to_owned(), 1));
    }
    app.restart().await;
    let later = app.call("POST", "/api/groups?wait=1", &[("idempotency-key", "k1")], body.to_string()).await;
    assert_eq!(later.expect(200).json()["progress"], 100, "the same group, as it is now");
    assert_eq!(app.get("/api/jobs").await.json()["data"].as_array().expect("a list").len(), 2);
}

async fn one_wrong_row_refuses_all_and_is_named(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let mut body = sheet(&["a", "b", "c"]);
    body["rows"][1]["name"] = json!("x".repeat(5_000));
    let answer = app.post("/api/groups", &body).await;
    let wrong = "row 2, column name: as /request/script it has 5007 characters; must be a text of 1 to 5000 characters, not blank";
    assert_eq!(told(&answer), [("/rows/1/name".to_owned(), wrong.to_owned())]);
    nothing_was_made(&app).await;
    app.settle().await;
    // The key of what was refused is still free.
    let key = [("idempotency-key", "k")];
    app.call("POST", "/api/groups", &key, body.to_string()).await.expect(422);
    body["rows"][1]["name"] = json!("x".repeat(4_993));
    app.call("POST", "/api/groups", &key, body.to_string()).await.expect(202);
    app.advance_s(60).await;
}

async fn every_mistake_of_a_sheet_is_named_by_row_and_column(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut body = sheet(&["a", "b", "c", "d"]);
    let row = |n: usize| format!("/rows/{n}");
    body.pointer_mut(&row(0)).unwrap()["notes/1"] = json!("mine");
    body.pointer_mut(&row(1)).unwrap()["notes/1"] = json!("told once");
    body.pointer_mut(&row(1)).unwrap()["name"] = json!("");
    body.pointer_mut(&row(2)).unwrap().as_object_mut().unwrap().remove("title");
    body.pointer_mut(&row(3)).unwrap()["name"] = json!([1]);
    let answer = app.post("/api/groups", &body).await;
    let told = told(&answer);
    let told: Vec<(&str, &str)> = told.iter().map(|(p, m)| (&**p, &**m)).collect();
    assert_eq!(
        told,
        [
            (
                "/rows/0/notes~11",
                "row 1, column notes/1: the template has no {{…}} for it; list it in `ignore` if that is meant"
            ),
            ("/rows/1/name", "row 2, column name: is empty; the template needs it"),
            ("/rows/2/title", "row 3, column title: is missing; the template needs it"),
            ("/rows/3/name", "row 4, column name: is a list and cannot stand inside a text"),
        ]
    );
    nothing_was_made(&app).await;
    let mut fine = sheet(&["a"]);
    fine["rows"][0]["notes"] = json!("mine");
    fine["ignore"] = json!(["notes", "of no row"]);
    fine["template"]["hold"] = json!(true);
    app.post("/api/groups", &fine).await.expect(202);
}

async fn a_mistake_of_the_template_is_told_once_and_not_for_every_row(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut body = sheet(&["a", "b", "c"]);
    body["template"]["request"]["avatar_id"] = json!("");
    body["template"]["prority"] = json!(1);
    body["template"]["request"]["resolution"] = json!("8k");
    let answer = app.post("/api/groups", &body).await;
    answer.problem(422, "invalid_request");
    let wanted = ["/template/request/avatar_id", "/template/request/resolution", "/template/prority"];
    assert_eq!(answer.pointers(), wanted);
    body = sheet(&["a"]);
    body["template"]["request"]["script"] = json!("Hello {{name");
    let answer = app.post("/api/groups", &body).await;
    assert_eq!(answer.pointers(), ["/template/request/script"]);
}

async fn mistakes_are_counted_and_a_hundred_listed(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let answer = async |n: usize| app.post("/api/groups", &sheet(&vec![""; n])).await;
    let hundred = answer(100).await;
    assert_eq!(hundred.pointers().len(), 100);
    let detail = |answer: &Answer| answer.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail(&hundred).ends_with("and 99 more"), "{}", detail(&hundred));
    let more = answer(101).await;
    assert_eq!(more.pointers().len(), 100);
    assert!(detail(&more).ends_with("and 100 more; the first 100 are listed"), "{}", detail(&more));
}

async fn what_is_no_group_is_refused_by_its_field(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let with = |name: &str, value: Value| {
        let mut body = sheet(&["a"]);
        body[name] = value;
        body
    };
    let table = [
        (with("rows", json!([])), "/rows"),
        (with("rows", json!(null)), "/rows"),
        (with("rows", json!({"a": 1})), "/rows"),
        (with("rows", json!([{"title": "a", "name": "b"}, ["a"]])), "/rows/1"),
        (with("template", json!(null)), "/template"),
        (with("template", json!("{{a}}")), "/template"),
        (with("template", json!({"{{a}}": 1})), "/template/{{a}}"),
        (with("title", json!("")), "/title"),
        (with("ignore", json!("notes")), "/ignore"),
        (with("kind", json!("video")), "/kind"),
        (with("more", json!("yes")), "/more"),
    ];
    for (body, pointer) in table {
        let answer = app.post("/api/groups", &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer]);
    }
    app.call("POST", "/api/groups", &[], "rows").await.problem(400, "not_json");
    app.post("/api/groups?dry-run=true", &sheet(&["a"])).await.problem(400, "invalid_parameter");
    nothing_was_made(&app).await;
}

/// Held, so that nobody has to work on ten thousand.
fn held_agents(rows: usize) -> Value {
    let template = json!({"kind": "video_agent", "hold": true, "request": {"prompt": "{{p}}"}});
    json!({"template": template, "rows": vec![json!({"p": "Hi"}); rows]})
}

async fn rows_hold_their_limit_from_both_sides(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let over = app.post("/api/groups", &held_agents(MAX_JOBS + 1)).await;
    assert_eq!(
        told(&over)[0],
        (
            "/rows".to_owned(),
            "has 10001 rows; 1 to 10000 at once; `POST /api/groups/{id}/rows` takes more".to_owned()
        )
    );
    let video = json!({"type": "url", "url": "https://x"});
    let template = json!({"kind": "translation", "hold": true, "request": {"video": video, "output_languages": "{{l}}"}});
    let languages = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
    let two = |n: usize| json!({"template": template, "rows": [{"l": languages(n)}, {"l": languages(n)}]});
    let over = app
        .post(
            "/api/groups",
            &json!({"template": template, "rows": [{"l": languages(9_999)}, {"l": ["a", "b"]}]}),
        )
        .await;
    assert_eq!(over.pointers(), ["/rows"], "languages count, too");
    nothing_was_made(&app).await;
    let most = app.post("/api/groups", &held_agents(MAX_JOBS)).await.expect(202).json();
    assert_eq!((&most["jobs"], &most["counts"]["held"]), (&json!(10_000), &json!(10_000)));
    assert_eq!(app.post("/api/groups", &two(40)).await.expect(202).json()["jobs"], 80);
}

async fn bytes_hold_their_limit_from_both_sides(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let post = async |body: &Value, bytes: usize| {
        // Blanks are no change of the request.
        let mut text = body.to_string();
        text.extend(std::iter::repeat_n(' ', bytes.saturating_sub(text.len())));
        app.call("POST", "/api/groups?dry_run=true", &[], text).await
    };
    let most = 16 << 20;
    post(&held_agents(1), most).await.expect(200);
    post(&held_agents(1), most + 1).await.problem(413, "too_large");
    // A job of a row may be as long as one that is submitted alone.
    let long = |chars: usize| {
        json!({"rows": [{"p": "x".repeat(chars)}], "template": {
        "kind": "video_agent", "check": false, "request": {"prompt": "{{p}}"}}})
    };
    let frame = json!({"kind": "video_agent", "check": false, "request": {"prompt": ""}}).to_string().len();
    post(&long((1 << 20) - frame), 0).await.expect(200);
    let over = post(&long((1 << 20) - frame + 1), 0).await;
    assert_eq!(over.pointers(), ["/rows/0"]);
    // And all jobs together no longer than the body: a long template times many rows.
    let wide = |rows: usize| {
        json!({"rows": vec![json!({"p": "x"}); rows], "template": {
        "kind": "video_agent", "metadata": "{{p}}", "request": {"prompt": "y".repeat(9_910)}}})
    };
    let one = json!({"kind": "video_agent", "metadata": "x", "request": {"prompt": "y".repeat(9_910)}})
        .to_string()
        .len();
    post(&wide(most / one), 0).await.expect(200);
    let over = post(&wide(most / one + 1), 0).await;
    assert_eq!(over.pointers(), ["/rows"]);
}

async fn a_dry_run_counts_and_keeps_nothing(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let dry = app.call(
        "POST",
        "/api/groups?dry_run=true",
        &[("idempotency-key", "k")],
        sheet(&["a", "b"]).to_string(),
    );
    let dry = dry.await.expect(200).json();
    assert_eq!((&dry["jobs"], &dry["cost"]), (&json!(2), &Value::Null));
    assert_eq!(dry["first"]["body"]["script"], "Hello N0.");
    assert_eq!((&dry["first"]["method"], &dry["first"]["path"]), (&json!("POST"), &json!("/v3/videos")));
    assert_eq!(dry["outlook"]["hint"], Value::Null);
    let mut soon = sheet(&["a", "b"]);
    soon["template"]["deadline"] = json!(reelhook::domain::time::rfc3339(app.now() + 60_000));
    let dry = app.post("/api/groups?dry_run=true", &soon).await.expect(200).json();
    assert!(dry["outlook"]["hint"].as_str().unwrap().contains("a deadline is in 1 min"), "{dry}");
    nothing_was_made(&app).await;
    app.post("/api/groups?dry_run=true", &sheet(&["a", ""])).await.problem(422, "invalid_request");
}
