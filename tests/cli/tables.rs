//! Tables at the widths terminals have: what stands in them can be read, or is not there.

use serde_json::{Value, json};

use crate::canned::Canned;
use crate::run_in;

const DELIVERY: &str = "dlv_01m7zca46r0gn067cbvdkv7zqv";
const ENDPOINT: &str = "ep_01m7zc9wkr0v1sd9f5qy7t2h3x";
const JOB: &str = "job_01m7zc9z3p5w8e2j4k6n7q9r0s";
const EVENT: &str = "heygen.avatar_video.success";
const REFUSED: &str = "answered 307; redirects are not followed";

/// The table of a list with this one row, without its head.
async fn row(width: &str, args: &[&str], row: Value) -> String {
    let server = Canned::saying(200, json!({"data": [row], "has_more": false, "next_cursor": null})).await;
    let all = [args, &["--output", "table", "--url", &server.url]].concat();
    let table = run_in(&[("COLUMNS", width)], &all, "").await.expect(0).out;
    let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= width.parse().unwrap(), "{width}: {table}");
    table.lines().nth(1).unwrap().to_owned()
}

/// Whether a column shows nothing but what was cut off.
fn is_useless(row: &str) -> bool {
    row.split("  ").any(|cell| cell.trim().ends_with('…') && cell.trim().chars().count() < 12)
}

#[tokio::test]
async fn lists_can_be_read_at_80_and_120_columns() {
    let at = "2026-11-21T10:00:00.000Z";
    let delivery = json!({
        "id": DELIVERY, "state": "delivered", "event_id": "evt_1", "event_type": EVENT, "job_id": null,
        "endpoint_id": ENDPOINT, "url": null, "created_at": at, "attempts_made": 10,
        "attempts": [{"at": at, "took_ms": 12, "status": 307, "error": REFUSED, "answer": null}],
    });
    let letter = json!({
        "id": DELIVERY, "task": "deliver", "cause": "answers_401:hooks.app.example", "title": "t", "fix": "f",
        "reason": REFUSED, "answer": null, "dead_at": at, "attempts_made": 10, "event_type": EVENT, "job_id": null,
        "endpoint_id": ENDPOINT, "about_url": null,
    });
    let line = json!({
        "id": "aud_01m7zca46r0gn067cbvdkv7zqv", "created_at": at, "who": "deployment", "action": "dead_letter.replay",
        "details": {"count": 812, "reason": "old", "filter": {"cause": "answers_401:hooks.app.example"}},
    });
    let adopted = json!({
        "action": "would_adopt", "kind": "video", "upstream_id": "0123456789abcdef0123456789abcdef",
        "job_id": JOB, "created_at": at, "title": "An introduction to the new offices in Rotterdam",
    });
    for (args, given, at_80, at_120) in [
        (
            &["delivery", "list"][..],
            delivery,
            &[DELIVERY, "delivered", "heygen.avatar_video"][..],
            &[DELIVERY, EVENT, "answered 307; redirects"][..],
        ),
        (
            &["dead-letter", "list", "--each"],
            letter,
            &[DELIVERY, "answers_401:hooks.app.example"],
            &[DELIVERY, "answers_401:hooks.app.example", EVENT, "answered 307"],
        ),
        (
            &["audit", "list"],
            line,
            &["deployment", "dead_letter.replay", "812", "cause answers_401:hooks"],
            &["dead_letter.replay", "cause answers_401:hooks.app.example: old"],
        ),
        (
            &["job", "adopt", "--since", "7d", "--kind", "video"],
            adopted,
            &["would adopt", "0123456789abcdef0123456789abcdef"],
            &["0123456789abcdef0123456789abcdef", JOB, "An introduct"],
        ),
    ] {
        for (width, parts) in [("80", at_80), ("120", at_120)] {
            let shown = row(width, args, given.clone()).await;
            assert!(parts.iter().all(|part| shown.contains(part)), "{width}: {parts:?} in {shown}");
            assert!(!is_useless(&shown), "{width}: {shown}");
        }
    }
}

#[tokio::test]
async fn an_attempt_goes_on_in_the_next_line() {
    let at = "2026-11-21T10:00:00.000Z";
    let why = "no connection: could not connect to app.example: connection refused by the host";
    let delivery = json!({
        "id": DELIVERY, "state": "pending", "event_id": "evt_1", "event_type": EVENT, "created_at": at,
        "attempts": [{"at": at, "took_ms": 12, "status": null, "error": why, "answer": null}],
    });
    let server = Canned::saying(200, delivery).await;
    let args = ["delivery", "show", DELIVERY, "--output", "table", "--url", &server.url];
    let shown = run_in(&[("COLUMNS", "80")], &args, "").await.expect(0).out;
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&format!("{at} {why}, after 12 ms")), "{shown}");
}
