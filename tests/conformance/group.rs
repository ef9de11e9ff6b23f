//! Table `job_group`: what is open is counted down once, whoever ends jobs at the same time.

use reelhook::domain::group::Group;
use reelhook::domain::job::State;
use reelhook::store::group;

use crate::harness::{NOW, Store, cases, id, job_in};

cases![
    a_group_is_found_as_it_was_stored,
    the_last_to_be_counted_off_finishes_it,
    of_many_that_count_off_at_once_one_is_last,
    one_that_takes_more_is_finished_when_it_is_closed,
    a_group_that_is_gone_is_told,
    a_list_is_newest_first_and_goes_on_behind_a_cursor,
    jobs_are_counted_by_state_for_each_group,
    who_has_the_lock_has_it_alone,
];

async fn a_group_is_found_as_it_was_stored(store: Store) {
    let made = Group {
        id: id("grp_", 1),
        created_at: NOW,
        finished_at: Some(NOW + 5),
        jobs: 3,
        open: 2,
        next_row: Some(4),
        title: Some("rows.csv".to_owned()),
        retry_of: Some(id("grp_", 0)),
    };
    let stored = made.clone();
    store.write(move |tx| group::insert(tx, &stored)).await;
    let wanted = made.id.clone();
    assert_eq!(store.read(move |tx| group::find(tx, &wanted)).await, Some(made.clone()));
    let wanted = made.id.clone();
    assert_eq!(store.write(move |tx| group::lock(tx, &wanted)).await, Some(made));
    assert_eq!(store.read(|tx| group::find(tx, "grp_none")).await, None);
}

async fn the_last_to_be_counted_off_finishes_it(store: Store) {
    store.insert_group("grp_1", 3).await;
    store.insert_group("grp_2", 3).await;
    let off = |ended, now| store.write(move |tx| group::count_off(tx, "grp_1", ended, now));
    let two = off(2, NOW + 1).await;
    assert_eq!((two.open, two.finished_at), (1, None));
    let three = off(1, NOW + 2).await;
    assert_eq!((three.open, three.finished_at), (0, Some(NOW + 2)));
    let other = store.read(|tx| group::find(tx, "grp_2")).await.expect("the other");
    assert_eq!((other.open, other.finished_at), (3, None));
}

async fn of_many_that_count_off_at_once_one_is_last(store: Store) {
    store.insert_group("grp_1", 12).await;
    let all = (0..12).map(|n| {
        let db = store.db.clone();
        async move { db.write(move |tx| group::count_off(tx, "grp_1", 1, NOW + n)).await }
    });
    let all = futures_util::future::join_all(all).await;
    let finished = all.iter().filter(|g| g.as_ref().expect("no fault").finished_at.is_some()).count();
    assert_eq!(finished, 1);
}

async fn one_that_takes_more_is_finished_when_it_is_closed(store: Store) {
    store.insert_group("grp_1", 2).await;
    let off = |ended| store.write(move |tx| group::count_off(tx, "grp_1", ended, NOW + 1));
    let close = |now| store.write(move |tx| group::close(tx, "grp_1", now));
    assert_eq!(close(NOW + 1).await, None, "it takes no more as it is");
    let found = store.read(|tx| group::find(tx, "grp_1")).await.expect("the group");
    let more = Group { jobs: 4, open: 4, next_row: Some(3), ..found };
    let stored = more.clone();
    store.write(move |tx| group::grow(tx, &stored)).await;
    assert_eq!(store.read(|tx| group::find(tx, "grp_1")).await, Some(more));
    let all = off(4).await;
    assert_eq!((all.open, all.finished_at), (0, None), "more may come");
    let closed = close(NOW + 2).await.expect("it took more");
    assert_eq!((closed.next_row, closed.finished_at), (None, Some(NOW + 2)));
    assert_eq!(close(NOW + 3).await, None);
    assert_eq!(store.read(|tx| group::find(tx, "grp_1")).await, Some(closed));

    store.insert_group("grp_2", 2).await;
    let found = store.read(|tx| group::find(tx, "grp_2")).await.expect("the group");
    store.write(move |tx| group::grow(tx, &Group { next_row: Some(3), ..found.clone() })).await;
    let open = store.write(|tx| group::close(tx, "grp_2", NOW)).await.expect("it took more");
    assert_eq!((open.open, open.finished_at), (2, None), "its jobs go on");
    let last = store.write(|tx| group::count_off(tx, "grp_2", 2, NOW + 4)).await;
    assert_eq!(last.finished_at, Some(NOW + 4));
}

async fn a_group_that_is_gone_is_told(store: Store) {
    assert!(store.db.write(|tx| group::count_off(tx, "grp_none", 1, NOW)).await.is_err());
}

async fn a_list_is_newest_first_and_goes_on_behind_a_cursor(store: Store) {
    for n in 1..=3 {
        store.insert_group(&id("grp_", n), 1).await;
    }
    let list = async |before: Option<String>| {
        let page = store.read(move |tx| group::list(tx, before.as_deref(), 2)).await;
        page.into_iter().map(|group| group.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None).await, [id("grp_", 3), id("grp_", 2)]);
    assert_eq!(list(Some(id("grp_", 2))).await, [id("grp_", 1)]);
}

async fn jobs_are_counted_by_state_for_each_group(store: Store) {
    let states = [State::Queued, State::Queued, State::Failed, State::Completed];
    for (n, state) in (0..).zip(states) {
        let mut made = job_in(state, n);
        made.group_id = Some(if n == 3 { "grp_2" } else { "grp_1" }.to_owned());
        store.insert_job(&made).await;
    }
    store.insert_job(&job_in(State::Failed, 9)).await;
    let counts = store.read(|tx| group::count_states(tx, &["grp_2", "grp_none", "grp_1"])).await;
    let of = |n: usize| State::ALL.map(|state| counts[n].of(state));
    assert_eq!(of(0), [0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(of(1), [0; 8]);
    assert_eq!(of(2), [0, 2, 0, 0, 0, 0, 1, 0]);
    assert_eq!(store.read(|tx| group::count_states(tx, &[])).await, []);
}

/// Both would see what they both take off, if the lock did not hold.
async fn who_has_the_lock_has_it_alone(store: Store) {
    store.insert_group("grp_1", 2).await;
    let off = |n| {
        let db = store.db.clone();
        let work = move |tx: &mut reelhook::store::Tx| {
            let seen = group::lock(tx, "grp_1")?.expect("the group").open;
            group::count_off(tx, "grp_1", 1, NOW + n)?;
            Ok(seen)
        };
        async move { db.write(work).await.expect("no fault") }
    };
    let (a, b) = tokio::join!(off(1), off(2));
    assert_eq!(a + b, 3, "one saw two open, the other one");
}
