//! Places that jobs name, many at one host: what goes wrong at one hurts no other there, no endpoint, and is
//! told where it is put off.

use std::time::Duration;

use reelhook::domain::time::parse_rfc3339;
use serde_json::{Value, json};

use super::receiver::{Receiver, Script, add};
use super::{app, deliveries};
use crate::app::{Setup, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    what_one_address_answers_puts_off_no_other,
    one_address_that_hangs_leaves_room_for_the_others,
    where_nobody_is_all_is_put_off_and_told,
    hosts_that_hang_delay_no_endpoint,
}

/// A job of which one event is told there, `job.held`, and no more. Its id.
async fn told_at(app: &TestApp, url: &str) -> String {
    let mut job = new_job("video", "one");
    (job["hold"], job["notify_url"]) = (json!(true), json!(url));
    app.post("/api/jobs", &job).await.expect(202).json()["id"].as_str().unwrap().to_owned()
}

async fn of(app: &TestApp, job: &str) -> Value {
    deliveries(app, &format!("job_id={job}")).await.remove(0)
}

async fn what_one_address_answers_puts_off_no_other(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.always("/away", Script::With(503, "retry-after", "3600".to_owned()));
    receiver.always("/busy", Script::With(429, "retry-after", "600".to_owned()));
    let mut bad = vec![];
    for path in ["/away", "/busy", "/away", "/busy", "/away", "/busy"] {
        bad.push(told_at(&app, &receiver.url(path)).await);
    }
    app.settle().await;
    let begun = app.now();
    assert_eq!(["/away", "/busy"].map(|path| receiver.heard(path).len()), [3, 3]);
    let well = told_at(&app, &receiver.url("/well")).await;
    app.settle().await;
    assert_eq!(
        (receiver.heard("/well").len(), of(&app, &well).await["attempts_made"].clone()),
        (1, json!(1))
    );
    for (job, wait) in [(&bad[0], 3_600_000), (&bad[1], 600_000)] {
        let shown = of(&app, job).await;
        let next = parse_rfc3339(shown["next_attempt_at"].as_str().unwrap()).unwrap();
        assert_eq!((next - begun, &shown["left_alone_until"]), (wait, &Value::Null), "its own wish alone");
    }
    app.advance_s(599).await;
    assert_eq!(receiver.heard("/busy").len(), 3);
    app.advance_s(1).await;
    assert_eq!(receiver.heard("/busy").len(), 6);
    app.advance_s(2_999).await;
    assert_eq!(receiver.heard("/away").len(), 3);
    app.advance_s(1).await;
    assert_eq!(receiver.heard("/away").len(), 6);
    app.leave_it();
}

async fn one_address_that_hangs_leaves_room_for_the_others(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.always("/hangs", Script::Hang);
    for _ in 0..20 {
        told_at(&app, &receiver.url("/hangs")).await;
    }
    told_at(&app, &receiver.url("/well")).await;
    let run = app.work_of(app.app());
    receiver.hears(8 + 1).await;
    assert_eq!(
        ["/hangs", "/well"].map(|path| receiver.heard(path).len()),
        [8, 1],
        "though 20 were due before"
    );
    // What comes later does not wait for what hangs, either.
    app.clock.advance(Duration::from_secs(11));
    told_at(&app, &receiver.url("/well")).await;
    app.settle().await;
    app.clock.advance(Duration::from_millis(10));
    receiver.hears(8 + 2).await;
    assert_eq!(receiver.heard("/well").len(), 2);
    // The next that hang are begun when the first have been given up waiting for.
    app.clock.advance(Duration::from_secs(4));
    receiver.hears(2 * 8 + 2).await;
    assert_eq!(receiver.heard("/hangs").len(), 16);
    drop(run);
    app.leave_it();
}

async fn where_nobody_is_all_is_put_off_and_told(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let time = |shown: &Value, name: &str| parse_rfc3339(shown[name].as_str().unwrap()).unwrap();
    let first = told_at(&app, "http://127.0.0.1:9/a").await;
    app.settle().await;
    let tried = of(&app, &first).await;
    assert!(tried["attempts"][0]["error"].as_str().unwrap().starts_with("not sent"), "{tried}");
    let until = time(&tried, "left_alone_until");
    assert!((app.now() + 4_000..=app.now() + 6_000).contains(&until), "{tried}");
    assert!(time(&tried, "next_attempt_at") >= until);
    let second = told_at(&app, "http://127.0.0.1:9/b").await;
    app.settle().await;
    let waits = of(&app, &second).await;
    assert_eq!(
        (&waits["attempts_made"], &waits["next_attempt_at"], &waits["left_alone_until"]),
        (&json!(0), &tried["left_alone_until"], &tried["left_alone_until"]),
        "no attempt is spent, and the next is never said to be in the past"
    );
    let id = waits["id"].as_str().unwrap();
    assert_eq!(app.get(&format!("/api/deliveries/{id}")).await.expect(200).json(), waits);
    // Another host is not concerned, nor is what has ended.
    let receiver = Receiver::start().await;
    let taken = told_at(&app, &receiver.url("/")).await;
    app.settle().await;
    assert_eq!(of(&app, &taken).await["left_alone_until"], Value::Null);
    // Whoever wishes for it says that somebody is there again.
    let replayed = app.post(&format!("/api/deliveries/{id}/replay"), &json!({})).await.expect(202).json();
    assert_eq!(replayed["left_alone_until"], Value::Null);
    assert!(time(&replayed, "next_attempt_at") <= app.now());
    app.settle().await;
    let sum = of(&app, &first).await["attempts_made"].as_i64().unwrap()
        + of(&app, &second).await["attempts_made"].as_i64().unwrap();
    assert_eq!(sum, 2, "one finds out that still nobody is there");
    app.leave_it();
}

async fn hosts_that_hang_delay_no_endpoint(fresh: &Fresh) {
    let setup = Setup { flags: &[("allow-private", "127.0.0.0/8")], ..Setup::default() };
    let (mut app, receiver) = (TestApp::with(fresh, setup).await, Receiver::everywhere().await);
    receiver.always("/hangs", Script::Hang);
    for host in 1..=130 {
        told_at(&app, &receiver.url("/hangs").replace("127.0.0.1", &format!("127.0.0.{host}"))).await;
    }
    add(&app, &receiver.url("/well"), json!({})).await;
    app.clock.advance(Duration::from_millis(1));
    let mut job = new_job("video", "one");
    job["hold"] = json!(true);
    app.post("/api/jobs", &job).await.expect(202);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let runner = app.app().runner.clone();
    let live = tokio::spawn(async move { runner.run(stopped, Duration::from_secs(60)).await });
    // So many hosts at once, and the endpoint, though all hosts were due before.
    receiver.hears(64 + 1).await;
    assert_eq!(["/hangs", "/well"].map(|path| receiver.heard(path).len()), [64, 1]);
    stop.send(true).unwrap();
    app.clock.advance(Duration::from_secs(15));
    live.await.unwrap();
    // The others had to wait for their turn, and no longer.
    receiver.always("/hangs", Script::Status(200));
    app.advance_s(60).await;
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 130 + 1);
    app.leave_it();
}
