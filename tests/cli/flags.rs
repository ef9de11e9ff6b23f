//! Help, mistakes on the command line, and how output looks: nothing here needs a server.

use serde_json::json;

use crate::canned::{Canned, job};
use crate::{run, run_in};

#[tokio::test]
async fn help_says_what_there_is() {
    let ran = run(&["--help"]).await.expect(0);
    for word in [
        "serve", "demo", "sandbox", "selftest", "job", "receipt", "event", "webhook", "key", "doctor",
        "upstream", "simulate",
    ] {
        assert!(ran.out.lines().any(|l| l.trim_start().starts_with(&format!("{word} "))), "{word}");
    }
    assert!(!ran.out.contains("generate"), "it is for who changes the code");
    for args in [
        &["job", "submit"][..],
        &["job", "get"],
        &["job", "wait"],
        &["job", "list"],
        &["job", "cancel"],
        &["job", "refresh"],
        &["job", "retry"],
        &["job", "approve"],
        &["job", "reject"],
        &["job", "events"],
        &["job", "receipts"],
        &["receipt", "list"],
        &["receipt", "show"],
        &["event", "list"],
        &["webhook", "register"],
        &["webhook", "list"],
        &["webhook", "rotate"],
        &["webhook", "remove"],
        &["key", "create"],
        &["key", "list"],
        &["key", "revoke"],
        &["doctor"],
        &["upstream", "show"],
        &["upstream", "pause"],
        &["upstream", "resume"],
        &["simulate"],
        &["selftest"],
        &["completion"],
    ] {
        let ran = run(&[args, &["--help"]].concat()).await.expect(0);
        assert!(ran.out.contains(&format!("  reelhook {}", args.join(" "))), "{args:?}: no example");
        assert!(ran.out.lines().all(|l| l.chars().count() <= 100), "{args:?}: too wide");
        // Broken in two by a terminal, they could not be copied.
        let examples = ran.out.lines().filter(|l| !l.starts_with("    ") && l.contains("reelhook "));
        assert!(
            examples.clone().all(|l| l.chars().count() <= 80),
            "{args:?}: {:?}",
            examples.collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_mistake_is_one_problem_object_and_exit_code_2() {
    let submit = ["job", "submit", "--kind", "video_agent", "--request", r#"{"prompt": "p"}"#];
    let bad: [(&[&str], &str); 10] = [
        (&["--label", "team"], "NAME=VALUE"),
        (&["--label", "=x"], "NAME=VALUE"),
        (&["--label", "a=1", "--label", "a=2"], "twice"),
        (&["--deadline", "tomorrow"], "2h"),
        (&["--metadata", "{broken"], "read as JSON"),
        (&["--timeout", "5m"], "--wait"),
        (&["--file", "{}"], "cannot be used"),
        (&["--url", "ftp://x"], "http://"),
        (&["--no-such-flag"], "--no-such-flag"),
        (
            &["--title", "x"],
            "--title names a group of jobs, which needs --file and --template; a video's title",
        ),
    ];
    for (more, word) in bad {
        let ran = run(&[&submit[..], more].concat()).await.expect(2);
        assert_eq!(ran.problem()["code"], "cli_usage", "{more:?}");
        assert!(ran.err.contains(word), "{more:?}: {}", ran.err);
        assert_eq!(ran.out, "");
    }
    let ran = run(&["job", "list", "--state", "done"]).await.expect(2);
    assert!(ran.problem()["detail"].as_str().unwrap().contains("completed"), "the choices are named");
    run(&["job", "submit"]).await.expect(2);
    run(&["job"]).await.expect(2);
}

#[tokio::test]
async fn a_pipe_gets_json_and_a_table_on_request() {
    let server = Canned::saying(200, job("processing")).await;
    let get = ["job", "get", "j", "--url", &server.url];
    let piped = run(&get).await.expect(0);
    assert_eq!(piped.json(), job("processing"));
    assert!(piped.out.lines().count() > 1, "indented");
    assert_eq!(run(&[&get[..], &["--json"]].concat()).await.expect(0).out, piped.out);
    let line = run(&[&get[..], &["--output", "ndjson"]].concat()).await.expect(0);
    assert_eq!(line.out, format!("{}\n", job("processing")));
    for environment in [&[][..], &[("NO_COLOR", "1")]] {
        let ran = run_in(environment, &[&get[..], &["--output", "table"]].concat(), "").await.expect(0);
        assert!(ran.out.starts_with("job_01hzy3k8v9q2m4n6p8r0s2t4w6  processing  video\n"), "{}", ran.out);
        assert!(ran.out.contains("  labels     team=sales\n") && !ran.out.contains('\u{1b}'), "{}", ran.out);
    }
}

#[tokio::test]
async fn a_table_is_readable_at_eighty_columns_whatever_is_in_it() {
    let mut long = job("failed");
    long["failure"]["message"] = json!("very long words of HeyGen \u{1b}[31m about a \n thing ".repeat(30));
    long["title"] = json!("日本語の題名".repeat(50));
    let mut odd = job("queued");
    odd["id"] = json!("x".repeat(300));
    let page = json!({"data": [long, odd], "has_more": false, "next_cursor": null});
    let server = Canned::saying(200, page).await;
    let args = ["job", "list", "--output", "table", "--url", &server.url];
    for (columns, most) in [("80", 80), ("120", 120)] {
        let ran = run_in(&[("COLUMNS", columns)], &args, "").await.expect(0);
        assert_eq!(ran.out.lines().count(), 3, "{}", ran.out);
        assert!(ran.out.lines().all(|l| l.chars().count() <= most), "{}", ran.out);
        assert!(!ran.out.contains('\u{1b}') && ran.out.contains("job_01hzy3k8v9q2m4n6p8r0s2t4w6"));
    }
}

#[tokio::test]
async fn completions_are_scripts() {
    for (shell, word) in
        [("bash", "_reelhook"), ("zsh", "#compdef reelhook"), ("fish", "complete -c reelhook")]
    {
        assert!(run(&["completion", shell]).await.expect(0).out.contains(word), "{shell}");
    }
}

#[tokio::test]
async fn generate_writes_what_its_check_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docs");
    let path = path.to_str().unwrap();
    let ran = run(&["generate", path, "--check"]).await.expect(1);
    assert!(ran.problem()["detail"].as_str().unwrap().contains("cli.md"));
    run(&["generate", path]).await.expect(0);
    run(&["generate", path, "--check"]).await.expect(0);
    let cli = std::fs::read_to_string(format!("{path}/cli.md")).unwrap();
    assert!(cli.contains("### reelhook job submit") && cli.contains("| 130 | interrupted |"));
}
