//! What each command asks of the server, prints, and ends with.

use axum::response::{Html, IntoResponse};
use serde_json::{Value, json};

use crate::canned::{Canned, answer, job, problem};
use crate::{nowhere, run, run_in};

const ID: &str = "job_01hzy3k8v9q2m4n6p8r0s2t4w6";

#[tokio::test]
async fn each_class_of_refusal_has_its_exit_code() {
    let classes = [
        (401, 3),
        (403, 3),
        (404, 5),
        (409, 6),
        (402, 8),
        (507, 8),
        (400, 2),
        (422, 2),
        (500, 1),
        (503, 1),
        (429, 1),
    ];
    for (status, code) in classes {
        let (status, body) = problem(status, "some_code");
        let server = Canned::saying(status, body.clone()).await;
        let ran = run(&["job", "get", ID, "--url", &server.url]).await.expect(code);
        assert_eq!(ran.problem(), body, "the problem of the server, whole");
        assert_eq!(ran.out, "");
    }
}

#[tokio::test]
async fn without_a_server_it_says_what_to_start() {
    let url = nowhere();
    let ran = run(&["job", "list", "--url", &url]).await.expect(1);
    let problem = ran.problem();
    assert_eq!(problem["code"], "cli_no_server");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&url) && detail.contains("connection refused"), "{detail}");
    assert!(problem["hint"].as_str().unwrap().contains("reelhook serve"));
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_said_plainly() {
    let page = Canned::start(|_, _| Html("<html><body>It works!</body></html>").into_response()).await;
    let ran = run(&["job", "list", "--url", &page.url]).await.expect(1);
    assert_eq!(ran.problem()["code"], "cli_not_reelhook");
    assert!(ran.problem()["detail"].as_str().unwrap().contains("text/html"));

    for (status, body) in [(200, json!({"ok": true})), (200, json!([1])), (404, json!({"error": "x"}))] {
        let other = Canned::saying(status, body).await;
        let ran = run(&["job", "list", "--url", &other.url]).await.expect(1);
        assert_eq!(ran.problem()["code"], "cli_not_reelhook");
    }
}

#[tokio::test]
async fn the_api_key_comes_from_flag_variable_or_file() {
    let server = Canned::saying(200, job("queued")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "rhk_file\n").unwrap();
    let path = file.path().to_str().unwrap();
    let url = ("REELHOOK_URL", server.url.as_str());
    let get = ["job", "get", ID];
    run_in(&[url], &get, "").await.expect(0);
    run_in(&[url, ("REELHOOK_API_KEY", "rhk_variable")], &get, "").await.expect(0);
    run_in(&[url, ("REELHOOK_API_KEY_FILE", path)], &get, "").await.expect(0);
    let flag = ["job", "get", ID, "--api-key", "rhk_flag"];
    run_in(&[url, ("REELHOOK_API_KEY", "rhk_variable")], &flag, "").await.expect(0);
    let sent: Vec<Option<String>> =
        server.asked().iter().map(|a| a.header("authorization").map(str::to_owned)).collect();
    let wanted = [None, Some("Bearer rhk_variable"), Some("Bearer rhk_file"), Some("Bearer rhk_flag")];
    assert_eq!(sent, wanted.map(|w| w.map(str::to_owned)));
}

#[tokio::test]
async fn submit_sends_one_job_with_a_key() {
    let server = Canned::saying(202, job("queued")).await;
    let args = [
        "job",
        "submit",
        "--kind",
        "video_agent",
        "--request",
        r#"{"prompt": "Hi"}"#,
        "--callback-id",
        "order-1",
        "--label",
        "team=sales",
        "--label",
        "a=b=c",
        "--metadata",
        r#"{"n": 1}"#,
        "--hold",
        "--deadline",
        "2026-12-01T00:00:00Z",
        "--url",
        &server.url,
    ];
    let ran = run(&args).await.expect(0);
    assert_eq!(ran.json()["id"], ID);
    let asked = &server.asked()[0];
    assert_eq!(asked.line(), "POST /api/jobs");
    assert!(asked.header("idempotency-key").unwrap().starts_with("cli-"));
    let wanted = json!({
        "kind": "video_agent", "request": {"prompt": "Hi"}, "callback_id": "order-1",
        "labels": {"team": "sales", "a": "b=c"}, "metadata": {"n": 1}, "hold": true,
        "deadline": "2026-12-01T00:00:00.000Z",
    });
    assert_eq!(asked.json(), wanted);
}

#[tokio::test]
async fn submit_reads_a_file_or_standard_input() {
    let server = Canned::saying(202, job("queued")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"prompt": "from a file"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    let kind = ["job", "submit", "--url", &server.url, "--kind", "video_agent", "--request"];
    run(&[&kind[..], &[path]].concat()).await.expect(0);
    run_in(&[], &[&kind[..], &["-"]].concat(), r#"{"prompt": "from a pipe"}"#).await.expect(0);
    let whole = r#"{"kind": "video_agent", "request": {"prompt": "whole"}, "hold": true}"#;
    run_in(&[], &["job", "submit", "--url", &server.url, "--file", "-"], whole).await.expect(0);
    let prompts: Vec<Value> = server.asked().iter().map(|a| a.json()["request"]["prompt"].clone()).collect();
    assert_eq!(prompts, ["from a file", "from a pipe", "whole"]);
    assert_eq!(server.asked()[2].json()["hold"], true);
    let ran = run(&[&kind[..], &["/no/such/file"]].concat()).await.expect(2);
    assert!(ran.problem()["detail"].as_str().unwrap().contains("/no/such/file"));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_with_the_same_key() {
    let busy = json!({"code": "busy", "title": "T", "status": 503, "retryable": true, "retry_after_s": 0});
    let server = Canned::in_turn(vec![(503, busy.clone()), (503, busy), (202, job("queued"))]).await;
    let args =
        ["job", "submit", "--kind", "video_agent", "--request", r#"{"prompt": "Hi"}"#, "--url", &server.url];
    run(&args).await.expect(0);
    let keys: Vec<String> =
        server.asked().iter().map(|a| a.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|k| *k == keys[0]));
}

#[tokio::test]
async fn a_dry_run_asks_what_would_be_sent() {
    let would = json!({
        "kind": "video", "method": "POST", "path": "/v3/videos", "body": {"type": "film"},
        "errors": [{"pointer": "/request/type", "message": "must be one of avatar"}],
    });
    let server = Canned::saying(200, would.clone()).await;
    let submit = ["job", "submit", "--dry-run", "--no-check", "--url", &server.url, "--kind", "video"];
    let submit = [&submit[..], &["--request", r#"{"type": "film"}"#]].concat();
    let ran = run(&submit).await.expect(0);
    assert_eq!(ran.json(), would);
    assert!(ran.err.contains("/request/type: must be one of avatar"), "{}", ran.err);
    assert!(ran.err.contains("nothing was sent"), "{}", ran.err);
    let table = run(&[&submit[..], &["--output", "table"]].concat()).await.expect(0);
    assert!(table.out.starts_with("POST /v3/videos\n\n{"), "{}", table.out);
    assert_eq!(server.lines(), ["POST /api/jobs?dry_run=true"; 2]);
    let asked = &server.asked()[0];
    assert_eq!(asked.header("idempotency-key"), None);
    assert_eq!(asked.json(), json!({"kind": "video", "request": {"type": "film"}, "check": false}));
}

#[tokio::test]
async fn wait_ends_as_the_job_does() {
    for (state, code) in [("completed", 0), ("failed", 7), ("canceled", 7)] {
        let server = Canned::saying(200, job(state)).await;
        let ran = run(&["job", "wait", ID, "--url", &server.url]).await.expect(code);
        assert_eq!(ran.json()["state"], state, "the job is on stdout");
        assert!(ran.err.contains(&format!("{ID}: {state}")), "{}", ran.err);
        assert_eq!(server.lines(), [format!("GET /api/jobs/{ID}?wait=1")]);
        if code == 7 {
            assert_eq!(ran.problem()["code"], "cli_job_ended");
        }
    }
}

#[tokio::test]
async fn wait_tells_what_changes_and_gives_up_in_time() {
    let server =
        Canned::in_turn(vec![(200, job("queued")), (200, job("processing")), (200, job("completed"))]).await;
    let ran = run(&["job", "wait", ID, "--url", &server.url]).await.expect(0);
    let told: Vec<&str> =
        ran.err.lines().filter_map(|l| l.split_once(": ").map(|(_, state)| state)).collect();
    assert_eq!(told, ["queued", "processing", "completed"]);
    let quiet = run(&["job", "wait", ID, "--quiet", "--url", &server.url]).await.expect(0);
    assert_eq!(quiet.err, "");

    let stuck = Canned::saying(200, job("processing")).await;
    let ran = run(&["job", "wait", ID, "--timeout", "0s", "--url", &stuck.url]).await.expect(4);
    assert_eq!(ran.json()["state"], "processing", "the partial job is on stdout");
    assert_eq!(ran.problem()["code"], "cli_timed_out");
}

#[tokio::test]
async fn submit_and_retry_can_wait() {
    let server = Canned::in_turn(vec![(202, job("queued")), (200, job("failed"))]).await;
    let args = ["job", "submit", "--wait", "--kind", "video_agent", "--request", r#"{"prompt": "Hi"}"#];
    let ran = run(&[&args[..], &["--url", &server.url]].concat()).await.expect(7);
    assert_eq!(ran.json()["failure"]["message"], "No face found");
    assert!(ran.problem()["detail"].as_str().unwrap().contains("No face found"));

    let server = Canned::in_turn(vec![(202, job("queued")), (200, job("completed"))]).await;
    let args = ["job", "retry", ID, "--accept-second-charge", "--wait", "--url", &server.url];
    run(&args).await.expect(0);
    assert_eq!(server.asked()[0].line(), format!("POST /api/jobs/{ID}/retry"));
    assert_eq!(server.asked()[0].json(), json!({"accept_second_charge": true}));
}

#[tokio::test]
async fn wishes_go_where_they_belong() {
    let server = Canned::saying(200, job("queued")).await;
    for args in [&["cancel"][..], &["refresh"], &["approve"], &["reject", "--reason", "wrong logo"]] {
        run(&[&["job"], &args[..1], &[ID], &args[1..], &["--url", &server.url]].concat()).await.expect(0);
    }
    let lines = ["cancel", "refresh", "approve", "reject"].map(|verb| format!("POST /api/jobs/{ID}/{verb}"));
    assert_eq!(server.lines(), lines);
    assert_eq!(server.asked()[3].json(), json!({"reason": "wrong logo"}));
    // An id is one word of the path, whatever is in it.
    run(&["job", "get", "../keys?x", "--url", &server.url]).await.expect(0);
    assert_eq!(server.lines()[4], "GET /api/jobs/..%2Fkeys%3Fx");
    run(&["job", "get", "", "--url", &server.url]).await.expect(2);
}

#[tokio::test]
async fn lists_take_filters_and_follow_their_pages() {
    let page =
        |next: Option<&str>| json!({"data": [job("held")], "has_more": next.is_some(), "next_cursor": next});
    let server =
        Canned::in_turn(vec![(200, page(Some("c1"))), (200, page(Some("c2"))), (200, page(None))]).await;
    let args = [
        "job",
        "list",
        "--all",
        "--state",
        "held",
        "--kind",
        "video",
        "--label",
        "team=sales",
        "--callback-id",
        "o 1",
    ];
    let ran = run(&[&args[..], &["--q", "x&y", "--url", &server.url]].concat()).await.expect(0);
    assert_eq!(ran.json()["data"].as_array().unwrap().len(), 3);
    assert_eq!(ran.json()["has_more"], false);
    let first = "GET /api/jobs?state=held&kind=video&callback_id=o+1&label=team%3Asales&q=x%26y&limit=200";
    assert_eq!(
        server.lines(),
        [first.to_owned(), format!("{first}&cursor=c1"), format!("{first}&cursor=c2")]
    );

    let server = Canned::in_turn(vec![(200, page(Some("c1"))), (200, page(None))]).await;
    let ran = run(&["job", "list", "--all", "--output", "ndjson", "--url", &server.url]).await.expect(0);
    assert_eq!(ran.out.lines().filter(|l| l.starts_with(r#"{"id":"#)).count(), 2);

    let server = Canned::saying(200, page(Some("c1"))).await;
    let ran =
        run(&["job", "list", "--limit", "1", "--output", "table", "--url", &server.url]).await.expect(0);
    assert!(ran.out.contains("held") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(ran.err.contains("--cursor c1"));
    let endless = run(&["job", "list", "--all", "--url", &server.url]).await.expect(1);
    assert!(endless.problem()["detail"].as_str().unwrap().contains("same cursor"));
}

#[tokio::test]
async fn what_cannot_be_undone_needs_a_yes() {
    let server = Canned::start(|_, _| http::StatusCode::NO_CONTENT.into_response()).await;
    for args in [["webhook", "remove", "ep_1"], ["key", "revoke", "key_1"]] {
        let ran = run(&[&args[..], &["--url", &server.url]].concat()).await.expect(2);
        assert_eq!(ran.problem()["code"], "cli_not_confirmed");
        assert!(server.asked().is_empty());
    }
    run(&["webhook", "remove", "ep_1", "--yes", "--url", &server.url]).await.expect(0);
    let ran = run(&["key", "revoke", "key_1", "-y", "--url", &server.url]).await.expect(0);
    assert_eq!(ran.json(), json!({"id": "key_1", "revoked": true}));
    assert_eq!(server.lines(), ["DELETE /api/webhooks/ep_1", "DELETE /api/keys/key_1"]);
}

#[tokio::test]
async fn guide_000_doctor_fails_when_something_does() {
    let report = |healthy: bool| {
        let status = if healthy { "warn" } else { "fail" };
        let bad = json!({"check": "HeyGen key", "status": status, "detail": "none is set", "fix": "set HEYGEN_API_KEY"});
        json!({"healthy": healthy, "checks": [{"check": "store", "status": "ok", "detail": "answers", "fix": null}, bad]})
    };
    let server = Canned::saying(200, report(false)).await;
    let ran = run(&["doctor", "--output", "table", "--url", &server.url]).await.expect(1);
    assert!(
        ran.out.contains("✓") && ran.out.contains("✗") && ran.out.contains("set HEYGEN_API_KEY"),
        "{}",
        ran.out
    );
    assert!(ran.problem()["detail"].as_str().unwrap().contains("HeyGen key"));
    let server = Canned::saying(200, report(true)).await;
    assert_eq!(run(&["doctor", "--url", &server.url]).await.expect(0).json(), report(true));
}

#[tokio::test]
async fn guide_000_and_003_register_names_its_events() {
    let said = json!({"action": "created", "endpoint_id": "ep_1", "url": "https://x/webhooks/heygen", "events": null, "probe_ms": 3, "secret_stored": true});
    let server = Canned::start(move |_, _| answer(201, &said)).await;
    let ran = run(&["webhook", "register", "--output", "table", "--url", &server.url]).await.expect(0);
    assert!(ran.out.contains("registered at HeyGen") && ran.out.contains("stored"), "{}", ran.out);
    run(&["webhook", "register", "--events", "a.success,a.fail", "--url", &server.url]).await.expect(0);
    assert_eq!(server.asked()[0].json(), json!({"events": null}));
    assert_eq!(server.asked()[1].json(), json!({"events": ["a.success", "a.fail"]}));
}

#[tokio::test]
async fn an_endpoint_is_shown_with_its_whole_address() {
    let url = format!("https://{}.example.com/webhooks/heygen", "long".repeat(12));
    let one = |ours: bool| {
        json!({
            "endpoint_id": "ep_1", "url": url, "events": ["avatar_video.success"], "status": "enabled",
            "is_ours": ours, "secret_known": ours, "secret_since": ours.then_some("2026-11-21T10:00:00.000Z"),
        })
    };
    let page = json!({"data": [one(true), one(false)], "has_more": false, "next_cursor": null});
    let server = Canned::saying(200, page).await;
    let ran = run(&["webhook", "list", "--output", "table", "--url", &server.url]).await.expect(0).out;
    let head = format!("{url}  enabled\n");
    let ours = "  endpoint  ep_1\n  leads to  this server\n  events    avatar_video.success\n  \
                secret    known since 2026-11-21T10:00:00.000Z\n";
    assert!(ran.starts_with(&format!("{head}{ours}\n{head}")), "{ran}");
    assert!(ran.contains("leads to  another address"), "{ran}");
}

/// Guide 001's reader reads logs. A start that fails says why on stderr; its settings are in both.
#[tokio::test]
async fn guide_001_the_log_can_be_kept_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("reelhook.log");
    let nowhere = directory.path().join("none/r.db");
    let (log, database) = (file.to_str().unwrap(), nowhere.to_str().unwrap());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database", database, "--log-file", log];
    for _ in 0..2 {
        let ran = run(&serve).await.expect(1);
        assert_eq!(ran.problem()["code"], "cli_store");
        assert!(ran.problem()["detail"].as_str().unwrap().contains("its directory is not there"));
        assert!(ran.err.contains("slots = 10 (the default)"), "{}", ran.err);
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept.matches("slots = 10 (the default)").count(), 2, "it is appended to: {kept}");
    run(&[&serve[..], &["--log-format", "json"]].concat()).await.expect(1);
    let kept = std::fs::read_to_string(&file).unwrap();
    let last: serde_json::Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "INFO", "{last}");
}

#[tokio::test]
async fn submission_is_shown_paused_and_resumed() {
    let state = |paused: Value, waiting: Value| {
        json!({
            "slots": 7, "most_slots": 10, "slots_in_use": 3, "queued": 12, "waiting": waiting, "paused": paused,
            "today": {"jobs": 5, "most_jobs": 40, "credits": 2.5, "most_credits": 50.0, "ends_at": "T"},
            "balance": {"left": 97.5, "at": "T"}, "least_credits": 5.0,
        })
    };
    let open = state(Value::Null, Value::Null);
    let server = Canned::saying(200, open.clone()).await;
    let ran = run(&["upstream", "show", "--output", "table", "--url", &server.url]).await.expect(0);
    for part in
        ["open", "3 of 7 in use", "12", "5 of 40 jobs", "2.5 of 50", "97.5 at T; below 5.0 nothing is sent"]
    {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran = run(&["upstream", "resume", "--url", &server.url]).await.expect(0);
    assert_eq!(ran.json(), open);
    run(&["upstream", "pause", "--url", &server.url]).await.expect(0);

    let paused = json!({"reason": "operator", "what": "somebody paused submission", "fix": "resume it",
        "by": "key_1", "note": "no\u{1b}budget", "since": "T", "next_look_at": null});
    let server = Canned::saying(200, state(paused, json!({"reason": "operator"}))).await;
    let args = ["upstream", "pause", "--reason", "no budget", "--output", "table", "--url", &server.url];
    let ran = run(&args).await.expect(0);
    assert_eq!(server.lines(), ["POST /api/upstream/pause"]);
    assert_eq!(server.asked()[0].json(), json!({"reason": "no budget"}));
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["paused", "somebody paused submission (operator), since T, by key_1: no budget", "resume it"]
    {
        assert!(words.contains(part), "{part}: {}", ran.out);
    }
    let full = json!({"reason": "daily_jobs", "what": "as many as allowed", "until": "midnight"});
    let server = Canned::saying(200, state(Value::Null, full)).await;
    let ran = run(&["upstream", "show", "--output", "table", "--url", &server.url]).await.expect(0);
    assert!(ran.out.contains("waits: as many as allowed, until midnight"), "{}", ran.out);
    let low = json!({"reason": "least_credits", "what": "too little is left", "until": null});
    let server = Canned::saying(200, state(Value::Null, low)).await;
    let ran = run(&["upstream", "show", "--output", "table", "--url", &server.url]).await.expect(0);
    assert!(ran.out.contains("waits: too little is left"), "{}", ran.out);
    run(&["upstream"]).await.expect(2);
}

#[tokio::test]
async fn a_job_says_what_its_failure_means_and_what_it_waits_for() {
    let mut failed = job("failed");
    failed["failure"] = json!({"code": "40119", "message": "Video is too long", "class": "fix_input",
        "for_user": "The video is too long.", "advice": "Change it.", "reelhook_does": "Nothing more."});
    failed["priority"] = json!(9);
    let server = Canned::saying(200, failed).await;
    let ran = run(&["job", "get", ID, "--output", "table", "--url", &server.url]).await.expect(0);
    for part in
        ["40119: Video is too long", "fix_input: Change it.", "The video is too long.", "Nothing more."]
    {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(
        ran.out.lines().any(|l| l.trim_start().starts_with("priority") && l.ends_with('9')),
        "{}",
        ran.out
    );
    let mut queued = job("queued");
    queued["waiting"] = json!({"reason": "daily_jobs", "what": "today is full", "until": "T"});
    let server = Canned::saying(200, queued).await;
    let ran = run(&["job", "get", ID, "--output", "table", "--url", &server.url]).await.expect(0);
    assert!(ran.out.contains("today is full; it goes on at T"), "{}", ran.out);
    assert!(!ran.out.contains("priority"), "{}", ran.out);
}

#[tokio::test]
async fn a_job_says_whether_it_was_taken_and_by_which_calls() {
    let call = |n: u32, repeat: bool, outcome: Value| json!({"sent_at": format!("T{n}"), "idempotency_key": "job_1-0", "repeat": repeat, "outcome": outcome});
    let calls = json!([
        call(1, false, json!("no_answer")),
        call(2, true, json!("accepted")),
        call(3, true, Value::Null)
    ]);
    let shown = async |charge: Value| {
        let mut job = job("processing");
        job["charge"] = charge;
        let server = Canned::saying(200, job).await;
        let ran = run(&["job", "get", ID, "--output", "table", "--url", &server.url]).await.expect(0);
        ran.out.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let words = shown(json!({"state": "once", "calls": calls, "older_calls": 4})).await;
    let told = "charge once: HeyGen took it, once call 4 before these call T1 with the key job_1-0: no answer \
                call T2 again with the key job_1-0: accepted call T3 again with the key job_1-0: under way";
    assert!(words.contains(told), "{words}");
    for nothing in [Value::Null, json!({"state": "none", "calls": [], "older_calls": 0})] {
        let words = shown(nothing).await;
        assert!(!words.contains("charge"), "{words}");
    }
}

#[tokio::test]
async fn a_priority_is_sent_as_a_number_within_its_bounds() {
    let server = Canned::saying(202, job("queued")).await;
    let args =
        ["job", "submit", "--kind", "video_agent", "--request", r#"{"prompt": "p"}"#, "--url", &server.url];
    for good in ["1", "9"] {
        run(&[&args[..], &["--priority", good]].concat()).await.expect(0);
    }
    run(&args).await.expect(0);
    let sent: Vec<Value> = server.asked().iter().map(|a| a.json()["priority"].clone()).collect();
    assert_eq!(sent, [json!(1), json!(9), Value::Null]);
    for bad in ["0", "10", "high"] {
        run(&[&args[..], &["--priority", bad]].concat()).await.expect(2);
    }
}

#[tokio::test]
async fn adopt_goes_through_every_page_of_every_list() {
    let row =
        |action: &str, id: &str| json!({"action": action, "kind": "video", "upstream_id": id, "title": "T"});
    let server = Canned::start(move |nth, asked| {
        assert_eq!(asked.line(), "POST /api/jobs/adopt");
        let (rows, next) = match nth {
            0 => (vec![row("adopted", "v1")], json!("c1")),
            1 => (vec![row("known", "v2"), row("undecided", "v3")], json!(null)),
            _ => (vec![], json!(null)),
        };
        answer(200, &json!({"data": rows, "has_more": next.is_string(), "next_cursor": next}))
    })
    .await;
    let since = ["--since", "2026-11-01T00:00:00Z", "--url", &server.url];
    let ran = run(&[&["job", "adopt"][..], &since].concat()).await.expect(0);
    let counts = ran.json();
    assert_eq!(
        (&counts["adopted"], &counts["known"], &counts["undecided"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let bodies: Vec<Value> = server.asked().iter().map(|a| a.json()).collect();
    let sent: Vec<(&str, &Value)> =
        bodies.iter().map(|b| (b["kind"].as_str().unwrap(), &b["cursor"])).collect();
    assert_eq!(sent, [("video", &json!(null)), ("video", &json!("c1")), ("translation", &json!(null))]);
    assert_eq!(bodies[0]["since"], "2026-11-01T00:00:00.000Z");
    let dry = [&["job", "adopt", "--kind", "translation", "--dry-run"][..], &since].concat();
    run(&dry).await.expect(0);
    assert_eq!(server.asked().last().unwrap().json()["dry_run"], json!(true));
}

/// It is read like other secrets, and what is none is not told.
#[tokio::test]
async fn a_notify_secret_comes_from_a_file_or_standard_input_and_is_never_told() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let server = Canned::start(|_, _| answer(202, &job("queued"))).await;
    let submit =
        ["job", "submit", "--kind", "video_agent", "--request", r#"{"prompt": "Hi"}"#, "--url", &server.url];
    let asked = |nth: usize| server.asked()[nth].json();
    for (nth, (given, input)) in
        [(file.to_str().unwrap(), ""), ("-", secret), (secret, "")].into_iter().enumerate()
    {
        let all = [&submit[..], &["--notify-url", "https://app.example/", "--notify-secret", given]].concat();
        let ran = run_in(&[], &all, input).await.expect(0);
        assert_eq!(
            (&asked(nth)["notify_secret"], &asked(nth)["notify_url"]),
            (&json!(secret), &json!("https://app.example/"))
        );
        assert!(!format!("{}{}", ran.out, ran.err).contains("whsec_MfKQ"), "{}{}", ran.out, ran.err);
    }
    std::fs::write(&file, "whsec_short").unwrap();
    for wrong in ["whsec_MfKQ9r8GKYqrTwj!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", file.to_str().unwrap()] {
        let ran = run(&[&submit[..], &["--notify-secret", wrong]].concat()).await.expect(2);
        assert!(!ran.err.contains(wrong) && ran.err.contains("--notify-secret is neither"), "{}", ran.err);
    }
    assert_eq!(server.lines().len(), 3);
}
