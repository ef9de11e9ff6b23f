//! Settings: precedence, bounds from both sides, and errors that say where a value came from.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn flags(pairs: &[(&str, &str)]) -> Given {
    Given { flags: map(pairs), ..Given::default() }
}

fn env(pairs: &[(&str, &str)]) -> Given {
    Given { environment: map(pairs), ..Given::default() }
}

fn error(given: &Given) -> String {
    Config::resolve(given).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn nothing_given_is_a_laptop() {
    let config = Config::resolve(&Given::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.database.engine(), "sqlite");
    assert!(!config.is_exposed());
}

#[test]
fn a_flag_goes_before_the_environment_before_dot_env() {
    let mut given = env(&[("REELHOOK_SLOTS", "2")]);
    given.dot_env = map(&[("REELHOOK_SLOTS", "3"), ("REELHOOK_DRAIN", "9")]);
    let config = Config::resolve(&given).unwrap();
    assert_eq!((config.slots, config.drain_s), (2, 9));
    given.flags = map(&[("slots", "1")]);
    assert_eq!(Config::resolve(&given).unwrap().slots, 1);
}

/// Guides 001 and 004 name the secret's variable differently.
#[test]
fn guide_001_and_004_variables_are_honoured() {
    let named = |name| Config::resolve(&env(&[(name, "abc,def")])).unwrap().heygen_webhook_secrets;
    assert_eq!(named("HEYGEN_WEBHOOK_SECRET"), ["abc", "def"]);
    assert_eq!(named("HEYGEN_SECRET"), ["abc", "def"]);
    assert_eq!(named("REELHOOK_HEYGEN_WEBHOOK_SECRET"), ["abc", "def"]);
}

#[test]
fn a_malformed_setting_says_its_name_source_and_fix() {
    let text = error(&env(&[("REELHOOK_SLOTS", "many")]));
    assert!(text.starts_with("--slots is `many` by the variable REELHOOK_SLOTS"), "{text}");
    assert!(text.contains("no whole number from 1 to 10000"), "{text}");
    let secret = error(&env(&[("HEYGEN_API_KEY", "has white space 1234")]));
    assert!(secret.contains("`…1234`") && !secret.contains("white space 1"), "{secret}");
}

/// A value that fits and some that do not, of every setting; `numbers` are met from both sides.
#[test]
fn every_setting_is_checked_and_its_error_names_it() {
    let table: [(&str, &[&str], &[&str]); 22] = [
        (
            "listen",
            &["0.0.0.0:1", "[::1]:65535"],
            &["8000", "localhost:8000", "127.0.0.1:65536", "127.0.0.1"],
        ),
        ("database", &["r.db", "postgres://h/d"], &["mysql://h/d", "sqlite:", "http://x"]),
        (
            "public-url",
            &["https://x.example"],
            &["x.example", "ftp://x", "https://", "https://x/?a", "https://x/#a"],
        ),
        ("heygen-api-key", &["k"], &["two words", "k\n", "ключ"]),
        ("heygen-webhook-secret", &["a,b"], &["a,,b", ",", "a,"]),
        ("heygen-url", &["http://127.0.0.1:8100"], &["127.0.0.1:8100", "https://u:p@x"]),
        ("slots", &["1", "10000"], &["0", "10001", "-1", "1.5", "ten", "1 "]),
        ("daily-jobs", &["1", "1000000"], &["0", "1000001", "ten"]),
        ("daily-credits", &["1", "1000000000"], &["0", "1000000001", "1.5"]),
        ("first-poll", &["1", "86400"], &["0", "86401", "5s"]),
        ("poll-pause", &["1", "86400"], &["0", "86401", "99999999999999999999"]),
        ("poll-budget", &["2", "6000"], &["1", "6001", "often"]),
        ("accept-unsigned", &["yes", "0"], &["perhaps", "2"]),
        ("adopt-strangers", &["on", "false"], &["maybe"]),
        ("trusted-proxies", &["10.0.0.1, ::1"], &["10.0.0.0/8", "proxy", "10.0.0.1,"]),
        (
            "allow-private",
            &["10.0.0.0/8, ::1", "127.0.0.1"],
            &["10.0.0.0/33", "localhost", "10/8", "10.0.0.1,"],
        ),
        ("bootstrap", &["on", "off"], &["x"]),
        ("log", &["debug", "reelhook=debug,info", "off"], &["loud", "reelhook=loud", "info,,debug", "inof"]),
        ("log-format", &["json"], &["xml", "JSON"]),
        ("log-file", &["x.log"], &[]),
        ("drain", &["1", "600"], &["0", "601"]),
        ("deadline", &["60", "2592000"], &["59", "2592001"]),
    ];
    assert_eq!(table.map(|(name, ..)| name), SETTINGS.each_ref().map(|s| s.name), "no setting is left out");
    for (name, right, wrong) in table {
        let setting = SETTINGS.iter().find(|s| s.name == name).unwrap();
        for value in right {
            assert_eq!(error(&flags(&[(name, value)])), "", "{name} {value}");
        }
        for value in wrong.iter().chain(&["", "  "]) {
            let by_flag = error(&flags(&[(name, value)]));
            assert!(by_flag.starts_with(&format!("--{name} is ")), "{name} {value:?}: {by_flag}");
            assert!(by_flag.contains("by the command line"), "{by_flag}");
            assert!(by_flag.contains(&format!("It takes {}. {}", setting.value, setting.help)), "{by_flag}");
        }
        let Some(value) = wrong.first() else { continue };
        let variable = setting.variable();
        let by_variable = error(&env(&[(&variable, value)]));
        assert!(by_variable.contains(&format!("by the variable {variable}")), "{by_variable}");
        let given = Given { dot_env: map(&[(&variable, value)]), ..Given::default() };
        assert!(error(&given).contains(&format!("by {variable} in .env")), "{}", error(&given));
        // An empty variable is as good as none: compose files leave them behind.
        assert_eq!(error(&env(&[(&variable, "")])), "", "{variable}");
    }
}

#[test]
fn an_unknown_variable_is_an_error() {
    let text = error(&env(&[("REELHOOK_SLOT", "2")]));
    assert!(text.contains("REELHOOK_SLOT is no setting of reelhook; did you mean REELHOOK_SLOTS?"), "{text}");
    let given = Given { dot_env: map(&[("REELHOOK_WHATEVER_ELSE", "1")]), ..Given::default() };
    assert!(error(&given).contains("is no setting of reelhook."));
    assert_eq!(error(&env(&[("REELHOOK_URL", "http://x")])), "");
}

#[test]
fn accepting_unsigned_is_for_a_laptop() {
    let on = ("accept-unsigned", "true");
    assert_eq!(error(&flags(&[on])), "");
    assert!(error(&flags(&[on, ("public-url", "https://x.example")])).contains("a public URL"));
    assert!(error(&flags(&[on, ("listen", "0.0.0.0:8000")])).contains("not loopback"));
}

#[test]
fn secrets_and_passwords_are_never_shown() {
    let given = env(&[
        ("HEYGEN_API_KEY", "hg_0123456789abcdef"),
        ("DATABASE_URL", "postgres://u:hunter2hunter2@localhost/r"),
    ]);
    let shown = format!("{:?}", Config::resolve(&given).unwrap().shown);
    assert!(shown.contains("…cdef") && !shown.contains("0123456789"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn addresses_must_be_whole() {
    for bad in ["example.com", "ftp://x", "https://u:p@x", "https://x/?a"] {
        assert!(!error(&flags(&[("public-url", bad)])).is_empty(), "{bad}");
    }
    let config = Config::resolve(&flags(&[("public-url", "https://x.example/")])).unwrap();
    assert_eq!(config.public_url.as_deref(), Some("https://x.example"));
}

#[test]
fn databases_are_told_apart() {
    assert_eq!(Address::parse("reelhook.db"), Address::Sqlite("reelhook.db".into()));
    assert_eq!(Address::parse("sqlite:data/r.db"), Address::Sqlite("data/r.db".into()));
    assert_eq!(Address::parse("sqlite://data/r.db"), Address::Sqlite("data/r.db".into()));
    assert_eq!(Address::parse("sqlite:///var/r.db"), Address::Sqlite("/var/r.db".into()));
    assert_eq!(Address::parse("/var/r.db"), Address::Sqlite("/var/r.db".into()));
    assert_eq!(Address::parse("postgres://h/d").engine(), "postgres");
}
