//! Getting a webhook secret from HeyGen without losing a delivery, though HeyGen kills the old one
//! before we have the new one.
//!
//! Before HeyGen is asked it is written down that it will be, and with which Idempotency-Key. From
//! then until the new secret is stored, what no known secret signed is answered 503, and HeyGen sends
//! it again. A crash at any point, or a lost answer, leaves this in doubt; asking again with the same
//! key gets the same answer, so the command is simply run again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Http;
use super::problem::{Kind, Problem, Result};
use crate::domain::ids;
use crate::domain::time::{HOUR, Millis};
use crate::heygen::fault::Fault;
use crate::heygen::webhooks::{self, Secret};
use crate::store::{self, Tx, setting, webhook_secret};

/// A secret that was replaced still verifies for this long: HeyGen retries for up to 24 h what it
/// signed before, and signs anew each time, but a delivery under way must not be refused.
pub const OVERLAP: Millis = HOUR;
/// HeyGen gives the first answer again for 24 h (docs/heygen.md, Repeating); we count on it for this long.
const KEY_TRUSTED: Millis = 20 * HOUR;

/// One question to HeyGen whose answer is not stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Doubt {
    key: String,
    pub since: Millis,
}

/// By endpoint id, or by address for an endpoint that is being made.
pub type Doubts = BTreeMap<String, Doubt>;

pub fn find(tx: &mut Tx) -> store::Result<Doubts> {
    let stored = setting::find(tx, setting::WEBHOOK_DOUBTS)?;
    Ok(stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn put(tx: &mut Tx, doubts: &Doubts) -> store::Result<()> {
    // Texts and numbers: writing them cannot fail.
    let text = serde_json::to_string(doubts).unwrap_or_default();
    setting::put(tx, setting::WEBHOOK_DOUBTS, &text)
}

/// The endpoint is gone, and with it whatever HeyGen would sign for it.
pub async fn forget(http: &Http, about: &str) -> Result<()> {
    let about = about.to_owned();
    http.db.write(move |tx| settle(tx, &[&about])).await?;
    http.secrets.reload(http.clock.now()).await?;
    Ok(())
}

/// Nothing is open about these any more.
fn settle(tx: &mut Tx, about: &[&str]) -> store::Result<()> {
    let mut doubts = find(tx)?;
    let before = doubts.len();
    doubts.retain(|name, _| !about.contains(&name.as_str()));
    if doubts.len() == before { Ok(()) } else { put(tx, &doubts) }
}

/// A new secret for an endpoint there is; the old one is dead at HeyGen from then on.
pub async fn replace(http: &Http, id: &str, url: &str) -> Result<()> {
    obtain(http, id, url, async |key: &str| webhooks::rotate(&http.heygen, id, key).await).await
}

/// An endpoint with its first secret.
pub async fn create(http: &Http, url: &str, events: Option<&[String]>) -> Result<()> {
    obtain(http, url, url, async |key: &str| webhooks::create(&http.heygen, url, events, key).await).await
}

async fn obtain(
    http: &Http,
    about: &str,
    url: &str,
    ask: impl AsyncFnOnce(&str) -> std::result::Result<Secret, Fault>,
) -> Result<()> {
    let (key, is_first) = begin(http, about).await?;
    http.secrets.reload(http.clock.now()).await?;
    let fault = match ask(&key).await {
        Ok(made) => {
            keep(http, about, url, made).await?;
            http.secrets.reload(http.clock.now()).await?;
            return Ok(());
        }
        Err(fault) => fault,
    };
    // Whether this question did anything; of an earlier one only an endpoint that is gone tells.
    let did_nothing = match &fault {
        Fault::NotFound(_) => true,
        Fault::Unknown { .. } => false,
        _ => is_first,
    };
    if !did_nothing {
        tracing::warn!(about, why = fault.why(), "it is open whether HeyGen has made a new webhook secret");
        return Err(Problem::saying(Kind::RotationOpen, fault.why()));
    }
    forget(http, about).await?;
    Err(fault.into())
}

/// The key to ask with, and whether it is asked with for the first time. Stored before it is used.
async fn begin(http: &Http, about: &str) -> Result<(String, bool)> {
    let now = http.clock.now();
    let fresh = Doubt { key: ids::new(ids::SECRET, now, http.clock.random()), since: now };
    let about = about.to_owned();
    let write = move |tx: &mut Tx| {
        let mut doubts = find(tx)?;
        if let Some(open) = doubts.get(&about)
            && now.saturating_sub(open.since) < KEY_TRUSTED
        {
            return Ok((open.key.clone(), false));
        }
        let is_first = doubts.insert(about.clone(), fresh.clone()).is_none();
        put(tx, &doubts)?;
        Ok((fresh.key.clone(), is_first))
    };
    Ok(http.db.write(write).await?)
}

/// Stores a fresh secret; the endpoint's older ones verify a while longer. With it the doubt ends.
async fn keep(http: &Http, about: &str, url: &str, made: Secret) -> Result<()> {
    let now = http.clock.now();
    let (about, url) = (about.to_owned(), url.to_owned());
    let stored = webhook_secret::WebhookSecret {
        id: ids::new(ids::SECRET, now, http.clock.random()),
        endpoint_id: made.endpoint_id,
        url: url.clone(),
        secret: made.secret,
        created_at: now,
        retired_at: None,
    };
    let write = move |tx: &mut Tx| {
        webhook_secret::insert(tx, &stored)?;
        webhook_secret::retire(tx, &stored.endpoint_id, Some(&stored.id), now + OVERLAP)?;
        settle(tx, &[&about, &url])
    };
    Ok(http.db.write(write).await?)
}
