//! What of a setting's value may be shown, in the log and in errors: never a password, wherever in an address it
//! stands, and of a secret no more than its end.

use url::form_urlencoded;

use super::Setting;

/// What names in a query hold that carry a password: PostgreSQL's `password` and `sslpassword`, and what may have
/// been meant by them.
const PASSWORDS: [&str; 2] = ["pass", "secret"];

/// Words by which PostgreSQL's other form of an address is known, `host=… password=…`.
const KEYS: [&str; 4] = ["host", "dbname", "user", "password"];

impl Setting {
    /// A value of it as it may be shown.
    pub(super) fn show(&self, value: &str) -> String {
        if self.secret && self.joined {
            return value.split(',').map(mask).collect::<Vec<_>>().join(",");
        }
        if self.secret {
            return mask(value);
        }
        // Where a quoted password ends in it is not known here.
        if self.name == "database" && is_key_value(value) {
            "…".to_owned()
        } else {
            without_password(value)
        }
    }
}

/// The last four characters of a secret that is long enough to spare them.
fn mask(secret: &str) -> String {
    let tail: String = secret.chars().skip(secret.chars().count().saturating_sub(4)).collect();
    if secret.chars().count() >= 12 { format!("…{tail}") } else { "…".to_owned() }
}

/// A URL as it may be shown: whatever stands before its last `@` may be a user and a password, even where it
/// cannot be read as such, and so may what its query calls a password.
pub fn without_password(text: &str) -> String {
    let text = &masked_query(text);
    let scheme = text.find("://").map_or(0, |at| at + "://".len());
    match text.rfind('@') {
        Some(at) if at >= scheme => format!("{}…{}", &text[..scheme], &text[at..]),
        _ => text.to_owned(),
    }
}

fn masked_query(text: &str) -> String {
    let Some((server, query)) = text.split_once('?') else { return text.to_owned() };
    let pairs: Vec<String> = query.split('&').map(masked_pair).collect();
    format!("{server}?{}", pairs.join("&"))
}

fn masked_pair(pair: &str) -> String {
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    let name = decoded.map(|(name, _)| name.to_ascii_lowercase()).unwrap_or_default();
    match pair.split_once('=') {
        Some((written, value)) if PASSWORDS.iter().any(|word| name.contains(word)) => {
            // Of a value with an `@` nobody can say whether it is the last of a password before the host.
            let masked = if value.contains('@') { "…@…" } else { "…" };
            format!("{written}={masked}")
        }
        _ => pair.to_owned(),
    }
}

/// Whether a database is given as PostgreSQL's keys and values, or .NET's, or by an address without its beginning:
/// `host=… password=…` would be a fine name for a file.
pub(super) fn is_key_value(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    if ["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| text.starts_with(scheme)) {
        return false;
    }
    let between = |c: char| c.is_whitespace() || ";?&'\"".contains(c);
    let is_key = |before: &str| before.trim_end().rsplit(between).next().is_some_and(|k| KEYS.contains(&k));
    text.match_indices('=').any(|(at, _)| is_key(&text[..at]))
}
