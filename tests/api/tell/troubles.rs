//! Receivers that hang, are away or fail, next to others; crashes and second nodes in the middle.

use std::time::Duration;

use serde_json::json;

use super::receiver::{Receiver, Script, add};
use super::{app, deliveries};
use crate::app::cases;
use crate::database::Fresh;

cases! {
    one_that_hangs_holds_up_no_other_and_no_next_event,
    one_that_is_away_is_left_alone_and_then_told_all,
    one_that_takes_a_few_at_a_time_is_not_pressed,
    an_event_nobody_can_take_does_not_hold_up_the_next,
    what_was_under_way_at_a_crash_is_sent_again_with_its_id,
    two_nodes_send_nothing_twice,
}

async fn one_that_hangs_holds_up_no_other_and_no_next_event(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    add(&app, &receiver.url("/hangs"), json!({"kinds": ["video"]})).await;
    add(&app, &receiver.url("/well"), json!({"kinds": ["video_agent"]})).await;
    receiver.next("/hangs", &[Script::Hang]);
    app.submit("video", "one").await;
    let hung = app.work_of(app.app());
    receiver.hears(1).await;
    // While it hangs, its own next event goes out, and those of others.
    app.submit("video", "two").await;
    app.submit("video_agent", "three").await;
    app.settle().await;
    assert!(receiver.types("/well").contains(&"job.queued".to_owned()));
    app.clock.advance(Duration::from_millis(10));
    receiver.hears(1 + receiver.heard("/well").len() + 1).await;
    assert!(receiver.heard("/hangs").len() >= 2, "the second event did not wait for the first");
    app.clock.advance(Duration::from_secs(15));
    hung.await.unwrap().unwrap();
    app.advance_s(120).await;
    assert!(deliveries(&app, "state=pending").await.is_empty());
}

async fn one_that_is_away_is_left_alone_and_then_told_all(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    let (id, _) = add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    receiver.always("/hook", Script::Status(503));
    for _ in 0..30 {
        app.submit("video", "one").await;
    }
    app.settle().await;
    let tried = receiver.heard("/hook").len();
    assert!((3..=10).contains(&tried), "a few find out that nobody is there: {tried}");
    app.advance_s(600).await;
    let probes = receiver.heard("/hook").len() - tried;
    // 5 s doubling to 5 min, one delivery up to three at a time.
    assert!((7..=30).contains(&probes), "{probes} probes in ten minutes");
    assert!(!app.get(&format!("/api/endpoints/{id}")).await.json()["failing_since"].is_null());
    receiver.always("/hook", Script::Status(200));
    app.advance_s(600).await;
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 30, "and nothing is lost");
    assert!(app.get(&format!("/api/endpoints/{id}")).await.json()["failing_since"].is_null());
}

async fn one_that_takes_a_few_at_a_time_is_not_pressed(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    receiver.next("/hook", &[Script::Status(200), Script::Status(200)]);
    receiver.next("/hook", &vec![Script::With(429, "retry-after", "60".to_owned()); 6]);
    for _ in 0..30 {
        app.submit("video", "one").await;
    }
    app.settle().await;
    assert!(receiver.heard("/hook").len() <= 10, "those under way, and no more");
    let told = receiver.heard("/hook").len();
    app.submit("video", "one").await;
    app.advance_s(59).await;
    assert_eq!(receiver.heard("/hook").len(), told, "a new event waits as well");
    app.advance_s(600).await;
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 31);
}

async fn an_event_nobody_can_take_does_not_hold_up_the_next(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    receiver.next("/hook", &[Script::Status(500)]);
    let one = app.submit("video", "one").await;
    app.settle().await;
    let two = app.submit("video", "two").await;
    app.settle().await;
    for (job, state) in [(one, "pending"), (two, "delivered")] {
        assert_eq!(deliveries(&app, &format!("job_id={job}")).await[0]["state"], state);
    }
    app.advance_s(10).await;
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 2);
}

async fn what_was_under_way_at_a_crash_is_sent_again_with_its_id(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    receiver.next("/hook", &[Script::Hang]);
    app.submit("video", "one").await;
    drop(app.work_of(app.app()));
    receiver.hears(1).await;
    app.restart().await;
    // On PostgreSQL another node could hold the lease, so it has to end.
    app.advance_s(120).await;
    let heard = receiver.heard("/hook");
    assert_eq!(heard.len(), 2);
    assert_eq!(
        (heard[0].header("webhook-id"), &heard[0].body),
        (heard[1].header("webhook-id"), &heard[1].body)
    );
    assert_eq!(deliveries(&app, "state=delivered").await.len(), 1);
}

async fn two_nodes_send_nothing_twice(fresh: &Fresh) {
    let (mut app, receiver) = (app(fresh).await, Receiver::start().await);
    if fresh.is_sqlite() {
        return;
    }
    let other = app.second_app().await;
    add(&app, &receiver.url("/hook"), json!({"events": ["job.queued"]})).await;
    for _ in 0..20 {
        app.submit("video", "one").await;
    }
    let runs = [app.work_of(&other), app.work_of(app.app()), app.work_of(&other)];
    for run in runs {
        run.await.unwrap().unwrap();
    }
    app.settle().await;
    let mut ids: Vec<String> =
        receiver.heard("/hook").iter().map(|h| h.header("webhook-id").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.heard("/hook").len()), (20, 20));
    // Jobs beyond the slots of HeyGen's wait.
    app.leave_it();
}
