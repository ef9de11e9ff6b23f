//! `dead-letter`, `replay`, `audit`, `delivery replay`: what they ask for, what they show, how they end.

use serde_json::{Value, json};

use crate::canned::{Canned, answer};
use crate::real::Server;
use crate::run;

fn cause(count: i64) -> Value {
    json!({
        "cause": "answers_401:app.example", "title": "app.example answers 401", "fix": "Repair it, then replay.",
        "count": count, "first_seen_at": "2026-11-21T10:00:00.000Z", "last_seen_at": "2026-11-21T11:00:00.000Z",
        "sample_id": "dlv_1",
    })
}

fn would(count: i64) -> Value {
    json!({"count": count, "causes": if count == 0 { json!([]) } else { json!([cause(count)]) }})
}

fn replay(state: &str, done: i64) -> Value {
    json!({
        "id": "rpl_1", "state": state, "count": 812, "done": done, "rate": 50, "by": "ci",
        "filter": {"ids": [], "task": null, "cause": "answers_401:app.example", "endpoint_id": null, "job_id": null, "since": null, "until": null}, "pending": false,
        "created_at": "2026-11-21T12:00:00.000Z", "ended_at": (state != "running").then_some("2026-11-21T12:01:00.000Z"),
    })
}

fn delivery(state: &str, tried_at: &str) -> Value {
    json!({"id": "dlv_1", "state": state, "attempts": [{"at": tried_at, "error": "answered 401"}]})
}

#[tokio::test]
async fn causes_come_first_and_each_by_itself_on_demand() {
    let page = json!({"data": [cause(812)], "has_more": false, "next_cursor": null});
    let server = Canned::saying(200, page).await;
    let table = ["dead-letter", "list", "--endpoint", "ep_1", "--output", "table", "--url", &server.url];
    let shown = run(&table).await.expect(0).out;
    for part in
        ["812  app.example answers 401", "answers_401:app.example", "dlv_1", "Repair it, then replay."]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let letter = json!({
        "id": "dlv_1", "task": "deliver", "cause": "answers_401:app.example", "title": "app.example answers 401",
        "fix": "Repair it.", "reason": "answered \u{1b}[31m401", "dead_at": "2026-11-21T10:00:00.000Z",
        "attempts_made": 10, "event_type": "job.completed", "job_id": "job_1", "endpoint_id": "ep_1",
        "about_url": "/api/deliveries/dlv_1",
    });
    let page = json!({"data": [letter.clone()], "has_more": false, "next_cursor": null});
    let each = Canned::saying(200, page).await;
    let list = [
        "dead-letter",
        "list",
        "--each",
        "--cause",
        "x",
        "--until",
        "2026-11-21T12:00:00Z",
        "--limit",
        "5",
        "--output",
        "table",
        "--url",
        &each.url,
    ];
    let shown = run(&list).await.expect(0).out;
    assert!(
        shown.contains("dlv_1") && shown.contains("job.completed") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let one = Canned::saying(200, letter).await;
    let shown =
        run(&["dead-letter", "show", "dlv_1", "--output", "table", "--url", &one.url]).await.expect(0).out;
    assert!(shown.contains("Repair it.") && shown.contains("reelhook delivery show dlv_1"), "{shown}");
    assert_eq!(server.lines(), ["GET /api/dead-letters/causes?endpoint_id=ep_1"]);
    assert_eq!(each.lines(), ["GET /api/dead-letters?cause=x&until=2026-11-21T12%3A00%3A00.000Z&limit=5"]);
    run(&["dead-letter", "list", "--limit", "5", "--url", &each.url]).await.expect(2);
}

#[tokio::test]
async fn a_replay_of_many_is_counted_and_asked_about() {
    let server = Canned::in_turn(vec![(200, would(812)), (202, replay("running", 0))]).await;
    let which = ["--cause", "answers_401:app.example", "--url", &server.url];
    let ran = run(&[&["dead-letter", "replay"], &which[..]].concat()).await.expect(2);
    let why = ran.problem()["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("replay 812 dead letters: app.example answers 401"), "{why}");
    assert_eq!(server.lines(), ["POST /api/dead-letters/replay?dry_run=true"], "nothing was done");

    let server = Canned::in_turn(vec![(200, would(812)), (202, replay("running", 0))]).await;
    let all = ["dead-letter", "replay", "--all", "--rate", "5", "--yes", "--url", &server.url];
    let made = run(&all).await.expect(0);
    assert_eq!(made.json()["id"], "rpl_1");
    assert!(made.err.contains("reelhook replay stop rpl_1"), "{}", made.err);
    assert_eq!(server.asked()[1].json(), json!({"all": true, "rate": 5}));

    let server =
        Canned::in_turn(vec![(200, would(10)), (202, replay("running", 0)), (200, replay("finished", 812))])
            .await;
    let few =
        ["dead-letter", "replay", "dlv_1", "dlv_2", "--wait", "--output", "table", "--url", &server.url];
    let done = run(&few).await.expect(0).out;
    assert!(done.contains("finished") && done.contains("812 of 812"), "{done}");
    assert_eq!(server.asked()[1].json(), json!({"ids": ["dlv_1", "dlv_2"], "rate": 50}));

    let server = Canned::saying(200, would(812)).await;
    let dry = ["dead-letter", "replay", "--all", "--dry-run", "--output", "table", "--url", &server.url];
    let shown = run(&dry).await.expect(0).out;
    assert!(shown.starts_with("would replay 812 dead letters: app.example answers 401"), "{shown}");
    assert_eq!(server.lines().len(), 1);
}

/// 812 that failed, and one of them is tried first: then it stands so.
async fn one_first(after: Value) -> (Canned, Vec<String>) {
    let server = Canned::start(move |nth, asked| match asked.line().as_str() {
        "POST /api/dead-letters/replay?dry_run=true" => answer(200, &would(812)),
        "POST /api/dead-letters/replay" => answer(202, &replay("running", 0)),
        _ if nth < 3 => answer(200, &delivery("dead", "10:00")),
        _ => answer(200, &after),
    });
    (server.await, ["dead-letter", "replay", "--all", "--one-first", "--yes"].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn one_may_go_first_and_the_others_only_when_that_goes_well() {
    let (server, mut args) = one_first(delivery("delivered", "12:00")).await;
    args.extend(["--url".to_owned(), server.url.clone()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(&args).await.expect(0);
    let asked: Vec<Value> = server
        .asked()
        .iter()
        .filter(|a| a.line() == "POST /api/dead-letters/replay")
        .map(|a| a.json())
        .collect();
    assert_eq!(asked, [json!({"ids": ["dlv_1"]}), json!({"all": true, "rate": 50})]);

    for state in ["dead", "pending"] {
        let (server, mut args) = one_first(delivery(state, "12:00")).await;
        args.extend(["--url".to_owned(), server.url.clone()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let failed = run(&args).await.expect(1).problem();
        assert_eq!(failed["detail"], "dlv_1 failed again: answered 401; the others are left");
        let posts = server.lines().iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(posts, 2, "counted, and one of them");
    }
}

#[tokio::test]
async fn what_is_dropped_needs_a_reason_and_a_yes() {
    let server = Canned::in_turn(vec![(200, would(2)), (200, json!({"dropped": 2, "left": 0}))]).await;
    let drop = ["dead-letter", "drop", "--all", "--url", &server.url];
    run(&drop).await.expect(2);
    assert_eq!(server.lines().len(), 0);
    let reason = [&drop[..], &["--reason", "too old"]].concat();
    run(&reason).await.expect(2);
    let server = Canned::in_turn(vec![(200, would(2)), (200, json!({"dropped": 2, "left": 0}))]).await;
    let sure = ["dead-letter", "drop", "--all", "--reason", "too old", "--yes", "--url", &server.url];
    assert_eq!(run(&sure).await.expect(0).json()["dropped"], 2);
    assert_eq!(server.asked()[1].json(), json!({"all": true, "reason": "too old"}));
}

#[tokio::test]
async fn a_replay_is_looked_at_waited_for_and_stopped() {
    let server = Canned::in_turn(vec![(200, replay("running", 3)), (200, replay("stopped", 400))]).await;
    let stopped =
        run(&["replay", "wait", "rpl_1", "--output", "table", "--url", &server.url]).await.expect(1);
    assert!(stopped.out.contains("stopped") && stopped.out.contains("400 of 812"), "{}", stopped.out);
    let server = Canned::saying(200, replay("running", 3)).await;
    let late = run(&["replay", "wait", "rpl_1", "--timeout", "1s", "--url", &server.url]).await.expect(4);
    assert_eq!(late.json()["done"], 3, "how far it is");
    run(&["replay", "stop", "rpl_1", "--url", &server.url]).await.expect(0);
    assert_eq!(server.lines().last().unwrap(), "POST /api/replays/rpl_1/stop");
}

#[tokio::test]
async fn on_a_real_server_there_is_nothing_to_replay_and_it_says_so() {
    let server = Server::start().await;
    let list = server.run(&["dead-letter", "list"]).await.expect(0).json();
    assert_eq!(list["data"], json!([]));
    let dry = server.run(&["dead-letter", "replay", "--since", "2h", "--dry-run"]).await.expect(0).json();
    assert_eq!(dry, json!({"count": 0, "causes": []}));
    let nothing = server.run(&["dead-letter", "replay"]).await.expect(2).problem();
    assert_eq!(nothing["errors"][0]["pointer"], "/all");
    let made = server.run(&["dead-letter", "replay", "--all"]).await.expect(0).json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(server.run(&["replay", "stop", id]).await.expect(0).json()["state"], "stopped");
    server.run(&["replay", "stop", id]).await.expect(6);
    let table = server.run(&["replay", "list", "--output", "table"]).await.expect(0).out;
    assert!(table.contains(id) && table.contains("stopped") && table.contains("all"), "{table}");
    let audit = server.run(&["audit", "list", "--output", "table"]).await.expect(0).out;
    assert!(audit.contains("replay.stop") && audit.contains("local"), "{audit}");
    for missing in [
        ["dead-letter", "show", "dlv_none"],
        ["delivery", "replay", "dlv_none"],
        ["replay", "show", "rpl_none"],
    ] {
        server.run(&missing).await.expect(5);
    }
}
