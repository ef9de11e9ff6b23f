//! The client of a running server: one request, one answer, and every way it can go wrong said in
//! a sentence with what to do. Problem documents become exit codes here and nowhere else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::output::{Output, OutputFlags, shorten};
use super::{CliError, Exit, Result};
use crate::clock::Clock;
use crate::config::{Given, proxies_to, web_url, without_password};
use crate::net;

pub const DEFAULT_URL: &str = "http://127.0.0.1:8000";
const TIMEOUT: Duration = Duration::from_secs(30);
/// What is told a line at a time.
const LINES: &str = "application/x-ndjson";
/// A page of 200 jobs with the largest metadata is below this.
const MAX_ANSWER_BYTES: usize = 16 << 20;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerFlags {
    /// Where the server is [env: REELHOOK_URL] [default: http://127.0.0.1:8000].
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The API key to call it with [env: REELHOOK_API_KEY, or a file named by REELHOOK_API_KEY_FILE].
    #[arg(long, global = true, value_name = "KEY")]
    api_key: Option<String>,
}

/// What every client command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    output: OutputFlags,
}

impl Flags {
    pub fn open(&self, given: &Given) -> Result<Session> {
        let clock = Clock::real();
        let api = Api::new(&self.server, given, clock.clone())?;
        Ok(Session { api, out: Output::new(&self.output, given), clock })
    }
}

/// What a client command works with.
pub struct Session {
    pub api: Api,
    pub out: Output,
    pub clock: Clock,
}

pub struct Api {
    client: net::Client,
    base: url::Url,
    key: Option<String>,
}

/// Words of a path behind `/api`, each one segment.
pub type Path<'a> = &'a [&'a str];
pub type Query<'a> = &'a [(&'a str, String)];

/// A client for one address, through the proxies the environment names for it.
pub fn client_to(url: &url::Url, given: &Given, clock: Clock, reuse: bool) -> Result<net::Client> {
    let proxies = proxies_to(url, given).map_err(|e| CliError::usage(e.to_string()))?;
    Ok(net::Client::through(proxies, clock, reuse))
}

impl Api {
    fn new(flags: &ServerFlags, given: &Given, clock: Clock) -> Result<Self> {
        let (text, from) = match &flags.url {
            Some(text) => (text.clone(), "--url".to_owned()),
            None => match given.variable("REELHOOK_URL") {
                Some((text, from)) => (text, from.to_string()),
                None => (DEFAULT_URL.to_owned(), "the default".to_owned()),
            },
        };
        let base = web_url(&text).map_err(|why| {
            CliError::usage(format!(
                "the server's address is `{}` (from {from}), but {why}",
                without_password(&text)
            ))
        })?;
        let key = match &flags.api_key {
            Some(key) => Some(key.clone()),
            None => {
                let wrong = |why| CliError::usage(format!("the API key: {why}"));
                given.secret("REELHOOK_API_KEY").map_err(wrong)?.map(|(key, _)| key)
            }
        };
        if key.as_deref().is_some_and(|k| k.is_empty() || !k.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(CliError::usage("the API key holds white space or other characters no key has"));
        }
        Ok(Self { client: client_to(&base, given, clock, true)?, base, key })
    }

    /// The address of a path, each word encoded.
    pub fn url(&self, path: Path, query: Query) -> String {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url.into()
    }

    /// Where the server is.
    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The address of a webhook door of the server.
    pub fn door(&self, path: &str) -> String {
        format!("{}{path}", self.server())
    }

    pub async fn get(&self, path: Path<'_>, query: Query<'_>) -> Result<Value> {
        self.call(Method::GET, path, query, None, &[], TIMEOUT).await
    }

    /// A GET that the server may hold open for `wait`.
    pub async fn get_waiting(&self, path: Path<'_>, wait: Duration) -> Result<Value> {
        let query = [("wait", wait.as_secs().to_string())];
        self.call(Method::GET, path, &query, None, &[], wait + TIMEOUT).await
    }

    pub async fn post(&self, path: Path<'_>, body: Option<&Value>) -> Result<Value> {
        self.call(Method::POST, path, &[], body, &[], TIMEOUT).await
    }

    /// A POST that is safe to repeat, because it carries a key.
    pub async fn post_with_key(&self, path: Path<'_>, body: Option<&Value>, key: &str) -> Result<Value> {
        self.call(Method::POST, path, &[], body, &[("idempotency-key", key)], TIMEOUT).await
    }

    /// A POST that only asks what it would do.
    pub async fn post_dry(&self, path: Path<'_>, body: &Value) -> Result<Value> {
        let query = [("dry_run", "true".to_owned())];
        self.call(Method::POST, path, &query, Some(body), &[], TIMEOUT).await
    }

    /// A POST that the server may hold open for `wait`.
    pub async fn post_waiting(&self, path: Path<'_>, wait: Duration) -> Result<Value> {
        let query = [("wait", wait.as_secs().to_string())];
        self.call(Method::POST, path, &query, None, &[], wait + TIMEOUT).await
    }

    pub async fn patch(&self, path: Path<'_>, body: &Value) -> Result<Value> {
        self.call(Method::PATCH, path, &[], Some(body), &[], TIMEOUT).await
    }

    pub async fn delete(&self, path: Path<'_>) -> Result<Value> {
        self.call(Method::DELETE, path, &[], None, &[], TIMEOUT).await
    }

    async fn call(
        &self,
        method: Method,
        path: Path<'_>,
        query: Query<'_>,
        body: Option<&Value>,
        more: &[(&'static str, &str)],
        timeout: Duration,
    ) -> Result<Value> {
        let call = self.prepared(method, path, query, body, more, timeout)?;
        let url = call.url.clone();
        match self.client.call(call).await {
            Ok(answer) => read(&self.base, &url, &answer),
            Err(fault) => Err(self.fault(&fault)),
        }
    }

    /// An answer that comes a line at a time, each of JSON, for as long as the server has something to tell.
    pub async fn follow(&self, path: Path<'_>, query: Query<'_>) -> Result<net::Reading> {
        let call = self.prepared(Method::GET, path, query, None, &[("accept", LINES)], TIMEOUT)?;
        let url = call.url.clone();
        let reading = self.client.open(call).await.map_err(|fault| self.fault(&fault))?;
        let kind = reading.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if reading.status.is_success() && kind == Some(LINES) {
            return Ok(reading);
        }
        if reading.status.is_success() {
            let answer = net::Answer { status: reading.status, headers: reading.headers, body: Bytes::new() };
            return Err(not_ours(&self.base, &url, &answer));
        }
        let answer = reading.whole().await.map_err(|fault| self.fault(&fault))?;
        Err(read(&self.base, &url, &answer).err().unwrap_or_else(|| not_ours(&self.base, &url, &answer)))
    }

    fn prepared(
        &self,
        method: Method,
        path: Path,
        query: Query,
        body: Option<&Value>,
        more: &[(&'static str, &str)],
        timeout: Duration,
    ) -> Result<net::Call> {
        if path.iter().any(|word| word.trim().is_empty()) {
            return Err(CliError::usage("an id must not be empty"));
        }
        Ok(net::Call {
            method,
            url: self.url(path, query),
            headers: self.headers(more)?,
            body: body.map_or(Bytes::new(), |b| Bytes::from(b.to_string())),
            timeout,
            max_body_bytes: MAX_ANSWER_BYTES,
        })
    }

    fn fault(&self, fault: &net::Fault) -> CliError {
        match fault {
            net::Fault::NotSent(why) | net::Fault::Forbidden(why) => self.nobody(why),
            net::Fault::NoAnswer(why) => no_answer(&self.base, why),
        }
    }

    fn headers(&self, more: &[(&'static str, &str)]) -> Result<HeaderMap> {
        let mut headers = net::headers([
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("user-agent", concat!("reelhook-cli/", env!("CARGO_PKG_VERSION"))),
        ]);
        let wrong = |name: &str| CliError::usage(format!("the {name} cannot be sent in a header"));
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| wrong("API key"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, value) in more {
            let value = HeaderValue::from_str(value).map_err(|_| wrong(name))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }

    fn nobody(&self, why: &str) -> CliError {
        let at = self.server();
        // Of a proxy it must be said who refused.
        let refused = why.contains("Connection refused") && !why.starts_with("the proxy");
        let why = if refused { "connection refused" } else { why };
        let hint = if is_default(&self.base) {
            "start it with `reelhook serve`, or try `reelhook demo`; is it elsewhere, set REELHOOK_URL or --url"
        } else {
            "check REELHOOK_URL or --url, and that `reelhook serve` runs there"
        };
        CliError::new(
            Exit::Failure,
            "cli_no_server",
            format!("no reelhook server answers at {at} ({why})"),
            Some(hint),
        )
    }
}

fn is_default(base: &url::Url) -> bool {
    base.as_str().trim_end_matches('/') == DEFAULT_URL
}

fn no_answer(base: &url::Url, why: &str) -> CliError {
    let mut e = CliError::new(
        Exit::Failure,
        "cli_no_answer",
        format!("the request was sent to {base}, and no complete answer came back ({why})"),
        None,
    );
    e.problem["retryable"] = json!(true);
    e
}

fn read(base: &url::Url, url: &str, answer: &net::Answer) -> Result<Value> {
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match body {
        Some(body) if answer.status.is_success() && body.is_object() => Ok(body),
        Some(body) if !answer.status.is_success() && body["code"].is_string() => {
            Err(CliError { exit: exit_of(answer.status), problem: body })
        }
        _ => Err(not_ours(base, url, answer)),
    }
}

/// The exit code of a refusal.
fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        401 | 403 => Exit::Auth,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        402 | 507 => Exit::Quota,
        400 | 422 => Exit::Usage,
        _ => Exit::Failure,
    }
}

/// Something answered, and it is not reelhook.
pub fn not_ours(base: &url::Url, url: &str, answer: &net::Answer) -> CliError {
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.map_or("no content type".to_owned(), |k| shorten(k, 60));
    let where_to = if answer.status.is_redirection() {
        let to = answer.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
        to.map_or(String::new(), |to| format!(" and sends to {}", shorten(to, 200)))
    } else {
        String::new()
    };
    CliError::new(
        Exit::Failure,
        "cli_not_reelhook",
        format!("{url} answered {} with {kind}{where_to}, which is no answer of reelhook", answer.status),
        Some(&format!("check that {base} is the address of a reelhook server (REELHOOK_URL or --url)")),
    )
}

/// The rows of a page. An answer without them came from some other server.
pub fn rows(page: &Value) -> Result<&Vec<Value>> {
    page["data"].as_array().ok_or_else(|| {
        CliError::new(
            Exit::Failure,
            "cli_not_reelhook",
            "the answer has no `data`, so it is no list of reelhook",
            Some("check REELHOOK_URL or --url"),
        )
    })
}

/// Whether the same request may be sent again: the server said so, or its answer was lost.
pub fn is_retryable(e: &CliError) -> bool {
    e.problem["retryable"] == json!(true)
}
