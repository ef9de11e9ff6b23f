//! Groups: rows in, jobs out. Everything is checked before anything is stored, a group is made once and
//! whole, ends once, and what failed is tried again once.

use std::time::Duration;

use reelhook::domain::group::MAX_JOBS;
use reelhook::heygen::sandbox::What;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job, request, texts};
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
    a_group_ends_once_with_its_counts,
    jobs_of_a_group_that_end_together_end_it_once,
    a_wait_ends_with_the_group,
    a_group_is_canceled_as_far_as_it_can_be,
    what_failed_is_retried_once_as_a_group_of_its_own,
    what_may_have_been_charged_is_left_unless_that_is_accepted,
    a_retried_job_of_a_group_is_not_retried_again_with_it,
    several_languages_make_a_group_of_a_job_each,
    several_languages_in_rows_make_a_job_for_each,
    groups_are_listed_and_their_jobs_found,
    a_group_that_is_not_there_is_404,
    a_group_outlives_a_restart_in_the_middle,
}

/// A template whose title and script come from columns, for the sandbox's `#words`.
fn sheet(titles: &[&str]) -> Value {
    let mut template = new_job("video", "{{title}}");
    template["request"]["script"] = json!("Hello {{name}}.");
    let rows = titles.iter().enumerate().map(|(n, title)| json!({"title": title, "name": format!("N{n}")}));
    json!({"title": "rows.csv", "template": template, "rows": rows.collect::<Vec<_>>()})
}

async fn made(app: &TestApp, body: &Value) -> Value {
    let answer = app.post("/api/groups", body).await.expect(202);
    let group = answer.json();
    let path = format!("/api/groups/{}", group["id"].as_str().expect("an id"));
    assert_eq!(answer.header("location"), Some(&*path));
    assert_eq!(group["status_url"], path);
    group
}

async fn group(app: &TestApp, of: &Value) -> Value {
    app.get(of["status_url"].as_str().expect("a link")).await.expect(200).json()
}

/// By row.
async fn jobs(app: &TestApp, of: &Value) -> Vec<Value> {
    let page =
        app.get(&format!("{}&limit=200", of["jobs_url"].as_str().expect("a link"))).await.expect(200).json();
    let mut jobs = page["data"].as_array().expect("a list").clone();
    jobs.reverse();
    jobs
}

fn ids(jobs: &[Value]) -> Vec<String> {
    jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

/// The ends of groups that were published.
async fn ends(app: &TestApp) -> Vec<Value> {
    let page = app.get("/api/events?limit=200").await.expect(200).json();
    assert_eq!(page["has_more"], false);
    let all = page["data"].as_array().expect("a list").clone();
    all.into_iter().filter(|e| e["type"] == "group.finished").map(|e| e["data"].clone()).collect()
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
    let wrong = "row 2, column name: as /request/script it has 5007 characters; must be a text of 1 to 5000 characters";
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
        ("/rows".to_owned(), "has 10001 rows; a group has 1 to 10000 jobs".to_owned())
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
    nothing_was_made(&app).await;
    app.post("/api/groups?dry_run=true", &sheet(&["a", ""])).await.problem(422, "invalid_request");
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
    assert_eq!(ends(&app).await, [ended.clone()], "told once, as it is");
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
    let open = app.get(&path).await.expect(200);
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
    let path = old["retry_failed_url"].as_str().unwrap();
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
    let third = app.post(new["retry_failed_url"].as_str().unwrap(), &json!({})).await.expect(202).json();
    assert_eq!(third["group"]["retry_of"], new["id"]);
    app.advance_s(60).await;
}

async fn what_may_have_been_charged_is_left_unless_that_is_accepted(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let old = made(&app, &sheet(&["a #stuck", "b #fail"])).await;
    app.advance(Duration::from_secs(25 * 3_600)).await;
    let lost = ids(&jobs(&app, &old).await).remove(0);
    let path = old["retry_failed_url"].as_str().unwrap();
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
    app.post(old["retry_failed_url"].as_str().unwrap(), &json!({})).await.problem(409, "nothing_to_retry");
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
