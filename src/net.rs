//! Outbound HTTP. One call has one limit of time for the whole exchange and one limit of size
//! for the answer's body, and a fault tells whether the request can have reached the other side.
//!
//! Never follows a redirect, never retries, never reads more than it was told to, and uses a proxy only
//! where it was given one. Where a stranger chose the address, a guarded client calls it, or nobody.

mod names;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::names::Names;
use self::tunnel::Connector;
use crate::clock::Clock;
use crate::domain::guard::Guard;
use crate::domain::proxy::Proxies;

/// A connection unused for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the body of an answer is waited for whose head said all.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Client {
    inner: Legacy<HttpsConnector<Connector>, Full<Bytes>>,
    clock: Clock,
    guard: Option<Arc<Guard>>,
}

#[derive(Debug)]
pub struct Call {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Limit of the whole exchange: connect, send, wait, read.
    pub timeout: Duration,
    /// The answer's body may have at most this many bytes.
    pub max_body_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. The difference that matters: can the other side have acted on it?
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// Nothing was sent: bad address, no connection, no TLS.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Nothing was sent: the guard does not let that address pass.
    #[error("not sent: {0}")]
    Forbidden(String),
    /// Something may have been sent, and no complete answer came back.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl Client {
    /// A client whose connections are kept for reuse, or closed after each call.
    ///
    /// A call that costs money uses one that does not reuse: a connection that died while idle
    /// must never be mistaken for one that died after the request.
    pub fn new(clock: Clock, reuse: bool) -> Self {
        Self::through(Proxies::default(), clock, reuse)
    }

    /// The same through the operator's proxies, which are told the name of who is called.
    pub fn through(proxies: Proxies, clock: Clock, reuse: bool) -> Self {
        Self::built(clock, reuse, Names::of_system(None), None, proxies)
    }

    /// A client for addresses that strangers chose: it reaches only what the guard lets pass, through
    /// proxies, too, which are told a vetted address and no name.
    pub fn guarded(clock: Clock, guard: Guard, proxies: Proxies) -> Self {
        let guard = Arc::new(guard);
        Self::built(clock, true, Names::of_system(Some(guard.clone())), Some(guard), proxies)
    }

    #[allow(clippy::disallowed_methods)]
    fn built(clock: Clock, reuse: bool, names: Names, guard: Option<Arc<Guard>>, proxies: Proxies) -> Self {
        let tls = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(names, proxies, clock.clone()));
        let inner = Legacy::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(if reuse { 64 } else { 0 })
            .retry_canceled_requests(reuse)
            .build(tls);
        Self { inner, clock, guard }
    }

    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        let (timeout, most) = (call.timeout, call.max_body_bytes);
        let request = self.request(call)?;
        let exchange = async {
            let (parts, body) = self.inner.request(request).await.map_err(|e| sort(&e))?.into_parts();
            let body = read_capped(body, most).await?;
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        self.clock.within(timeout, exchange).await.unwrap_or_else(|| Err(nothing_within(timeout)))
    }

    /// As `call`, for an answer whose head says all: of its body only the beginning is kept, and
    /// little time is given to it.
    pub async fn tell(&self, call: Call) -> Result<Answer, Fault> {
        let most = call.max_body_bytes;
        let (parts, body) = self.head(call).await?.into_parts();
        let mut start = BytesMut::new();
        // What is missing of it, for whatever reason, is not missed.
        let _ = self.clock.within(BODY_PATIENCE, read_start(body, most, &mut start)).await;
        Ok(Answer { status: parts.status, headers: parts.headers, body: start.freeze() })
    }

    /// As `call`, for an answer that is read as it comes. Its time is for the head alone, and its size for
    /// a line, or for what an answer that is no success has to say.
    pub async fn open(&self, call: Call) -> Result<Reading, Fault> {
        let most = call.max_body_bytes;
        let (parts, body) = self.head(call).await?.into_parts();
        Ok(Reading { status: parts.status, headers: parts.headers, body, read: BytesMut::new(), most })
    }

    async fn head(&self, call: Call) -> Result<http::Response<hyper::body::Incoming>, Fault> {
        let timeout = call.timeout;
        let request = self.request(call)?;
        let head = self.clock.within(timeout, self.inner.request(request)).await;
        head.ok_or_else(|| nothing_within(timeout))?.map_err(|e| sort(&e))
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, Fault> {
        let url = match &self.guard {
            Some(guard) => {
                guard.url(&call.url).map_err(|why| Fault::Forbidden(format!("the address {why}")))?.into()
            }
            None => call.url,
        };
        let uri: Uri = url.parse().map_err(|e| Fault::NotSent(format!("{e}: {url}")))?;
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers;
        Ok(request)
    }
}

/// An answer whose body is still coming.
pub struct Reading {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: hyper::body::Incoming,
    read: BytesMut,
    most: usize,
}

impl Reading {
    /// The next line, without its end; `None` at the end of the body. What was read of a line is kept when
    /// this is given up.
    pub async fn line(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line = self.read.split_to(end + 1);
                return Ok(Some(line.freeze().slice(..end)));
            }
            if self.read.len() > self.most {
                return Err(Fault::NoAnswer(format!("a line longer than {} bytes", self.most)));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(Fault::NoAnswer(format!("it broke off: {}", causes(&e)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The whole answer, of one that ends soon.
    pub async fn whole(self) -> Result<Answer, Fault> {
        let body = read_capped(self.body, self.most).await?;
        Ok(Answer { status: self.status, headers: self.headers, body })
    }
}

fn nothing_within(timeout: Duration) -> Fault {
    Fault::NoAnswer(format!("nothing within {} s", timeout.as_secs_f32()))
}

fn sort(e: &hyper_util::client::legacy::Error) -> Fault {
    // Its own words only name a layer of the client.
    let why = std::error::Error::source(e).map_or_else(|| causes(e), causes);
    match () {
        () if names::is_forbidden(e) => Fault::Forbidden(why),
        // Its own words say nothing to who does not know TLS.
        () if e.is_connect() && is_by::<rustls::Error>(e) => {
            Fault::NotSent(format!("no TLS connection: {why}"))
        }
        () if e.is_connect() => Fault::NotSent(why),
        () => Fault::NoAnswer(why),
    }
}

/// Whether this sort of error is among its causes.
fn is_by<C: std::error::Error + 'static>(e: &(dyn std::error::Error + 'static)) -> bool {
    // An I/O error passes over what it was made of.
    let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    e.is::<C>() || inner.is_some_and(|inner| is_by::<C>(inner)) || e.source().is_some_and(is_by::<C>)
}

/// An error with its causes, each said once.
pub fn causes(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

async fn read_capped(mut body: hyper::body::Incoming, max: usize) -> Result<Bytes, Fault> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Fault::NoAnswer(format!("answer broke off: {}", causes(&e))))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > max {
                return Err(Fault::NoAnswer(format!("answer longer than {max} bytes")));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

async fn read_start(mut body: hyper::body::Incoming, most: usize, start: &mut BytesMut) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        start.extend_from_slice(&data[..data.len().min(most - start.len())]);
        if start.len() == most {
            return;
        }
    }
}

/// Headers from pairs known to be well formed; a pair that is not is left out.
pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> HeaderMap {
    pairs
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_speaks_no_tls_is_told_apart() {
        let (port, _) = names::tests::host("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned()).await;
        let call = Call {
            method: Method::GET,
            url: format!("https://127.0.0.1:{port}/"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(60),
            max_body_bytes: 1,
        };
        let fault = Client::new(Clock::real(), false).call(call).await.unwrap_err();
        assert!(matches!(&fault, Fault::NotSent(why) if why.starts_with("no TLS connection: ")), "{fault}");
    }
}
