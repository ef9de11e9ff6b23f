//! Table `inbox`: every new receipt once, with its bytes and its apply task, in one step.

use reelhook::domain::receipt::{MAX_REFUSED_KEPT, Note, Receipt, Verdict};
use reelhook::domain::task::{Lane, TaskKind};
use reelhook::store::inbox::{self, Filter};
use reelhook::store::task;

use crate::harness::{NOW, Store, cases, id, receipt};

cases![
    receipts_are_kept_to_the_byte_with_one_task_for_all,
    a_duplicate_is_known_inside_a_batch_and_across,
    answers_come_in_the_order_of_the_receipts,
    an_unsigned_copy_swallows_no_signed_one,
    batches_that_race_over_the_same_receipts_all_pass,
    unsigned_receipts_are_counted_per_job,
    refused_samples_are_bounded_and_never_applied,
    a_note_is_recorded,
    what_is_parked_is_released_by_its_id_once,
    a_list_is_filtered_and_paged,
    what_was_told_is_found_by_job_and_by_the_id_it_is_parked_under,
];

async fn accept(store: &Store, receipts: Vec<Receipt>) -> Vec<bool> {
    store.write(move |tx| inbox::accept_many(tx, &receipts)).await
}

async fn find(store: &Store, n: u32) -> Option<Receipt> {
    store.read(move |tx| inbox::find_many(tx, &[&id("rcp_", n)])).await.pop()
}

fn unsigned(n: u32, job: &str, body: &str) -> Receipt {
    Receipt {
        verdict: Verdict::Unsigned,
        job_address: Some(job.to_owned()),
        signed_by: None,
        ..receipt(n, body)
    }
}

async fn list(store: &Store, filter: Filter, before: Option<u32>, limit: i64) -> Vec<String> {
    let before = before.map(|n| id("rcp_", n));
    let page = store.read(move |tx| inbox::list(tx, &filter, before.as_deref(), limit)).await;
    page.into_iter().map(|r| r.id).collect()
}

async fn receipts_are_kept_to_the_byte_with_one_task_for_all(store: Store) {
    let mut odd = receipt(1, "");
    odd.body = (0..=255).collect();
    odd.remote = None;
    odd.headers = "{\"x\":\"ü\"}".to_owned();
    assert_eq!(accept(&store, vec![odd.clone(), receipt(2, "")]).await, [true, true]);
    assert_eq!(find(&store, 1).await, Some(odd));
    assert_eq!(find(&store, 2).await, Some(receipt(2, "")));
    let task = store.claim_one(Lane::Inbound, 1).await;
    assert_eq!(task.subjects().collect::<Vec<_>>(), [id("rcp_", 1), id("rcp_", 2)]);
    assert_eq!(task.due_at, NOW);
    assert_eq!(accept(&store, vec![]).await, [true; 0]);
    assert_eq!(store.read(|tx| inbox::find_many(tx, &[])).await, []);
    let two = |tx: &mut reelhook::store::Tx| inbox::find_many(tx, &[&id("rcp_", 1), &id("rcp_", 2), "none"]);
    assert_eq!(store.read(two).await.len(), 2);
}

async fn a_duplicate_is_known_inside_a_batch_and_across(store: Store) {
    let batch = vec![receipt(1, "a"), receipt(2, "b"), receipt(3, "a")];
    assert_eq!(accept(&store, batch).await, [true, true, false]);
    assert_eq!(accept(&store, vec![receipt(4, "b"), receipt(5, "c")]).await, [false, true]);
    assert_eq!(find(&store, 3).await, None);
    let done = store.claim(Lane::Inbound, 9, 1).await;
    let due: Vec<&str> = done.iter().flat_map(|task| task.subjects()).collect();
    assert_eq!(due, [id("rcp_", 1), id("rcp_", 2), id("rcp_", 5)], "what was new, in the order it came");
    store.write(move |tx| task::settle_done(tx, &done.iter().collect::<Vec<_>>())).await;
    assert_eq!(accept(&store, vec![receipt(6, "a")]).await, [false]);
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 0, "a duplicate makes no work");
}

async fn answers_come_in_the_order_of_the_receipts(store: Store) {
    // More than one statement takes, in an order that is not that of the keys.
    let odd: Vec<Receipt> = (0..150).filter(|n| n % 2 == 1).map(|n| receipt(n, &format!("b{n}"))).collect();
    accept(&store, odd).await;
    let all = (0..150).map(|n| receipt(n + 1_000, &format!("b{n}"))).collect();
    let fresh = accept(&store, all).await;
    assert_eq!(fresh, (0..150).map(|n| n % 2 == 0).collect::<Vec<_>>());
}

async fn an_unsigned_copy_swallows_no_signed_one(store: Store) {
    let copies = vec![
        unsigned(1, "job_a", "b"),
        receipt(2, "b"),
        unsigned(3, "job_b", "b"),
        unsigned(4, "job_a", "b"),
    ];
    assert_eq!(accept(&store, copies).await, [true, true, true, false]);
}

async fn batches_that_race_over_the_same_receipts_all_pass(store: Store) {
    let batches = (0..6).map(|who: u32| {
        let db = store.db.clone();
        let mut mine: Vec<Receipt> = (0..100).map(|n| receipt(who * 1_000 + n, &format!("b{n}"))).collect();
        // Each node got them in another order.
        mine.rotate_left(17 * who as usize);
        async move { db.write(move |tx| inbox::accept_many(tx, &mine)).await.expect("no deadlock is told") }
    });
    let fresh = futures_util::future::join_all(batches).await.concat();
    assert_eq!(fresh.iter().filter(|fresh| **fresh).count(), 100);
    assert_eq!(store.count("SELECT COUNT(*) FROM inbox").await, 100);
    let tasks = store.claim(Lane::Inbound, 9, 1).await;
    let due: std::collections::HashSet<&str> = tasks.iter().flat_map(|task| task.subjects()).collect();
    assert_eq!(due.len(), 100, "each has its task");
}

async fn unsigned_receipts_are_counted_per_job(store: Store) {
    accept(&store, vec![unsigned(1, "job_a", "1"), unsigned(2, "job_a", "2"), unsigned(3, "job_b", "1")])
        .await;
    accept(&store, vec![Receipt { job_address: Some("job_a".to_owned()), ..receipt(4, "3") }]).await;
    let count = |job: &'static str| store.read(move |tx| inbox::count_unsigned(tx, job));
    assert_eq!((count("job_a").await, count("job_b").await, count("job_c").await), (2, 1, 0));
}

async fn refused_samples_are_bounded_and_never_applied(store: Store) {
    let most = u32::try_from(MAX_REFUSED_KEPT).expect("small");
    // Older than all samples and newer: the bound counts neither.
    accept(&store, vec![receipt(0, "signed"), receipt(9 * most, "signed too")]).await;
    let refuse = |n: u32, body: String| {
        let mut made = receipt(n, &body);
        made.verdict = Verdict::Refused;
        made.note.meaning = Some("no secret of ours".to_owned());
        store.write(move |tx| inbox::keep_refused(tx, &made))
    };
    for n in 1..=most {
        refuse(n, format!("r{n}")).await;
    }
    assert_eq!(store.count("SELECT COUNT(*) FROM inbox").await, MAX_REFUSED_KEPT + 2);
    refuse(most + 1, "r1".to_owned()).await;
    assert_eq!(find(&store, most + 1).await, None, "a sample that is there is not kept twice");
    assert!(find(&store, 1).await.is_some(), "and pushes nothing out");
    refuse(most + 2, "new".to_owned()).await;
    assert_eq!(store.count("SELECT COUNT(*) FROM inbox").await, MAX_REFUSED_KEPT + 2);
    assert_eq!(find(&store, 1).await, None, "the oldest sample went");
    assert!(find(&store, 0).await.is_some(), "no other receipt did, though it is older");
    let noted = store.count("SELECT COUNT(*) FROM receipt_note").await;
    assert_eq!(noted, MAX_REFUSED_KEPT, "what was noted of the oldest went with it");
    let kept = find(&store, most + 2).await.expect("the newest is kept");
    assert_eq!(kept.note.meaning.as_deref(), Some("no secret of ours"));
    assert_eq!(store.count("SELECT COUNT(*) FROM task").await, 1, "the signed ones'");
}

async fn a_note_is_recorded(store: Store) {
    accept(&store, vec![receipt(1, "a"), receipt(2, "b")]).await;
    let note = Note {
        applied_at: Some(NOW + 1),
        event_type: Some("avatar_video.success".to_owned()),
        job_id: Some("job_a".to_owned()),
        parked_under: Some("session".to_owned()),
        parked_also: Some("video".to_owned()),
        meaning: Some("moved".to_owned()),
        wire_version: Some(7),
    };
    let written = note.clone();
    store.write(move |tx| inbox::annotate(tx, &[(&id("rcp_", 1), &written)])).await;
    assert_eq!(find(&store, 1).await, Some(Receipt { note, ..receipt(1, "a") }));
    assert_eq!(find(&store, 2).await, Some(receipt(2, "b")));
}

async fn what_is_parked_is_released_by_its_id_once(store: Store) {
    accept(&store, vec![receipt(1, "a"), receipt(2, "b"), receipt(3, "c")]).await;
    let done = store.claim(Lane::Inbound, 9, 1).await;
    store.write(move |tx| task::settle_done(tx, &done.iter().collect::<Vec<_>>())).await;
    for (n, under, also) in [(1, "vid_x", None), (2, "vid_x", Some("vid_2")), (3, "vid_y", Some("vid_3"))] {
        let note = Note {
            applied_at: Some(NOW),
            parked_under: Some(under.to_owned()),
            parked_also: also.map(str::to_owned),
            ..Note::default()
        };
        let park = move |tx: &mut reelhook::store::Tx| {
            inbox::lock_parking(tx)?;
            inbox::annotate(tx, &[(&id("rcp_", n), &note)])
        };
        store.write(park).await;
    }
    let release =
        |ids: &'static [&'static str]| store.write(move |tx| inbox::release_parked(tx, ids, NOW + 5));
    assert_eq!(release(&[]).await, 0);
    assert_eq!(release(&["vid_none"]).await, 0);
    assert_eq!(release(&["vid_x", "vid_none"]).await, 2);
    assert_eq!(release(&["vid_x", "vid_2"]).await, 0, "released once, whichever id comes first");
    assert_eq!(store.due(&id("rcp_", 1), TaskKind::Apply).await, Some(NOW + 5));
    assert_eq!(store.due(&id("rcp_", 3), TaskKind::Apply).await, None);
    assert_eq!(find(&store, 1).await.expect("kept").note.parked_under, None);
    assert_eq!(find(&store, 3).await.expect("kept").note.parked_under.as_deref(), Some("vid_y"));
    assert_eq!(release(&["vid_3"]).await, 1, "by its other id");
    assert_eq!(store.due(&id("rcp_", 3), TaskKind::Apply).await, Some(NOW + 5));
    assert_eq!(release(&["vid_y"]).await, 0);
    let parked = Note { parked_under: Some("vid_z".to_owned()), ..Note::default() };
    for n in [1, 2, 3] {
        let parked = parked.clone();
        store.write(move |tx| inbox::annotate(tx, &[(&id("rcp_", n), &parked)])).await;
    }
    let any = async || store.write(|tx| inbox::release_any(tx, 2, NOW + 7)).await;
    assert_eq!((any().await, any().await, any().await), (2, 1, 0));
    assert_eq!(store.due(&id("rcp_", 2), TaskKind::Apply).await, Some(NOW + 7));
}

async fn a_list_is_filtered_and_paged(store: Store) {
    let all = vec![receipt(1, "a"), unsigned(2, "job_a", "b"), receipt(3, "c"), unsigned(4, "job_b", "d")];
    accept(&store, all).await;
    let note = Note { job_id: Some("job_a".to_owned()), ..Note::default() };
    store.write(move |tx| inbox::annotate(tx, &[(&id("rcp_", 3), &note)])).await;
    let ids = |numbers: &[u32]| numbers.iter().map(|n| id("rcp_", *n)).collect::<Vec<_>>();
    let signed = Filter { verdict: Some(Verdict::Signed), ..Filter::default() };
    let of_job = Filter { job_id: Some("job_a".to_owned()), ..Filter::default() };
    assert_eq!(list(&store, Filter::default(), None, 3).await, ids(&[4, 3, 2]));
    assert_eq!(list(&store, Filter::default(), Some(2), 3).await, ids(&[1]));
    assert_eq!(list(&store, signed, None, 9).await, ids(&[3, 1]));
    assert_eq!(list(&store, of_job, None, 9).await, ids(&[3]));
}

async fn what_was_told_is_found_by_job_and_by_the_id_it_is_parked_under(store: Store) {
    let notes = [
        (1, Verdict::Signed, Some("job_1"), None),
        (2, Verdict::Logged, None, Some("vid_1")),
        (3, Verdict::Unsigned, Some("job_2"), None),
        (4, Verdict::Refused, Some("job_3"), None),
    ];
    for (n, verdict, job_id, parked_under) in notes {
        let one = Receipt { verdict, ..receipt(n, &format!("body {n}")) };
        let note = Note {
            event_type: Some(format!("type {n}")),
            job_id: job_id.map(str::to_owned),
            parked_under: parked_under.map(str::to_owned),
            ..Note::default()
        };
        store.write(move |tx| inbox::accept_many(tx, std::slice::from_ref(&one))).await;
        store.write(move |tx| inbox::annotate(tx, &[(&id("rcp_", n), &note)])).await;
    }
    let told =
        |jobs: &'static [&str], ids: &'static [&str]| store.read(move |tx| inbox::list_told(tx, jobs, ids));
    let pair = |subject: &str, n: u32| (subject.to_owned(), format!("type {n}"));
    let all = told(&["job_1", "job_2", "job_3"], &["vid_1", "vid_2"]).await;
    assert_eq!(all, [pair("job_1", 1), pair("vid_1", 2)], "an unsigned or refused word does not count");
    assert_eq!(told(&[], &[]).await, []);
    assert_eq!(told(&["vid_1"], &["job_1"]).await, [], "each by its own");
}
