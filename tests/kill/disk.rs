//! A disk that fills up under load and gets room again, on a small file system of the server's own, so
//! that no other program feels it; and one that turns read-only, or is beyond a quota, and is well again, by a
//! library between the program and the system: none turns read-only, and back, under who has files open.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Notify;

use crate::ground::{Engine, Ground, SECRET, injections, success};
use crate::oracle;
use crate::server::{Client, Setup};

/// Room for the database and for its log, which SQLite begins anew at 40 MB.
const SIZE: &str = "96m";
/// Files it can hold.
const INODES: usize = 64;
/// What is left over after the disk was found full is used up by small writes, in so many at most.
const SMALL_WRITES: usize = 5_000;

/// B16, on SQLite: refused in so many words, nothing acknowledged lost, and on again by itself.
pub async fn a_full_disk_is_survived() {
    let ground = Ground::new(Engine::Sqlite, |_| {}).await;
    let place = Path::new(&ground.database).with_file_name("disk");
    fs::create_dir(&place).unwrap();
    let setup = ground.setup();
    let mount = format!("mount -t tmpfs -o size={SIZE},nr_inodes={INODES} tmpfs '{}'", place.display());
    let Some(program) = mounting(&mount, &place, &setup.program).await else {
        // Not through the test's own output, which is shown only when it fails.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: B16 needs `unshare` and `mount` and the right to use them: be root, or allow user \
             namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        );
        return;
    };
    let database = place.join("kill.db").display().to_string();
    let server = ground.serve_as(Setup { program, database, ..setup }, &[]).await;
    server.register(&ground.client).await;
    let ballast = PathBuf::from(format!("/proc/{}/root{}", server.id(), place.join("ballast").display()));
    let (mut jobs, mut acked) = (vec![], vec![]);
    let files = use_up_files(&ballast);
    jobs.push(ground.submit("b16-no-files", "p").await);
    acked.push(success("job_of_nobody", "v_no_files"));
    let took_it = ground.client.hook(acked[0].clone(), SECRET).await == 200;
    files.into_iter().for_each(|file| fs::remove_file(file).unwrap());
    let zero = [("stopped_by_no_room_for_a_file", usize::from(!took_it))];
    let before = Before { jobs, acked, zero: &zero };
    let mend = || fs::remove_file(&ballast).unwrap();
    amid_work(&ground, ("B16", "disk_full"), before, |_| fill(&ballast), mend).await;
    server.kill().await;
}

/// B16, on SQLite: nothing can be written any more, amid work, because the file system turned read-only or a quota
/// is used up; and then it can.
pub async fn refused_writes_are_survived() {
    const READ_ONLY: &str = "30";
    const QUOTA: &str = "122";
    let ground = Ground::new(Engine::Sqlite, |_| {}).await;
    let setup = ground.setup();
    let (library, refuses) = (setup.directory.join("refused_writes.so"), setup.directory.join("refuses"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kill/refused_writes.c");
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", source, "-o"]).arg(&library).status().await;
    if !made.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "NOT TESTED: B16 needs Linux and `cc`, for {source}");
        return;
    }
    let (library, at) = (library.display().to_string(), refuses.display().to_string());
    let server = ground.serve_with(&[("LD_PRELOAD", &library), ("REFUSES", &at)]).await;
    server.register(&ground.client).await;
    let spoil = |nth: usize| {
        // In one step: it is read at any time.
        let next = refuses.with_extension("next");
        fs::write(&next, [READ_ONLY, QUOTA][nth % 2]).unwrap();
        fs::rename(next, &refuses).unwrap();
    };
    let mend = || fs::remove_file(&refuses).unwrap();
    let row = ("B16 refused writes", "store_unavailable");
    amid_work(&ground, row, Before::default(), spoil, mend).await;
    server.kill().await;
}

/// What was done before the load begins: what was acknowledged, and what of it went wrong.
#[derive(Default)]
struct Before<'a> {
    jobs: Vec<String>,
    acked: Vec<Bytes>,
    zero: &'a [(&'a str, usize)],
}

/// Again and again nothing can be written, and then it can: a row, and the code with which it is refused.
async fn amid_work(
    ground: &Ground,
    (row, code): (&str, &'static str),
    before: Before<'_>,
    spoil: impl Fn(usize),
    mend: impl Fn(),
) {
    let Before { mut jobs, mut acked, zero } = before;
    let load = Arc::new(Load::new(code));
    let callers: Vec<_> = (0..3)
        .map(|caller| tokio::spawn(load.clone().run(ground.client.clone(), format!("b16-{caller}"))))
        .collect();
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let (mut slowest, mut silent, mut unreadable) = (0_f64, 0, 0);
    for nth in 0..injections() {
        for _ in 0..dice.random_range(1..40) {
            let _ = seen.recv().await;
        }
        let refused = load.refused.notified();
        spoil(nth);
        refused.await;
        silent += usize::from(!load.says_so(&ground.client).await);
        let list = ground.client.call("GET", "/api/jobs", None, None).await;
        unreadable += usize::from(!list.is_ok_and(|(status, _)| status == 200));
        for hook in 0..5 {
            let body = success(&format!("job_of_nobody_{nth}"), &format!("v_{hook}"));
            if ground.client.hook(body.clone(), SECRET).await == 200 {
                acked.push(body);
            }
        }
        mend();
        let watch = Stopwatch::start();
        jobs.push(ground.submit(&format!("b16-after-{nth}"), "p").await);
        ground.client.insist("GET", "/readyz", None, None).await;
        slowest = slowest.max(watch.elapsed().as_secs_f64());
    }
    load.stopped.store(true, Ordering::Relaxed);
    for caller in callers {
        jobs.extend(caller.await.unwrap());
    }
    let watch = Stopwatch::start();
    let verdict = oracle::compare(ground, &jobs).await;
    let drained = watch.elapsed().as_secs_f64();
    let kept = oracle::kept(&ground.client).await;
    let lost = acked.iter().filter(|body| !kept.contains(&oracle::digest(body))).count();
    let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
    let ours = [
        ("acked_and_lost", lost),
        ("refused_without_words", count(&load.wordless)),
        ("readyz_silent", silent),
        ("unreadable", unreadable),
    ];
    let figures = [
        ("jobs", jobs.len() as f64),
        ("refused", count(&load.named) as f64),
        ("recovery_s_max", slowest),
        ("drain_s", drained),
    ];
    ground.report(row, injections(), &[&oracle::zeros(&verdict)[..], &ours, zero].concat(), &figures);
}

/// What starts the program where only it sees what `mount` mounts, and stays the same process; none where
/// this is not permitted. It is a script beside `place`.
pub async fn mounting(mount: &str, place: &Path, program: &Path) -> Option<PathBuf> {
    for how in ["-m", "-Urm"] {
        let tried = Command::new("unshare").args([how, "sh", "-c", mount]).output().await;
        if tried.is_ok_and(|tried| tried.status.success()) {
            let script = place.with_extension("sh");
            let inside = format!("exec unshare {how} sh -c \"{mount} && exec \\\"\\$@\\\"\" sh");
            let text = format!("#!/bin/sh\n{inside} '{}' \"$@\"\n", program.display());
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
            return Some(script);
        }
    }
    None
}

/// Writes until nothing more goes in.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    for size in [1 << 20, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Makes files until there can be no more of them. Their paths.
fn use_up_files(ballast: &Path) -> Vec<PathBuf> {
    let paths = (0..=INODES).map(|nth| ballast.with_extension(nth.to_string()));
    let made: Vec<_> = paths.take_while(|path| File::create(path).is_ok()).collect();
    assert!(made.len() < INODES, "the file system holds more files than it was made for");
    made
}

/// Callers, and how they were refused.
struct Load {
    /// How they must be.
    code: &'static str,
    stopped: AtomicBool,
    /// Told of each refusal that names the disk.
    refused: Notify,
    named: AtomicUsize,
    wordless: AtomicUsize,
}

impl Load {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            stopped: AtomicBool::default(),
            refused: Notify::default(),
            named: AtomicUsize::default(),
            wordless: AtomicUsize::default(),
        }
    }

    /// Whether `/readyz` says it, too.
    async fn says_so(&self, client: &Client) -> bool {
        for _ in 0..SMALL_WRITES {
            if let Ok((503, answer)) = client.call("GET", "/readyz", None, None).await {
                return answer["code"] == self.code;
            }
        }
        false
    }

    /// One job after another, each insisted on with its own key. Their ids.
    async fn run(self: Arc<Self>, client: Client, name: String) -> Vec<String> {
        let mut jobs = vec![];
        while !self.stopped.load(Ordering::Relaxed) {
            let key = format!("{name}-{}", jobs.len());
            let body = json!({"kind": "video_agent", "request": {"prompt": "p"}}).to_string();
            let answer = client.raw("POST", "/api/jobs", Some(("idempotency-key", &key)), body.into()).await;
            let answer = answer.expect("it answers, full or not");
            let said: Value = serde_json::from_slice(&answer.body).unwrap();
            if answer.status == 202 {
                let id = said["id"].as_str().unwrap();
                // So that no more is under way than callers.
                client.insist("GET", &format!("/api/jobs/{id}?wait=1"), None, None).await;
                jobs.push(id.to_owned());
                continue;
            }
            let in_words = answer.status == 503
                && said["code"] == self.code
                && said["hint"].as_str().is_some_and(|hint| hint.contains("disk"))
                && answer.headers.contains_key("retry-after");
            if in_words {
                self.named.fetch_add(1, Ordering::Relaxed);
                self.refused.notify_waiters();
            } else {
                println!("B16: {} {said}", answer.status);
                self.wordless.fetch_add(1, Ordering::Relaxed);
            }
        }
        jobs
    }
}
