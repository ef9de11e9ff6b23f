//! The schedule, what answers mean, the body.

use super::*;

const NOW: Millis = 784_111_777_000;
const ENDPOINT: Target = Target::Endpoint(String::new());

fn event() -> Event {
    Event {
        number: 7,
        id: "evt_1".to_owned(),
        event_type: "job.completed".to_owned(),
        job_id: Some("job_1".to_owned()),
        job_sequence: 3,
        created_at: NOW,
        data: r#"{"n":1.50,"ü":"\u0000"}"#.to_owned(),
        ..Event::default()
    }
}

fn delivery(target: Target) -> Delivery {
    Delivery::new(&event(), target, None, NOW)
}

fn failed(at: Millis) -> Attempt {
    Attempt { at, took_ms: 1, status: Some(500), error: Some("answered 500".to_owned()), answer: None }
}

fn answer(status: u16) -> Answer<'static> {
    Answer { status: Some(status), ..Answer::default() }
}

#[test]
fn the_schedule_is_followed_and_then_it_is_given_up() {
    let mut delivery = delivery(Target::Endpoint("ep_1".to_owned()));
    let mut now = NOW;
    let mut pauses = vec![];
    let given_up = loop {
        let over = delivery.take(failed(now), &Meaning::Failed { after: None }, (&SCHEDULE, 1.0), now);
        let Some(due) = delivery.due_at else { break over };
        assert_eq!(over, None);
        pauses.push(due - now);
        now = due;
    };
    assert_eq!(pauses, SCHEDULE);
    assert_eq!((delivery.attempt, given_up.as_deref()), (10, Some("answered 500")));
    assert_eq!((delivery.state(), delivery.dead_at), (State::Dead, Some(now)));

    delivery.revive(now + 5);
    assert_eq!((delivery.state(), delivery.due_at, delivery.attempt), (State::Pending, Some(now + 5), 0));
    delivery.take(failed(now), &Meaning::Failed { after: None }, (&SCHEDULE, 1.2), now);
    assert_eq!(delivery.due_at, Some(now + 6_000), "with its jitter");
    assert_eq!(delivery.attempts.len(), 10, "the latest are kept");
    delivery.take(Attempt { error: None, ..failed(now) }, &Meaning::Taken, (&SCHEDULE, 1.0), now + 9);
    assert_eq!(
        (delivery.state(), delivery.delivered_at, delivery.due_at),
        (State::Delivered, Some(now + 9), None)
    );
}

#[test]
fn retry_after_is_never_undercut_and_never_longer_than_a_day() {
    let after =
        |text| Answer { retry_after: Some(text), ..answer(503) }.meaning(&ENDPOINT, &Retries::default(), NOW);
    let slow = |after| Meaning::Slow { after: Some(after) };
    assert_eq!(after("120"), slow(120_000));
    assert_eq!(after("86400"), slow(MAX_RETRY_AFTER));
    assert_eq!(after("86401"), slow(MAX_RETRY_AFTER));
    assert_eq!(after("99999999999999999"), slow(MAX_RETRY_AFTER));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), slow(10_000));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:27 GMT"), slow(0), "a date that is over");
    assert_eq!(after("-5"), slow(0));
    assert_eq!(after("soon"), Meaning::Slow { after: None });
    let mut delivery = delivery(Target::Origin("https://a".to_owned()));
    delivery.take(failed(NOW), &slow(60_000), (&SCHEDULE, 0.8), NOW);
    assert_eq!(delivery.due_at, Some(NOW + 60_000), "longer than the schedule, without jitter");
    delivery.take(failed(NOW), &slow(60_000), (&SCHEDULE, 1.0), NOW);
    assert_eq!(delivery.due_at, Some(NOW + 5 * MINUTE), "shorter than the schedule");
}

#[test]
fn what_answers_mean() {
    let meaning = |status: u16| answer(status).meaning(&ENDPOINT, &Retries::default(), NOW).name();
    for (statuses, name) in [
        (&[200, 201, 204, 299][..], "taken"),
        (&[300, 301, 302, 307, 308, 304, 400, 401, 403, 404, 409, 422, 500, 501, 520], "failed"),
        (&[429, 502, 503, 504], "slow"),
        (&[410, 413, 415], "refused"),
    ] {
        for status in statuses {
            assert_eq!(meaning(*status), name, "{status}");
        }
    }
    assert_eq!(
        Answer::default().meaning(&ENDPOINT, &Retries::default(), NOW),
        Meaning::Slow { after: None },
        "nobody answered"
    );
    // Of an origin, only that nobody is there says something of all.
    let origin = Target::Origin("https://a".to_owned());
    let there =
        |answer: Answer| Answer { connected: true, ..answer }.meaning(&origin, &Retries::default(), NOW);
    let wait = |status| Answer { retry_after: Some("60"), ..answer(status) };
    for status in [429, 502, 503, 504, 500] {
        assert_eq!(there(wait(status)), Meaning::Failed { after: Some(MINUTE) }, "{status}");
    }
    assert_eq!(there(Answer::default()), Meaning::Failed { after: None }, "it hangs");
    assert_eq!([200, 410].map(|status| there(answer(status)).name()), ["taken", "refused"]);
    assert_eq!(
        Answer::default().meaning(&origin, &Retries::default(), NOW),
        Meaning::Slow { after: None },
        "nobody is there"
    );
    let wishes = |wish, status| Answer { wish: Some(wish), ..answer(status) };
    assert_eq!(wishes("abort-message", 500).meaning(&ENDPOINT, &Retries::default(), NOW), Meaning::Never);
    assert_eq!(wishes("abort-message", 200).meaning(&ENDPOINT, &Retries::default(), NOW), Meaning::Taken);
    assert_eq!(wishes("abort-message", 500).wants_no_more(), None);
    assert!(wishes("disable", 500).wants_no_more().is_some() && answer(410).wants_no_more().is_some());
    assert_eq!(
        wishes("nonsense", 500).meaning(&ENDPOINT, &Retries::default(), NOW),
        Meaning::Failed { after: None }
    );
    assert_eq!(answer(200).error(), None);
    assert_eq!(answer(302).error().unwrap(), "answered 302; redirects are not followed");
}

#[test]
fn an_endpoint_has_waits_and_refusals_of_its_own() {
    let retries = Retries { waits: vec![2 * SECOND, MAX_WAIT], give_up_on: vec![400, 422] };
    let mut delivery = delivery(Target::Endpoint("ep_1".to_owned()));
    let mut dues = vec![];
    for _ in 0..3 {
        delivery.take(failed(NOW), &Meaning::Failed { after: None }, (&retries.waits, 1.0), NOW);
        dues.push(delivery.due_at);
    }
    assert_eq!(dues, [Some(NOW + 2 * SECOND), Some(NOW + MAX_WAIT), None]);
    assert_eq!(delivery.state(), State::Dead);
    let meaning = |status: u16| answer(status).meaning(&ENDPOINT, &retries, NOW).name();
    assert_eq!(
        [400, 401, 422, 413, 503, 200].map(meaning),
        ["refused", "failed", "refused", "refused", "slow", "taken"]
    );
    assert_eq!(retries.span(), (2 * SECOND + MAX_WAIT) * 6 / 5);
    assert_eq!(serde_json::from_str::<Retries>("{}").unwrap(), Retries::default(), "as older rows have it");
}

#[test]
fn a_test_is_tried_once() {
    let mut delivery = delivery(Target::Test("ep_1".to_owned()));
    assert!(delivery.take(failed(NOW), &Meaning::Slow { after: None }, (&SCHEDULE, 1.0), NOW).is_some());
    assert_eq!(delivery.state(), State::Dead);
}

#[test]
fn a_target_reads_back_as_it_was_written() {
    let id = ids::new(ids::ENDPOINT, NOW, [1; 16]);
    for target in
        [Target::Endpoint(id.clone()), Target::Test(id), Target::Origin("https://a.example:8443".to_owned())]
    {
        assert_eq!(Target::parse(&target.name()), Some(target));
    }
    assert_eq!(Target::parse("ep_short"), None);
    assert_eq!(Target::of_url("https://a.example/x?y").unwrap().name(), "https://a.example");
    assert_eq!(Target::of_url("https://a.example:443/z"), Target::of_url("https://a.example/x"));
    assert_ne!(Target::of_url("http://a.example/"), Target::of_url("https://a.example/"));
}

#[test]
fn the_breakers_pause_doubles_to_its_bound() {
    let pauses: Vec<_> =
        [1, 2, 3, 6, 7, 8, 1_000].iter().map(|n| breaker_pause(*n, None, 1.0) / SECOND).collect();
    assert_eq!(pauses, [5, 10, 20, 160, 300, 300, 300]);
    assert_eq!(breaker_pause(1, Some(MAX_RETRY_AFTER), 1.0), MAX_RETRY_AFTER);
    assert_eq!(breaker_pause(7, Some(1), 1.0), 5 * MINUTE);
}

#[test]
fn the_body_is_what_was_stored() {
    assert_eq!(
        body(&event()),
        "{\"id\":\"evt_1\",\"type\":\"job.completed\",\"timestamp\":\"1994-11-06T08:49:37.000Z\",\
         \"job_id\":\"job_1\",\"job_sequence\":3,\"data\":{\"n\":1.50,\"ü\":\"\\u0000\"}}"
    );
    let bare = Event { id: "evt_2".to_owned(), event_type: "endpoint.test".to_owned(), ..Event::default() };
    assert!(body(&bare).ends_with("\"job_id\":null,\"job_sequence\":0,\"data\":null}"));
}

#[test]
fn a_test_has_heygens_shape_where_heygens_are_sent() {
    let told = Event {
        event_type: "endpoint.test".to_owned(),
        data: r#"{"id": "ep_1", "url": "https://a"}"#.to_owned(),
        ..event()
    };
    assert_eq!(
        serde_json::from_str::<Value>(&heygens_test(&told)).unwrap(),
        json!({"event_type": "endpoint.test", "event_data": {
            "event_id": "evt_1", "endpoint_id": "ep_1", "created_at": "1994-11-06T08:49:37.000Z"}})
    );
}

#[test]
fn what_is_left_alone_is_not_said_to_be_due() {
    let delivery = delivery(Target::Endpoint("ep_1".to_owned()));
    let next = |until: Option<Millis>| delivery.json(until)["next_attempt_at"].clone();
    assert_eq!(next(None), json!(rfc3339(NOW)));
    assert_eq!(next(Some(NOW - 1)), json!(rfc3339(NOW)));
    assert_eq!(next(Some(NOW + 1)), json!(rfc3339(NOW + 1)));
}

#[test]
fn what_is_kept_of_an_answer_is_bounded() {
    assert_eq!(beginning(b""), None);
    assert_eq!(beginning(&[b'a', 0, 0xff]).unwrap(), "a\u{fffd}\u{fffd}");
    assert_eq!(beginning("ü".repeat(9_000).as_bytes()).unwrap().chars().count(), MAX_ANSWER_CHARS);
}
