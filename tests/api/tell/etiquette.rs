//! What answers mean: success, failure, `Retry-After`, refusals for good, redirects, bodies.

use std::time::Duration;

use serde_json::{Value, json};

use super::receiver::{Receiver, Script, add};
use super::{app, deliveries};
use crate::app::{TestApp, cases};
use crate::database::Fresh;

cases! {
    an_event_is_tried_by_the_schedule_and_then_given_up,
    a_dead_letter_that_is_made_due_is_sent_again,
    retry_after_is_obeyed_and_clamped,
    what_will_never_be_taken_is_given_up_at_once,
    an_endpoint_has_a_schedule_and_refusals_of_its_own,
    a_redirect_is_a_failure_and_is_not_followed,
    of_an_endless_answer_only_the_beginning_is_read,
    an_answer_after_fifteen_seconds_is_none,
}

/// An endpoint for the first event of jobs, and one job.
async fn one_event(fresh: &Fresh, scripts: &[Script]) -> (TestApp, Receiver, String) {
    let (app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.next("/hook", scripts);
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    let id = app.submit("video", "one").await;
    (app, receiver, id)
}

async fn of(app: &TestApp, job: &str) -> Value {
    let mut all = deliveries(app, &format!("job_id={job}")).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn an_event_is_tried_by_the_schedule_and_then_given_up(fresh: &Fresh) {
    let (mut app, receiver, job) = one_event(fresh, &[]).await;
    receiver.always("/hook", Script::Body(500, "no".into()));
    let begun = app.now();
    app.advance_s(4 * 86_400).await;
    let heard = receiver.heard("/hook");
    assert_eq!(heard.len(), 10);
    let hours: [f64; 10] = [0.0, 0.0014, 0.085, 0.585, 2.585, 7.585, 17.585, 31.585, 51.585, 75.585];
    for (nth, (one, hours)) in heard.iter().zip(hours).enumerate() {
        let at = one.header("webhook-timestamp").parse::<i64>().unwrap() * 1_000;
        #[allow(clippy::cast_precision_loss)]
        let after = (at - begun) as f64 / 3_600_000.0;
        // Jitter is a fifth either way; seconds are cut off.
        assert!(
            (hours * 0.8 - 0.001..=hours * 1.2 + 0.001).contains(&after),
            "attempt {nth} after {after} h"
        );
        assert_eq!((one.header("webhook-id"), &one.body), (heard[0].header("webhook-id"), &heard[0].body));
        assert_eq!(one.header("reelhook-attempt"), (nth + 1).to_string());
    }
    let dead = of(&app, &job).await;
    assert_eq!((&dead["state"], &dead["attempts_made"]), (&json!("dead"), &json!(10)));
    assert_eq!(
        (&dead["attempts"][9]["error"], &dead["attempts"][9]["answer"]),
        (&json!("answered 500"), &json!("no"))
    );
    assert_eq!(app.log(&["delivery given up", "answered 500"]).len(), 1);
    app.leave_it();
}

async fn a_dead_letter_that_is_made_due_is_sent_again(fresh: &Fresh) {
    let (mut app, receiver, job) = one_event(fresh, &[Script::Status(413)]).await;
    app.settle().await;
    assert_eq!(of(&app, &job).await["state"], "dead");
    app.post("/api/dead-letters/replay", &json!({"all": true})).await.expect(202);
    app.advance_s(1).await;
    let again = of(&app, &job).await;
    assert_eq!(
        (&again["state"], &again["attempts_made"]),
        (&json!("delivered"), &json!(1)),
        "they begin anew"
    );
    let heard = receiver.heard("/hook");
    assert_eq!((heard.len(), heard[0].header("webhook-id")), (2, heard[1].header("webhook-id")));
}

async fn retry_after_is_obeyed_and_clamped(fresh: &Fresh) {
    let after = |value: &str| Script::With(429, "retry-after", value.to_owned());
    let (mut app, receiver, job) = one_event(fresh, &[after("600"), after("999999999")]).await;
    let other = app.submit("video", "two").await;
    app.settle().await;
    let told = receiver.heard("/hook").len();
    assert!(told <= 2, "both were under way at once");
    app.advance_s(599).await;
    assert_eq!(receiver.heard("/hook").len(), told, "nothing is sent to it before");
    app.advance_s(700).await;
    let due = |d: &Value| d["next_attempt_at"].as_str().map(str::to_owned);
    let both = [of(&app, &job).await, of(&app, &other).await];
    let waits: Vec<String> = both.iter().filter_map(due).collect();
    assert!(!waits.is_empty(), "one is still put off: {both:?}");
    assert!(waits.iter().all(|at| at.as_str() <= "2026-11-22T10:30:00.000Z"), "a day at most: {waits:?}");
    app.advance_s(2 * 86_400).await;
    for job in [job, other] {
        assert_eq!(of(&app, &job).await["state"], "delivered");
    }
}

async fn what_will_never_be_taken_is_given_up_at_once(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let abort = Script::With(400, "webhook-delivery", "abort-message".to_owned());
    for (path, script) in [("/a", Script::Status(413)), ("/b", Script::Status(415)), ("/c", abort)] {
        receiver.always(path, script);
        add(&app, &receiver.url(path), json!({"events": ["job.queued"]})).await;
    }
    app.submit("video", "one").await;
    app.advance_s(600).await;
    assert_eq!(["/a", "/b", "/c"].map(|path| receiver.heard(path).len()), [1, 1, 1]);
    assert_eq!(deliveries(&app, "state=dead").await.len(), 3);
    app.leave_it();
}

async fn an_endpoint_has_a_schedule_and_refusals_of_its_own(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    receiver.always("/hook", Script::Status(500));
    receiver.always("/strict", Script::Body(422, "no such tenant".into()));
    let own = json!({"events": ["job.queued"], "retry_after_s": [1, 100], "give_up_on": [422, 404, 422]});
    add(&app, &receiver.url("/hook"), own.clone()).await;
    let (strict, _) = add(&app, &receiver.url("/strict"), own).await;
    app.submit("video", "one").await;
    app.settle().await;
    assert_eq!((receiver.heard("/hook").len(), receiver.heard("/strict").len()), (1, 1));
    let letters = app.get(&format!("/api/dead-letters?endpoint_id={strict}")).await.expect(200).json();
    assert_eq!(
        (&letters["data"][0]["answer"], &letters["data"][0]["attempts_made"]),
        (&json!("no such tenant"), &json!(1))
    );
    app.advance_s(2).await;
    assert_eq!(receiver.heard("/hook").len(), 2);
    app.advance_s(79).await;
    assert_eq!(receiver.heard("/hook").len(), 2, "100 s less a fifth");
    app.advance_s(100_000).await;
    assert_eq!((receiver.heard("/hook").len(), receiver.heard("/strict").len()), (3, 1));
    assert_eq!(deliveries(&app, "state=dead").await.len(), 2);
    let path = format!("/api/endpoints/{strict}");
    let shown = app.get(&path).await.expect(200).json();
    assert_eq!((&shown["retry_after_s"], &shown["give_up_on"]), (&json!([1, 100]), &json!([404, 422])));
    let change = json!({"give_up_on": [], "retry_after_s": [5]}).to_string();
    let changed = app.call("PATCH", &path, &[], change).await.expect(200).json();
    assert_eq!((&changed["retry_after_s"], &changed["give_up_on"]), (&json!([5]), &json!([])));
    app.leave_it();
}

async fn a_redirect_is_a_failure_and_is_not_followed(fresh: &Fresh) {
    let (mut app, receiver, job) = one_event(fresh, &[Script::Redirect]).await;
    app.settle().await;
    assert_eq!(receiver.heard("/moved").len(), 0);
    assert_eq!(of(&app, &job).await["attempts"][0]["error"], "answered 307; redirects are not followed");
    app.advance_s(10).await;
    assert_eq!((receiver.heard("/moved").len(), receiver.heard("/hook").len()), (0, 2));
    assert_eq!(of(&app, &job).await["state"], "delivered");
}

async fn of_an_endless_answer_only_the_beginning_is_read(fresh: &Fresh) {
    let big = Script::Body(200, vec![b'x'; 64 << 20].into());
    let (mut app, _, job) = one_event(fresh, &[big]).await;
    app.settle().await;
    let taken = of(&app, &job).await;
    assert_eq!(
        (&taken["state"], taken["attempts"][0]["answer"].as_str().unwrap().len()),
        (&json!("delivered"), 500)
    );
}

async fn an_answer_after_fifteen_seconds_is_none(fresh: &Fresh) {
    let (mut app, receiver, job) = one_event(fresh, &[Script::Hang]).await;
    let run = app.work_of(app.app());
    receiver.hears(1).await;
    app.clock.advance(Duration::from_millis(14_999));
    assert!(!run.is_finished());
    app.clock.advance(Duration::from_millis(1));
    run.await.unwrap().unwrap();
    let failed = of(&app, &job).await;
    assert_eq!(
        (&failed["attempts"][0]["error"], &failed["attempts"][0]["took_ms"]),
        (&json!("no answer: nothing within 15 s"), &json!(15_000))
    );
    app.advance_s(10).await;
    assert_eq!(of(&app, &job).await["state"], "delivered");
}
