//! Settings: precedence, bounds from both sides, and errors that say where a value came from.

use std::collections::BTreeMap;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A `.env` file of these lines.
fn dot_env(lines: &str) -> Given {
    Given { dot_env: given::dot_env(lines).expect("lines that can be read"), ..Given::default() }
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
    given.dot_env = dot_env("REELHOOK_SLOTS=3\nREELHOOK_DRAIN=9").dot_env;
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
    let wanted = "--slots is `many` (from the variable REELHOOK_SLOTS), but it must be a whole number from 1 to 10000.\n";
    assert!(text.starts_with(wanted), "{text}");
    let secret = error(&env(&[("HEYGEN_API_KEY", "has white space 1234")]));
    assert!(secret.contains("`…1234`") && !secret.contains("white space 1"), "{secret}");
}

/// A value that fits and some that do not, of every setting; `numbers` are met from both sides.
#[test]
fn every_setting_is_checked_and_its_error_names_it() {
    let table: [(&str, &[&str], &[&str]); 28] = [
        (
            "listen",
            &["0.0.0.0:1", "[::1]:65535"],
            &["8000", "localhost:8000", "127.0.0.1:65536", "127.0.0.1"],
        ),
        (
            "database",
            &["r.db", "postgres://h/d"],
            &["mysql://h/d", "sqlite:", "http://x", "postgres://h:x/d"],
        ),
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
        ("least-credits", &["1", "1000000000"], &["0", "1000000001", "0.5"]),
        ("streams", &["1", "100000"], &["0", "100001", "many"]),
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
        (
            "https-proxy",
            &["http://u:p@proxy.example:3128", "proxy.example:3128"],
            &["socks5://proxy.example", "https://proxy.example", "http://proxy.example:65536", "http://p/x"],
        ),
        ("http-proxy", &["http://10.0.0.1:65535"], &["http://u:p/w@proxy.example", "two words"]),
        ("all-proxy", &["http://[::1]:3128"], &["socks5h://127.0.0.1:1080"]),
        (
            "no-proxy",
            &["*", "localhost,.example.com, 10.0.0.0/8", "*.local ::1"],
            &["example.com:80", "10.0.0.0/33", "http://example.com", "a*b"],
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
            assert!(by_flag.contains("(from the command line), but "), "{by_flag}");
            assert!(by_flag.contains(&format!("It takes {}. {}", setting.value, setting.help)), "{by_flag}");
        }
        let Some(value) = wrong.first() else { continue };
        let variable = setting.variable();
        let by_variable = error(&env(&[(&variable, value)]));
        assert!(by_variable.contains(&format!("(from the variable {variable}), but ")), "{by_variable}");
        let in_file = error(&dot_env(&format!("# ours\n{variable}='{value}'\n")));
        assert!(in_file.contains(&format!("(from {variable} in line 2 of .env), but ")), "{in_file}");
        // An empty variable is as good as none: compose files leave them behind.
        assert_eq!(error(&env(&[(&variable, "")])), "", "{variable}");
    }
}

#[test]
fn an_unknown_variable_is_an_error_that_says_where_it_stands() {
    let text = error(&env(&[("REELHOOK_SLOT", "2")]));
    let wanted = "REELHOOK_SLOT, in the environment, is no setting of reelhook; did you mean REELHOOK_SLOTS?";
    assert!(text.starts_with(wanted), "{text}");
    let text = error(&dot_env("A=1\n\n  export  REELHOOK_WHATEVER_ELSE = 1\n"));
    let wanted = "REELHOOK_WHATEVER_ELSE, in line 3 of .env, is no setting of reelhook.\n";
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.contains("remove it"), "{text}");
    assert_eq!(error(&env(&[("REELHOOK_URL", "http://x")])), "");
    // Two edits away is a slip, three is another word.
    assert!(error(&env(&[("REELHOOK_SLT", "2")])).contains("did you mean REELHOOK_SLOTS?"));
    assert!(!error(&env(&[("REELHOOK_SLOTSABC", "2")])).contains("did you mean"));
}

#[test]
fn a_line_of_dot_env_that_cannot_be_read_is_named_and_not_shown() {
    let broken = |lines: &str| given::dot_env(lines).expect_err("it is broken").to_string();
    for (lines, number) in [
        ("A=1\nB=two hunter2\n", 2),
        ("hunter2\n", 1),
        ("# A\n\nA=1\nB='hunter2\nC=3\n", 4),
        ("A=1\n2hunter2=1", 2),
    ] {
        let text = broken(lines);
        assert!(text.starts_with(&format!("line {number} of .env cannot be read.")), "{lines}: {text}");
        assert!(text.contains("NAME=value") && !text.contains("hunter2"), "{text}");
    }
    // Of two lines the last counts, as in a shell that reads them.
    let read = given::dot_env("\u{feff}A=1\nA='two words' # why\n").expect("it can be read");
    assert_eq!(read["A"], ("two words".to_owned(), 2));
}

#[test]
fn a_secret_stands_in_one_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-the-file\n").unwrap();
    let path = file.path().to_str().unwrap();
    for setting in SETTINGS.iter().filter(|s| s.secret) {
        let names =
            std::iter::once(setting.variable()).chain(setting.aliases.iter().map(|a| (*a).to_owned()));
        for name in names {
            let named = format!("{name}_FILE");
            assert_eq!(error(&env(&[(&named, path)])), "", "{named}");
            let text = error(&env(&[(&name, "direct"), (&named, path)]));
            for part in [&*format!("--{}: it is given twice", setting.name), &name, &named, "leave one"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            let mut given = dot_env(&format!("{name}=direct"));
            given.environment = map(&[(&named, path)]);
            assert!(error(&given).contains(&format!("{name} in line 1 of .env")), "{}", error(&given));
            let gone = error(&env(&[(&named, "/no/such/file")]));
            assert!(gone.contains("/no/such/file") && gone.contains(&named), "{gone}");
        }
    }
}

#[test]
fn a_public_address_in_the_clear_is_warned_of() {
    let warnings = |url| {
        let given = flags(&[("public-url", url), ("heygen-api-key", "k")]);
        Config::resolve(&given).unwrap().warnings()
    };
    assert!(warnings("http://video.example.com")[0].contains("https://"));
    assert_eq!(warnings("https://video.example.com"), [""; 0]);
    let keyless = Config::resolve(&Given::default()).unwrap().warnings();
    assert!(keyless[0].contains("HEYGEN_API_KEY"), "{keyless:?}");
}

#[test]
fn an_address_of_this_machine_serves_only_a_heygen_on_it() {
    let config = |public, heygen| {
        let given = flags(&[("public-url", public), ("heygen-url", heygen), ("heygen-api-key", "k")]);
        Config::resolve(&given).unwrap()
    };
    for public in ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"] {
        let near = config(public, "http://127.0.0.1:9000");
        assert_eq!((near.hooks_url().as_deref(), near.warnings().len()), (Some(public), 0));
        let far = config(public, "https://api.heygen.com");
        assert_eq!(far.hooks_url(), None, "{public}");
        assert!(far.warnings()[0].contains("this machine itself"), "{public}");
    }
    let outside = config("https://video.example.com", "https://api.heygen.com");
    assert_eq!(outside.hooks_url().as_deref(), Some("https://video.example.com"));
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
        ("HTTPS_PROXY", "http://u:hunter2@proxy:1"),
        // Nothing but the place of the `@` tells that this is a password.
        ("http_proxy", "u:hunter2@proxy:2"),
    ]);
    let shown = format!("{:?}", Config::resolve(&given).unwrap().shown);
    assert!(shown.contains("…cdef") && !shown.contains("0123456789"), "{shown}");
    assert!(!shown.contains("hunter2") && shown.contains("http://…@proxy:1"), "{shown}");
    for address in ["postgres://u:hunter2@h:port/r", "postgres://u:hunter2@h/r?sslmode=perhaps"] {
        let text = error(&flags(&[("database", address)]));
        assert!(text.contains("it is no valid address") && !text.contains("hunter2"), "{text}");
    }
    for address in
        ["socks5://u:hunter2@p:1", "http://u:1/hunter2@p:1", "http://u:#hunter2@p:1", "u:hunter2@p:x"]
    {
        let text = error(&env(&[("ALL_PROXY", address)]));
        assert!(text.contains("…@p:") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn proxies_are_named_as_everywhere() {
    let of = |pairs: &[(&str, &str)]| Config::resolve(&env(pairs)).unwrap().proxies.to_string();
    assert_eq!(of(&[]), "none");
    assert_eq!(of(&[("HTTPS_PROXY", "a:1")]), "https:// through http://a:1, http:// straight");
    assert_eq!(of(&[("HTTP_PROXY", "a:1")]), "https:// straight, http:// through http://a:1");
    assert_eq!(of(&[("all_proxy", "a:1")]), "https:// through http://a:1, http:// through http://a:1");
    // Small letters first, as curl has it; ours before all.
    let both = [("https_proxy", "small:1"), ("HTTPS_PROXY", "large:1"), ("ALL_PROXY", "all:1")];
    assert_eq!(of(&both), "https:// through http://small:1, http:// through http://all:1");
    let ours = [("REELHOOK_HTTPS_PROXY", "ours:1"), ("https_proxy", "small:1")];
    assert_eq!(of(&ours), "https:// through http://ours:1, http:// straight");
    // What nobody uses may be of any kind: desktops set all three.
    let with_socks = [("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "b:1"), ("ALL_PROXY", "socks5://c:1")];
    assert_eq!(of(&with_socks), "https:// through http://b:1, http:// through http://a:1");
    let given = dot_env("HTTPS_PROXY=http://a:1\nNO_PROXY=x.example");
    let proxies = Config::resolve(&given).unwrap().proxies;
    assert!(proxies.of(true, "y.example").is_some() && proxies.of(true, "x.example").is_none());
}

#[test]
fn a_command_asks_for_proxies_only_where_one_may_be_used() {
    let to = |url: &str, given: &Given| proxies_to(&url.parse().unwrap(), given).map_err(|e| e.to_string());
    // What else is wrong with a server's settings is no business of a command.
    let given = env(&[("HTTPS_PROXY", "proxy:1"), ("REELHOOK_SLOTS", "many")]);
    assert!(to("https://x.example", &given).unwrap().https.is_some());
    let socks = env(&[("ALL_PROXY", "socks5://127.0.0.1:1080")]);
    for here in ["http://127.0.0.1:8000", "http://localhost:8000", "https://[::1]:8000"] {
        assert_eq!(to(here, &socks), Ok(Proxies::default()), "{here}");
    }
    let why = to("https://x.example", &socks).unwrap_err();
    assert!(why.contains("from the variable ALL_PROXY") && why.contains("not supported"), "{why}");
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
