//! Every setting of a server: flag, variable, default, bound, help.
//!
//! Precedence: flag, environment, `.env` file, default. A malformed setting stops the start with
//! its name, where its value came from and what would be right; an unknown `REELHOOK_` variable is
//! an error, never a silent default. `docs/configuration.md` is generated from the table here.

mod given;
pub mod postgres;
mod read;
mod shown;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use given::{Given, Source};
pub use read::web_url;
pub use shown::without_password;

use crate::domain::guard::Guard;
use crate::domain::proxy::{Proxies, Proxy, Straight};

/// Where the data lives, as `--database` or `DATABASE_URL` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file of our own.
    Sqlite(std::path::PathBuf),
    /// `postgres://…`; any number of nodes may share it.
    Postgres(String),
}

impl Address {
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Self::Postgres(text.to_owned())
        } else {
            // `sqlite:///var/x` names an absolute path, `sqlite://x` a relative one.
            let path = text.strip_prefix("sqlite:").unwrap_or(text);
            Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into())
        }
    }

    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// One setting, as flags, variables, help and documentation know it.
#[derive(Debug)]
pub struct Setting {
    /// The flag without its dashes; the variable is `REELHOOK_` and this in capitals.
    pub name: &'static str,
    /// Unprefixed variables that are honoured too, in this order, after the prefixed one.
    pub aliases: &'static [&'static str],
    pub default: Option<&'static str>,
    /// What a value looks like, for help and errors.
    pub value: &'static str,
    /// A secret is masked wherever it is shown, and may come from a file named by `…_FILE`.
    pub secret: bool,
    /// A list: of several aliases that are set each adds to it. Else the first of them is taken.
    pub joined: bool,
    pub help: &'static str,
}

const fn setting(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting { name, aliases: &[], default: None, value, secret: false, joined: false, help }
}

/// A setting that is on when its flag is given.
pub const SWITCH: &str = "true|false";

pub static SETTINGS: [Setting; 28] = [
    Setting {
        default: Some("127.0.0.1:8000"),
        ..setting("listen", "ADDRESS:PORT", "Where the server listens, as an IP address and a port.")
    },
    Setting {
        aliases: &["DATABASE_URL"],
        default: Some("reelhook.db"),
        ..setting(
            "database",
            "FILE|postgres://…",
            "A SQLite file of our own, never on a network file system, or a PostgreSQL database that several \
             nodes may share.",
        )
    },
    setting(
        "public-url",
        "URL",
        "The address HeyGen and your users reach this server by, e.g. https://video.example.com. \
         Without it no webhook address can be handed out, and outcomes are found by polling.",
    ),
    Setting {
        aliases: &["HEYGEN_API_KEY"],
        secret: true,
        ..setting(
            "heygen-api-key",
            "KEY",
            "The HeyGen key jobs are submitted with. It never leaves the server.",
        )
    },
    Setting {
        aliases: &["HEYGEN_WEBHOOK_SECRET", "HEYGEN_SECRET"],
        secret: true,
        joined: true,
        ..setting(
            "heygen-webhook-secret",
            "SECRET[,SECRET…]",
            "Secrets HeyGen signs webhooks with, besides those `webhook register` keeps in the store. Where both \
             variables without the prefix are set, those of both.",
        )
    },
    Setting {
        default: Some("https://api.heygen.com"),
        ..setting(
            "heygen-url",
            "URL",
            "Where HeyGen's API is. Point it at `reelhook sandbox` to pay nothing.",
        )
    },
    Setting {
        default: Some("10"),
        ..setting(
            "slots",
            "1..10000",
            "Most jobs outstanding at HeyGen at once, over all kinds and nodes. It begins with 10 at most, shrinks \
             when HeyGen says it is too many, and grows back. HeyGen's own limit is 10 on pay-as-you-go plans.",
        )
    },
    setting(
        "daily-jobs",
        "1..1000000",
        "Most jobs sent to HeyGen on one day, UTC, over all nodes; what it refuses does not count. The rest waits \
         for the next day. No such cap by default.",
    ),
    setting(
        "daily-credits",
        "1..1000000000",
        "When the balance HeyGen tells has fallen by so much on one day, UTC, the rest waits for the next day. In \
         the account's own unit, credits or dollars. The balance is looked up every minute, so what is sent within \
         a minute may come on top, and what others spend from the same account counts. No such cap by default.",
    ),
    setting(
        "least-credits",
        "1..1000000000",
        "With a balance below this, in the account's own unit, no job is sent, because HeyGen takes jobs it cannot \
         charge for and fails them later; with this or more it goes on by itself. The balance is looked up before \
         the first job after a start and every minute, so what is sent within a minute may come on top. No such \
         bound by default.",
    ),
    Setting {
        default: Some("256"),
        ..setting(
            "streams",
            "1..100000",
            "Most readers of live streams at one node at once; the next is answered 503. Each holds a connection, \
             for which the process must be allowed an open file, takes some 50 KiB, and looks into the event \
             log whenever something happens.",
        )
    },
    setting(
        "first-poll",
        "SECONDS",
        "How long after HeyGen accepted a job it is asked for first, 1 to 86400. By default the time its kind \
         usually takes, or 15 seconds where no webhook can arrive.",
    ),
    Setting {
        default: Some("15"),
        ..setting(
            "poll-pause",
            "SECONDS",
            "Least pause between two polls of one job, 1 to 86400. It widens with age.",
        )
    },
    Setting {
        // A hundred open agent videos, of two calls each, and some.
        default: Some("240"),
        ..setting(
            "poll-budget",
            "CALLS",
            "Calls in any minute by which each node asks HeyGen how jobs stand, 2 to 6000. One call is about up to \
             100 jobs where HeyGen has that, else about one. HeyGen publishes no limit; what is over this stays \
             due and is asked later.",
        )
    },
    Setting {
        default: Some("false"),
        ..setting(
            "accept-unsigned",
            SWITCH,
            "Answer 200 to unsigned webhooks on the shared addresses. They are still only hints. For a laptop: \
             refused together with a public URL or a listener that is not loopback.",
        )
    },
    Setting {
        default: Some("false"),
        ..setting(
            "adopt-strangers",
            SWITCH,
            "Make a job of what a signed webhook, or HeyGen's event log, tells of a video or translation that was \
             not submitted here. Those of another reelhook are left alone. `job adopt` does it once, by hand.",
        )
    },
    setting("trusted-proxies", "IP[,IP…]", "Reverse proxies whose X-Forwarded-For is believed."),
    setting(
        "allow-private",
        "NETWORK[,NETWORK…]",
        "Networks without public addresses that events may be sent to, such as 10.0.0.0/8, or 127.0.0.0/8 for \
         receivers on this machine. None by default.",
    ),
    Setting {
        aliases: &["https_proxy", "HTTPS_PROXY"],
        ..setting(
            "https-proxy",
            "http://[USER:PASSWORD@]HOST:PORT",
            "The proxy through which https:// addresses are called, HeyGen's and receivers'. It is asked for tunnels \
             (CONNECT): to HeyGen by name, to an address that callers chose by the IP address that was vetted here, \
             so this machine must be able to look names up. Never used for loopback.",
        )
    },
    Setting {
        aliases: &["http_proxy", "HTTP_PROXY"],
        ..setting("http-proxy", "http://[USER:PASSWORD@]HOST:PORT", "The same for http:// addresses.")
    },
    Setting {
        aliases: &["all_proxy", "ALL_PROXY"],
        ..setting(
            "all-proxy",
            "http://[USER:PASSWORD@]HOST:PORT",
            "The same for addresses of either kind that have no proxy of their own.",
        )
    },
    Setting {
        aliases: &["no_proxy", "NO_PROXY"],
        ..setting(
            "no-proxy",
            "NAME|IP|NETWORK|*[,…]",
            "What is called without a proxy: names and all below them, such as example.com; IP addresses; networks, \
             such as 10.0.0.0/8; * is everything.",
        )
    },
    Setting {
        default: Some("false"),
        ..setting("bootstrap", SWITCH, "Make an API key at start if there is none, and print it once.")
    },
    Setting {
        default: Some("info"),
        ..setting(
            "log",
            "LEVEL",
            "error, warn, info, debug or trace, or a filter such as reelhook=debug,info.",
        )
    },
    Setting { default: Some("text"), ..setting("log-format", "text|json", "How log lines look.") },
    setting("log-file", "FILE", "Write the log to this file, too. It is appended to."),
    Setting {
        default: Some("30"),
        ..setting("drain", "SECONDS", "How long a stop waits for work in progress, 1 to 600.")
    },
    Setting {
        default: Some("86400"),
        ..setting("deadline", "SECONDS", "When a job without a deadline of its own is ended, 60 to 2592000.")
    },
];

/// Variables of the command line's clients, and of our own tests, which are no settings of a server.
const OTHER_VARIABLES: [&str; 4] =
    ["REELHOOK_URL", "REELHOOK_API_KEY", "REELHOOK_API_KEY_FILE", "REELHOOK_TEST_POSTGRES"];

/// Known only to builds that have fail points: debug builds, and those with the feature.
const FAIL_POINT: &str = "REELHOOK_FAIL_POINT";
const FAIL_POINTS_BUILT: bool = cfg!(any(debug_assertions, feature = "fail-points"));

impl Setting {
    pub fn variable(&self) -> String {
        format!("REELHOOK_{}", self.name.to_uppercase().replace('-', "_"))
    }

    pub fn is_switch(&self) -> bool {
        self.value == SWITCH
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    #[error("--{} is `{shown}` (from {from}), but {why}.\n  It takes {}. {}", .setting.name, .setting.value, .setting.help)]
    Malformed { setting: &'static Setting, shown: String, from: Box<Source>, why: String },
    #[error("{name}, {place}, is no setting of reelhook{}\n  Correct or remove it; all settings are in `reelhook serve --help`.", hint(.near))]
    Unknown {
        name: String,
        /// Where it stands.
        place: String,
        near: Option<String>,
    },
    #[error(
        "{0}, in the environment, is not UTF-8, so nobody can read it.\n  Set it again as UTF-8, or remove it."
    )]
    NotText(String),
    #[error("{0}")]
    Together(String),
    #[error("{0}")]
    DotEnv(String),
}

fn hint(near: &Option<String>) -> String {
    near.as_ref().map_or(".".to_owned(), |name| format!("; did you mean {name}?"))
}

/// Whether the person asked for no colours (no-color.org).
#[allow(clippy::disallowed_methods)]
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

fn malformed(setting: &'static Setting, value: &str, from: &Source, why: impl Into<String>) -> ConfigError {
    ConfigError::Malformed {
        setting,
        shown: setting.show(value),
        from: Box::new(from.clone()),
        why: why.into(),
    }
}

/// A server's settings, checked.
#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub database: Address,
    /// Without a trailing slash.
    pub public_url: Option<String>,
    pub heygen_api_key: Option<String>,
    pub heygen_webhook_secrets: Vec<String>,
    pub heygen_url: String,
    pub slots: i64,
    pub daily_jobs: Option<i64>,
    pub daily_credits: Option<i64>,
    pub least_credits: Option<i64>,
    pub first_poll_s: Option<i64>,
    pub poll_pause_s: i64,
    pub poll_budget: i64,
    pub streams: i64,
    pub accept_unsigned: bool,
    pub adopt_strangers: bool,
    pub trusted_proxies: Vec<IpAddr>,
    /// What outgoing calls to addresses of callers' choosing may reach.
    pub guard: Guard,
    /// What all outgoing calls go through.
    pub proxies: Proxies,
    pub bootstrap: bool,
    pub log: String,
    pub log_json: bool,
    pub log_file: Option<PathBuf>,
    pub drain_s: i64,
    pub deadline_s: i64,
    /// Where a test wants the process to end; only builds that have fail points read it.
    pub fail_point: Option<String>,
    /// Setting, value as it may be shown, and where it came from; for the log at start.
    pub shown: Vec<(&'static str, String, Source)>,
}

impl Config {
    pub fn resolve(given: &Given) -> Result<Self, ConfigError> {
        given.refuse_strangers()?;
        let values = Values::find(given, |_| true)?;
        let config = Self {
            listen: values.required("listen", |v| {
                v.parse()
                    .map_err(|_| "it must be an IP address and a port, such as 127.0.0.1:8000".to_owned())
            })?,
            database: values.required("database", read::database)?,
            public_url: values.optional("public-url", read::base_url)?,
            heygen_api_key: values.optional("heygen-api-key", read::header_text)?,
            heygen_webhook_secrets: values
                .optional("heygen-webhook-secret", read::secrets)?
                .unwrap_or_default(),
            heygen_url: values.required("heygen-url", read::base_url)?,
            slots: values.required("slots", |v| read::number(v, 1, 10_000))?,
            daily_jobs: values.optional("daily-jobs", |v| read::number(v, 1, 1_000_000))?,
            daily_credits: values.optional("daily-credits", |v| read::number(v, 1, 1_000_000_000))?,
            least_credits: values.optional("least-credits", |v| read::number(v, 1, 1_000_000_000))?,
            first_poll_s: values.optional("first-poll", |v| read::number(v, 1, 86_400))?,
            poll_pause_s: values.required("poll-pause", |v| read::number(v, 1, 86_400))?,
            poll_budget: values.required("poll-budget", |v| read::number(v, 2, 6_000))?,
            streams: values.required("streams", |v| read::number(v, 1, 100_000))?,
            accept_unsigned: values.required("accept-unsigned", read::switch)?,
            adopt_strangers: values.required("adopt-strangers", read::switch)?,
            trusted_proxies: values.optional("trusted-proxies", read::addresses)?.unwrap_or_default(),
            guard: values.optional("allow-private", read::guard)?.unwrap_or_default(),
            proxies: values.proxies()?,
            bootstrap: values.required("bootstrap", read::switch)?,
            log: values.required("log", read::log_filter)?,
            log_json: values.required("log-format", |v| match v {
                "text" => Ok(false),
                "json" => Ok(true),
                _ => Err("it must be text or json".to_owned()),
            })?,
            log_file: values.optional("log-file", |v| Ok(PathBuf::from(v)))?,
            drain_s: values.required("drain", |v| read::number(v, 1, 600))?,
            deadline_s: values.required("deadline", |v| read::number(v, 60, 2_592_000))?,
            fail_point: given.variable(FAIL_POINT).map(|(value, _)| value),
            shown: values.shown(),
        };
        config.check_together()
    }

    fn check_together(self) -> Result<Self, ConfigError> {
        let exposed = if self.has_outside_url() {
            Some("a public URL")
        } else if !self.listen.ip().is_loopback() {
            Some("a listener that is not loopback")
        } else {
            None
        };
        match exposed {
            Some(what) if self.accept_unsigned => Err(ConfigError::Together(format!(
                "--accept-unsigned is for a laptop and is refused together with {what}.\n  Leave it out, and \
                 let `reelhook webhook register` get a secret from HeyGen, or set HEYGEN_WEBHOOK_SECRET."
            ))),
            _ => Ok(self),
        }
    }

    /// What is allowed and probably not meant, in a sentence each.
    pub fn warnings(&self) -> Vec<&'static str> {
        let plain = self.public_url.as_deref().is_some_and(|url| url.starts_with("http://"));
        let mut all = vec![];
        if plain && self.has_outside_url() {
            all.push(
                "--public-url begins with http://: HeyGen registers https:// addresses only, and API keys and \
                 webhooks would travel readable; put TLS in front and give its https:// address",
            );
        }
        if self.public_url.is_some() && self.hooks_url().is_none() {
            all.push(
                "--public-url names this machine itself, where HeyGen cannot reach it, so it is as if none were set: \
                 outcomes are found by polling; give the address HeyGen reaches this server by",
            );
        }
        if self.heygen_api_key.is_none() {
            all.push("no HeyGen key is set, so no job is sent; set HEYGEN_API_KEY and start again");
        }
        all
    }

    /// Where HeyGen reaches this server: the public URL, unless only this machine knows the way and HeyGen is
    /// elsewhere. It would keep such an address and send nothing (docs/heygen.md, Endpoints).
    pub fn hooks_url(&self) -> Option<String> {
        let is_near = url::Url::parse(&self.heygen_url).is_ok_and(|url| is_loopback(&url));
        self.public_url.clone().filter(|_| is_near || self.has_outside_url())
    }

    /// A setting, its value and where that came from, to begin an error with of what only its use shows.
    pub fn named(&self, name: &str) -> String {
        let given = self.shown.iter().find(|(of, ..)| *of == name);
        given.map_or(format!("--{name}"), |(_, value, from)| format!("--{name} is `{value}` (from {from})"))
    }

    /// Whether anything beyond this machine may reach the server.
    pub fn is_exposed(&self) -> bool {
        self.has_outside_url() || !self.listen.ip().is_loopback()
    }

    /// Whether the public address names another host than this one.
    fn has_outside_url(&self) -> bool {
        let host = self.public_url.as_deref().and_then(|u| url::Url::parse(u).ok());
        host.is_some_and(|url| !is_loopback(&url))
    }
}

struct Values(Vec<(&'static Setting, Option<(String, Source)>)>);

impl Values {
    fn find(given: &Given, wanted: fn(&Setting) -> bool) -> Result<Self, ConfigError> {
        let all = SETTINGS.iter().filter(|s| wanted(s)).map(|s| Ok((s, given.find(s)?)));
        all.collect::<Result<_, _>>().map(Self)
    }

    fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((setting, value)) = self.0.iter().find(|(s, _)| s.name == name) else { return Ok(None) };
        let Some((value, from)) = value else { return Ok(None) };
        let read = |value: &str| {
            if value.trim().is_empty() { Err("it must not be empty".to_owned()) } else { read(value) }
        };
        read(value).map(Some).map_err(|why| malformed(setting, value, from, why))
    }

    fn required<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        // Those asked for this way have a default, so this cannot happen.
        self.optional(name, read)?.ok_or_else(|| ConfigError::Together(format!("--{name} is needed")))
    }

    fn proxies(&self) -> Result<Proxies, ConfigError> {
        let mut proxies = Proxies {
            http: self.optional("http-proxy", Proxy::parse)?,
            https: self.optional("https-proxy", Proxy::parse)?,
            straight: self.optional("no-proxy", Straight::parse)?.unwrap_or_default(),
        };
        // Where both have their own this one is not used, and may be of a kind that is not known here.
        if proxies.http.is_none() || proxies.https.is_none() {
            let other = self.optional("all-proxy", Proxy::parse)?;
            proxies.http = proxies.http.or(other.clone());
            proxies.https = proxies.https.or(other);
        }
        Ok(proxies)
    }

    fn shown(&self) -> Vec<(&'static str, String, Source)> {
        let given = self.0.iter().filter_map(|(s, v)| Some((*s, v.as_ref()?)));
        given.map(|(s, (value, from))| (s.name, s.show(value), from.clone())).collect()
    }
}

/// The proxies on the way to one address, for commands that need no other setting of a server. To this machine
/// there is none, so what is wrong with them is nobody's trouble then.
pub fn proxies_to(url: &url::Url, given: &Given) -> Result<Proxies, ConfigError> {
    if is_loopback(url) {
        return Ok(Proxies::default());
    }
    Values::find(given, |setting| setting.name.ends_with("-proxy"))?.proxies()
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Generated from `src/config.rs` by `scripts/generate`; do not edit.\n\n\
         Every setting of `reelhook serve` is a flag and a variable. A flag goes before the environment, the\n\
         environment before a `.env` file in the working directory, that before the default. A secret may also\n\
         be in a file named by its variable with `_FILE` behind it. An unknown `REELHOOK_` variable stops the\n\
         start, and so does a value that is not right.\n\n\
         | flag | variables | default | what |\n| --- | --- | --- | --- |\n",
    );
    for s in &SETTINGS {
        let aliases: String = s.aliases.iter().map(|a| format!(", `{a}`")).collect();
        let default = s.default.map_or(String::new(), |d| format!("`{d}`"));
        let value = if s.is_switch() { String::new() } else { format!(" {}", s.value.replace('|', "\\|")) };
        page.push_str(&format!(
            "| `--{}`{value} | `{}`{aliases} | {default} | {}{} |\n",
            s.name,
            s.variable(),
            s.help,
            if s.secret { " *Secret.*" } else { "" },
        ));
    }
    page
}

#[cfg(test)]
mod tests;
