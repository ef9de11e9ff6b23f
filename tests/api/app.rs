//! The whole app under test: served on loopback over a store of its own, in front of a sandbox,
//! both on one manual clock. Nothing runs by itself: `settle` does what is due, `advance` moves
//! time from one due thing to the next. Dropping it fails the case on whatever is left unexplained.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reelhook::app::App;
use reelhook::clock::Clock;
use reelhook::config::{Config, Given};
use reelhook::domain::job::Kind;
use reelhook::domain::time::{HOUR, MINUTE, Millis};
use reelhook::heygen::kinds;
use reelhook::heygen::sandbox::{Entry, Fault, Options, Sandbox, What};
use reelhook::store::{self, Db, upstream_limit};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinHandle;

use crate::client::{self, Answer, Headers};
use crate::database::{self, Fresh};

/// 2026-11-21T10:00:00Z, when every case begins.
pub const START: Millis = 1_795_255_200_000;
/// The HeyGen key of every case; it must never leave the app.
pub const HEYGEN_KEY: &str = "heygen-key-4711-never-shown";

/// Stamps out cases, once per engine.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { crate::app::on_sqlite(super::$case) })+
        }
        mod postgres {
            $(#[test] fn $case() { crate::app::on_postgres(super::$case) })+
        }
    };
}
pub(crate) use cases;

pub fn on_sqlite(case: impl AsyncFnOnce(&Fresh)) {
    run(&database::sqlite(), case);
}

pub fn on_postgres(case: impl AsyncFnOnce(&Fresh)) {
    run(&database::postgres(), case);
}

fn run(fresh: &Fresh, case: impl AsyncFnOnce(&Fresh)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(case(fresh));
}

/// What a case may change of the setting.
pub struct Setup<'a> {
    /// Flags of `serve`; they go before those every case has.
    pub flags: &'a [(&'static str, &'a str)],
    /// Variables of its environment.
    pub variables: &'a [(&'static str, &'a str)],
    /// Whether HeyGen can reach the app.
    pub public: bool,
    pub sandbox: fn(&mut Options),
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { flags: &[], variables: &[], public: true, sandbox: |_| {} }
    }
}

pub struct TestApp {
    pub clock: Clock,
    pub sandbox: Sandbox,
    pub base: String,
    /// Where the sandbox is.
    upstream: String,
    config: Config,
    listener: TcpListener,
    running: Option<Running>,
    hung: Vec<Hung>,
    log: Log,
    leftovers_are_meant: bool,
}

struct Running {
    app: App,
    runtime: Runtime,
}

/// What the app logs: each has threads of its own, so that no case sees the lines of another.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A run of the runner that waits for an answer of the sandbox that only time brings.
struct Hung {
    run: JoinHandle<store::Result<usize>>,
    until: Millis,
}

impl TestApp {
    pub async fn new(fresh: &Fresh) -> Self {
        Self::with(fresh, Setup::default()).await
    }

    pub async fn with(fresh: &Fresh, setup: Setup<'_>) -> Self {
        let clock = Clock::manual(START, 7);
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = format!("http://{}", door.local_addr().expect("an address"));
        let mut options = Options::new(clock.clone(), upstream.clone());
        (setup.sandbox)(&mut options);
        let sandbox = Sandbox::new(options).expect("a sandbox");
        let router = sandbox.router();
        tokio::spawn(async move { axum::serve(door, router).await });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let mut given = Given::default();
        let mut flags =
            vec![("database", &*fresh.address), ("heygen-url", &*upstream), ("heygen-api-key", HEYGEN_KEY)];
        if setup.public {
            flags.push(("public-url", &*base));
        }
        for (name, value) in flags.iter().chain(setup.flags) {
            given.flags.insert((*name).to_owned(), (*value).to_owned());
        }
        for (name, value) in setup.variables {
            given.environment.insert((*name).to_owned(), (*value).to_owned());
        }
        // An empty value takes a flag away again.
        given.flags.retain(|_, value| !value.is_empty());
        let config = Config::resolve(&given).expect("settings that are right");
        let mut app = Self {
            clock,
            sandbox,
            base,
            upstream,
            config,
            listener,
            running: None,
            hung: vec![],
            log: Log::default(),
            leftovers_are_meant: false,
        };
        app.start().await;
        app
    }

    /// Starts the app on the store as it is.
    pub async fn start(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let log = self.log.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone());
        let dispatch = tracing::Dispatch::new(lines.finish());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // For as long as the thread lives.
            .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&dispatch)))
            .enable_all()
            .build()
            .expect("a runtime");
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let listener = self.listener.try_clone().expect("the listener");
        let prepared = runtime.spawn(async move {
            let app = App::prepare(&config, clock).await?;
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio");
            let router = app.router().into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, router).await });
            Ok::<_, store::Error>(app)
        });
        let app = prepared.await.expect("no panic").expect("the app starts");
        self.running = Some(Running { app, runtime });
    }

    /// A second node on the same database, which works when it is told to.
    pub async fn second_app(&self) -> App {
        let running = self.running.as_ref().expect("a running app");
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let started = running.runtime.spawn(async move { App::prepare(&config, clock).await });
        started.await.expect("no panic").expect("a second node starts")
    }

    /// Has a second node do what is due, beside the first.
    pub fn work_of(&self, other: &App) -> JoinHandle<store::Result<usize>> {
        let (running, runner) = (self.running.as_ref().expect("a running app"), other.runner.clone());
        running.runtime.spawn(async move { runner.settle().await })
    }

    /// The address of a second node on the same database. Only its door is open: work is done by
    /// the first.
    pub async fn second_node(&self) -> String {
        let running = self.running.as_ref().expect("a running app");
        let app = self.second_app().await;
        let started = running.runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let base = format!("http://{}", listener.local_addr().expect("an address"));
            let router = app.router().into_make_service_with_connect_info::<SocketAddr>();
            tokio::spawn(async move { axum::serve(listener, router).await });
            base
        });
        started.await.expect("no panic")
    }

    /// The app is gone from one moment to the next, whatever it was doing; the store stays.
    pub async fn crash(&mut self) {
        let Running { app, runtime } = self.running.take().expect("a running app");
        self.hung.clear();
        let down = tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(Duration::from_secs(10));
            drop(app);
        });
        down.await.expect("the app goes down");
    }

    /// Started again with settings that were changed meanwhile.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.crash().await;
        change(&mut self.config);
        self.start().await;
    }

    pub async fn restart(&mut self) {
        self.crash().await;
        self.start().await;
    }

    pub fn app(&self) -> &App {
        &self.running.as_ref().expect("a running app").app
    }

    pub fn db(&self) -> &Db {
        &self.app().db
    }

    /// The lines logged so far that hold all of `words`.
    pub fn log(&self, words: &[&str]) -> Vec<String> {
        let bytes = self.log.0.lock().expect("no panic while logging").clone();
        let text = String::from_utf8(bytes).expect("text");
        let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines.map(str::to_owned).collect()
    }

    /// Leftovers are what this case is about.
    pub fn leave_it(&mut self) {
        self.leftovers_are_meant = true;
    }

    // Time.

    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Does everything that is due now, in the app and in the sandbox, and what follows from it.
    /// A call that hangs is left hanging; `advance` brings its end.
    pub async fn settle(&mut self) {
        while self.work().await + self.sandbox.settle().await > 0 {}
    }

    /// What is due in the app alone.
    pub async fn work(&mut self) -> usize {
        let mut news = self.sandbox.listen();
        let now = self.now();
        let mut ran = 0;
        for hung in std::mem::take(&mut self.hung) {
            if hung.until > now {
                self.hung.push(hung);
            } else {
                ran += self.follow(hung.run, &mut news).await;
            }
        }
        let running = self.running.as_ref().expect("a running app");
        let runner = running.app.runner.clone();
        let run = running.runtime.spawn(async move { runner.settle().await });
        ran + self.follow(run, &mut news).await
    }

    /// Follows a run to its end, or until the ledger says that it waits for time to pass.
    async fn follow(
        &mut self,
        mut run: JoinHandle<store::Result<usize>>,
        news: &mut Receiver<Entry>,
    ) -> usize {
        loop {
            tokio::select! {
                biased;
                done = &mut run => return done.expect("the run does not panic").expect("the store works"),
                entry = news.recv() => if let Some(wait) = entry.ok().and_then(|e| hangs_for(&e.what)) {
                    self.hung.push(Hung { run, until: self.now() + wait });
                    return 1;
                },
            }
        }
    }

    /// Lets time pass, from one due thing to the next, doing each when it is due.
    pub async fn advance(&mut self, by: Duration) {
        let target = self.now() + i64::try_from(by.as_millis()).expect("a sane time");
        // What no task tells of (a lease, a slot) is found at the next step.
        let longest = if by > Duration::from_secs(6 * 3_600) { HOUR / 4 } else { MINUTE / 2 };
        loop {
            self.settle().await;
            let now = self.now();
            if now >= target {
                return;
            }
            let limit = self.db().read(upstream_limit::get).await.expect("the limit");
            let due = [
                Some(target),
                Some(now + longest),
                self.app().runner.next_due().await.expect("the next due time"),
                self.sandbox.next_due(),
                self.hung.iter().map(|h| h.until).min(),
                Some(limit.held_until),
            ];
            let next = due.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(target);
            self.clock.advance(Duration::from_millis((next - now).unsigned_abs()));
        }
    }

    pub async fn advance_s(&mut self, seconds: u64) {
        self.advance(Duration::from_secs(seconds)).await;
    }

    // Calls.

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: impl Into<Bytes>,
    ) -> Answer {
        client::call(method, &format!("{}{path}", self.base), headers, body.into()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Somebody else submits this to HeyGen. HeyGen's answer.
    pub async fn elsewhere(&self, path: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json"), ("x-api-key", HEYGEN_KEY)];
        let url = format!("{}{path}", self.upstream);
        client::call("POST", &url, &headers, body.to_string().into()).await.expect(200).json()["data"].clone()
    }

    /// A delivery to the shared address.
    pub async fn webhook(&self, headers: Headers<'_>, body: impl Into<Bytes>) -> Answer {
        self.call("POST", "/webhooks/heygen", headers, body).await
    }

    /// Takes a job in; `title` may hold `#words` for the sandbox. The job's id.
    pub async fn submit(&self, kind: &str, title: &str) -> String {
        let job = self.post("/api/jobs", &new_job(kind, title)).await.expect(202).json();
        job["id"].as_str().expect("an id").to_owned()
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/jobs/{id}")).await.expect(200).json()
    }

    pub async fn state(&self, id: &str) -> String {
        self.job(id).await["state"].as_str().expect("a state").to_owned()
    }

    /// The types of the job's events, oldest first.
    pub async fn events(&self, id: &str) -> Vec<String> {
        let page = self.get(&format!("/api/jobs/{id}/events?limit=200")).await.expect(200).json();
        texts(&page["data"], "type")
    }

    /// Registers the app at the sandbox and gives the secret, which only these two know.
    pub async fn register(&self) -> String {
        self.post("/api/webhooks", &json!({})).await.expect(201);
        self.secrets().await.remove(0)
    }

    /// The stored webhook secrets that live, newest first.
    pub async fn secrets(&self) -> Vec<String> {
        let now = self.now();
        let live = self.db().read(move |tx| store::webhook_secret::list_live(tx, now)).await;
        live.expect("the secrets").into_iter().map(|s| s.secret).collect()
    }

    /// The part of the path of a job's own webhook address.
    pub fn address(&self, id: &str) -> String {
        format!("/webhooks/heygen/{}", self.app().http.addresses.mark(id))
    }

    // The ledger.

    /// How often the job was paid for.
    pub fn charges(&self, id: &str) -> usize {
        let is_its = |what: &What| match what {
            What::Charged { callback_id, key, .. } => {
                callback_id.as_deref() == Some(id) || key.as_deref().is_some_and(|k| k.starts_with(id))
            }
            _ => false,
        };
        self.sandbox.ledger().iter().filter(|e| is_its(&e.what)).count()
    }

    /// The Idempotency-Key of every create call for the job, in order.
    pub fn keys_sent(&self, id: &str) -> Vec<String> {
        let key = |what: What| match what {
            What::Accepted { key, .. } | What::Refused { key, .. } => key,
            What::Replayed { key, .. } => Some(key),
            _ => None,
        };
        let keys = self.sandbox.ledger().into_iter().filter_map(|e| key(e.what));
        keys.filter(|key| key.starts_with(id)).collect()
    }

    /// How often the sandbox was asked for this path.
    pub fn calls(&self, wanted: &str) -> usize {
        let is_it = |what: &What| matches!(what, What::Call { path, .. } if path == wanted);
        self.sandbox.ledger().iter().filter(|e| is_it(&e.what)).count()
    }

    /// The value of one line of `/metrics`; 0 when it is not there.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.expect(200).text();
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |v| v.parse().expect("a number"))
    }

    async fn leftovers(db: Db, now: Millis) -> Vec<String> {
        let read = move |tx: &mut store::Tx| {
            let sql = "SELECT kind, subject, due_at, dead_at, reason FROM task";
            tx.query(sql, &[])?
                .into_iter()
                .map(|mut row| {
                    let (kind, subject) = (row.text(0)?, row.text(1)?);
                    let (due_at, dead_at, reason) = (row.int(2)?, row.opt_int(3)?, row.opt_text(4)?);
                    let reason = reason.unwrap_or_default();
                    Ok(match dead_at {
                        Some(_) => Some(format!("dead letter: {kind} of {subject}: {reason}")),
                        // A case that never settles leaves the duties of the start to nobody.
                        None if due_at <= now && kind != "upkeep" => {
                            Some(format!("due and not done: {kind} of {subject} {reason}"))
                        }
                        None => None,
                    })
                })
                .collect::<store::Result<Vec<Option<String>>>>()
        };
        db.read(read).await.expect("the tasks").into_iter().flatten().collect()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let Some(Running { app, runtime }) = self.running.take() else { return };
        let mut left = vec![];
        if !std::thread::panicking() && !self.leftovers_are_meant {
            let (db, now) = (app.db.clone(), self.clock.now());
            // The case's own runtime cannot be waited for from here.
            let looked = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                runtime.block_on(Self::leftovers(db, now))
            });
            left = looked.join().expect("the leftovers");
            left.extend(self.hung.iter().map(|h| format!("a call hangs until {}", h.until)));
            match self.sandbox.tally().paid_twice {
                0 => {}
                n => left.push(format!("paid twice: {n}")),
            }
            let metrics = app.http.metrics.text();
            for line in ["reelhook_task_panics_total", "reelhook_tasks_stale_finish_total"] {
                let count = metrics.lines().find_map(|l| l.strip_prefix(line)).unwrap_or(" 0");
                if count.trim() != "0" {
                    left.push(format!("{line}{count}"));
                }
            }
        }
        runtime.shutdown_background();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// How long a create call waits for its answer, if its fault is to keep it waiting: HeyGen's own
/// time, or ours to give up.
fn hangs_for(what: &What) -> Option<Millis> {
    let faults: &[Fault] = match what {
        What::Accepted { faults, .. } => faults,
        What::Refused { fault: Some(fault), .. } => std::slice::from_ref(fault),
        _ => return None,
    };
    faults.iter().find_map(|fault| match fault {
        Fault::Hang | Fault::HangBefore | Fault::Stall => Some(2 * MINUTE),
        Fault::Slow => Some(31_000),
        _ => None,
    })
}

/// A submit's body.
pub fn new_job(kind: &str, title: &str) -> Value {
    json!({"kind": kind, "request": request(kind, title)})
}

/// HeyGen's own body of a job of this kind.
pub fn request(kind: &str, title: &str) -> Value {
    match kind {
        "video" => json!({
            "type": "avatar", "avatar_id": "Abigail_standing", "title": title, "script": "Hello from a test.",
        }),
        "video_agent" => json!({"prompt": title}),
        "translation" => json!({
            "title": title,
            "video": {"type": "url", "url": "https://example.com/source.mp4"},
            "output_languages": ["Spanish (Spain)"],
        }),
        other => {
            let kind = Kind::parse(other).unwrap_or_else(|| panic!("no kind {other}"));
            let mut request = kinds::example(kind);
            // Also where HeyGen has no such field: the sandbox reads its `#words` there.
            request["title"] = json!(title);
            request
        }
    }
}

/// One text of every item of a list.
pub fn texts(list: &Value, name: &str) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|item| item[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// The header HeyGen signs with.
pub fn signed(secret: &str, body: &[u8]) -> String {
    reelhook::domain::signature::sign(secret, body)
}
