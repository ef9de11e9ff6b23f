//! A producer with a spreadsheet: rows in, one progress, an exit code, and every mistake by its line.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canned::{Canned, job, problem};
use crate::real::Server;
use crate::{run, run_in};

pub const ID: &str = "grp_01hzy3k8v9q2m4n6p8r0s2t4w6";

/// Files of a case, named as they are in it.
struct Desk(TempDir);

impl Desk {
    fn with(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().expect("a directory"));
        for (name, text) in files {
            std::fs::write(desk.path(name), text).expect("a file");
        }
        desk
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path").to_owned()
    }
}

pub fn group(ended: u64, failed: u64, canceled: u64) -> Value {
    let open = 4 - ended;
    json!({
        "id": ID, "title": "rows.csv", "jobs": 4, "ended": ended, "progress": ended * 25,
        "created_at": "2026-11-21T10:00:00.000Z",
        "finished_at": (open == 0).then_some("2026-11-21T10:05:00.000Z"),
        "counts": {"queued": open, "completed": ended - failed - canceled, "failed": failed, "canceled": canceled},
    })
}

#[tokio::test]
async fn rows_and_a_template_go_out_as_one_group() {
    let server = Canned::saying(202, group(0, 0, 0)).await;
    let desk = Desk::with(&[
        ("rows.csv", "\u{feff}name,order\r\nAda,7\r\n\"Bo, the 2nd\",8\r\n"),
        ("video.json", r#"{"type": "avatar", "avatar_id": "A", "script": "Hi {{name}}"}"#),
    ]);
    let (rows, template) = (desk.path("rows.csv"), desk.path("video.json"));
    let submit = ["job", "submit", "--url", &server.url, "--file", &rows, "--template", &template];
    let flags = ["--kind", "video", "--callback-id", "{{order}}", "--label", "team=a", "--ignore", "notes"];
    let ran = run(&[&submit[..], &flags].concat()).await.expect(0);
    assert_eq!(ran.json()["id"], ID);
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "POST /api/groups");
    assert!(asked.header("idempotency-key").unwrap().starts_with("cli-"));
    let wanted = json!({
        "title": "rows.csv", "ignore": ["notes"],
        "template": {"kind": "video", "callback_id": "{{order}}", "labels": {"team": "a"},
            "request": {"type": "avatar", "avatar_id": "A", "script": "Hi {{name}}"}},
        "rows": [{"name": "Ada", "order": "7"}, {"name": "Bo, the 2nd", "order": "8"}],
    });
    assert_eq!(asked.json(), wanted);
}

#[tokio::test]
async fn rows_may_be_json_lines_from_a_pipe_and_the_template_a_whole_job() {
    let server = Canned::saying(202, group(0, 0, 0)).await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}, "hold": true}"#;
    let submit = ["job", "submit", "--url", &server.url, "--file", "-", "--template", template];
    let submit = [&submit[..], &["--title", "Mine", "--idempotency-key", "k1"]].concat();
    run_in(&[], &submit, "{\"p\": \"a\"}\n\n{\"p\": 2}\n").await.expect(0);
    let asked = &server.asked()[0];
    assert_eq!(asked.header("idempotency-key"), Some("k1"));
    let wanted = json!({"title": "Mine", "template": serde_json::from_str::<Value>(template).unwrap(),
        "rows": [{"p": "a"}, {"p": 2}], "ignore": null});
    assert_eq!(asked.json(), wanted);
}

#[tokio::test]
async fn a_file_that_is_no_table_is_told_by_its_line_and_nothing_is_sent() {
    let server = Canned::saying(202, group(0, 0, 0)).await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file"];
    for (text, told) in [
        ("p;q\n1;2\n", "separate columns by commas, not by ';'"),
        ("p,q\n1,2\n1,2,3\n", "line 3 has 3 cells, and line 1 names 2 columns"),
        ("{\"p\": 1}\n{\"p\": \n", "line 2 is not one JSON object"),
        ("p\n", "it has no rows"),
    ] {
        let problem = run_in(&[], &[&submit[..], &["-"]].concat(), text).await.expect(2).problem();
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    let missing = run(&[&submit[..], &["/no/such.csv"]].concat()).await.expect(2).problem();
    assert!(missing["detail"].as_str().unwrap().contains("/no/such.csv"), "{missing}");
    let desk = Desk::with(&[("rows.csv", "p\n1\n")]);
    for (bytes, told) in [(128 << 20, "line 1 is not UTF-8"), ((128 << 20) + 1, "more than 134217728 bytes")]
    {
        std::fs::write(desk.path("long.csv"), b"\xff").expect("a file");
        let long = std::fs::File::options().write(true).open(desk.path("long.csv")).expect("a file");
        long.set_len(bytes).expect("a long file");
        let long = run(&[&submit[..], &[&desk.path("long.csv")]].concat()).await.expect(2).problem();
        assert!(long["detail"].as_str().unwrap().contains(told), "{long}");
    }
    let rows = desk.path("rows.csv");
    for (args, told) in [
        (vec!["--file", &*rows], "need --template"),
        (vec!["--file", "-", "--template", "-"], "standard input"),
        (vec!["--file", &*rows, "--kind", "video"], "--template"),
        (vec!["--template", "{}"], "--file"),
        (vec!["--file", &*rows, "--ignore", "p"], "--template"),
        (vec!["--file", &*rows, "--template", "{}", "--retry-failed"], "--wait"),
        (vec!["--file", &*rows, "--template", "{}", "--request", "{}"], "--request"),
    ] {
        let ran = run(&[&["job", "submit", "--url", &server.url], &args[..]].concat()).await.expect(2);
        assert!(ran.err.contains(told), "{args:?}: {}", ran.err);
    }
    assert_eq!(server.lines(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_names_the_line_of_the_file() {
    let (_, mut refused) = problem(422, "invalid_request");
    refused["detail"] = json!("/rows/1/p: row 2, column p: is empty");
    refused["errors"] = json!([{"pointer": "/rows/1/p", "message": "row 2, column p: is empty"}]);
    let server = Canned::saying(422, refused).await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-"];
    for more in [&[][..], &["--dry-run"]] {
        let ran = run_in(&[], &[&submit, more].concat(), "p,q\n\"a\nb\",1\n,2\n").await.expect(2);
        let problem = ran.problem();
        assert_eq!(problem["errors"][0]["line"], 4);
        assert_eq!(problem["detail"], "line 4 of the file: /rows/1/p: row 2, column p: is empty");
    }
}

#[tokio::test]
async fn a_dry_run_counts_and_shows_the_first() {
    let would = json!({"jobs": 2, "cost": null, "balance": {"left": 12.5, "at": "T"}, "first": {
        "kind": "video", "method": "POST", "path": "/v3/videos", "body": {"script": "Hi Ada"}, "errors": []}});
    let server = Canned::saying(200, would.clone()).await;
    let template = r#"{"kind": "video", "request": {"script": "Hi {{name}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-", "--dry-run"];
    let ran = run_in(&[], &submit, "name\nAda\nBo\n").await.expect(0);
    assert_eq!(ran.json(), would);
    assert!(ran.err.contains("2 jobs, of which this is the first"), "{}", ran.err);
    assert!(ran.err.contains("the balance at HeyGen was 12.5 at T"), "{}", ran.err);
    assert_eq!(server.lines(), ["POST /api/groups?dry_run=true"]);
    let table =
        run_in(&[], &[&submit[..], &["--output", "table"]].concat(), "name\nAda\nBo\n").await.expect(0);
    assert!(table.out.starts_with("POST /v3/videos\n\n{"), "{}", table.out);
}

#[tokio::test]
async fn waiting_tells_how_far_it_is_and_ends_as_the_group_does() {
    let steps =
        vec![(202, group(0, 0, 0)), (200, group(1, 1, 0)), (200, group(1, 1, 0)), (200, group(4, 1, 1))];
    let server = Canned::in_turn(steps).await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-", "--wait"];
    let ran = run_in(&[], &submit, "p\n1\n2\n3\n4\n").await.expect(7);
    let told: Vec<&str> = ran.err.lines().filter_map(|l| l.strip_prefix(&format!("{ID}: "))).collect();
    let wanted = ["0 % of 4 ended", "25 % of 4 ended (1 failed)", "100 % of 4 ended (1 failed, 1 canceled)"];
    assert_eq!(told, wanted, "a line for each change");
    assert_eq!(ran.json()["counts"]["completed"], 2, "the group is on stdout");
    let problem = ran.problem();
    assert_eq!(problem["code"], "cli_job_ended");
    assert_eq!(problem["detail"], "of 4 jobs 1 failed, 1 canceled");
    assert!(problem["hint"].as_str().unwrap().contains(&format!("group retry-failed {ID}")));
    assert_eq!(server.lines()[1], format!("GET /api/groups/{ID}?wait=1"));

    let wait = async |group: Value, code| {
        let server = Canned::saying(200, group).await;
        run(&["group", "wait", ID, "--timeout", "0s", "--url", &server.url]).await.expect(code)
    };
    wait(group(4, 0, 0), 0).await;
    wait(group(4, 0, 4), 7).await;
    let open = wait(group(3, 1, 0), 4).await;
    assert_eq!((&open.json()["ended"], &open.problem()["code"]), (&json!(3), &json!("cli_timed_out")));
    let line = run(&["group", "wait", ID, "--quiet", "--url", &server.url]).await.expect(7);
    assert_eq!(line.err.lines().count(), 1, "the problem alone: {}", line.err);
}

#[tokio::test]
async fn several_languages_submitted_as_one_job_are_waited_for_as_a_group() {
    let server = Canned::in_turn(vec![(202, group(0, 0, 0)), (200, group(4, 0, 0))]).await;
    let submit =
        ["job", "submit", "--url", &server.url, "--wait", "--kind", "translation", "--request", "{}"];
    assert_eq!(run(&submit).await.expect(0).json()["progress"], 100);
    assert_eq!(server.lines(), ["POST /api/jobs".to_owned(), format!("GET /api/groups/{ID}?wait=1")]);
}

#[tokio::test]
async fn failed_jobs_are_retried_and_what_is_left_is_told() {
    let made = json!({"group": group(0, 0, 0), "left": ["job_1"], "remaining": true});
    let server = Canned::saying(202, made).await;
    let retry = ["group", "retry-failed", ID, "--accept-second-charge", "--url", &server.url];
    let ran = run(&retry).await.expect(0);
    assert_eq!((&ran.json()["group"]["id"], &ran.json()["left"]), (&json!(ID), &json!(["job_1"])));
    assert!(ran.err.contains("1 left: HeyGen may have charged"), "{}", ran.err);
    assert!(ran.err.contains(&format!("`reelhook group retry-failed {ID}` takes the next")), "{}", ran.err);
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), format!("POST /api/groups/{ID}/retry-failed"));
    assert_eq!(asked.json(), json!({"accept_second_charge": true}));
    assert!(asked.header("idempotency-key").is_some());
}

#[tokio::test]
async fn what_failed_is_tried_again_once_when_the_submit_says_so() {
    const AGAIN: &str = "grp_01hzy3k8v9q2m4n6p8r0s2t4w7";
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = async |steps: Vec<(u16, Value)>, code| {
        let server = Canned::in_turn(steps).await;
        let flags = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-"];
        let more = ["--wait", "--retry-failed"];
        let ran = run_in(&[], &[&flags[..], &more].concat(), "p\n1\n2\n3\n4\n").await.expect(code);
        (ran, server)
    };
    let second = |jobs: u64, ended: bool, failed: u64| {
        let mut group = group(if ended { 4 } else { 0 }, failed, 0);
        (group["id"], group["jobs"]) = (json!(AGAIN), json!(jobs));
        group
    };
    let steps = |first: Value, jobs, left: &[&str], failed| {
        let retried = json!({"group": second(jobs, false, 0), "left": left});
        vec![(202, group(0, 0, 0)), (200, first), (202, retried), (200, second(jobs, true, failed))]
    };
    let (ran, server) = submit(steps(group(4, 2, 0), 2, &[], 0), 0).await;
    assert_eq!(ran.json()["id"], AGAIN, "one answer, which is the end: {}", ran.out);
    assert!(ran.err.contains("2 failed; what failed is tried again, once"), "{}", ran.err);
    let asked = &server.asked()[2];
    assert_eq!(asked.line(), format!("POST /api/groups/{ID}/retry-failed"));
    assert_eq!(asked.json(), json!({"accept_second_charge": false}));
    assert_eq!(
        asked.header("idempotency-key").unwrap(),
        format!("{ID}-again"),
        "the same when it is repeated"
    );

    // Once: what fails again is told.
    let (ran, server) = submit(steps(group(4, 2, 0), 2, &[], 1), 7).await;
    assert_eq!((server.lines().len(), &ran.problem()["detail"]), (4, &json!("of 2 jobs 1 failed")));

    // All went well that was tried, and that was not all.
    for (first, left, missed) in
        [(group(4, 2, 0), &["job_1"][..], "2 failed"), (group(4, 1, 1), &[], "1 failed, 1 canceled")]
    {
        let (ran, _) = submit(steps(first, 1, left, 0), 7).await;
        assert_eq!(ran.problem()["detail"], format!("of 4 jobs {missed}, and 1 tried again"));
        let takes = format!("retry-failed {ID} --accept-second-charge");
        assert_eq!(ran.err.contains(&takes), !left.is_empty(), "{}", ran.err);
    }

    // Nothing can be: the first end stands.
    let steps = vec![(202, group(0, 0, 0)), (200, group(4, 0, 4)), problem(409, "nothing_to_retry")];
    let (ran, _) = submit(steps, 7).await;
    assert_eq!((&ran.json()["id"], &ran.problem()["detail"]), (&json!(ID), &json!("of 4 jobs 4 canceled")));

    // All went well: nothing is asked for.
    let (ran, server) = submit(vec![(202, group(0, 0, 0)), (200, group(4, 0, 0))], 0).await;
    assert_eq!((&ran.json()["id"], server.lines().len()), (&json!(ID), 2));
}

#[tokio::test]
async fn groups_are_for_people_too() {
    let server = Canned::saying(200, group(4, 1, 0)).await;
    let page = run(&["group", "get", ID, "--output", "table", "--url", &server.url]).await.expect(0).out;
    for part in [&format!("{ID}  finished"), "rows.csv", "4: 3 completed, 1 failed", "100 %"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let mut waits = group(4, 0, 0);
    (waits["finished_at"], waits["next_row"]) = (Value::Null, json!(5));
    let server = Canned::saying(200, waits).await;
    let page = run(&["group", "get", ID, "--output", "table", "--url", &server.url]).await.expect(0).out;
    assert!(page.contains(&format!("{ID}  open, takes more rows")), "{page}");
    let late = run(&["group", "wait", ID, "--timeout", "0s", "--url", &server.url]).await.expect(4).problem();
    assert!(late["detail"].as_str().unwrap().contains("100 % of 4 ended, more rows to come"), "{late}");
    let list = json!({"data": [group(1, 0, 0)], "has_more": false, "next_cursor": null});
    let server = Canned::saying(200, list).await;
    let table = run(&["group", "list", "--output", "table", "--url", &server.url]).await.expect(0).out;
    assert!(table.contains(ID) && table.contains("25 %"), "{table}");
    let jobs = json!({"data": [job("failed")], "has_more": false, "next_cursor": null});
    let server = Canned::saying(200, jobs).await;
    run(&["job", "list", "--group", ID, "--url", &server.url]).await.expect(0);
    assert_eq!(server.lines(), [format!("GET /api/jobs?group={ID}")]);
}

#[tokio::test]
async fn a_sheet_is_submitted_found_and_canceled_for_real() {
    let server = Server::start().await;
    let desk = Desk::with(&[
        ("rows.csv", "name,text\nAda,Hello\nBo,\"Good\nday\"\n"),
        (
            "job.json",
            r#"{"kind": "video_agent", "hold": true, "callback_id": "{{name}}", "request": {"prompt": "{{text}}"}}"#,
        ),
        ("wrong.csv", "name,text,notes\nAda,Hello,x\nBo,,y\n"),
    ]);
    let (rows, wrong, template) = (desk.path("rows.csv"), desk.path("wrong.csv"), desk.path("job.json"));
    let submit = ["job", "submit", "--template", &template, "--idempotency-key", "k1", "--file"];
    let refused = server.run(&[&submit[..], &[&wrong]].concat()).await.expect(2).problem();
    let told: Vec<(&Value, &Value)> =
        refused["errors"].as_array().unwrap().iter().map(|e| (&e["pointer"], &e["line"])).collect();
    assert_eq!(told, [(&json!("/rows/0/notes"), &json!(2)), (&json!("/rows/1/text"), &json!(3))]);
    let dry = server.run(&[&submit[..], &[&rows, "--dry-run"]].concat()).await.expect(0).json();
    assert_eq!((&dry["jobs"], &dry["first"]["body"]["prompt"]), (&json!(2), &json!("Hello")));
    assert_eq!(server.run(&["group", "list"]).await.expect(0).json()["data"], json!([]));
    let group = server.run(&[&submit[..], &[&rows]].concat()).await.expect(0).json();
    let id = group["id"].as_str().unwrap();
    assert_eq!((&group["title"], &group["counts"]["held"]), (&json!("rows.csv"), &json!(2)));
    assert_eq!(
        server.run(&[&submit[..], &[&rows]].concat()).await.expect(0).json()["id"],
        id,
        "the same key"
    );
    let jobs = server.run(&["job", "list", "--group", id]).await.expect(0).json();
    let found: Vec<(&Value, &Value)> =
        jobs["data"].as_array().unwrap().iter().map(|j| (&j["callback_id"], &j["group_row"])).collect();
    assert_eq!(found, [(&json!("Bo"), &json!(2)), (&json!("Ada"), &json!(1))]);
    assert_eq!(server.run(&["group", "cancel", id]).await.expect(0).json()["canceled"], 2);
    let ended = server.run(&["group", "wait", id]).await.expect(7);
    assert_eq!(ended.json()["counts"]["canceled"], 2);
    let retry = server.run(&["group", "retry-failed", id]).await.expect(6).problem();
    assert_eq!(retry["code"], "nothing_to_retry");
    server.run(&["group", "get", "grp_none"]).await.expect(5);
    let events = server.run(&["event", "list"]).await.expect(0).json();
    assert_eq!(events["data"].as_array().unwrap().last().unwrap()["type"], "group.finished");
}
