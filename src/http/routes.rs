//! One table of routes: it makes the router, and with the words beside each route the OpenAPI
//! document. A route that is not here does not exist.

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, patch, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Http, adopt, answer, audit, auth, dead_letters, deliveries, doctor, endpoints, events, groups, hook,
    jobs, keys, ops, query, receipts, stream, upstream, videos, webhooks,
};

/// A route as the API description shows it.
pub struct Doc {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    /// Names of query parameters and what they take.
    pub query: &'static [(&'static str, &'static str)],
    /// The schema of the request's body, by name.
    pub body: Option<&'static str>,
    /// Status and schema of the success.
    pub answer: (u16, Option<&'static str>),
    /// Other successes.
    pub also: &'static [(u16, Option<&'static str>)],
    /// Whether an API key is needed.
    pub keyed: bool,
    /// Whether a link token of the job does as well.
    pub linked: bool,
}

const fn doc(method: &'static str, path: &'static str, summary: &'static str) -> Doc {
    Doc {
        method,
        path,
        summary,
        query: &[],
        body: None,
        answer: (200, None),
        also: &[],
        keyed: true,
        linked: false,
    }
}

const PAGE: [(&str, &str); 2] =
    [("limit", "Rows of a page, 1 to 200; 50 by default."), ("cursor", "`next_cursor` of the page before.")];
const WAIT: [(&str, &str); 1] = [(
    "wait",
    "Seconds to wait for the end, 0 to 60; 202 when it has not come by then. `Prefer: wait=30` does the same.",
)];
const SUBMIT: [(&str, &str); 2] = [
    WAIT[0],
    (
        "dry_run",
        "`true`: store and send nothing; answer 200 with the `kind`, `method`, `path` and `body` of the call to HeyGen, and with the `errors` of a check that was left out.",
    ),
];
const SUBMIT_GROUP: [(&str, &str); 2] = [
    WAIT[0],
    (
        "dry_run",
        "`true`: store and send nothing; answer 200 with how many `jobs` there would be, their `cost` if it is known, and the `first`.",
    ),
];
const JOB_LIST: [(&str, &str); 10] = [
    PAGE[0],
    PAGE[1],
    ("state", "Only jobs in this state."),
    ("kind", "Only jobs of this kind."),
    ("callback_id", "Only jobs with this callback id of yours."),
    ("group", "Only jobs of this group."),
    ("label", "Only jobs with this label, as NAME:VALUE."),
    ("created_after", "Only jobs made after this RFC 3339 time."),
    ("created_before", "Only jobs made before this RFC 3339 time."),
    ("q", "Only jobs with this text in an id, a title, a label or a failure."),
];
const RECEIPT_LIST: [(&str, &str); 3] =
    [PAGE[0], PAGE[1], ("verdict", "Only receipts judged so: signed, unsigned, refused, logged.")];

const DELIVERY_LIST: [(&str, &str); 5] = [
    PAGE[0],
    PAGE[1],
    ("endpoint_id", "Only deliveries to this endpoint."),
    ("job_id", "Only deliveries about this job."),
    ("state", "Only deliveries that stand so: pending, delivered, dead."),
];
const DEAD_LETTERS: [(&str, &str); 6] = [
    ("task", "Only those of this kind of task: deliver, apply, …"),
    ("cause", "Only those of this cause, such as `answers_401:app.example`."),
    ("endpoint_id", "Only deliveries to this endpoint."),
    ("job_id", "Only what is about this job."),
    ("since", "Only those given up at this RFC 3339 time or later."),
    ("until", "Only those given up before this RFC 3339 time."),
];
const DEAD_LETTER_LIST: [(&str, &str); 8] = [
    PAGE[0],
    PAGE[1],
    DEAD_LETTERS[0],
    DEAD_LETTERS[1],
    DEAD_LETTERS[2],
    DEAD_LETTERS[3],
    DEAD_LETTERS[4],
    DEAD_LETTERS[5],
];
const DRY_RUN: [(&str, &str); 1] =
    [("dry_run", "`true`: do nothing; answer 200 with how many fit, by their causes.")];
const SINCE: (&str, &str) = (
    "since",
    "Begin behind this event, by its `id` in the stream or its number, with what was published at this RFC 3339 time, a span such as `10m` ago, or with `all` that is kept; by default with what is published from now on. The header `Last-Event-ID`, which browsers send when they come back, goes before it.",
);
const FORMAT: (&str, &str) = (
    "format",
    "`sse` or `ndjson`: server-sent events, or the same as one JSON document a line, which `Accept: application/x-ndjson` asks for, too.",
);
const STREAM: [(&str, &str); 5] = [
    SINCE,
    FORMAT,
    (
        "events",
        "Only these, with commas: types such as job.completed, families such as job.* and heygen.*, or `*` for all but HeyGen's own; that is the default.",
    ),
    ("kinds", "Only events of jobs of these kinds, with commas."),
    ("labels", "Only events of jobs with all of these labels, as NAME:VALUE with commas."),
];
const JOB_STREAM: [(&str, &str); 2] = [SINCE, FORMAT];
const TEST_WAIT: [(&str, &str); 1] = [("wait", "Seconds to wait for the receiver's answer, 0 to 60.")];

/// Everything under `/api` and beside it, but for the webhook door, whose addresses are in `hook`.
pub const TABLE: &[Doc] = &[
    Doc {
        query: &SUBMIT,
        body: Some("NewJob"),
        answer: (202, Some("JobOrGroup")),
        also: &[(200, Some("EndedOrDryRun"))],
        ..doc("post", "/api/jobs", "Submit a job. `Idempotency-Key` makes it safe to repeat.")
    },
    Doc {
        query: &JOB_LIST,
        answer: (200, Some("JobPage")),
        ..doc("get", "/api/jobs", "List jobs, newest first.")
    },
    Doc {
        query: &WAIT,
        answer: (200, Some("Job")),
        also: &[(202, Some("Job")), (304, None)],
        linked: true,
        ..doc("get", "/api/jobs/{id}", "One job, by reelhook's id or HeyGen's.")
    },
    Doc {
        answer: (200, Some("Job")),
        ..doc("post", "/api/jobs/{id}/cancel", "Cancel a job that was not sent yet.")
    },
    Doc {
        answer: (202, Some("Job")),
        ..doc("post", "/api/jobs/{id}/refresh", "Ask HeyGen now how the job stands.")
    },
    Doc {
        body: Some("Retry"),
        answer: (202, Some("Job")),
        ..doc(
            "post",
            "/api/jobs/{id}/retry",
            "Make a new job from one that failed, was canceled or is unknown.",
        )
    },
    Doc {
        body: Some("Adopt"),
        answer: (200, Some("AdoptedPage")),
        ..doc("post", "/api/jobs/adopt", "Make jobs of one page of what HeyGen has and we did not submit.")
    },
    Doc {
        query: &SUBMIT_GROUP,
        body: Some("NewGroup"),
        answer: (202, Some("Group")),
        also: &[(200, Some("EndedOrDryRun"))],
        ..doc("post", "/api/groups", "Submit many jobs together: a template, and rows to fill it with.")
    },
    Doc {
        query: &PAGE,
        answer: (200, Some("GroupPage")),
        ..doc("get", "/api/groups", "List groups, newest first.")
    },
    Doc {
        query: &WAIT,
        answer: (200, Some("Group")),
        also: &[(202, Some("Group"))],
        ..doc("get", "/api/groups/{id}", "One group, with its jobs counted by state.")
    },
    Doc {
        answer: (200, Some("CanceledGroup")),
        ..doc("post", "/api/groups/{id}/cancel", "Cancel the jobs of a group that were not sent yet.")
    },
    Doc {
        body: Some("Retry"),
        answer: (202, Some("RetriedGroup")),
        ..doc(
            "post",
            "/api/groups/{id}/retry-failed",
            "Make a new group of the jobs that failed or expired, each retried once.",
        )
    },
    Doc { answer: (200, Some("Job")), ..doc("post", "/api/jobs/{id}/approve", "Let a held job go.") },
    Doc {
        body: Some("Reject"),
        answer: (200, Some("Job")),
        ..doc("post", "/api/jobs/{id}/reject", "End a held job.")
    },
    Doc {
        query: &PAGE,
        answer: (200, Some("EventPage")),
        ..doc("get", "/api/jobs/{id}/events", "What was published about a job, oldest first.")
    },
    Doc {
        query: &JOB_STREAM,
        answer: (200, Some("Stream")),
        also: &[(204, None)],
        linked: true,
        ..doc(
            "get",
            "/api/jobs/{id}/stream",
            "How a job stands, then its events as they happen, until it has ended.",
        )
    },
    Doc {
        body: Some("NewLink"),
        answer: (201, Some("Link")),
        ..doc(
            "post",
            "/api/jobs/{id}/link-token",
            "Make a token by which a browser may see this job for some minutes.",
        )
    },
    Doc {
        query: &RECEIPT_LIST,
        answer: (200, Some("ReceiptPage")),
        ..doc("get", "/api/jobs/{id}/receipts", "The webhooks that concerned a job, newest first.")
    },
    Doc {
        answer: (200, Some("Video")),
        linked: true,
        ..doc("get", "/api/videos/{id}", "The small status object a player polls.")
    },
    Doc {
        query: &PAGE,
        answer: (200, Some("EventPage")),
        ..doc("get", "/api/events", "The whole event log, oldest first.")
    },
    Doc { answer: (200, Some("Event")), ..doc("get", "/api/events/{id}", "One event, by its number or id.") },
    Doc {
        query: &STREAM,
        answer: (200, Some("Stream")),
        ..doc("get", "/api/stream", "The event log as it grows.")
    },
    Doc {
        query: &RECEIPT_LIST,
        answer: (200, Some("ReceiptPage")),
        ..doc("get", "/api/receipts", "Webhooks as they arrived, newest first.")
    },
    Doc {
        answer: (200, Some("WholeReceipt")),
        ..doc("get", "/api/receipts/{id}", "One webhook: bytes, signature check, meaning.")
    },
    Doc {
        answer: (200, Some("EndpointPage")),
        ..doc("get", "/api/endpoints", "The endpoints that are sent events, newest first.")
    },
    Doc {
        body: Some("NewEndpoint"),
        answer: (201, Some("FreshEndpoint")),
        ..doc("post", "/api/endpoints", "Have events sent to an address; its signing secret is shown once.")
    },
    Doc { answer: (200, Some("Endpoint")), ..doc("get", "/api/endpoints/{id}", "One endpoint.") },
    Doc {
        body: Some("EndpointChange"),
        answer: (200, Some("Endpoint")),
        ..doc("patch", "/api/endpoints/{id}", "Change what is named of an endpoint.")
    },
    Doc {
        answer: (204, None),
        ..doc("delete", "/api/endpoints/{id}", "Remove an endpoint; what waits for it is given up.")
    },
    Doc {
        body: Some("RotateSecret"),
        answer: (200, Some("FreshEndpoint")),
        ..doc(
            "post",
            "/api/endpoints/{id}/rotate",
            "Get a new signing secret; the old one signs on for a while.",
        )
    },
    Doc {
        query: &TEST_WAIT,
        answer: (202, Some("Delivery")),
        also: &[(200, Some("Delivery"))],
        ..doc("post", "/api/endpoints/{id}/test", "Send a test event, also to an endpoint that is disabled.")
    },
    Doc {
        answer: (200, Some("Endpoint")),
        ..doc("post", "/api/endpoints/{id}/enable", "Send events to a disabled endpoint again, after a test.")
    },
    Doc {
        query: &DELIVERY_LIST,
        answer: (200, Some("DeliveryPage")),
        ..doc("get", "/api/deliveries", "Events on their way, and how it went, newest first.")
    },
    Doc {
        answer: (200, Some("Delivery")),
        ..doc("get", "/api/deliveries/{id}", "One delivery with its attempts.")
    },
    Doc {
        answer: (202, Some("Delivery")),
        ..doc(
            "post",
            "/api/deliveries/{id}/replay",
            "Send it once more, however it ended: same event, id, body.",
        )
    },
    Doc {
        body: Some("ReplayDeliveries"),
        answer: (202, Some("Replay")),
        ..doc(
            "post",
            "/api/deliveries/replay",
            "Make due all that an endpoint has not taken, so many a second: what was given up, and what waits.",
        )
    },
    Doc {
        query: &DEAD_LETTER_LIST,
        answer: (200, Some("DeadLetterPage")),
        ..doc("get", "/api/dead-letters", "What was given up, the latest first.")
    },
    Doc {
        query: &DEAD_LETTERS,
        answer: (200, Some("CausePage")),
        ..doc(
            "get",
            "/api/dead-letters/causes",
            "The same by cause, with what to do; the most frequent first.",
        )
    },
    Doc {
        answer: (200, Some("DeadLetter")),
        ..doc("get", "/api/dead-letters/{id}", "One dead letter, by the id of what it is about.")
    },
    Doc {
        query: &DRY_RUN,
        body: Some("ReplayDeadLetters"),
        answer: (202, Some("Replay")),
        also: &[(200, Some("DeadLetterDryRun"))],
        ..doc("post", "/api/dead-letters/replay", "Make dead letters due again, so many a second.")
    },
    Doc {
        query: &DRY_RUN,
        body: Some("DropDeadLetters"),
        answer: (200, Some("DropOrDryRun")),
        ..doc("post", "/api/dead-letters/drop", "Let go of dead letters; what they were about stays.")
    },
    Doc {
        query: &PAGE,
        answer: (200, Some("ReplayPage")),
        ..doc("get", "/api/replays", "List replays, newest first.")
    },
    Doc {
        query: &WAIT,
        answer: (200, Some("Replay")),
        also: &[(202, Some("Replay"))],
        ..doc("get", "/api/replays/{id}", "One replay, and how far it is.")
    },
    Doc {
        answer: (200, Some("Replay")),
        ..doc("post", "/api/replays/{id}/stop", "Stop a replay; what it has not reached stays dead.")
    },
    Doc {
        query: &PAGE,
        answer: (200, Some("AuditPage")),
        ..doc("get", "/api/audit", "Who replayed, dropped or stopped what, newest first.")
    },
    Doc {
        answer: (200, Some("Upstream")),
        ..doc("get", "/api/upstream", "Slots in use at HeyGen, and what holds submission up.")
    },
    Doc {
        body: Some("Pause"),
        answer: (200, Some("Upstream")),
        ..doc("post", "/api/upstream/pause", "Send no job to HeyGen until `resume`; jobs wait.")
    },
    Doc {
        answer: (200, Some("Upstream")),
        ..doc("post", "/api/upstream/resume", "End a pause of submission, whoever began it.")
    },
    Doc {
        answer: (200, Some("WebhookPage")),
        ..doc("get", "/api/webhooks", "The endpoints registered at HeyGen.")
    },
    Doc {
        body: Some("Register"),
        answer: (201, Some("Registered")),
        also: &[(200, Some("Registered"))],
        ..doc("post", "/api/webhooks", "Register this server at HeyGen, or update its endpoint.")
    },
    Doc {
        answer: (200, Some("Rotated")),
        ..doc("post", "/api/webhooks/{id}/rotate", "Get a new secret for an endpoint.")
    },
    Doc { answer: (204, None), ..doc("delete", "/api/webhooks/{id}", "Remove an endpoint at HeyGen.") },
    Doc { answer: (200, Some("KeyPage")), ..doc("get", "/api/keys", "List API keys.") },
    Doc {
        body: Some("NewKey"),
        answer: (201, Some("FreshKey")),
        ..doc("post", "/api/keys", "Make an API key; its text is shown once.")
    },
    Doc { answer: (204, None), ..doc("delete", "/api/keys/{id}", "Revoke an API key.") },
    Doc {
        answer: (200, Some("Doctor")),
        ..doc("get", "/api/doctor", "What is wrong, and what to do about it.")
    },
    Doc { keyed: false, ..doc("get", "/api/openapi.json", "This description.") },
    Doc { keyed: false, ..doc("get", "/errors", "What each error means, as Markdown.") },
    Doc { keyed: false, ..doc("get", "/livez", "Whether the process lives.") },
    Doc { keyed: false, ..doc("get", "/readyz", "Whether the store answers and has room.") },
    Doc { keyed: false, answer: (200, Some("Version")), ..doc("get", "/version", "Version and store.") },
    Doc { keyed: false, ..doc("get", "/metrics", "Figures, as OpenMetrics text.") },
];

/// The handlers of a route of the table.
fn handler(method: &str, path: &str) -> Option<MethodRouter<Http>> {
    Some(match (method, path) {
        ("post", "/api/jobs") => post(jobs::submit),
        ("get", "/api/jobs") => get(jobs::list),
        ("get", "/api/jobs/{id}") => get(jobs::get),
        ("post", "/api/jobs/{id}/cancel") => post(jobs::cancel),
        ("post", "/api/jobs/{id}/refresh") => post(jobs::refresh),
        ("post", "/api/jobs/{id}/retry") => post(jobs::retry),
        ("post", "/api/jobs/adopt") => post(adopt::adopt),
        ("post", "/api/groups") => post(groups::submit),
        ("get", "/api/groups") => get(groups::list),
        ("get", "/api/groups/{id}") => get(groups::get),
        ("post", "/api/groups/{id}/cancel") => post(groups::cancel),
        ("post", "/api/groups/{id}/retry-failed") => post(groups::retry_failed),
        ("post", "/api/jobs/{id}/approve") => post(jobs::approve),
        ("post", "/api/jobs/{id}/reject") => post(jobs::reject),
        ("get", "/api/jobs/{id}/events") => get(jobs::events),
        ("get", "/api/jobs/{id}/stream") => get(stream::of_job),
        ("post", "/api/jobs/{id}/link-token") => post(jobs::link_token),
        ("get", "/api/jobs/{id}/receipts") => get(jobs::receipts_of),
        ("get", "/api/videos/{id}") => get(videos::get),
        ("get", "/api/events") => get(events::list),
        ("get", "/api/events/{id}") => get(events::get),
        ("get", "/api/stream") => get(stream::all),
        ("get", "/api/receipts") => get(receipts::list),
        ("get", "/api/receipts/{id}") => get(receipts::get),
        ("get", "/api/endpoints") => get(endpoints::list),
        ("post", "/api/endpoints") => post(endpoints::add),
        ("get", "/api/endpoints/{id}") => get(endpoints::get),
        ("patch", "/api/endpoints/{id}") => patch(endpoints::update),
        ("delete", "/api/endpoints/{id}") => delete(endpoints::remove),
        ("post", "/api/endpoints/{id}/rotate") => post(endpoints::rotate),
        ("post", "/api/endpoints/{id}/test") => post(endpoints::test),
        ("post", "/api/endpoints/{id}/enable") => post(endpoints::enable),
        ("get", "/api/deliveries") => get(deliveries::list),
        ("get", "/api/deliveries/{id}") => get(deliveries::get),
        ("post", "/api/deliveries/{id}/replay") => post(deliveries::replay),
        ("post", "/api/deliveries/replay") => post(deliveries::replay_untaken),
        ("get", "/api/dead-letters") => get(dead_letters::list),
        ("get", "/api/dead-letters/causes") => get(dead_letters::causes),
        ("get", "/api/dead-letters/{id}") => get(dead_letters::get),
        ("post", "/api/dead-letters/replay") => post(dead_letters::replay),
        ("post", "/api/dead-letters/drop") => post(dead_letters::drop),
        ("get", "/api/replays") => get(dead_letters::replays),
        ("get", "/api/replays/{id}") => get(dead_letters::get_replay),
        ("post", "/api/replays/{id}/stop") => post(dead_letters::stop_replay),
        ("get", "/api/audit") => get(audit::list),
        ("get", "/api/upstream") => get(upstream::get),
        ("post", "/api/upstream/pause") => post(upstream::pause),
        ("post", "/api/upstream/resume") => post(upstream::resume),
        ("get", "/api/webhooks") => get(webhooks::list),
        ("post", "/api/webhooks") => post(webhooks::register),
        ("post", "/api/webhooks/{id}/rotate") => post(webhooks::rotate),
        ("delete", "/api/webhooks/{id}") => delete(webhooks::remove),
        ("get", "/api/keys") => get(keys::list),
        ("post", "/api/keys") => post(keys::create),
        ("delete", "/api/keys/{id}") => delete(keys::revoke),
        ("get", "/api/doctor") => get(doctor::get),
        ("get", "/api/openapi.json") => get(ops::openapi_json),
        ("get", "/errors") => get(ops::errors),
        ("get", "/livez") => get(ops::livez),
        ("get", "/readyz") => get(ops::readyz),
        ("get", "/version") => get(ops::version),
        ("get", "/metrics") => get(ops::metrics),
        _ => return None,
    })
}

pub fn router(http: Http) -> Router {
    let (mut keyed, mut linked) = (Router::new(), Router::new());
    let mut open = Router::new().route("/", get(ops::root));
    for doc in TABLE {
        // A test calls every route of the table, so a missing handler is found there.
        let Some(handler) = handler(doc.method, doc.path) else { continue };
        let takes_none = doc.keyed && doc.query.is_empty();
        let handler =
            if takes_none { handler.route_layer(middleware::from_fn(query::none)) } else { handler };
        let side = match (doc.keyed, doc.linked) {
            (false, _) => &mut open,
            (true, false) => &mut keyed,
            (true, true) => &mut linked,
        };
        *side = std::mem::take(side).route(doc.path, handler);
    }
    let keyed = keyed.layer(middleware::from_fn_with_state(http.clone(), auth::require));
    let linked = linked.layer(middleware::from_fn_with_state(http.clone(), auth::require_or_link));
    for path in hook::PATHS {
        let door = post(hook::receive).get(hook::probe).options(hook::probe);
        open = open.route(path, door.clone()).route(&format!("{path}/"), door);
    }
    let own = post(hook::receive_for_job).get(hook::probe).options(hook::probe);
    open = open.route(hook::JOB_PATH, own);
    open.merge(keyed)
        .merge(linked)
        .method_not_allowed_fallback(ops::wrong_method)
        .fallback(any(ops::no_route))
        .layer(CatchPanicLayer::custom(ops::panicked))
        .layer(middleware::from_fn_with_state(http.clone(), answer::complete))
        .with_state(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_has_a_handler_and_stands_once() {
        for (nth, doc) in TABLE.iter().enumerate() {
            assert!(handler(doc.method, doc.path).is_some(), "{} {}", doc.method, doc.path);
            let again = TABLE[nth + 1..].iter().any(|d| (d.method, d.path) == (doc.method, doc.path));
            assert!(!again, "{} {} stands twice", doc.method, doc.path);
        }
    }
}
