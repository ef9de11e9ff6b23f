//! A producer with a spreadsheet: rows in, one progress, an exit code, and every mistake by its line.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canned::{Asked, Canned, answer, job, problem};
use crate::real::Server;
use crate::{Ran, run, run_in};

const ID: &str = "grp_01hzy3k8v9q2m4n6p8r0s2t4w6";

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

fn group(ended: u64, failed: u64, canceled: u64) -> Value {
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

/// `rows` rows of one column, and what a server of ours says to each call: its line, and how many rows it has.
async fn submit_many(
    rows: usize,
    args: &[&str],
    code: i32,
    says: impl Fn(&str, usize) -> (u16, Value) + Send + Sync + 'static,
) -> (Ran, Canned) {
    let server = Canned::start(move |_, asked| {
        let (status, body) = says(&asked.line(), rows_of(asked));
        answer(status, &body)
    })
    .await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-"];
    let text: String =
        std::iter::once("p\n".to_owned()).chain((1..=rows).map(|n| format!("{n}\n"))).collect();
    let ran = run_in(&[], &[&submit[..], args].concat(), &text).await.expect(code);
    (ran, server)
}

fn rows_of(asked: &Asked) -> usize {
    asked.json()["rows"].as_array().map_or(0, Vec::len)
}

const CHECK: &str = "POST /api/groups?dry_run=true";

fn would(jobs: usize) -> Value {
    json!({"jobs": jobs, "cost": null, "balance": null,
        "outlook": {"from_s": 3_600, "to_s": 10_800, "slots": 10, "deadline_s": 86_400, "hint": null},
        "first": {"kind": "video_agent", "method": "POST", "path": "/v3/p", "body": {}, "errors": []}})
}

/// Takes all.
fn takes(line: &str, rows: usize) -> (u16, Value) {
    if line == CHECK { (200, would(rows)) } else { (202, group(0, 0, 0)) }
}

fn refused_rows(pointer: &str, message: &str) -> (u16, Value) {
    let (status, mut refused) = problem(422, "invalid_request");
    refused["detail"] = json!(format!("{pointer}: {message}"));
    refused["errors"] = json!([{"pointer": pointer, "message": message}]);
    (status, refused)
}

#[tokio::test]
async fn more_rows_than_one_call_takes_are_all_checked_and_then_sent_in_parts() {
    let (ran, server) = submit_many(20_001, &["--title", "T", "--idempotency-key", "k"], 0, takes).await;
    let rows = format!("POST /api/groups/{ID}/rows");
    assert_eq!(server.lines(), [CHECK, CHECK, CHECK, "POST /api/groups", &rows, &rows]);
    let sent = &server.asked()[3..];
    let keys: Vec<_> = sent.iter().filter_map(|asked| asked.header("idempotency-key")).collect();
    assert_eq!(keys, ["k", &format!("{ID}-rows-10001"), &format!("{ID}-rows-20001")]);
    let told: Vec<Value> = sent
        .iter()
        .map(|asked| {
            json!([asked.json()["more"], asked.json()["title"], asked.json()["first_row"], rows_of(asked)])
        })
        .collect();
    let wanted = [
        json!([true, "T", null, 10_000]),
        json!([true, null, 10_001, 10_000]),
        json!([null, null, 20_001, 1]),
    ];
    assert_eq!(told, wanted);
    assert!(!sent[1].json().as_object().unwrap().contains_key("title"), "not even null");
    assert_eq!(sent[2].json()["rows"], json!([{"p": "20001"}]));
    assert_eq!(ran.json()["id"], ID, "one group");
    for part in [
        "20000 of 20001 rows are checked",
        "in 3 parts",
        "--idempotency-key k goes on",
        "20001 of 20001 rows are in",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[tokio::test]
async fn a_dry_run_of_several_parts_tells_of_all() {
    let (dry, server) = submit_many(20_001, &["--dry-run"], 0, takes).await;
    assert_eq!((&dry.json()["jobs"], &dry.json()["outlook"]["to_s"]), (&json!(20_001), &json!(32_400)));
    assert_eq!((server.lines(), &dry.json()["outlook"]["hint"]), (vec![CHECK.to_owned(); 3], &Value::Null));
    // Three parts that are too long together, and none of them alone.
    let late = |line: &str, rows: usize| {
        let (status, mut says) = takes(line, rows);
        if line == CHECK {
            says["outlook"]["deadline_s"] = json!(32_399);
        }
        (status, says)
    };
    for more in [&["--dry-run"][..], &[]] {
        let (ran, _) = submit_many(20_001, more, 0, late).await;
        assert!(ran.err.contains("they take 3 h to 9 h, and a deadline is in 9 h"), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_mistake_far_down_is_named_by_its_line_before_anything_is_sent() {
    let (ran, server) = submit_many(10_003, &[], 2, |line, rows| {
        if rows == 10_000 {
            takes(line, rows)
        } else {
            refused_rows("/rows/1/p", "row 2, column p: is empty")
        }
    })
    .await;
    let problem = ran.problem();
    assert_eq!(problem["detail"], "line 10003 of the file: /rows/10001/p: row 10002, column p: is empty");
    let first = &problem["errors"][0];
    assert_eq!((&first["pointer"], &first["line"]), (&json!("/rows/10001/p"), &json!(10_003)));
    assert_eq!(server.lines(), [CHECK; 2]);
}

#[tokio::test]
async fn rows_that_are_too_much_for_one_call_are_halved() {
    let says = |line: &str, rows: usize| match rows {
        3.. => refused_rows("/rows", "from row 3 on they make too much"),
        _ => takes(line, rows),
    };
    let rows = |server: &Canned| -> Vec<usize> {
        server.asked().iter().filter(|asked| asked.line() != CHECK).map(rows_of).collect()
    };
    let (_, server) = submit_many(5, &[], 0, says).await;
    assert_eq!(rows(&server), [5, 2, 1, 2]);
    // Once more with the same key, which is that of the first two rows now.
    let again = move |line: &str, rows: usize| match (line, rows) {
        ("POST /api/groups", 5) => problem(422, "idempotency_key_reused"),
        _ => says(line, rows),
    };
    let (ran, server) = submit_many(5, &["--idempotency-key", "k"], 0, again).await;
    assert_eq!((rows(&server), &ran.json()["id"]), (vec![5, 2, 1, 2], &json!(ID)));
    // What is not that of its first part is told.
    let other = |line: &str, rows: usize| match line {
        CHECK => takes(line, rows),
        _ => problem(422, "idempotency_key_reused"),
    };
    let (ran, server) = submit_many(5, &["--idempotency-key", "k"], 2, other).await;
    assert_eq!(rows(&server), [5, 5]);
    assert!(ran.problem()["hint"].as_str().unwrap().contains("paid for, again"), "{}", ran.err);
    // And what cannot be halved, by its line.
    let much = |_: &str, _: usize| refused_rows("/rows", "from row 1 on they make too much");
    let (ran, _) = submit_many(2, &[], 2, much).await;
    assert_eq!(ran.problem()["detail"], "line 2 of the file: /rows: from row 1 on they make too much");
}

#[tokio::test]
async fn rows_longer_than_a_call_may_be_are_not_even_tried() {
    let server = Canned::start(|_, asked| {
        let (status, body) = takes(&asked.line(), rows_of(asked));
        answer(status, &body)
    })
    .await;
    let template = r#"{"kind": "video_agent", "request": {"prompt": "{{p}}"}}"#;
    let submit = ["job", "submit", "--url", &server.url, "--template", template, "--file", "-"];
    let wide = |mib: usize| format!("p\n{}\nb\n", "x".repeat(mib << 20));
    run_in(&[], &submit, &wide(15)).await.expect(0);
    assert_eq!(server.asked().iter().map(rows_of).collect::<Vec<_>>(), [2]);
    let row = run_in(&[], &submit, &wide(16)).await.expect(2).problem();
    assert_eq!(row["detail"], "line 2 of the file: it is more than 16777216 bytes");
    assert_eq!(server.asked().len(), 1, "nothing else was asked");
}

#[tokio::test]
async fn who_stops_midway_is_told_how_to_go_on() {
    let stops = |with: fn() -> (u16, Value)| {
        move |line: &str, rows: usize| if line.ends_with("/rows") { with() } else { takes(line, rows) }
    };
    let args = ["--idempotency-key", "k7", "--deadline", "2h", "--not-before", "2030-01-01T00:00:00Z"];
    for with in [|| problem(409, "group_whole"), || problem(507, "disk_full"), || problem(500, "internal")] {
        let code = match with().0 {
            409 => 6,
            507 => 8,
            _ => 1,
        };
        let (ran, _) = submit_many(10_001, &args, code, stops(with)).await;
        let hint = ran.problem()["hint"].as_str().unwrap().to_owned();
        let before = format!(
            "10000 rows are in {ID} and go their way; the same command with --idempotency-key k7 --deadline 20"
        );
        assert!(hint.starts_with(&before), "{hint}");
        assert!(!hint.contains("not-before"), "it is the same whenever it is given: {hint}");
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
    let server = Canned::saying(202, json!({"group": group(0, 0, 0), "left": ["job_1"]})).await;
    let retry = ["group", "retry-failed", ID, "--accept-second-charge", "--url", &server.url];
    let ran = run(&retry).await.expect(0);
    assert_eq!((&ran.json()["group"]["id"], &ran.json()["left"]), (&json!(ID), &json!(["job_1"])));
    assert!(ran.err.contains("1 left: HeyGen may have charged"), "{}", ran.err);
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
