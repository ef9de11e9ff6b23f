//! What every answer has: a request id, headers that close doors, and where it is no success its
//! problem document, which names both. It never looks into a success.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tracing::{Instrument, Span};

use super::problem::{Kind, Problem, field};
use super::{Http, hook};
use crate::domain::ids;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a caller's is replaced by one of ours.
const MAX_REQUEST_ID: usize = 128;
/// A longer path is not repeated in a problem document.
const MAX_INSTANCE: usize = 255;

/// Around every request. The id is in every line the log has of one to the API.
pub async fn complete(State(http): State<Http>, request: Request, next: Next) -> Response {
    let id = request_id(&http, request.headers());
    let uri = request.uri().clone();
    let mut response = match holds_code_zero(&uri) {
        Some(problem) => problem.into_response(),
        None => {
            let answer = next.run(request);
            // HeyGen keeps no id of a webhook to look for, and a span for each shows in how many are taken.
            let span = if is_api(&uri) {
                tracing::info_span!("request", request_id = id.to_str().unwrap_or_default())
            } else {
                Span::none()
            };
            answer.instrument(span).await
        }
    };
    if let Some(problem) = problem_of(&mut response) {
        response = problem.document(response, id.to_str().ok(), instance(uri.path()));
    }
    let headers = response.headers_mut();
    safe(headers, is_api(&uri));
    headers.insert(REQUEST_ID, id);
    response
}

fn is_api(uri: &Uri) -> bool {
    uri.path().starts_with("/api/")
}

/// The caller's own, where it is fit for a header, a log and a ticket.
fn request_id(http: &Http, headers: &HeaderMap) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(usable).cloned().unwrap_or_else(|| {
        let made = ids::new(ids::REQUEST, http.clock.now(), http.clock.random());
        HeaderValue::from_str(&made).unwrap_or(HeaderValue::from_static("-"))
    })
}

/// No id and no text anybody searches for holds this character, and PostgreSQL cannot even be asked.
fn holds_code_zero(uri: &Uri) -> Option<Problem> {
    let parts = [("path", Some(uri.path())), ("query", uri.query())];
    let (name, _) = parts.into_iter().find(|(_, text)| text.is_some_and(|text| text.contains("%00")))?;
    Some(Problem::fields(Kind::InvalidParameter, vec![field(name, "holds %00, the character of code zero")]))
}

fn problem_of(response: &mut Response) -> Option<Problem> {
    let ours = response.extensions_mut().remove::<Problem>();
    // What the router itself refuses: an id in the path that is no text.
    let unreadable = || Problem::fields(Kind::InvalidParameter, vec![field("path", "is not UTF-8")]);
    ours.or_else(|| response.status().is_client_error().then(unreadable))
}

/// What the problem is about. The unguessable part of a job's own webhook address is a credential
/// and is not repeated.
fn instance(path: &str) -> Option<&str> {
    let shared = hook::PATHS[0];
    let is_of_job = path.strip_prefix(shared).is_some_and(|rest| rest.starts_with('/'));
    if is_of_job { Some(shared) } else { Some(path).filter(|path| path.len() <= MAX_INSTANCE) }
}

/// No sniffing, no framing, no referrer, and no caching of what an API key was needed for.
fn safe(headers: &mut HeaderMap, is_api: bool) {
    let set: [(HeaderName, &str); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_api {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

impl IntoResponse for Problem {
    /// The status alone; `complete` writes the document, which names the request.
    fn into_response(self) -> Response {
        let mut response = self.kind.status_code().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
