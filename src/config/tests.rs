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

/// Whoever followed both guides has both, and HeyGen may sign with either.
#[test]
fn secrets_of_both_guides_are_known_together() {
    let both = [("HEYGEN_WEBHOOK_SECRET", "a"), ("HEYGEN_SECRET", "b,a")];
    let secrets = |given: &Given| Config::resolve(given).unwrap().heygen_webhook_secrets;
    let named = |given: &Given| Config::resolve(given).unwrap().named("heygen-webhook-secret");
    assert_eq!(secrets(&env(&both)), ["a", "b"]);
    assert!(named(&env(&both)).contains("the variable HEYGEN_WEBHOOK_SECRET and the variable HEYGEN_SECRET"));
    let mut given = dot_env("HEYGEN_SECRET=b");
    given.environment = map(&both[..1]);
    assert_eq!(secrets(&given), ["a", "b"]);
    assert!(named(&given).contains("and HEYGEN_SECRET in line 1 of .env"), "{}", named(&given));
    // What is ours goes before what is another's, and a flag before all.
    let ours = env(&[both[0], both[1], ("REELHOOK_HEYGEN_WEBHOOK_SECRET", "c")]);
    assert_eq!(secrets(&ours), ["c"]);
    assert_eq!(secrets(&Given { flags: map(&[("heygen-webhook-secret", "d")]), ..ours }), ["d"]);
    let text = error(&env(&[both[0], ("HEYGEN_SECRET", "b,,c")]));
    assert!(text.contains("and the variable HEYGEN_SECRET), but one of the secrets"), "{text}");
    // Each is shown as if it stood alone: a short one, behind a long, not at all.
    let shown = named(&env(&[("HEYGEN_WEBHOOK_SECRET", "0123456789abcdef"), ("HEYGEN_SECRET", "xyz")]));
    assert!(shown.contains("`…cdef,…`"), "{shown}");
    // No other setting adds up.
    let ours = [("REELHOOK_DATABASE", "ours.db"), ("DATABASE_URL", "other.db")];
    assert_eq!(Config::resolve(&env(&ours)).unwrap().database, Address::Sqlite("ours.db".into()));
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
}

/// Two edits at most, and a third of what stands behind the prefix.
#[test]
fn a_name_is_guessed_only_where_it_is_near() {
    let guessed = |name: &str| {
        let text = error(&env(&[(name, "2")]));
        let (_, guess) = text.split_once("did you mean ")?;
        Some(guess.split_once('?')?.0.to_owned())
    };
    for (written, meant) in [
        ("REELHOOK_SLTS", "REELHOOK_SLOTS"),
        ("REELHOOK_SLOTSS", "REELHOOK_SLOTS"),
        ("REELHOOK_SLOTXX", "REELHOOK_SLOTS"),
        ("REELHOOK_DATABSE", "REELHOOK_DATABASE"),
        ("REELHOOK_LOQ", "REELHOOK_LOG"),
    ] {
        assert_eq!(guessed(written).as_deref(), Some(meant), "{written}");
    }
    for other in ["REELHOOK_FOO", "REELHOOK_SLT", "REELHOOK_SLXXS", "REELHOOK_SLOTSABC", "REELHOOK_"] {
        assert_eq!(guessed(other), None, "{other}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_of_ours_that_is_not_utf_8_is_an_error() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let read = |name: &[u8], value: &[u8]| {
        let pair = |text: &[u8]| OsString::from_vec(text.to_vec());
        given::environment([(pair(b"A"), pair(b"1")), (pair(name), pair(value))]).map_err(|e| e.to_string())
    };
    for name in [
        "REELHOOK_SLOTS",
        "REELHOOK_API_KEY",
        "HEYGEN_API_KEY",
        "HEYGEN_API_KEY_FILE",
        "HEYGEN_SECRET",
        "DATABASE_URL",
        "https_proxy",
    ] {
        let text = read(name.as_bytes(), b"caf\xe9").expect_err(name);
        assert!(text.starts_with(&format!("{name}, in the environment, is not UTF-8")), "{text}");
        assert!(text.contains("remove it") && !text.contains("caf"), "{text}");
        assert_eq!(read(name.as_bytes(), "café".as_bytes()).unwrap()[name], "café");
    }
    let text = read(b"REELHOOK_\xff", b"1").unwrap_err();
    assert!(text.starts_with("REELHOOK_\u{fffd}, in the environment"), "{text}");
    // What is of others is theirs.
    for name in [&b"LS_COLORS"[..], b"DATABASE_URL_FILE", b"MY_REELHOOK_X", b"B\xff"] {
        assert_eq!(read(name, b"\xff"), Ok(map(&[("A", "1")])));
    }
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
            for part in ["/no/such/file", &*named, "name a file of text", &*format!("or set {name} itself")] {
                assert!(gone.contains(part), "{part}: {gone}");
            }
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
fn a_password_in_a_query_is_never_shown() {
    for (given, shown) in [
        ("postgres://h:1/x?password=s3cret&user=u", "postgres://h:1/x?password=…&user=u"),
        ("postgres://h/x?user=u&pass%77ord=s3cret", "postgres://h/x?user=u&pass%77ord=…"),
        ("postgres://h/x?sslpassword=s3cret", "postgres://h/x?sslpassword=…"),
        ("postgres://h/x?PASSWORD=s3cret?s3cret", "postgres://h/x?PASSWORD=…"),
        ("postgres://u:s3cret@h/x?password=s3cret", "postgres://…@h/x?password=…"),
        // Of an `@` within one, nothing may stay on either side.
        ("postgres://h/x?password=s3cret@s3cret&user=u", "postgres://…@…&user=u"),
        ("postgres://u:s3cret?password=s3cret@h/x", "postgres://…@…"),
        ("https://x.example?client_secret=s3cret", "https://x.example?client_secret=…"),
        ("postgres://h/x?sslmode=require&user=u", "postgres://h/x?sslmode=require&user=u"),
        ("postgres://h/password=x", "postgres://h/password=x"),
    ] {
        assert_eq!(without_password(given), shown);
    }
    let address = "postgres://127.0.0.1:1/x?password=s3cret&user=u";
    let config = Config::resolve(&env(&[("REELHOOK_DATABASE", address)])).unwrap();
    let named = config.named("database");
    assert_eq!(
        named,
        "--database is `postgres://127.0.0.1:1/x?password=…&user=u` (from the variable REELHOOK_DATABASE)"
    );
    assert_eq!(config.database, Address::Postgres(address.to_owned()), "it is only shown so");
    for wrong in [format!("{address}&sslmode=perhaps"), "mysql://h/x?password_=s3cret".to_owned()] {
        let text = error(&flags(&[("database", &wrong)]));
        assert!(text.contains("=…") && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn an_address_of_keys_and_values_is_no_file() {
    for given in [
        "host=127.0.0.1 password=s3cret dbname=x",
        "password = 's3cret s3cret'",
        "user=s3cret",
        "dbname=s3cret",
        "\"host=h password=s3cret\"",
        "Server=h;User Id=u;Password=s3cret",
        "127.0.0.1/x?user=u&password=s3cret",
        "jdbc:postgresql://h/x?password=s3cret",
    ] {
        let text = error(&env(&[("DATABASE_URL", given)]));
        assert!(text.starts_with("--database is `…` (from the variable DATABASE_URL), but "), "{text}");
        assert!(text.contains("postgres://USER:PASSWORD@HOST:PORT/DATABASE"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    for file in ["ghost=1.db", "data/user=5/r.db", "host.db", "a=b.db", "sqlite:user=1.db", "sqlite:host=1"] {
        assert_eq!(error(&flags(&[("database", file)])), "", "{file}");
    }
    assert_eq!(error(&flags(&[("database", "postgres://h/d?user=u&password=p")])), "");
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
