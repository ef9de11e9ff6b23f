//! The dead half of table `task`, and when causes were told of.

use reelhook::domain::dead_letter::{Cause, DeadLetter, Filter, TELL_EVERY, Trouble};
use reelhook::domain::delivery::Attempt;
use reelhook::domain::receipt::Note;
use reelhook::domain::task::TaskKind;
use reelhook::store::dead_letter::{self, Position};
use reelhook::store::{delivery, inbox, task};

use crate::delivery::{new as delivery, target};
use crate::harness::{NOW, Store, cases, id, receipt};

cases![
    a_dead_letter_knows_what_it_is_about,
    a_list_is_filtered_and_goes_on_behind_a_cursor,
    causes_are_counted_and_the_most_frequent_is_first,
    some_are_made_due_each_once,
    two_who_make_due_share_what_there_is,
    some_are_dropped_and_old_ones_are_forgotten,
    submits_are_never_among_them,
    a_cause_is_told_of_once_an_hour,
];

pub const APP: &str = "https://app.example/hook";

/// A delivery that was given up, and its dead letter.
pub async fn given_up(store: &Store, n: u32, trouble: Trouble, at: i64) {
    let mut made = delivery(n, target(n % 2));
    (made.due_at, made.dead_at) = (None, Some(at));
    let attempt =
        Attempt { at, took_ms: 1, status: Some(500), error: None, answer: Some("first".to_owned()) };
    made.attempts = vec![attempt.clone(), Attempt { answer: Some("no ü".to_owned()), ..attempt }];
    let cause = Cause::at(trouble, APP);
    let write = move |tx: &mut reelhook::store::Tx| {
        delivery::insert_many(tx, std::slice::from_ref(&made))?;
        task::bury(tx, TaskKind::Deliver, &[&made.id], 10, (&cause, "answered ü"), at)
    };
    store.write(write).await;
}

async fn bury(store: &Store, kind: TaskKind, subject: &str, at: i64) {
    let subject = subject.to_owned();
    let cause = Cause::new(Trouble::NotApplied);
    store.write(move |tx| task::bury(tx, kind, &[&subject], 20, (&cause, "a bug"), at)).await;
}

async fn list(store: &Store, filter: Filter, cursor: Option<Position>, limit: i64) -> Vec<DeadLetter> {
    store.read(move |tx| dead_letter::list(tx, &filter, cursor.as_ref(), limit)).await
}

async fn ids(store: &Store, filter: Filter) -> Vec<String> {
    list(store, filter, None, 99).await.into_iter().map(|letter| letter.id).collect()
}

async fn count(store: &Store) -> i64 {
    store.read(|tx| dead_letter::count(tx, &Filter::default())).await
}

async fn a_dead_letter_knows_what_it_is_about(store: Store) {
    given_up(&store, 1, Trouble::Answers(401), NOW).await;
    let heard = receipt(2, "{}");
    let note = Note { event_type: Some("x".to_owned()), job_id: Some("job_9".to_owned()), ..Note::default() };
    let (rcp, kept) = (heard.id.clone(), heard.clone());
    let write = move |tx: &mut reelhook::store::Tx| {
        inbox::accept_many(tx, std::slice::from_ref(&kept))?;
        inbox::annotate(tx, &[(&kept.id, &note)])
    };
    store.write(write).await;
    bury(&store, TaskKind::Apply, &rcp, NOW + 1).await;
    bury(&store, TaskKind::Upkeep, "a duty", NOW + 2).await;
    let all = list(&store, Filter::default(), None, 9).await;
    let blank = DeadLetter {
        id: "a duty".to_owned(),
        task: TaskKind::Upkeep,
        cause: Cause::new(Trouble::NotApplied),
        reason: "a bug".to_owned(),
        answer: None,
        dead_at: NOW + 2,
        attempt: 20,
        event_type: None,
        job_id: None,
        endpoint_id: None,
    };
    let of_receipt = DeadLetter {
        id: rcp,
        task: TaskKind::Apply,
        dead_at: NOW + 1,
        event_type: Some("x".to_owned()),
        job_id: Some("job_9".to_owned()),
        ..blank.clone()
    };
    let of_delivery = DeadLetter {
        id: id("dlv_", 1),
        task: TaskKind::Deliver,
        cause: Cause::at(Trouble::Answers(401), APP),
        reason: "answered ü".to_owned(),
        answer: Some("no ü".to_owned()),
        dead_at: NOW,
        attempt: 10,
        event_type: Some("job.queued".to_owned()),
        job_id: Some("job_1".to_owned()),
        endpoint_id: target(1).endpoint_id().map(str::to_owned),
    };
    assert_eq!(all, [blank, of_receipt, of_delivery]);
}

async fn a_list_is_filtered_and_goes_on_behind_a_cursor(store: Store) {
    for n in 0..6 {
        // Two of each moment.
        let trouble = if n < 4 { Trouble::Answers(500) } else { Trouble::NoAnswer };
        given_up(&store, n, trouble, NOW + i64::from(n / 2)).await;
    }
    bury(&store, TaskKind::Apply, &id("rcp_", 9), NOW + 9).await;
    let (mut cursor, mut pages): (Option<Position>, Vec<Vec<String>>) = (None, vec![]);
    loop {
        let page = list(&store, Filter::default(), cursor.clone(), 2).await;
        let Some(last) = page.last() else { break };
        cursor = Some((last.dead_at, last.id.clone()));
        pages.push(page.into_iter().map(|letter| letter.id).collect());
    }
    let dlv = |n| id("dlv_", n);
    assert_eq!(
        pages,
        [vec![id("rcp_", 9), dlv(5)], vec![dlv(4), dlv(3)], vec![dlv(2), dlv(1)], vec![dlv(0)]]
    );
    let text = |text: &str| Some(text.to_owned());
    let none = Filter::default;
    for (filter, expected) in [
        (Filter { task: text("apply"), ..none() }, vec![id("rcp_", 9)]),
        (Filter { cause: text("no_answer:app.example"), ..none() }, vec![dlv(5), dlv(4)]),
        (Filter { since: Some(NOW + 1), until: Some(NOW + 2), ..none() }, vec![dlv(3), dlv(2)]),
        (Filter { until: Some(NOW + 1), ..none() }, vec![dlv(1), dlv(0)]),
        (
            Filter { endpoint_id: target(1).endpoint_id().map(str::to_owned), ..none() },
            vec![dlv(5), dlv(3), dlv(1)],
        ),
        (Filter { job_id: text("job_0"), ..none() }, vec![dlv(4), dlv(2), dlv(0)]),
        (Filter { since: Some(NOW + 2), ..none() }, vec![id("rcp_", 9), dlv(5), dlv(4)]),
        (Filter { ids: vec![dlv(0), dlv(3), "none".to_owned()], ..none() }, vec![dlv(3), dlv(0)]),
        (Filter { ids: vec![dlv(0)], since: Some(NOW + 1), ..none() }, vec![]),
        (Filter { cause: text("no_answer:app.example"), job_id: text("job_1"), ..none() }, vec![dlv(5)]),
    ] {
        assert_eq!(ids(&store, filter.clone()).await, expected, "{filter:?}");
        let n = expected.len();
        let counted = store.read(move |tx| dead_letter::count(tx, &filter)).await;
        assert_eq!(usize::try_from(counted), Ok(n));
    }
}

async fn causes_are_counted_and_the_most_frequent_is_first(store: Store) {
    for n in 0..5 {
        let trouble = if n == 0 { Trouble::NoAnswer } else { Trouble::Answers(401) };
        given_up(&store, n, trouble, NOW + i64::from(n)).await;
    }
    store.write(|tx| tx.execute("UPDATE task SET cause = NULL WHERE dead_at = ?1", &[NOW.into()])).await;
    let causes = store.read(|tx| dead_letter::list_causes(tx, &Filter::default(), 9)).await;
    let first = &causes[0];
    assert_eq!((first.cause.title(), first.count), ("app.example answers 401".to_owned(), 4));
    assert_eq!((first.first_at, first.last_at, &first.sample_id), (NOW + 1, NOW + 4, &id("dlv_", 4)));
    assert_eq!(
        (causes[1].cause.trouble, causes[1].count),
        (Trouble::Other, 1),
        "of a version that kept none"
    );
    assert_eq!(store.read(|tx| dead_letter::list_causes(tx, &Filter::default(), 1)).await.len(), 1);
    let mut each = store.read(dead_letter::count_each).await;
    each.sort_by_key(|(_, _, count)| *count);
    assert_eq!(each[1], (TaskKind::Deliver, Cause::at(Trouble::Answers(401), APP), 4));
}

fn start() -> Position {
    (i64::MIN, String::new())
}

async fn some_are_made_due_each_once(store: Store) {
    for n in 0..5 {
        given_up(&store, n, Trouble::Answers(500), NOW + i64::from(n / 2)).await;
    }
    let some = async |from: Position, until, most| {
        let revive = move |tx: &mut reelhook::store::Tx| {
            dead_letter::revive_some(tx, &Filter::default(), (&from, until), most, NOW + 50)
        };
        store.write(revive).await
    };
    let (seen, revived) = some(start(), NOW + 1, 3).await;
    assert_eq!((seen.len(), revived.len()), (3, 3));
    assert_eq!(seen[2], (NOW + 1, id("dlv_", 2)));
    assert_eq!(store.due(&id("dlv_", 0), TaskKind::Deliver).await, Some(NOW + 50));
    // One that was taken is given up again while the others wait for their turn.
    let cause = Cause::new(Trouble::NoAnswer);
    let again = move |tx: &mut reelhook::store::Tx| {
        task::bury(tx, TaskKind::Deliver, &[&id("dlv_", 0)], 1, (&cause, "no"), NOW + 60)
    };
    store.write(again).await;
    let (seen, revived) = some(seen[2].clone(), NOW + 1, 3).await;
    assert_eq!((seen.len(), revived), (1, vec![id("dlv_", 3)]), "what was given up later is not among them");
    assert_eq!(some(seen[0].clone(), NOW + 1, 3).await, (vec![], vec![]));
    assert_eq!(ids(&store, Filter::default()).await, [id("dlv_", 0), id("dlv_", 4)]);
    let claimed =
        store.write(|tx| task::claim(tx, reelhook::domain::task::Lane::Outbound, 9, NOW + 50, NOW + 99, 1));
    assert!(claimed.await.iter().all(|task| task.attempt == 1), "they begin anew");
}

async fn two_who_make_due_share_what_there_is(store: Store) {
    for n in 0..60 {
        given_up(&store, n, Trouble::Answers(500), NOW + i64::from(n)).await;
    }
    let all = (0..4).map(|_| {
        let revive = |tx: &mut reelhook::store::Tx| {
            dead_letter::revive_some(tx, &Filter::default(), (&start(), NOW + 99), 40, NOW)
        };
        store.db.write(revive)
    });
    let done = futures_util::future::join_all(all).await;
    let revived: usize = done.into_iter().map(|done| done.expect("it ends").1.len()).sum();
    assert_eq!(i64::try_from(revived), Ok(60 - count(&store).await), "none counted twice");
}

async fn some_are_dropped_and_old_ones_are_forgotten(store: Store) {
    for n in 0..6 {
        given_up(&store, n, Trouble::Answers(500), NOW + i64::from(n)).await;
    }
    store.add_task("alive", TaskKind::Deliver, NOW).await;
    let odd = Filter { job_id: Some("job_1".to_owned()), ..Filter::default() };
    assert_eq!(store.write(move |tx| dead_letter::drop_some(tx, &odd, 2)).await, 2);
    assert_eq!(ids(&store, Filter::default()).await, [5, 4, 2, 0].map(|n| id("dlv_", n)));
    let purge = async |before, most| store.write(move |tx| dead_letter::purge(tx, before, most)).await;
    assert_eq!((purge(NOW + 4, 1).await, purge(NOW + 4, 9).await, purge(NOW + 4, 9).await), (1, 1, 0));
    assert_eq!(ids(&store, Filter::default()).await, [5, 4].map(|n| id("dlv_", n)));
    let dropped = store.read(|tx| delivery::find(tx, &id("dlv_", 0))).await;
    assert!(dropped.is_some_and(|kept| kept.dead_at.is_some()), "the delivery itself stays");
    assert!(store.due("alive", TaskKind::Deliver).await.is_some());
}

async fn submits_are_never_among_them(store: Store) {
    bury(&store, TaskKind::Submit, "job_1", NOW).await;
    assert_eq!((count(&store).await, list(&store, Filter::default(), None, 9).await.len()), (0, 0));
    let by_id = Filter { ids: vec!["job_1".to_owned()], ..Filter::default() };
    let revive =
        move |tx: &mut reelhook::store::Tx| dead_letter::revive_some(tx, &by_id, (&start(), NOW), 9, NOW);
    assert_eq!(store.write(revive).await.1, [""; 0]);
    assert_eq!(store.write(|tx| dead_letter::drop_some(tx, &Filter::default(), 9)).await, 0);
    assert_eq!(store.write(|tx| dead_letter::purge(tx, NOW + 1, 9)).await, 0);
    assert_eq!(store.read(dead_letter::count_each).await, []);
}

async fn a_cause_is_told_of_once_an_hour(store: Store) {
    let tell = async |trouble, at| {
        let cause = Cause::at(trouble, APP);
        store.write(move |tx| dead_letter::tell(tx, &cause, at)).await
    };
    let one = Trouble::Answers(401);
    assert!(tell(one, NOW).await && !tell(one, NOW).await && !tell(one, NOW + TELL_EVERY - 1).await);
    assert!(tell(Trouble::NoAnswer, NOW).await, "another cause is another matter");
    assert!(tell(one, NOW + TELL_EVERY).await && !tell(one, NOW + TELL_EVERY + 1).await);
    let forget = async |now| store.write(move |tx| dead_letter::forget_told(tx, now)).await;
    assert_eq!((forget(NOW + TELL_EVERY).await, forget(NOW + 3 * TELL_EVERY).await), (1, 1));
    assert!(tell(one, NOW).await);
}
