//! What holds for every kind of job, over the table of kinds, so that the next kind is tested by being
//! in it: sent where HeyGen takes it, ended by what is told or asked, never paid twice.

use reelhook::domain::job::{Kind, Output};
use reelhook::heygen::kinds::{self, Repeat};
use reelhook::heygen::sandbox::{Fault, What};
use serde_json::{Value, json};

use crate::app::{TestApp, cases, request};
use crate::database::Fresh;

cases! {
    every_kind_ends_by_what_it_is_told,
    every_kind_ends_by_asking_when_the_webhook_is_lost,
    every_kind_that_fails_upstream_fails_in_heygens_words,
    every_kind_goes_out_as_its_table_says,
    a_lost_answer_is_asked_for_again_only_where_heygen_knows_it,
    a_person_decides_where_it_does_not,
    a_lipsync_is_told_by_its_callback_alone,
    a_cinematic_video_is_not_waited_for_where_nobody_tells_of_it,
    what_is_made_is_shown_by_its_kind,
}

/// Kinds whose events carry the file and so end the job by themselves.
const SHOWN: [Kind; 6] = [
    Kind::Video,
    Kind::VideoAgent,
    Kind::Translation,
    Kind::ProofreadVideo,
    Kind::Template,
    Kind::AiClipping,
];

async fn every_kind_ends_by_what_it_is_told(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in Kind::ALL {
        let id = app.submit(kind.name(), "told").await;
        // Less than any kind is expected to take: a poll alone would be later, but where nothing is
        // told it begins at once.
        app.advance_s(60).await;
        let job = app.job(&id).await;
        let found_by = if SHOWN.contains(&kind) { "webhook" } else { "poll" };
        assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!(found_by)), "{job}");
        let result: Output = serde_json::from_value(job["result"].clone()).expect("a result");
        assert_eq!(result.has_file(kind), kind.makes_file(), "{job}");
        assert_eq!(app.charges(&id), 1, "{kind:?}");
    }
}

async fn every_kind_ends_by_asking_when_the_webhook_is_lost(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in Kind::ALL {
        app.sandbox.script_next(vec![Fault::Lost]);
        let id = app.submit(kind.name(), "lost").await;
        let usual_s = u64::try_from(kind.usual_time() / 1_000).expect("a time");
        app.advance_s(usual_s + 60).await;
        let job = app.job(&id).await;
        assert_eq!(job["state"], "completed", "{job}");
        // The event log is read every hour, which passes here, too.
        assert!(["poll", "event_log"].contains(&job["found_by"].as_str().unwrap()), "{job}");
        assert_eq!(app.charges(&id), 1, "{kind:?}");
    }
}

async fn every_kind_that_fails_upstream_fails_in_heygens_words(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in Kind::ALL {
        app.sandbox.script_next(vec![Fault::Fail]);
        let id = app.submit(kind.name(), "fails").await;
        app.advance_s(60).await;
        let job = app.job(&id).await;
        // A failure that is only heard is asked for, so all are found by asking.
        assert_eq!((&job["state"], &job["found_by"]), (&json!("failed"), &json!("poll")), "{job}");
        // A session of the agent says why in its messages, which are for its own people.
        let words = &job["failure"]["message"];
        let said = words.as_str().is_some_and(|w| w.contains("could not be rendered"));
        assert!(said || kind == Kind::VideoAgent, "{kind:?}: {words}");
        assert_eq!(app.charges(&id), 1, "{kind:?}");
    }
}

/// Path, key and body hash of the create call that was accepted last.
fn accepted(app: &TestApp) -> (String, Option<String>, String) {
    let found = app.sandbox.ledger().into_iter().rev().find_map(|e| match e.what {
        What::Accepted { route, key, body_hash, .. } => Some((route, key, body_hash)),
        _ => None,
    });
    found.expect("an accepted call")
}

async fn every_kind_goes_out_as_its_table_says(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    // By hand, and not from the table: where docs/heygen.md, Creating has them.
    let paths = [
        (Kind::Video, "/v3/videos", true),
        (Kind::VideoAgent, "/v3/video-agents", true),
        (Kind::Translation, "/v3/video-translations", true),
        (Kind::Template, "/v3/templates/tmpl_1", true),
        (Kind::Lipsync, "/v3/lipsyncs", true),
        (Kind::AiClipping, "/v3/ai-clipping", true),
        (Kind::BackgroundRemoval, "/v3/background-removals", false),
        (Kind::Avatar, "/v3/avatars", false),
        (Kind::VoiceClone, "/v3/voices/clone", false),
        (Kind::Proofread, "/v3/video-translations/proofreads", false),
        (Kind::ProofreadVideo, "/v3/video-translations/proofreads/prf_1/generate", true),
    ];
    assert_eq!(paths.len(), Kind::ALL.len());
    for (kind, path, callback) in paths {
        let id = app.submit(kind.name(), "goes out").await;
        app.settle().await;
        let (route, key, hash) = accepted(&app);
        assert_eq!((&*route, key), (path, Some(format!("{id}-0"))));
        let mut body = request(kind.name(), "goes out");
        for in_path in ["template_id", "proofread_id"] {
            body.as_object_mut().expect("a body").shift_remove(in_path);
        }
        if callback {
            body["callback_id"] = json!(id);
        }
        if kind == Kind::BackgroundRemoval {
            body["request_id"] = json!(format!("{id}-0"));
        }
        if kind != Kind::Lipsync {
            assert_eq!(hash, crate::submit::sha256(body.to_string().as_bytes()), "{kind:?}: {body}");
        }
        app.advance_s(60).await;
    }
}

async fn a_lost_answer_is_asked_for_again_only_where_heygen_knows_it(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in Kind::ALL {
        app.sandbox.script_next(vec![Fault::ResetAfter]);
        let id = app.submit(kind.name(), "lost answer").await;
        app.advance_s(120).await;
        let job = app.job(&id).await;
        let repeats = kinds::route(kind).repeat != Repeat::Never;
        assert_eq!(app.keys_sent(&id).len(), if repeats { 2 } else { 1 }, "{kind:?}: calls");
        assert_eq!(app.charges(&id), 1, "{kind:?}");
        // A webhook with our id confirms what no answer did.
        let confirmed = repeats || kinds::route(kind).callback;
        assert_eq!(job["state"], if confirmed { "completed" } else { "unknown" }, "{job}");
    }
}

async fn a_person_decides_where_it_does_not(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in Kind::ALL.into_iter().filter(|kind| kinds::route(*kind).repeat == Repeat::Never) {
        app.sandbox.script_next(vec![Fault::Error500]);
        let id = app.submit(kind.name(), "open").await;
        app.advance_s(3_600).await;
        let job = app.job(&id).await;
        assert_eq!(job["state"], "unknown", "{job}");
        let note = job["note"].as_str().expect("a note");
        assert!(note.contains("500") && note.contains("accept_second_charge"), "what and what to do: {note}");
        assert_eq!(app.keys_sent(&id).len(), 1, "{kind:?}: never sent again");
        let unknown = app.get("/api/jobs?state=unknown").await.json();
        assert_eq!(unknown["data"][0]["id"], id.as_str(), "it is found");
        let retry = format!("/api/jobs/{id}/retry");
        app.post(&retry, &json!({})).await.problem(409, "second_charge");
        let new = app.post(&retry, &json!({"accept_second_charge": true})).await.expect(202).json();
        app.advance_s(60).await;
        assert_eq!(app.state(new["id"].as_str().expect("an id")).await, "completed");
        // Its own end comes with its deadline, and says that it may have been charged.
        app.advance_s(24 * 3_600).await;
        let job = app.job(&id).await;
        assert_eq!(job["failure"]["code"], "outcome_unknown", "{job}");
    }
}

/// HeyGen has no event of a lipsync: where an endpoint is registered, its job is given an address of its
/// own all the same, and what comes there makes us ask.
async fn a_lipsync_is_told_by_its_callback_alone(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for kind in [Kind::Lipsync, Kind::Template] {
        let id = app.submit(kind.name(), "told").await;
        app.advance_s(30).await;
        let urls: Vec<String> = app
            .sandbox
            .ledger()
            .into_iter()
            .filter_map(|e| match e.what {
                What::Webhook { url, callback_id, .. } if callback_id.as_deref() == Some(&id) => Some(url),
                _ => None,
            })
            .collect();
        let address = app.address(&id);
        assert_eq!(urls.len(), 1, "{urls:?}");
        assert_eq!(urls[0].ends_with(&address), kind == Kind::Lipsync, "{urls:?}");
        assert_eq!(app.state(&id).await, "completed");
    }
}

/// Its create call takes no callback: without a registered endpoint only polls find its end.
async fn a_cinematic_video_is_not_waited_for_where_nobody_tells_of_it(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let request = json!({"type": "cinematic_avatar", "prompt": "A dune", "avatar_id": ["look"]});
    let body = json!({"kind": "video", "request": request});
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    app.advance_s(60).await;
    let job = app.job(job["id"].as_str().expect("an id")).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("poll")));
}

async fn what_is_made_is_shown_by_its_kind(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut made = async |kind: Kind| -> Value {
        let id = app.submit(kind.name(), "made").await;
        app.advance_s(60).await;
        app.job(&id).await
    };
    let layers = made(Kind::BackgroundRemoval).await["result"]["layers"].clone();
    let names: Vec<&String> = layers.as_object().expect("layers").keys().collect();
    assert_eq!(names, ["foreground", "mask"]);
    let clips = made(Kind::AiClipping).await["result"]["clips"].clone();
    let clips = clips.as_array().expect("clips");
    assert_eq!(clips.len(), 2);
    assert!(clips[0]["video_url"].is_string() && clips[0]["virality_score"].is_number());
    for kind in [Kind::Avatar, Kind::VoiceClone, Kind::Proofread] {
        let job = made(kind).await;
        assert_eq!(job["result"], json!({}), "no file; what was made has HeyGen's id");
        assert!(job["upstream_id"].is_string(), "{job}");
    }
    // A late look brings no other end.
    let id = app.submit("avatar", "again").await;
    app.advance_s(60).await;
    app.post(&format!("/api/jobs/{id}/refresh"), &json!({})).await.expect(202);
    app.advance_s(60).await;
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}
