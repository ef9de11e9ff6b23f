//! The list of jobs: every filter given holds, pages are stable, and a search is taken literally.

use reelhook::domain::job::{Job, Kind, State};
use reelhook::store::job::{self, Filter};

use crate::harness::{NOW, Store, cases, id, job_in};

cases![
    a_list_is_newest_first_and_bounded,
    pages_are_stable_while_jobs_arrive,
    each_filter_holds_and_all_hold_together,
    a_search_finds_titles_and_ids,
    a_search_takes_wildcards_literally,
    a_search_sees_no_names_of_fields,
    a_search_knows_no_case_in_any_script,
];

async fn list(store: &Store, filter: Filter) -> Vec<u32> {
    let jobs = store.read(move |tx| job::list(tx, &filter, None, 100)).await;
    numbers(&jobs)
}

fn numbers(jobs: &[Job]) -> Vec<u32> {
    jobs.iter().map(|job| (0..300).find(|n| id("job_", *n) == job.id).expect("a job of the case")).collect()
}

async fn search(store: &Store, q: &str) -> Vec<u32> {
    list(store, Filter { q: Some(q.to_owned()), ..Filter::default() }).await
}

async fn titled(store: &Store, n: u32, title: &str) {
    let mut made = job_in(State::Queued, n);
    made.details.title = Some(title.to_owned());
    store.insert_job(&made).await;
}

async fn a_list_is_newest_first_and_bounded(store: Store) {
    for n in [2, 1, 3] {
        store.insert_job(&job_in(State::Queued, n)).await;
    }
    assert_eq!(list(&store, Filter::default()).await, [3, 2, 1]);
    let two = store.read(|tx| job::list(tx, &Filter::default(), None, 2)).await;
    assert_eq!(numbers(&two), [3, 2]);
}

async fn pages_are_stable_while_jobs_arrive(store: Store) {
    for n in 0..7 {
        store.insert_job(&job_in(State::Queued, n)).await;
    }
    let (mut seen, mut before) = (vec![], None);
    for arrival in 100.. {
        let from: Option<String> = before.clone();
        let page = store.read(move |tx| job::list(tx, &Filter::default(), from.as_deref(), 3)).await;
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        seen.extend(numbers(&page));
        store.insert_job(&job_in(State::Queued, arrival)).await;
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0], "none twice, none missing");
}

async fn each_filter_holds_and_all_hold_together(store: Store) {
    for (n, state) in State::ALL.into_iter().enumerate() {
        let mut made = job_in(state, u32::try_from(n).expect("small"));
        made.created_at = NOW + i64::try_from(n).expect("small");
        made.kind = if n < 4 { Kind::Video } else { Kind::Translation };
        made.callback_id = (n % 2 == 0).then(|| "even".to_owned());
        made.details.labels = [("n".to_owned(), n.to_string()), ("team".to_owned(), "a".to_owned())].into();
        store.insert_job(&made).await;
    }
    for (n, state) in State::ALL.into_iter().enumerate() {
        let by_state = list(&store, Filter { state: Some(state), ..Filter::default() }).await;
        assert_eq!(by_state, [u32::try_from(n).expect("small")]);
    }
    let label = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
    let kind = Filter { kind: Some(Kind::Translation), ..Filter::default() };
    let callback = Filter { callback_id: Some("even".to_owned()), ..Filter::default() };
    let labeled = Filter { label: label("n", "2"), ..Filter::default() };
    let crossed = Filter { label: label("team", "2"), ..Filter::default() };
    let dated = Filter { created_after: Some(NOW + 2), created_before: Some(NOW + 5), ..Filter::default() };
    assert_eq!(list(&store, kind).await, [7, 6, 5, 4]);
    assert_eq!(list(&store, callback).await, [6, 4, 2, 0]);
    assert_eq!(list(&store, labeled).await, [2]);
    assert_eq!(list(&store, crossed).await, [0; 0], "a name and its own value");
    assert_eq!(list(&store, dated).await, [4, 3], "neither end is included");
    let all = Filter {
        state: Some(State::Processing),
        kind: Some(Kind::Translation),
        callback_id: Some("even".to_owned()),
        group: None,
        label: label("team", "a"),
        created_after: Some(NOW),
        created_before: Some(NOW + 9),
        q: Some("vid_4".to_owned()),
    };
    assert_eq!(list(&store, all.clone()).await, [4]);
    assert_eq!(list(&store, Filter { kind: Some(Kind::Video), ..all }).await, [0; 0]);
}

async fn a_search_finds_titles_and_ids(store: Store) {
    titled(&store, 1, "Quarterly \"report\"").await;
    let mut other = job_in(State::Processing, 2);
    other.callback_id = Some("Order-77".to_owned());
    other.upstream_video_id = Some("abcDEF".to_owned());
    store.insert_job(&other).await;
    assert_eq!(search(&store, "quarterly").await, [1]);
    assert_eq!(search(&store, "Y \"REP").await, [1], "a part, in any case, quotes and all");
    assert_eq!(search(&store, "order-7").await, [2]);
    assert_eq!(search(&store, "vid_2").await, [2]);
    assert_eq!(search(&store, "cdef").await, [2]);
    assert_eq!(search(&store, &id("job_", 1)).await, [1]);
    assert_eq!(search(&store, "nothing").await, [0; 0]);
}

async fn a_search_takes_wildcards_literally(store: Store) {
    titled(&store, 1, "100% done").await;
    titled(&store, 2, "1000 done").await;
    titled(&store, 3, "a_b!c\\d").await;
    titled(&store, 4, "axb!c\\d").await;
    assert_eq!(search(&store, "0% d").await, [1]);
    assert_eq!(search(&store, "a_b").await, [3]);
    assert_eq!(search(&store, "b!c").await, [4, 3]);
    assert_eq!(search(&store, "c\\d").await, [4, 3]);
    assert_eq!(search(&store, "%").await, [1]);
}

/// Otherwise a search for "labels" or "null" finds every job there is.
async fn a_search_sees_no_names_of_fields(store: Store) {
    titled(&store, 1, "a title").await;
    for q in ["labels", "key_number", "null", "first_poll"] {
        assert_eq!(search(&store, q).await, [0; 0], "{q}");
    }
}

async fn a_search_knows_no_case_in_any_script(store: Store) {
    titled(&store, 1, "Übung für ÄRZTE").await;
    for q in ["Übung", "übung", "ärzte", "ÄRZTE"] {
        assert_eq!(search(&store, q).await, [1], "{q}");
    }
}
