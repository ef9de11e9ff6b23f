//! Who may use the API: whoever has a live API key; before the first is made, this machine alone. A few routes of
//! one job open to a link token of that job, too.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Uri, header};
use sha2::{Digest, Sha256};

use super::Http;
use super::peer::is_local;
use super::problem::{Kind, Problem, Result};
use crate::domain::address::NoEntry;
use crate::domain::time::{MINUTE, Millis};
use crate::store::{Tx, api_key};

const PREFIX: &str = "rhk_";
/// Hex digits of a key behind its prefix: 160 random bits, then a checksum, so that a mistyped key
/// is told from a revoked one without asking the database.
const RANDOM_DIGITS: usize = 40;
const CHECK_DIGITS: usize = 6;
/// How exactly `last_used_at` is kept.
const TOUCH_AFTER: Millis = MINUTE;

/// Who calls: an API key, or this machine.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The owner of idempotency keys.
    pub id: String,
    /// As people know it.
    pub name: String,
}

/// A key's text, to be shown once, and the hash that is stored.
pub fn new_key(random: [u8; 20]) -> (String, [u8; 32]) {
    let digits = hex::encode(random);
    let text = format!("{PREFIX}{digits}{}", checksum(&digits));
    let hash = hash_of(&text);
    (text, hash)
}

fn checksum(digits: &str) -> String {
    hex::encode(Sha256::digest(digits.as_bytes()))[..CHECK_DIGITS].to_owned()
}

fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn has_shape(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else { return false };
    rest.len() == RANDOM_DIGITS + CHECK_DIGITS
        && rest.is_ascii()
        && checksum(&rest[..RANDOM_DIGITS]) == rest[RANDOM_DIGITS..]
}

pub async fn require(State(http): State<Http>, mut request: Request, next: Next) -> Response {
    let local = is_local(request.extensions(), request.headers(), request.uri());
    let bearer = bearer(request.headers());
    match check(&http, bearer, local).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The job is seen by a link token, until then.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub until: Millis,
}

/// As `require`, where a link token in the query does as well; it is taken out of the query.
pub async fn require_or_link(State(http): State<Http>, mut request: Request, next: Next) -> Response {
    let Some((token, rest)) = link_token(request.uri()) else {
        return require(State(http), request, next).await;
    };
    let job_id = request.uri().path().split('/').nth(3).unwrap_or_default();
    let opened = http.addresses.opens(&token, job_id, http.clock.now());
    let mut response = match (opened, rest) {
        (Ok(until), Some(rest)) => {
            *request.uri_mut() = rest;
            request.extensions_mut().insert(Link { until });
            next.run(request).await
        }
        (Err(NoEntry::Expired), _) => Problem::new(Kind::LinkExpired).into_response(),
        (Err(NoEntry::OfAnother), _) => Problem::new(Kind::LinkOfAnother).into_response(),
        _ => Problem::new(Kind::BadLink).into_response(),
    };
    // The page that has the token is the application's, and no cookie of ours opens anything.
    let anybody = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
    response
}

/// The token of a query, and the address without it.
fn link_token(uri: &Uri) -> Option<(String, Option<Uri>)> {
    let pairs = || url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let (_, token) = pairs().find(|(name, _)| name == "token")?;
    let mut rest = url::form_urlencoded::Serializer::new(String::new());
    rest.extend_pairs(pairs().filter(|(name, _)| name != "token"));
    let rest = match rest.finish() {
        none if none.is_empty() => uri.path().to_owned(),
        query => format!("{}?{query}", uri.path()),
    };
    Some((token.into_owned(), rest.parse().ok()))
}

async fn check(http: &Http, bearer: Result<Option<String>>, local: bool) -> Result<Caller> {
    let now = http.clock.now();
    match bearer? {
        Some(text) => by_key(http, text, now).await,
        None => {
            let read = move |tx: &mut Tx| Ok((api_key::any(tx)?, api_key::any_live(tx, now)?));
            let (any, live) = http.db.read(read).await?;
            if live {
                Err(Kind::Unauthorized.into())
            } else if any {
                // Who revokes a key that leaked does not open the door with it.
                Err(Problem::saying(
                    Kind::Unauthorized,
                    "no API key works any more; a start with --bootstrap makes one",
                ))
            } else if local && !http.settings.exposed {
                Ok(Caller { id: "local".to_owned(), name: "local".to_owned() })
            } else {
                Err(Problem::saying(
                    Kind::Unauthorized,
                    "without an API key only this machine's own user may call, on a server nobody else reaches",
                ))
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    // A scheme's name has no case (RFC 9110, 11.1).
    let parts = value.to_str().ok().and_then(|v| v.split_once(' '));
    let text = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    match text {
        Some(text) if has_shape(text) => Ok(Some(text.to_owned())),
        Some(_) => Err(Problem::saying(Kind::Unauthorized, "this is no API key of reelhook, or it was cut")),
        None => Err(Problem::saying(Kind::Unauthorized, "Authorization must be `Bearer KEY`")),
    }
}

async fn by_key(http: &Http, text: String, now: Millis) -> Result<Caller> {
    // Looked up by hash: how long that takes says nothing about the key.
    let hash = hash_of(&text);
    let found = http.db.read(move |tx| api_key::find_by_hash(tx, &hash)).await?;
    let key = found.ok_or_else(|| Problem::saying(Kind::Unauthorized, "this API key is not known"))?;
    if key.revoked_at.is_some() {
        return Err(Problem::saying(Kind::Unauthorized, "this API key was revoked"));
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::saying(Kind::Unauthorized, "this API key has expired"));
    }
    if key.last_used_at.is_none_or(|at| now.saturating_sub(at) >= TOUCH_AFTER) {
        let id = key.id.clone();
        // A courtesy; the request does not depend on it.
        let _ = http.db.write(move |tx: &mut Tx| api_key::touch(tx, &id, now)).await;
    }
    Ok(Caller { id: key.id, name: key.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_changed_key_is_seen_at_once() {
        let (text, hash) = new_key([7; 20]);
        assert!(has_shape(&text));
        assert_eq!(hash, hash_of(&text));
        assert!(!has_shape(&text[..text.len() - 1]));
        assert!(!has_shape(&text.replacen('0', "1", 1)));
        assert!(!has_shape("rhk_"));
        assert!(!has_shape("rhk_äääääääääääääääääääääää"));
    }
}
