//! Files of more rows than one call takes: all checked first, then sent in parts that make one group, and what
//! whoever is cut off is told.

use serde_json::{Value, json};

use crate::canned::{Asked, Canned, answer, problem};
use crate::groups::{ID, group};
use crate::{Ran, run_in};

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
    assert_eq!(rows(&server), [5], "it is not sent twice");
    assert!(!ran.err.contains("go out"), "{}", ran.err);
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
    for with in [|| problem(401, "unauthorized"), || problem(507, "disk_full"), || problem(500, "internal")] {
        let code = match with().0 {
            401 => 3,
            507 => 8,
            _ => 1,
        };
        let (ran, _) = submit_many(10_001, &args, code, stops(with)).await;
        let hint = ran.problem()["hint"].as_str().unwrap().to_owned();
        let before = format!(
            "10000 rows are in {ID}; once that is mended, the same command with --idempotency-key k7 --deadline 20"
        );
        assert!(hint.starts_with(&before), "{hint}");
        assert!(!hint.contains("not-before"), "it is the same whenever it is given: {hint}");
    }
    let canceled = stops(|| problem(409, "group_whole"));
    let (ran, _) = submit_many(10_001, &["--quiet"], 6, canceled).await;
    assert!(ran.problem()["hint"].as_str().unwrap().contains("need a file and a key of their own"));
    assert_eq!(ran.err.lines().count(), 2, "the key, though nobody knew it, and the problem: {}", ran.err);
    assert!(ran.err.contains("--idempotency-key cli-"), "{}", ran.err);
    // What was right when the first part went out need not be for ever.
    let late = |_: &str, _: usize| refused_rows("/template/deadline", "is over");
    let (ran, _) = submit_many(10_001, &args, 2, late).await;
    let hint = "rows that were sent with this key before are in and go their way; without it they are submitted, \
                and paid for, again";
    assert_eq!(ran.problem()["hint"], hint);
}
