//! The routes as the API description shows them: what each is for, takes and answers. Their handlers are in
//! `routes.rs`.

use super::super::dead_letters;

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

pub const PAGE: [(&str, &str); 2] =
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
const POLL: (&str, &str) =
    ("poll", "`true`: end with `live`, once everything was told that is there, and do not wait for more.");
const STREAM: [(&str, &str); 6] = [
    SINCE,
    FORMAT,
    POLL,
    (
        "events",
        "Only these, with commas: types such as job.completed, families such as job.* and heygen.*, or `*` for all but HeyGen's own; that is the default.",
    ),
    ("kinds", "Only events of jobs of these kinds, with commas."),
    ("labels", "Only events of jobs with all of these labels, as NAME:VALUE with commas."),
];
const JOB_STREAM: [(&str, &str); 3] = [SINCE, FORMAT, POLL];
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
        query: &SUBMIT_GROUP,
        body: Some("MoreRows"),
        answer: (202, Some("Group")),
        also: &[(200, Some("EndedOrDryRun"))],
        ..doc("post", "/api/groups/{id}/rows", "Add rows to a group that takes more.")
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
        ..doc(
            "post",
            "/api/groups/{id}/cancel",
            "Cancel the jobs of a group that were not sent yet; it takes no more rows.",
        )
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
        ..doc(
            "post",
            "/api/endpoints/{id}/test",
            "Send a test event, also to an endpoint that is disabled; with format heygen in HeyGen's shape, signed \
             with the newest webhook secret.",
        )
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
        query: &dead_letters::LIST,
        answer: (200, Some("DeadLetterPage")),
        ..doc("get", "/api/dead-letters", "What was given up, the latest first.")
    },
    Doc {
        query: &dead_letters::NARROWED,
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
        body: Some("Rotate"),
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
    Doc { keyed: false, ..doc("get", "/readyz", "Whether the store answers and can be written.") },
    Doc { keyed: false, answer: (200, Some("Version")), ..doc("get", "/version", "Version and store.") },
    Doc { keyed: false, ..doc("get", "/metrics", "Figures, as OpenMetrics text.") },
];
