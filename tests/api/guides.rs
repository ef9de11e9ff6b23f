//! What the integration guides promise their readers, row by row of the compatibility table. The
//! name of a case begins with its guide.

use serde_json::json;

use crate::app::{TestApp, cases, signed};
use crate::database::Fresh;

/// The addresses readers of the guides have registered, and our own.
const PATHS: [&str; 5] = [
    "/webhooks/heygen",
    "/api/webhooks/heygen",
    "/api/webhook/heygen",
    "/webhook/heygen",
    "/api/heygen/callback",
];

cases! {
    guide_000_the_callers_hear_from_the_webhook_first,
    guide_001_options_head_and_get_answer_200_without_a_key,
}

async fn guide_000_the_callers_hear_from_the_webhook_first(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "all goes well").await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing");
    app.advance_s(10).await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "completed");
    assert_eq!(job["found_by"], "webhook");
    assert_eq!(app.charges(&id), 1);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}

async fn guide_001_options_head_and_get_answer_200_without_a_key(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.post("/api/keys", &json!({})).await.expect(201);
    for path in PATHS {
        for method in ["OPTIONS", "HEAD", "GET"] {
            app.call(method, path, &[], "").await.expect(200);
        }
        let body = b"{}";
        app.call("POST", path, &[("signature", &signed("x", body))], &body[..]).await.problem(503, "no_webhook_secret");
    }
}
