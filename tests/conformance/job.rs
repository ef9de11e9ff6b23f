//! Table `job`: read back as written, changed only from its latest version.

use reelhook::domain::job::{Job, Kind, State};
use reelhook::store::{Error, job};

use crate::harness::{NOW, Store, cases, id, job_in};

cases![
    a_job_reads_back_as_it_was_written,
    an_update_from_an_old_version_is_a_conflict,
    changes_that_race_all_count,
    a_job_is_found_by_either_of_upstreams_ids,
    many_are_stored_as_if_one_by_one,
    what_did_not_complete_in_a_group_is_listed_until_it_is_retried,
    the_request_is_kept_to_the_byte,
    an_unreadable_row_is_named,
    a_letter_of_zero_does_not_poison_a_write,
    open_jobs_are_counted_by_state,
];

fn full(n: u32) -> Job {
    let mut made = job_in(State::Completed, n);
    made.kind = Kind::VideoAgent;
    made.callback_id = Some("caller's \"own\" id ✓".to_owned());
    made.upstream_video_id = Some(format!("video_{n}"));
    made.retry_of = Some(id("job_", 7));
    let d = &mut made.details;
    d.title = Some("Grüße, '; DROP TABLE job".to_owned());
    d.labels = [("team".to_owned(), "a".to_owned()), ("env".to_owned(), String::new())].into();
    d.metadata = Some(serde_json::json!({ "deep": [1, null, 1.5, "x"] }));
    d.progress = Some(100);
    d.output.video_url = Some("https://v".to_owned());
    d.output.duration_s = Some(12.25);
    d.events = 3;
    made
}

async fn a_job_reads_back_as_it_was_written(store: Store) {
    let written = full(1);
    store.insert_job(&written).await;
    assert_eq!(store.job(&written.id).await, written);
    assert_eq!(store.read(|tx| job::find(tx, "job_none")).await, None);
    // What looks empty is not absent.
    let mut bare = full(2);
    bare.details.metadata = Some(serde_json::json!({}));
    bare.details.sent_at = Some(0);
    bare.details.note = Some(String::new());
    store.insert_job(&bare).await;
    assert_eq!(store.job(&bare.id).await, bare);
    for (n, state) in State::ALL.into_iter().enumerate() {
        let written = job_in(state, 10 + u32::try_from(n).expect("small"));
        store.insert_job(&written).await;
        assert_eq!(store.job(&written.id).await, written);
    }
    let (first, second) = (id("job_", 10), id("job_", 11));
    let found = store.read(move |tx| job::find_many(tx, &[&first, &second, "job_none", &first])).await;
    assert_eq!(found.len(), 2, "each that exists, once");
    assert_eq!(store.read(|tx| job::find_many(tx, &[])).await, []);
}

async fn an_update_from_an_old_version_is_a_conflict(store: Store) {
    let old = job_in(State::Processing, 1);
    store.insert_job(&old).await;
    let mut next = old.clone();
    next.state = State::Completed;
    next.finished_at = Some(NOW + 1);
    let first = next.clone();
    store.write(move |tx| job::update_many(tx, &[&first])).await;
    assert_eq!(store.job(&old.id).await, Job { version: 2, ..next });
    let stale = store.db.write(move |tx| job::update_many(tx, &[&old])).await;
    assert!(matches!(stale, Err(Error::Conflict)), "{stale:?}");
    assert!(Error::Conflict.may_pass());
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Completed);
}

/// On PostgreSQL these conflict, and the engine runs the losers again; three at once is what one
/// node can do.
async fn changes_that_race_all_count(store: Store) {
    let made = job_in(State::Processing, 1);
    store.insert_job(&made).await;
    let changes = (0..30).map(|_| {
        let (db, id) = (store.db.clone(), made.id.clone());
        async move {
            db.write(move |tx| {
                let Some(mut job) = job::find(tx, &id)? else { return Err(Error::Bug("no job".to_owned())) };
                job.details.events += 1;
                job::update_many(tx, &[&job])
            })
            .await
        }
    });
    for changed in futures_util::future::join_all(changes).await {
        changed.expect("a lost race is run again");
    }
    let job = store.job(&made.id).await;
    assert_eq!((job.details.events, job.version), (30, 31));
}

async fn a_job_is_found_by_either_of_upstreams_ids(store: Store) {
    store.insert_job(&full(1)).await;
    store.insert_job(&job_in(State::Processing, 2)).await;
    store.insert_job(&job_in(State::Queued, 3)).await;
    let find = |ids: &'static [&'static str]| store.read(move |tx| job::find_by_upstream(tx, ids));
    assert_eq!(find(&["video_1"]).await, [full(1)]);
    assert_eq!(find(&["vid_1", "video_1"]).await.len(), 1, "found by both, told once");
    assert_eq!(find(&["vid_1", "vid_2", "nobody"]).await.len(), 2);
    assert_eq!(find(&["nobody"]).await, []);
    assert_eq!(find(&[]).await, []);
}

async fn many_are_stored_as_if_one_by_one(store: Store) {
    // More than one statement takes, with and without labels.
    let jobs: Vec<Job> = (0..150)
        .map(|n| {
            let mut made = if n % 3 == 0 { full(n) } else { job_in(State::Queued, n) };
            made.group_id = (n % 2 == 0).then(|| "grp_1".to_owned());
            made
        })
        .collect();
    let all = jobs.clone();
    store
        .write(move |tx| {
            let requests: Vec<String> = (0..150).map(|n| format!("{{\"n\":{n}}}")).collect();
            let rows: Vec<(&Job, &str)> = all.iter().zip(&requests).map(|(j, r)| (j, &**r)).collect();
            job::insert_many(tx, &rows)?;
            job::insert_many(tx, &[])
        })
        .await;
    for made in &jobs {
        assert_eq!(store.job(&made.id).await, *made);
    }
    let last = jobs[149].id.clone();
    assert_eq!(store.read(move |tx| job::find_request(tx, &last)).await.as_deref(), Some("{\"n\":149}"));
    let labels: i64 = jobs.iter().map(|job| i64::try_from(job.details.labels.len()).expect("few")).sum();
    assert_eq!(store.count("SELECT COUNT(*) FROM job_label").await, labels);
}

async fn what_did_not_complete_in_a_group_is_listed_until_it_is_retried(store: Store) {
    use State::{Canceled, Completed, Failed};
    for (n, state) in (0..).zip([Failed, Completed, Canceled, Failed, Failed]) {
        let mut made = job_in(state, n);
        made.group_id = Some(if n == 3 { "grp_2" } else { "grp_1" }.to_owned());
        store.insert_job(&made).await;
    }
    let list = async |state, after: String, limit| {
        let listed =
            store.read(move |tx| job::list_unretried(tx, "grp_1", state, &after, limit)).await.into_iter();
        let (jobs, requests): (Vec<Job>, Vec<String>) = listed.unzip();
        assert!(requests.iter().all(|request| request == "{}"), "each with its request");
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let first = String::new;
    assert_eq!(list(Failed, first(), 9).await, [id("job_", 0), id("job_", 4)], "the oldest first");
    assert_eq!(list(Failed, first(), 1).await, [id("job_", 0)]);
    assert_eq!(list(Failed, id("job_", 0), 9).await, [id("job_", 4)]);
    assert_eq!(list(Canceled, first(), 9).await, [id("job_", 2)]);
    let mut again = job_in(State::Queued, 9);
    again.retry_of = Some(id("job_", 0));
    store.insert_job(&again).await;
    assert_eq!(list(Failed, first(), 9).await, [id("job_", 4)]);
}

async fn the_request_is_kept_to_the_byte(store: Store) {
    let body = "{ \"script\" : \"ä\\u0000 1.0\" ,\n\t\"n\": 1e400 }";
    store.write(move |tx| job::insert(tx, &job_in(State::Queued, 1), body)).await;
    let id = id("job_", 1);
    assert_eq!(store.read(move |tx| job::find_request(tx, &id)).await.as_deref(), Some(body));
    assert_eq!(store.read(|tx| job::find_request(tx, "job_none")).await, None);
}

async fn an_unreadable_row_is_named(store: Store) {
    let made = job_in(State::Queued, 1);
    store.insert_job(&made).await;
    store.write(|tx| tx.execute("UPDATE job SET state = 'dancing'", &[])).await;
    let id = made.id.clone();
    let read = store.db.read(move |tx| job::find(tx, &id)).await;
    let Err(Error::Corrupt { table, column, id, .. }) = read else { panic!("{read:?}") };
    assert_eq!((table, column, id), ("job", "state", made.id));
}

/// PostgreSQL's text cannot hold it, and a webhook or a caller can send it.
async fn a_letter_of_zero_does_not_poison_a_write(store: Store) {
    let mut made = job_in(State::Queued, 1);
    made.callback_id = Some("a\0b".to_owned());
    made.details.title = Some("c\0d".to_owned());
    store.insert_job(&made).await;
    let read = store.job(&made.id).await;
    assert_eq!(read.callback_id.as_deref(), Some("a\u{fffd}b"), "shown as what stands for the unshowable");
    assert_eq!(read.details.title, made.details.title, "JSON writes it in letters");
}

async fn open_jobs_are_counted_by_state(store: Store) {
    for (n, state) in [State::Held, State::Queued, State::Queued, State::Completed].into_iter().enumerate() {
        store.insert_job(&job_in(state, n as u32)).await;
    }
    let counts = store.read(job::count_open).await;
    let of = |state| counts.iter().find(|(s, _)| *s == state).map(|(_, n)| *n);
    assert_eq!((of(State::Held), of(State::Queued), of(State::Unknown)), (Some(1), Some(2), Some(0)));
    assert_eq!(of(State::Completed), None, "what ended is not open");
}
