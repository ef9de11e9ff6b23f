//! The files the sandbox hands out, and the presigned-looking links to them.
//!
//! A link dies at its time with 403; asking for the status again gives a live one. The bytes are
//! our own (`assets/README.md`); each job's MP4 differs by a `free` box with its id, so that a
//! file kept under the wrong job is noticed. Never renders anything.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use super::answer::{Query, broken};
use super::ledger::What;
use super::{Sandbox, seal};
use crate::clock::Millis;

/// Length of the video, in seconds.
pub const LENGTH_S: f64 = 4.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Video,
    Captioned,
    Captions,
    Thumbnail,
    Gif,
    Foreground,
    Mask,
    Background,
}

impl File {
    pub const ALL: [File; 8] = [
        File::Video,
        File::Captioned,
        File::Captions,
        File::Thumbnail,
        File::Gif,
        File::Foreground,
        File::Mask,
        File::Background,
    ];

    pub fn name(self) -> &'static str {
        match self {
            File::Video => "video.mp4",
            File::Captioned => "captioned.mp4",
            File::Captions => "captions.srt",
            File::Thumbnail => "thumb.jpg",
            File::Gif => "preview.gif",
            File::Foreground => "foreground.mp4",
            File::Mask => "mask.mp4",
            File::Background => "background.mp4",
        }
    }

    /// The layer of a background removal that has this name.
    pub fn of_layer(name: &str) -> File {
        match name {
            "mask" => File::Mask,
            "background" => File::Background,
            _ => File::Foreground,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            File::Video | File::Captioned | File::Foreground | File::Mask | File::Background => "video/mp4",
            File::Captions => "application/x-subrip",
            File::Thumbnail => "image/jpeg",
            File::Gif => "image/gif",
        }
    }

    /// The bytes of this file for one job.
    pub fn bytes(self, id: &str) -> Bytes {
        match self {
            File::Video | File::Foreground | File::Mask | File::Background => {
                marked(include_bytes!("assets/video.mp4"), id)
            }
            File::Captioned => marked(include_bytes!("assets/captioned.mp4"), id),
            File::Captions => Bytes::from_static(include_bytes!("assets/captions.srt")),
            File::Thumbnail => Bytes::from_static(include_bytes!("assets/thumb.jpg")),
            File::Gif => Bytes::from_static(include_bytes!("assets/preview.gif")),
        }
    }
}

/// An MP4 with a `free` box behind it that holds the id; players skip it.
fn marked(mp4: &[u8], id: &str) -> Bytes {
    let size = u32::try_from(8 + id.len()).unwrap_or(8);
    Bytes::from([mp4, &size.to_be_bytes(), b"free", id.as_bytes()].concat())
}

/// Makes and checks links.
pub struct Links {
    pub base_url: String,
    pub secret: [u8; 32],
    pub life_ms: i64,
}

impl Links {
    pub fn live(&self, id: &str, file: File, now: Millis) -> String {
        self.until(id, file, now.saturating_add(self.life_ms))
    }

    /// A link that was right and has died.
    pub fn dead(&self, id: &str, file: File, now: Millis) -> String {
        self.until(id, file, now.saturating_sub(1_000))
    }

    fn until(&self, id: &str, file: File, at: Millis) -> String {
        // Rounded up: a link never dies before its life is over.
        let expires = at.saturating_add(999).div_euclid(1_000);
        let sig = self.sig(id, file.name(), &expires.to_string());
        format!("{}/files/{id}/{}?expires={expires}&sig={sig}", self.base_url, file.name())
    }

    pub fn page(&self, what: &str, id: &str) -> String {
        format!("{}/{what}/{id}", self.base_url)
    }

    fn sig(&self, id: &str, name: &str, expires: &str) -> String {
        seal::hex_hmac(&self.secret, format!("{id}\n{name}\n{expires}").as_bytes())
    }

    fn opens(&self, id: &str, name: &str, query: &Query, now: Millis) -> bool {
        let (Some(expires), Some(sig)) = (query.get("expires"), query.get("sig")) else { return false };
        let alive = expires.parse::<i64>().is_ok_and(|at| now < at.saturating_mul(1_000));
        alive && sig == self.sig(id, name, expires)
    }
}

/// `GET` and `HEAD /files/{id}/{name}`.
pub async fn serve(
    State(sandbox): State<Sandbox>,
    method: Method,
    Path((id, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = Query::parse(query.as_deref());
    let may_cut = method == Method::GET;
    let (response, bytes) = find(&sandbox, &id, &name, &query, &headers, may_cut);
    let status = response.status().as_u16();
    let range = headers.get(RANGE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    sandbox.note(What::Served { id, name, status, range, bytes });
    sandbox.sync();
    response
}

/// The answer, and how many bytes of the file it promises. Only a GET spends a cut.
fn find(
    sandbox: &Sandbox,
    id: &str,
    name: &str,
    query: &Query,
    headers: &HeaderMap,
    may_cut: bool,
) -> (Response, u64) {
    let now = sandbox.now();
    if !sandbox.links().opens(id, name, query, now) {
        return (denied(StatusCode::FORBIDDEN, "AccessDenied", "The link has expired or is not valid."), 0);
    }
    let mut world = sandbox.world();
    let file = File::ALL.into_iter().find(|file| file.name() == name);
    let job = world.job_mut(id).filter(|job| job.has_files(now));
    let (Some(file), Some(job)) = (file, job) else {
        return (denied(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such file."), 0);
    };
    let whole = file.bytes(id);
    if may_cut && job.cuts_left > 0 {
        job.cuts_left -= 1;
        let half = whole.len() / 2;
        return (broken(StatusCode::OK, file.content_type(), &whole, half), half as u64);
    }
    ranged(file, &whole, headers)
}

fn ranged(file: File, whole: &Bytes, headers: &HeaderMap) -> (Response, u64) {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(whole)[..8]));
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    // A range of another version is a request for the whole.
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|wanted| wanted == tag));
    let (status, part, content_range) = match range.map(|range| cut(range, whole.len())) {
        None | Some(Span::Whole) => (StatusCode::OK, whole.clone(), None),
        Some(Span::Part(from, to)) => {
            let range = format!("bytes {from}-{}/{}", to - 1, whole.len());
            (StatusCode::PARTIAL_CONTENT, whole.slice(from..to), Some(range))
        }
        Some(Span::Outside) => {
            let range = format!("bytes */{}", whole.len());
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(range))
        }
    };
    let length = part.len();
    let mut response = (status, part).into_response();
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type()));
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(CONTENT_LENGTH, length.into());
    out.insert(LAST_MODIFIED, HeaderValue::from_static("Sun, 01 Nov 2026 00:00:00 GMT"));
    for (name, value) in [(ETAG, Some(tag)), (CONTENT_RANGE, content_range)] {
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(&v).ok()) {
            out.insert(name, value);
        }
    }
    (response, length as u64)
}

#[derive(Debug, PartialEq)]
enum Span {
    Whole,
    /// From, up to and without.
    Part(usize, usize),
    Outside,
}

/// One range of bytes; several at once, or nonsense, get the whole, as RFC 9110 allows.
fn cut(range: &str, length: usize) -> Span {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Span::Whole;
    };
    match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) if from > to => Span::Whole,
        (Ok(from), _) if from >= length => Span::Outside,
        (Ok(from), Ok(to)) => Span::Part(from, to.saturating_add(1).min(length)),
        (Ok(from), Err(_)) if to.is_empty() => Span::Part(from, length),
        (Err(_), Ok(0)) if from.is_empty() => Span::Outside,
        (Err(_), Ok(last)) if from.is_empty() => Span::Part(length.saturating_sub(last), length),
        _ => Span::Whole,
    }
}

/// A file store's refusal, in its own format.
pub fn denied(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(CONTENT_TYPE, "application/xml")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_the_standard_says() {
        assert_eq!(cut("bytes=0-3", 10), Span::Part(0, 4));
        assert_eq!(cut("bytes=4-", 10), Span::Part(4, 10));
        assert_eq!(cut("bytes=4-99", 10), Span::Part(4, 10));
        assert_eq!(cut("bytes=-3", 10), Span::Part(7, 10));
        assert_eq!(cut("bytes=10-", 10), Span::Outside);
        assert_eq!(cut("bytes=-0", 10), Span::Outside);
        assert_eq!(cut("bytes=0-1,4-5", 10), Span::Whole);
        assert_eq!(cut("bytes=5-2", 10), Span::Whole);
        assert_eq!(cut("lines=1-2", 10), Span::Whole);
    }

    #[test]
    fn the_mp4_is_made_of_whole_boxes_in_an_order_that_plays_at_once() {
        let file = File::Video.bytes("v1");
        let mut names = Vec::new();
        let mut at = 0;
        while at < file.len() {
            let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
            names.push(String::from_utf8(file[at + 4..at + 8].to_vec()).unwrap());
            at += size;
        }
        assert_eq!(at, file.len());
        assert_eq!(names.first().map(String::as_str), Some("ftyp"));
        assert_eq!(names.last().map(String::as_str), Some("free"));
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        assert!(place("moov") < place("mdat"));
        assert_ne!(file, File::Video.bytes("v2"));
    }
}
