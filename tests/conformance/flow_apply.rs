//! `flow::observe_many`: a batch of receipts in one step, whatever their order and number.

use reelhook::domain::job::{Failure, FoundBy, Kind, Observation, Output, Says, State};
use reelhook::domain::receipt::Receipt;
use reelhook::domain::step::Input;
use reelhook::domain::task::{Claimed, Lane, Outcome, TaskKind};
use reelhook::flow::{self, Counts, Hearing};
use reelhook::store::{event, inbox, task};

use crate::harness::{LEASE, NOW, Store, cases, id, job_in, receipt, stamp};

cases![
    a_success_ends_the_job_and_its_copies_are_nothing_new,
    a_batch_in_any_order_ends_the_same,
    several_jobs_of_a_batch_are_each_written_once,
    a_failure_only_heard_makes_the_poll_due,
    a_stranger_is_parked_published_and_later_released,
    a_stranger_with_two_ids_is_released_by_either,
    an_id_learned_in_a_batch_makes_no_stranger_of_the_rest,
    a_parker_and_a_learner_that_race_never_miss_each_other,
    what_cannot_be_used_is_noted,
    without_its_lease_a_receipt_is_skipped,
    receipts_of_one_task_are_applied_or_skipped_together,
    our_own_id_goes_before_upstreams,
    runs_about_one_job_each_end_together,
];

/// What a receipt of the case says; `Hearing` itself cannot be made twice.
#[derive(Clone)]
struct Heard {
    task: Claimed,
    receipt: String,
    job_id: Option<String>,
    upstream_id: Option<String>,
    says: Says,
    unusable: bool,
}

fn file() -> Says {
    Says::Completed(Box::new(Output { video_url: Some("https://v".to_owned()), ..Output::default() }))
}

fn caption() -> Says {
    Says::Extra(Box::new(Output { caption_url: Some("https://c".to_owned()), ..Output::default() }))
}

fn failure() -> Says {
    Says::Failed { failure: Failure::new(None, "broken"), confirmed: false }
}

/// Accepts one receipt per saying, about upstream's id `about`, and claims their tasks.
async fn hear(store: &Store, about: &str, first: u32, says: &[Says]) -> Vec<Heard> {
    let receipts: Vec<Receipt> =
        (first..).zip(says).map(|(n, _)| receipt(n, &format!("{about} {n}"))).collect();
    for one in receipts {
        store.write(move |tx| inbox::accept_many(tx, std::slice::from_ref(&one))).await;
    }
    let claimed = store.claim(Lane::Inbound, 99, 1).await;
    assert_eq!(claimed.len(), says.len());
    let all = claimed.into_iter().zip(says).map(|(task, says)| Heard {
        receipt: task.subject.clone(),
        task,
        job_id: None,
        upstream_id: Some(about.to_owned()),
        says: says.clone(),
        unusable: false,
    });
    all.collect()
}

fn hearing(heard: &Heard) -> Hearing {
    let (says, upstream_id) = (heard.says.clone(), heard.upstream_id.clone());
    Hearing {
        receipt_id: heard.receipt.clone(),
        wire_version: 1,
        event_type: Some("avatar_video.success".to_owned()),
        job_id: heard.job_id.clone(),
        upstream_ids: heard.upstream_id.iter().cloned().collect(),
        observe: Box::new(move |_: Kind| Observation {
            found_by: FoundBy::Webhook,
            upstream_id: upstream_id.clone(),
            upstream_video_id: None,
            says: says.clone(),
        }),
        publish: true,
        stranger: None,
        unusable: heard.unusable.then(|| "not JSON".to_owned()),
    }
}

async fn observe(store: &Store, heard: &[Heard], n: u8) -> Counts {
    let heard = heard.to_vec();
    store
        .write(move |tx| {
            let batch: Vec<flow::Heard> = heard.iter().map(|h| (h.task.clone(), vec![hearing(h)])).collect();
            Ok(flow::observe_many(tx, &batch, &stamp(n))?.counts)
        })
        .await
}

/// The types of the events of our own, and of HeyGen's own.
async fn all_published(store: &Store) -> (Vec<String>, Vec<String>) {
    let events = store.read(|tx| event::list(tx, None, 0, 99)).await;
    events.into_iter().map(|e| e.event_type).partition(|name| !name.starts_with("heygen."))
}

async fn published(store: &Store) -> Vec<String> {
    all_published(store).await.0
}

async fn meaning(store: &Store, n: u32) -> String {
    let found = store.read(move |tx| inbox::find_many(tx, &[&id("rcp_", n)])).await;
    found[0].note.meaning.clone().expect("it was applied")
}

async fn a_success_ends_the_job_and_its_copies_are_nothing_new(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    store.add_task(&id("job_", 1), TaskKind::Poll, NOW).await;
    let heard = hear(&store, "vid_1", 0, &[file(), file(), file()]).await;
    let done = observe(&store, &heard, 1).await;
    assert_eq!(done, Counts { moved: 1, nothing_new: 2, ..Counts::default() });
    let job = store.job(&id("job_", 1)).await;
    assert_eq!((job.state, job.version), (State::Completed, 2));
    assert_eq!(job.details.found_by, Some(FoundBy::Webhook));
    let heygens = vec!["heygen.avatar_video.success".to_owned(); 3];
    assert_eq!(all_published(&store).await, (vec!["job.completed".to_owned()], heygens));
    let left = store.count("SELECT COUNT(*) FROM task WHERE kind = 'poll'").await;
    assert_eq!((left, store.count("SELECT COUNT(*) FROM task").await), (1, 1), "one, for what was left out");
    let asked_at = job.finished_at.map(|at| at + job.details.least_poll_ms);
    assert_eq!(store.due(&job.id, TaskKind::Poll).await, asked_at);
    assert_eq!(meaning(&store, 0).await, "moved the job from processing to completed");
    assert_eq!(meaning(&store, 2).await, "nothing new: the job is completed");
    let later = hear(&store, "vid_1", 10, &[failure(), file()]).await;
    assert_eq!(observe(&store, &later, 2).await, Counts { nothing_new: 2, ..Counts::default() });
    assert_eq!(store.job(&id("job_", 1)).await, job, "what comes late changes nothing");
}

async fn a_batch_in_any_order_ends_the_same(store: Store) {
    let said = [caption(), failure(), file()];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (n, order) in (1..).zip(orders) {
        store.insert_job(&job_in(State::Processing, n)).await;
        let says: Vec<Says> = order.iter().map(|i: &usize| said[*i].clone()).collect();
        let heard = hear(&store, &format!("vid_{n}"), n * 10, &says).await;
        observe(&store, &heard, u8::try_from(n).expect("small")).await;
        let job = store.job(&id("job_", n)).await;
        assert_eq!(job.state, State::Completed, "{order:?}");
        assert_eq!(job.details.output.caption_url.as_deref(), Some("https://c"), "{order:?}");
    }
    assert_eq!(published(&store).await, ["job.completed"; 6], "one terminal event each");
}

async fn several_jobs_of_a_batch_are_each_written_once(store: Store) {
    let mut heard = vec![];
    for n in 1..=3 {
        store.insert_job(&job_in(State::Processing, n)).await;
        heard.extend(hear(&store, &format!("vid_{n}"), n * 10, &[caption(), file()]).await);
    }
    heard.swap(0, 5);
    heard.swap(1, 3);
    assert_eq!(observe(&store, &heard, 1).await.moved, 6);
    for n in 1..=3 {
        let job = store.job(&id("job_", n)).await;
        assert_eq!((job.state, job.version), (State::Completed, 2));
    }
    let events = store.read(|tx| event::list(tx, None, 0, 99)).await;
    let numbers: Vec<i64> = events.iter().map(|e| e.number).collect();
    assert_eq!(numbers, (1..=9).collect::<Vec<_>>(), "of three jobs and six receipts");
    let mut ids: Vec<String> = events.into_iter().map(|e| e.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 9, "no two events of a batch share an id");
}

async fn a_failure_only_heard_makes_the_poll_due(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    store.add_task(&id("job_", 1), TaskKind::Poll, NOW + 900_000).await;
    let heard = hear(&store, "vid_1", 0, &[failure()]).await;
    assert_eq!(observe(&store, &heard, 1).await.moved, 1);
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Processing);
    assert_eq!(store.due(&id("job_", 1), TaskKind::Poll).await, Some(NOW));
    assert_eq!(published(&store).await, [""; 0]);
}

async fn a_stranger_is_parked_published_and_later_released(store: Store) {
    let heard = hear(&store, "vid_new", 0, &[file()]).await;
    assert_eq!(observe(&store, &heard, 1).await, Counts { parked: 1, ..Counts::default() });
    assert_eq!(all_published(&store).await, (vec![], vec!["heygen.avatar_video.success".to_owned()]));
    assert_eq!(store.claim(Lane::Inbound, 9, 2).await, [], "it waits, and nothing spins");
    store.insert_job(&job_in(State::Submitting, 1)).await;
    let accepted = Input::Accepted { upstream_id: "vid_new".to_owned(), upstream_video_id: None };
    store.write(move |tx| flow::change(tx, &id("job_", 1), accepted.clone(), &stamp(2))).await;
    let mut again = heard[0].clone();
    again.task = store.claim_one(Lane::Inbound, 3).await;
    assert_eq!(again.task.subject, again.receipt);
    assert_eq!(observe(&store, &[again], 3).await.moved, 1);
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Completed);
    assert_eq!(published(&store).await, ["job.processing", "job.completed"]);
}

/// An agent's receipt names its session and its video; v1 gave the job only the video.
async fn a_stranger_with_two_ids_is_released_by_either(store: Store) {
    for (n, learned) in [(1, "session"), (2, "video")] {
        let (session, video) = (format!("session_{n}"), format!("video_{n}"));
        let heard = hear(&store, &session, n * 10, &[Says::InProgress { progress: Some(7) }]).await.remove(0);
        let observe = |heard: Heard, video: String| {
            store.write(move |tx| {
                let mut both = hearing(&heard);
                both.upstream_ids.push(video.clone());
                Ok(flow::observe_many(tx, &[(heard.task.clone(), vec![both])], &stamp(1))?.counts)
            })
        };
        assert_eq!(observe(heard.clone(), video.clone()).await.parked, 1);
        store.insert_job(&job_in(State::Submitting, n)).await;
        let upstream_id = format!("{learned}_{n}");
        let accepted = Input::Accepted { upstream_id, upstream_video_id: None };
        store.write(move |tx| flow::change(tx, &id("job_", n), accepted.clone(), &stamp(2))).await;
        let task = store.claim_one(Lane::Inbound, 3).await;
        assert_eq!(observe(Heard { task, ..heard }, video).await.moved, 1, "{learned}");
        assert_eq!(store.job(&id("job_", n)).await.details.progress, Some(7));
    }
}

async fn an_id_learned_in_a_batch_makes_no_stranger_of_the_rest(store: Store) {
    for (n, named) in [(1, 0), (2, 1)] {
        store.insert_job(&job_in(State::Submitting, n)).await;
        let about = format!("vid_{n}");
        let mut heard = hear(
            &store,
            &about,
            n * 10,
            &[Says::InProgress { progress: None }, Says::InProgress { progress: None }],
        )
        .await;
        heard[1 - named].says = caption();
        // Only this one names our job; by it upstream's id is learned, before the other or behind it.
        heard[named].job_id = Some(id("job_", n));
        let done = observe(&store, &heard, u8::try_from(n).expect("small")).await;
        assert_eq!(done, Counts { moved: 2, ..Counts::default() });
        let job = store.job(&id("job_", n)).await;
        assert_eq!(job.details.output.caption_url.as_deref(), Some("https://c"));
    }
    assert_eq!(published(&store).await, ["job.processing"; 2]);
}

async fn a_parker_and_a_learner_that_race_never_miss_each_other(store: Store) {
    for n in 1..=10 {
        let about = format!("vid_{n}");
        store.insert_job(&job_in(State::Submitting, n)).await;
        let heard = hear(&store, &about, n * 10, &[file()]).await;
        let accepted = Input::Accepted { upstream_id: about, upstream_video_id: None };
        let learner = store.db.write(move |tx| flow::change(tx, &id("job_", n), accepted.clone(), &stamp(1)));
        let (_, learned) = futures_util::future::join(observe(&store, &heard, 2), learner).await;
        learned.expect("the id is stored");
        // Either it found the job, or it was parked and is due again.
        for task in store.claim(Lane::Inbound, 9, 2).await {
            let again = Heard { task, ..heard[0].clone() };
            observe(&store, &[again], 3).await;
        }
        assert_eq!(store.job(&id("job_", n)).await.state, State::Completed, "round {n}");
    }
}

async fn what_cannot_be_used_is_noted(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    let mut heard = hear(&store, "vid_1", 0, &[file(), caption()]).await;
    heard[0].unusable = true;
    let done = observe(&store, &heard, 1).await;
    assert_eq!(done, Counts { moved: 1, unusable: 1, ..Counts::default() });
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Processing);
    assert_eq!(meaning(&store, 0).await, "not JSON");
    assert_eq!(store.count("SELECT COUNT(*) FROM task WHERE kind = 'apply'").await, 0);
}

async fn without_its_lease_a_receipt_is_skipped(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    let heard = hear(&store, "vid_1", 0, &[file(), caption()]).await;
    store.write(|tx| task::claim(tx, Lane::Inbound, 1, LEASE, LEASE * 2, 99)).await;
    let done = observe(&store, &heard, 1).await;
    assert_eq!(done, Counts { moved: 1, lease_lost: 1, ..Counts::default() });
    let job = store.job(&id("job_", 1)).await;
    assert_eq!(job.state, State::Processing, "the success is for whoever holds it now");
    assert_eq!(
        store.count("SELECT COUNT(*) FROM inbox WHERE id NOT IN (SELECT receipt_id FROM receipt_note)").await,
        1
    );
    assert_eq!(store.count("SELECT COUNT(*) FROM task WHERE kind = 'apply'").await, 1);
}

async fn receipts_of_one_task_are_applied_or_skipped_together(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    let both = [receipt(1, "a"), receipt(2, "b")];
    store.write(move |tx| inbox::accept_many(tx, &both)).await;
    let ours = store.claim_one(Lane::Inbound, 1).await;
    let theirs = store.write(|tx| task::claim(tx, Lane::Inbound, 1, LEASE, LEASE * 2, 2)).await.remove(0);
    for (task, expected) in [
        (ours, Counts { lease_lost: 1, ..Counts::default() }),
        (theirs, Counts { moved: 2, ..Counts::default() }),
    ] {
        let counts = store.write(move |tx| {
            let hearings = task.subjects().zip([caption(), file()]).map(|(receipt, says)| {
                hearing(&Heard {
                    task: task.clone(),
                    receipt: receipt.to_owned(),
                    job_id: None,
                    upstream_id: Some("vid_1".to_owned()),
                    says,
                    unusable: false,
                })
            });
            let batch = [(task.clone(), hearings.collect())];
            Ok(flow::observe_many(tx, &batch, &stamp(1))?.counts)
        });
        assert_eq!(counts.await, expected);
    }
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Completed);
    assert_eq!(store.count("SELECT COUNT(*) FROM task WHERE kind = 'apply'").await, 0);
}

async fn our_own_id_goes_before_upstreams(store: Store) {
    store.insert_job(&job_in(State::Processing, 1)).await;
    store.insert_job(&job_in(State::Processing, 2)).await;
    let mut heard = hear(&store, "vid_1", 0, &[file()]).await;
    heard[0].job_id = Some(id("job_", 2));
    observe(&store, &heard, 1).await;
    assert_eq!(store.job(&id("job_", 1)).await.state, State::Processing);
    assert_eq!(store.job(&id("job_", 2)).await.state, State::Completed);
    let mut heard = hear(&store, "vid_1", 10, &[file()]).await;
    heard[0].job_id = Some("job_of_another_server".to_owned());
    observe(&store, &heard, 2).await;
    assert_eq!(
        store.job(&id("job_", 1)).await.state,
        State::Completed,
        "one we do not have is no reason to park"
    );
}

async fn runs_about_one_job_each_end_together(store: Store) {
    for n in 1..=3 {
        store.insert_job(&job_in(State::Processing, n)).await;
        store.add_task(&id("job_", n), TaskKind::Poll, NOW).await;
    }
    let mut polls = store.claim(Lane::Poll, 9, 1).await;
    let lost = polls.remove(0);
    store.write(move |tx| task::settle(tx, &lost, &Outcome::Done, NOW)).await;
    let mut all = store.claim(Lane::Poll, 9, 1).await;
    assert!(all.is_empty(), "all are claimed");
    all.extend(polls);
    all.push(Claimed { subject: id("job_", 1), token: 99, ..all[0].clone() });
    let again = Outcome::Snooze { until: NOW + 5, lane: None };
    let seen = |says| {
        Input::Observed(Observation {
            found_by: FoundBy::Poll,
            upstream_id: None,
            upstream_video_id: None,
            says,
        })
    };
    let inputs = [seen(file()), seen(Says::InProgress { progress: None }), seen(file())];
    let (mut jobs, lost) = store
        .write(move |tx| {
            let ends: Vec<_> =
                all.iter().zip(&inputs).map(|(task, input)| (task, &again, Some(input))).collect();
            flow::conclude_many(tx, &ends, &stamp(1))
        })
        .await;
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    let states: Vec<_> = jobs.iter().map(|job| (job.id.clone(), job.state)).collect();
    assert_eq!(states, [(id("job_", 2), State::Completed), (id("job_", 3), State::Processing)]);
    assert_eq!(lost, 1);
    assert_eq!(
        store.job(&id("job_", 1)).await.state,
        State::Processing,
        "without a lease nothing is recorded"
    );
    assert_eq!(store.job(&id("job_", 3)).await.details.asked.times, 1);
    assert_eq!(published(&store).await, ["job.completed"]);
    assert_eq!(store.due(&id("job_", 2), TaskKind::Poll).await, None);
    assert_eq!(store.due(&id("job_", 3), TaskKind::Poll).await, Some(NOW + 5));
}
