//! `reelhook demo` as its users meet it: it ends well, says what happened in the width of a terminal,
//! and leaves nothing.

use crate::run_in;

const JOBS: [&str; 8] =
    ["welcome", "answer-lost", "webhook-lost", "doubled", "forged", "app-fails", "agent", "fails"];

#[tokio::test]
async fn it_ends_well_when_the_application_verified_every_event() {
    let place = tempfile::tempdir().expect("a directory");
    let args = ["demo", "--exit-when-done", "--listen", "127.0.0.1:0"];
    let ran = run_in(&[("TMPDIR", place.path().to_str().unwrap())], &args, "").await.expect(0);
    assert!(!ran.out.contains('\u{1b}') && ran.err.is_empty(), "{}{}", ran.out, ran.err);
    // An address stands whole, whatever the width.
    let wide = ran.out.lines().filter(|line| line.chars().count() > 80 && !line.contains("http://"));
    assert_eq!(wide.collect::<Vec<_>>(), [""; 0]);

    let (story, table) = ran.out.split_once("  job          ended").expect("a table");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = table.lines().skip(1).take(JOBS.len()).map(words).collect();
    for (row, job) in rows.iter().zip(JOBS) {
        assert_eq!((row[0].as_str(), row.last().unwrap().as_str()), (job, "yes"), "{}", ran.out);
        let times: Vec<f64> =
            row[4..8].iter().map(|time| time.trim_end_matches('s').parse().unwrap()).collect();
        assert!(times.is_sorted(), "submitted, rendered, heard, told: {row:?}");
    }
    let line = |job: &str, what: &str| {
        let is_it = |line: &&str| words(line).get(1..3).is_some_and(|who| who == ["app", job]);
        story.lines().filter(is_it).filter(|line| line.contains(what)).count()
    };
    for job in JOBS {
        assert_eq!(line(job, "took it"), 1, "{job}: {}", ran.out);
    }
    assert_eq!(line("app-fails", "answered 500"), 1, "{}", ran.out);
    assert_eq!(line("app-fails", "again, the same id"), 1, "{}", ran.out);
    let end = words(table).join(" ");
    assert!(end.ends_with("events, each verified by its signature and taken once."), "{end}");
    assert!(std::fs::read_dir(place.path()).expect("it is there").next().is_none(), "its store is gone");
}
