//! Every answer that is not a success: one enum, the only place with status codes. The OpenAPI
//! document, `docs/errors.md` and a test walk it.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::domain::job::Failure;
use crate::heygen::fault::Fault;
use crate::store;

/// A place in the request and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON Pointer into the body, or the name of a parameter.
    pub pointer: String,
    pub message: String,
}

impl FieldError {
    pub fn json(&self) -> Value {
        json!({"pointer": self.pointer, "message": self.message})
    }
}

pub fn field(pointer: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { pointer: pointer.into(), message: message.into() }
}

/// What is wrong with a name that is none of `known`.
pub fn unknown(known: &[&str]) -> String {
    match known {
        [] => "is not known here; nothing is taken".to_owned(),
        known => format!("is not known here; known are: {}", known.join(", ")),
    }
}

macro_rules! problems {
    ($($name:ident $code:literal $status:literal $retryable:literal $title:literal $hint:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($name),* }
        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// Stable for ever; what programs decide by.
            pub fn code(self) -> &'static str { match self { $(Self::$name => $code),* } }
            pub fn status(self) -> u16 { match self { $(Self::$name => $status),* } }
            pub fn status_code(self) -> StatusCode {
                StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            pub fn retryable(self) -> bool { match self { $(Self::$name => $retryable),* } }
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title),* } }
            /// What to do about it.
            pub fn hint(self) -> &'static str { match self { $(Self::$name => $hint),* } }
        }
    };
}

problems! {
    NotJson "not_json" 400 false "The body cannot be read as a JSON object"
        "Send one JSON object, no name in it twice, with `Content-Type: application/json`.",
    InvalidRequest "invalid_request" 422 false "The request is not right"
        "Correct what is named, field by field in `errors`; nothing was done.",
    InvalidParameter "invalid_parameter" 400 false "A parameter is not right"
        "Correct what is named, each in `errors`; nothing was done.",
    InvalidKey "invalid_idempotency_key" 400 false "The Idempotency-Key is not right"
        "Use 1 to 255 visible ASCII characters, such as a UUID.",
    KeyReused "idempotency_key_reused" 422 false "The Idempotency-Key was used for another request"
        "Use a new key for a new request; the same key and body give the first answer again.",
    Unauthorized "unauthorized" 401 false "An API key is needed"
        "Send `Authorization: Bearer KEY`; the command line takes it from REELHOOK_API_KEY. `reelhook key create` makes one, `serve --bootstrap` the first.",
    BadLink "invalid_link_token" 401 false "The link token is not one of ours"
        "Ask for a new one with POST /api/jobs/{id}/link-token.",
    LinkExpired "link_token_expired" 401 false "The link token has expired"
        "Ask for a new one with POST /api/jobs/{id}/link-token; it lives for minutes.",
    LinkOfAnother "link_token_of_another_job" 403 false "The link token is for another job"
        "A link token shows one job: ask for one of this job with POST /api/jobs/{id}/link-token.",
    BadSignature "bad_signature" 401 false "The webhook is not signed with a live webhook secret"
        "To try this address, use `reelhook simulate`, which signs. On a laptop, `serve --accept-unsigned` takes unsigned ones as hints. If HeyGen sent it, run `reelhook doctor`.",
    UnknownAddress "unknown_webhook_address" 401 false "This webhook address belongs to no job"
        "Per-job addresses are made by reelhook and sent to HeyGen with the job. Use /webhooks/heygen for signed webhooks.",
    NotFound "not_found" 404 false "There is no such thing"
        "Check the id; a list of the same things shows those there are.",
    NoRoute "no_route" 404 false "There is no such address"
        "/api/openapi.json lists every address.",
    MethodNotAllowed "method_not_allowed" 405 false "This address does not take that method"
        "/api/openapi.json lists what each address takes.",
    NotHeld "not_held" 409 false "The job does not await approval"
        "Only a job in state held can be approved or rejected.",
    NotSent "not_sent" 409 false "HeyGen knows nothing of this job to be asked about"
        "A job can be refreshed once it was sent to HeyGen.",
    AlreadySent "already_sent" 409 false "The job was sent to HeyGen and cannot be canceled"
        "HeyGen has no cancel for what it works on, and a paid result is not thrown away: wait for it.",
    Finished "finished" 409 false "The job has ended"
        "Its state is final. If it failed or was canceled, `retry` makes a new job from it.",
    NotFinished "not_finished" 409 false "The job has not ended"
        "Only a job that failed, was canceled, or whose outcome is unknown can be retried.",
    HasResult "has_result" 409 false "The job completed: there is nothing to retry"
        "Its result is in the job. Submit it anew with POST /api/jobs if you want, and pay for, another.",
    Adopted "adopted" 409 false "The job was not submitted here, so its request is not known"
        "Submit it anew with POST /api/jobs.",
    GroupWhole "group_whole" 409 false "The group takes no more rows"
        "Its last rows said that no more follow, or it was canceled. These may be in already: `group_row` of the jobs at its `jobs_url` says so. Only if they are not, submit them as a group of their own.",
    WrongRow "wrong_row" 409 false "These are not the rows that come next"
        "Others are missing before them, or they are in already: `first_row` has to be the `next_row` of the group.",
    NothingToRetry "nothing_to_retry" 409 false "No job of the group is left to retry"
        "Jobs that failed or expired are retried once with their group; what became of that is in the new group, which names this one in `retry_of`.",
    SecondCharge "second_charge" 409 false "HeyGen may have charged for this job already"
        "Its outcome is unknown, so another try may be paid twice. To accept that, send `{\"accept_second_charge\": true}`, or give `job retry` the flag --accept-second-charge.",
    EndpointUntested "endpoint_untested" 409 false "The endpoint was disabled and has taken no test event since"
        "Send one with POST /api/endpoints/{id}/test; when it is taken, enable the endpoint. `reelhook endpoint enable` does both.",
    TooManyEndpoints "too_many_endpoints" 409 false "There are as many endpoints as there may be"
        "100 may be there at once. Remove one, or tell a job where to be told with `notify_url`.",
    NobodyToTell "nobody_to_tell" 409 false "The endpoint of the delivery was removed"
        "Nobody is left to send it to. GET /api/events has the event.",
    TooManyReplays "too_many_replays" 409 true "As many replays run as may"
        "10 may run at once: wait for one to finish, or stop one with POST /api/replays/{id}/stop.",
    ReplayEnded "replay_ended" 409 false "The replay has ended"
        "`done` says how many it made due.",
    TooSlow "too_slow" 408 true "The body did not come in time"
        "A request has 60 s to come whole. Try again on a better connection, or send less at once.",
    TooLarge "too_large" 413 false "The body is too large"
        "Webhooks may have 1 MiB, API requests 1 MiB, the rows of a group 16 MiB at once.",
    NoPublicUrl "no_public_url" 409 false "No public address is set that HeyGen reaches"
        "Start it with --public-url https://… (or REELHOOK_PUBLIC_URL), the address HeyGen reaches it by.",
    ProbeFailed "probe_failed" 409 true "The public address does not answer"
        "HeyGen will ask it with OPTIONS and give it one second. Check that the address leads to this server.",
    UpstreamRefused "upstream_refused" 422 false "HeyGen refuses what was asked"
        "`detail` has HeyGen's own words: correct what they name.",
    Upstream "upstream" 502 true "HeyGen did not do what was asked"
        "`detail` says why, in HeyGen's own words if it answered. `reelhook doctor` checks the key and the connection.",
    UpstreamBlocked "upstream_blocked" 502 false "HeyGen takes nothing from here until somebody acts"
        "`detail` says why, and what to do. `reelhook doctor` checks the key and the connection.",
    Busy "busy" 503 true "Too much is waiting to be stored"
        "Try again after the seconds in `Retry-After`.",
    TooManyStreams "too_many_streams" 503 true "As many streams are open as may be"
        "The setting `streams` says how many may be open at a node at once. Close one, or try again after the seconds in `Retry-After`; GET /api/events needs none.",
    StoreDown "store_unavailable" 503 true "The database is not available"
        "Nothing was stored. Try again after the seconds in `Retry-After`; check the database, and whether its disk is read-only, full or beyond a quota. reelhook goes on by itself.",
    DiskFull "disk_full" 503 true "The disk of the database is full"
        "Nothing was stored, and nothing stored before is lost. Make room on that disk; reelhook goes on by itself. Try again after the seconds in `Retry-After`.",
    NoSecret "no_webhook_secret" 503 true "No webhook secret is known yet"
        "HeyGen will try again. Run `reelhook webhook register`, or set HEYGEN_WEBHOOK_SECRET.",
    Rotating "webhook_secret_rotating" 503 true "The webhook secret is being replaced"
        "HeyGen will try again in a moment.",
    RotationOpen "webhook_rotation_open" 502 true "It is open whether HeyGen has made a new webhook secret"
        "Run it again: it asks with the same key and gets the same answer. Until then, what no known secret signed is answered 503, and HeyGen sends it again.",
    Internal "internal" 500 true "Something went wrong in reelhook"
        "The log of the server has the cause.",
}

/// Seconds after which a 503 may be tried again.
pub const RETRY_AFTER_S: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub detail: Option<String>,
    pub errors: Vec<FieldError>,
    /// What HeyGen said, where it was asked for this request.
    pub upstream: Option<Box<Failure>>,
}

pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub fn new(kind: Kind) -> Self {
        Self { kind, detail: None, errors: vec![], upstream: None }
    }

    pub fn saying(kind: Kind, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(kind) }
    }

    pub fn fields(kind: Kind, errors: Vec<FieldError>) -> Self {
        let count = errors.len();
        let detail = errors.first().map(|e| match count {
            1 => format!("{}: {}", e.pointer, e.message),
            n => format!("{}: {}, and {} more", e.pointer, e.message, n - 1),
        });
        Self { detail, errors, ..Self::new(kind) }
    }

    /// What is known of the request stands in it.
    pub fn json(&self, request_id: Option<&str>, instance: Option<&str>) -> Value {
        let kind = self.kind;
        let mut body = json!({
            "type": format!("/errors#{}", kind.code()),
            "title": kind.title(),
            "status": kind.status(),
            "code": kind.code(),
            "retryable": kind.retryable(),
            "hint": kind.hint(),
        });
        let errors: Value = self.errors.iter().map(FieldError::json).collect();
        for (name, value) in [
            ("detail", self.detail.as_ref().map(|text| json!(text))),
            ("errors", (!self.errors.is_empty()).then_some(errors)),
            ("upstream", self.upstream.as_ref().map(|said| upstream_json(said))),
            ("retry_after_s", (kind.status() == 503).then(|| json!(RETRY_AFTER_S))),
            ("request_id", request_id.map(|id| json!(id))),
            ("instance", instance.map(|path| json!(path))),
        ] {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }

    /// Turns the answer to a request into the problem document about it.
    pub fn document(
        &self,
        mut response: Response,
        request_id: Option<&str>,
        instance: Option<&str>,
    ) -> Response {
        *response.status_mut() = self.kind.status_code();
        *response.body_mut() = Body::from(format!("{}\n", self.json(request_id, instance)));
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind.status() == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What HeyGen said to a call made for this request, and what helps. No job failed, so what is said of one that
/// did is left out.
fn upstream_json(said: &Failure) -> Value {
    let mut shown = json!(said);
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("for_user");
        shown.insert("advice".to_owned(), json!(said.class.advice()));
    }
    shown
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

/// Of a call made for this request, such as the registration of a webhook endpoint.
impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let upstream = fault.said().cloned().map(Box::new);
        let (kind, detail) = match &fault {
            Fault::NotFound(_) => (Kind::NotFound, fault.why()),
            Fault::Refused { .. } => (Kind::UpstreamRefused, fault.why()),
            Fault::Blocked { by, .. } => {
                (Kind::UpstreamBlocked, format!("{}; {}", fault.why().trim_end_matches('.'), by.fix()))
            }
            _ => (Kind::Upstream, fault.why()),
        };
        Self { upstream, ..Self::saying(kind, detail) }
    }
}

impl From<store::Error> for Problem {
    fn from(e: store::Error) -> Self {
        match e {
            store::Error::Busy => Kind::Busy.into(),
            store::Error::DiskFull(why) => {
                tracing::warn!(why, "the disk of the database is full");
                Kind::DiskFull.into()
            }
            e if e.may_pass() => {
                tracing::warn!(error = %e, "the store is unavailable");
                Kind::StoreDown.into()
            }
            e => {
                tracing::error!(error = %e, "the store failed");
                Kind::Internal.into()
            }
        }
    }
}

/// `docs/errors.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Generated from `src/http/problem.rs` and `src/heygen/failure.rs` by `scripts/generate`; do not edit.\n\n\
         Every answer that is not a success is a problem document (RFC 9457, `application/problem+json`) with\n\
         `type` (the row of the table below, on the server itself), `title`, `status`, `code`, `retryable`, `hint`, `request_id`, `instance`\n\
         (the path that was called), and where they apply `detail`, `errors` (places in the request, each with\n\
         `pointer` and `message`), `retry_after_s`, and `upstream` (HeyGen\'s own `code`, `message` and\n\
         `request_id`, and what they mean, where HeyGen was asked). Decide by `code`; it never changes meaning.\n\n\
         Every answer, success or not, has its request id in `X-Request-Id`: the caller\'s own, if it sent one of 1\n\
         to 128 visible ASCII characters, else a new one. The lines of the server\'s log about a request to `/api/` have\n\
         it, too.\n\n\
         | code | status | retry | what it means | what to do |\n| --- | --- | --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        page.push_str(&format!(
            "| <a id=\"{0}\"></a>`{0}` | {1} | {2} | {3} | {4} |\n",
            kind.code(),
            kind.status(),
            if kind.retryable() { "yes" } else { "no" },
            kind.title(),
            kind.hint().replace('|', "\\|"),
        ));
    }
    page.push_str(
        "\n## Why a job failed\n\n\
         A failed job carries HeyGen's own `code` and `message` in `failure`. Two codes are ours:\n\n\
         | code | what it means |\n| --- | --- |\n\
         | `lost_upstream` | HeyGen accepted the job and reported no end before the job's deadline. It may have been charged. |\n\
         | `outcome_unknown` | The job was sent, and nothing ever confirmed that HeyGen accepted it. It may have been charged. |\n",
    );
    page
}
