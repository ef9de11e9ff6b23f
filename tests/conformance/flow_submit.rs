//! `flow::submit` and `flow::change`: one job per key, everything of it together or nothing.

use reelhook::domain::job::{Kind, Priority, State};
use reelhook::domain::step::{Input, Refused};
use reelhook::domain::task::TaskKind;
use reelhook::domain::time::HOUR;
use reelhook::flow::{self, Changed, Key, NewJob, Submitted};
use reelhook::store::{Db, Error, event, job};

use crate::harness::{NOW, Store, cases, stamp};

cases![
    a_submit_stores_job_event_and_tasks_together,
    a_held_job_is_not_sent,
    a_job_that_is_put_off_is_queued_when_it_begins,
    the_same_key_gives_the_first_answer_again,
    submits_of_one_key_that_race_make_one_job,
    a_submit_that_fails_leaves_nothing,
    a_wish_changes_the_job_or_is_refused,
    events_are_frozen_and_numbered_per_job,
];

pub fn new_job() -> NewJob {
    NewJob {
        kind: Kind::Video,
        request: "{\"type\": \"avatar\"}".to_owned(),
        callback_id: Some("mine".to_owned()),
        title: Some("A title".to_owned()),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        metadata: None,
        priority: Priority::default(),
        hold: false,
        not_before: None,
        deadline_at: NOW + HOUR,
        retry_of: None,
        notify_url: None,
        notify_secret: None,
        group_row: None,
        first_poll_ms: 5_000,
        least_poll_ms: 1_000,
    }
}

fn key(fingerprint: u8) -> Key {
    Key { owner: "o".to_owned(), key: "k".to_owned(), fingerprint: vec![fingerprint] }
}

async fn submit(db: &Db, new: NewJob, key: Option<Key>, n: u8) -> Submitted {
    db.write(move |tx| flow::submit(tx, &new, key.as_ref(), &stamp(n))).await.expect("a submit")
}

async fn job_of(store: &Store, new: NewJob, n: u8) -> String {
    match submit(&store.db, new, None, n).await {
        Submitted::New { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

async fn change(store: &Store, id: &str, input: Input) -> Changed {
    let id = id.to_owned();
    // Each kind of wish has chance of its own, for the ids of its events.
    let n = if input == Input::Approve { 100 } else { 200 };
    store.write(move |tx| flow::change(tx, &id, input.clone(), &stamp(n))).await
}

async fn a_submit_stores_job_event_and_tasks_together(store: Store) {
    let done = submit(&store.db, new_job(), Some(key(1)), 1).await;
    let Submitted::New { id: job_id, answer } = done else { panic!("{done:?}") };
    let job = store.job(&job_id).await;
    assert_eq!((job.state, job.version, job.details.events), (State::Queued, 1, 1));
    assert_eq!(store.due(&job_id, TaskKind::Submit).await, Some(NOW));
    assert_eq!(store.due(&job_id, TaskKind::Deadline).await, Some(NOW + HOUR));
    let id = job_id.clone();
    let request = store.read(move |tx| job::find_request(tx, &id)).await;
    assert_eq!(request.as_deref(), Some("{\"type\": \"avatar\"}"));
    let events = store.read(|tx| event::list(tx, None, 0, 9)).await;
    let seen: Vec<_> = events.iter().map(|e| (e.event_type.as_str(), e.job_sequence, &e.data)).collect();
    assert_eq!(seen, [("job.queued", 1, &answer)], "what is published is what was answered");
}

async fn a_held_job_is_not_sent(store: Store) {
    let id = job_of(&store, NewJob { hold: true, ..new_job() }, 1).await;
    assert_eq!(store.job(&id).await.state, State::Held);
    assert_eq!(store.due(&id, TaskKind::Submit).await, None);
    assert_eq!(store.due(&id, TaskKind::Deadline).await, Some(NOW + HOUR), "but it ends in time");
    change(&store, &id, Input::Approve).await;
    assert_eq!(store.due(&id, TaskKind::Submit).await, Some(NOW));
}

async fn a_job_that_is_put_off_is_queued_when_it_begins(store: Store) {
    let later = Some(NOW + 60_000);
    let id = job_of(&store, NewJob { not_before: later, ..new_job() }, 1).await;
    assert_eq!(store.due(&id, TaskKind::Submit).await, None);
    assert_eq!(store.due(&id, TaskKind::Deadline).await, later, "its clock's task begins it");
    for (now, due, not_before) in [(NOW + 59_999, None, later), (NOW + 60_000, Some(NOW + 60_000), None)] {
        let job = id.clone();
        let at = flow::Stamp::new(now, [7; 16]);
        store.write(move |tx| flow::change(tx, &job, Input::Begin, &at)).await;
        assert_eq!(store.due(&id, TaskKind::Submit).await, due);
        assert_eq!(store.job(&id).await.details.not_before, not_before);
    }
}

async fn the_same_key_gives_the_first_answer_again(store: Store) {
    let first = submit(&store.db, new_job(), Some(key(1)), 1).await;
    let Submitted::New { id: job_id, answer } = first else { panic!("{first:?}") };
    change(&store, &job_id, Input::Cancel).await;
    let again = submit(&store.db, new_job(), Some(key(1)), 2).await;
    assert_eq!(again, Submitted::Replayed { id: job_id, answer }, "word for word, whatever came since");
    // The same is known of the key alone, before there is a job to submit.
    let find = async |key: Key| store.read(move |tx| flow::find_first(tx, &key)).await;
    assert_eq!(find(key(1)).await, Some(again));
    assert_eq!(find(key(2)).await, Some(Submitted::KeyReused));
    assert_eq!(find(Key { key: "unused".to_owned(), ..key(1) }).await, None);
    assert_eq!(submit(&store.db, new_job(), Some(key(2)), 3).await, Submitted::KeyReused);
    let other = Key { owner: "another".to_owned(), ..key(2) };
    assert!(matches!(submit(&store.db, new_job(), Some(other), 4).await, Submitted::New { .. }));
    assert_eq!(store.count("SELECT COUNT(*) FROM job").await, 2);
}

async fn submits_of_one_key_that_race_make_one_job(store: Store) {
    let all = (1..=8).map(|n| {
        let db = store.db.clone();
        async move { submit(&db, new_job(), Some(key(1)), n).await }
    });
    let all = futures_util::future::join_all(all).await;
    let new = all.iter().filter(|done| matches!(done, Submitted::New { .. })).count();
    assert_eq!(new, 1, "{all:?}");
    assert!(!all.contains(&Submitted::KeyReused));
    assert_eq!(store.count("SELECT COUNT(*) FROM job").await, 1);
    assert_eq!(store.count("SELECT COUNT(*) FROM event").await, 1);
}

async fn a_submit_that_fails_leaves_nothing(store: Store) {
    let failed = store
        .db
        .write(|tx| {
            flow::submit(tx, &new_job(), Some(&key(1)), &stamp(1))?;
            Err::<(), _>(Error::Bug("on purpose".to_owned()))
        })
        .await;
    assert!(failed.is_err());
    for table in ["job", "job_request", "job_label", "task", "event", "idempotency"] {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let count = store.read(move |tx| tx.one(&sql, &[])?.map_or(Ok(-1), |mut row| row.int(0))).await;
        assert_eq!(count, 0, "{table}");
    }
    job_of(&store, new_job(), 1).await;
    let events = store.read(|tx| event::list(tx, None, 0, 9)).await;
    assert_eq!(events[0].number, 1);
}

async fn a_wish_changes_the_job_or_is_refused(store: Store) {
    assert_eq!(change(&store, "job_none", Input::Cancel).await, Changed::NotFound);
    let id = job_of(&store, new_job(), 1).await;
    let refused = change(&store, &id, Input::Approve).await;
    assert!(matches!(refused, Changed::Refused(Refused::NotHeld, _)), "{refused:?}");
    let canceled = change(&store, &id, Input::Cancel).await;
    let Changed::Ok(canceled) = canceled else { panic!("{canceled:?}") };
    assert_eq!(*canceled, store.job(&id).await, "told as it is stored");
    assert_eq!((canceled.state, canceled.version), (State::Canceled, 2));
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0, "nothing waits for an ended job");
    let again = change(&store, &id, Input::Cancel).await;
    assert_eq!(again, Changed::Ok(canceled), "nothing new is no new version");
}

async fn events_are_frozen_and_numbered_per_job(store: Store) {
    let one = job_of(&store, NewJob { hold: true, ..new_job() }, 1).await;
    let two = job_of(&store, new_job(), 2).await;
    change(&store, &one, Input::Approve).await;
    change(&store, &two, Input::Cancel).await;
    change(&store, &one, Input::Cancel).await;
    let id = one.clone();
    let events = store.read(move |tx| event::list(tx, Some(&id), 0, 9)).await;
    let states: Vec<_> = events
        .iter()
        .map(|e| {
            let data: serde_json::Value = serde_json::from_str(&e.data).expect("JSON");
            (e.number, e.job_sequence, data["state"].as_str().expect("a state").to_owned())
        })
        .collect();
    let expected = [(1, 1, "held"), (3, 2, "queued"), (5, 3, "canceled")];
    assert_eq!(states, expected.map(|(n, s, state)| (n, s, state.to_owned())));
    let mut ids: Vec<&str> = events.iter().map(|e| e.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "every event has an id of its own");
}
