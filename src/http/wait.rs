//! Waiting for the end of something: how long a caller wants to, and the looks in between. Never holds a
//! transaction or a thread while it waits.

use std::pin::pin;
use std::time::Duration;

use http::HeaderMap;

use super::Http;
use super::problem::Result;
use super::query::Query;

/// The longest `?wait=`, in seconds.
const LONGEST_S: i64 = 60;
/// Whoever waits looks again at most this often, however often the bell rings.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// `?wait=30` or `Prefer: wait=30`, in seconds; the last to be read of the query.
pub fn asked(mut query: Query, headers: &HeaderMap) -> Result<Option<Duration>> {
    let wait = query.number("wait", 0, LONGEST_S);
    query.finish()?;
    let preferred = headers
        .get("prefer")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(',').find_map(|part| part.trim().strip_prefix("wait=")?.parse::<i64>().ok()));
    let seconds = wait.or_else(|| preferred.map(|s| s.clamp(0, LONGEST_S)));
    Ok(seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs))
}

/// Looks until what is found has ended, or the time is up; what the last look found.
pub async fn for_end<T, F>(
    http: &Http,
    wait: Duration,
    look: impl Fn() -> F,
    ended: impl Fn(&T) -> bool,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut time_is_up = pin!(http.clock.sleep(wait));
    let mut is_last = wait.is_zero();
    loop {
        // Armed before looking: what happens in between rings it.
        let mut bell = http.db.bell.arm();
        let found = look().await?;
        if ended(&found) || is_last {
            return Ok(found);
        }
        let rung = async {
            // Lives as long as the database handle we hold.
            let _ = bell.changed().await;
            http.clock.sleep(LOOK_PAUSE).await;
        };
        tokio::select! {
            () = rung => {}
            () = &mut time_is_up => is_last = true,
        }
    }
}
