//! The app and the sandbox in one thread, and everything that is under way in them: each a run that
//! goes on only when it is told to, from one fail point to the next.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use reelhook::app::App;
use reelhook::clock::Clock;
use reelhook::config::{Config, Given};
use reelhook::domain::time::Millis;
use reelhook::fail::{FailPoints, Point};
use reelhook::heygen::sandbox::{Fault, Options, Sandbox};
use reelhook::store::upstream_limit;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tokio::task::{Id, JoinHandle};
use tower::ServiceExt;

use crate::upstream::Line;

/// 2026-11-21T10:00:00Z.
pub const START: Millis = 1_795_255_200_000;
/// A run that is not heard of for so long, in real time, has escaped the simulation.
const ESCAPED: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Debug)]
pub enum Done {
    Worked,
    Answered { status: u16, body: Bytes },
}

/// Where a run stands when it is not going on.
#[derive(Debug, Clone, Copy)]
pub enum Standing {
    At(#[allow(dead_code)] Point),
    /// Waits for an answer until its patience ends.
    Hung {
        until: Millis,
    },
}

pub struct Run {
    pub what: String,
    pub standing: Standing,
    handle: JoinHandle<Done>,
}

/// Where a run stopped, and what lets it go on.
type Stop = (Point, oneshot::Sender<()>);

#[derive(Clone, Default)]
struct Stopped(Arc<Mutex<BTreeMap<Id, Stop>>>);

pub struct World {
    /// True time, which the sandbox goes by.
    pub truth: Clock,
    /// The app's clock, which may be wrong.
    pub clock: Clock,
    pub sandbox: Sandbox,
    pub line: Line,
    pub app: Option<App>,
    /// Under way, by number; in the order they began.
    pub runs: BTreeMap<u64, Run>,
    runtime: Option<Runtime>,
    stopped: Stopped,
    upstream: TcpListener,
    door: TcpListener,
    config: Config,
    seed: u64,
    begun: u64,
    _directory: tempfile::TempDir,
}

impl World {
    /// On this PostgreSQL schema, or on a file of its own.
    pub fn new(seed: u64, faults: Vec<(Fault, f64)>, postgres: Option<&str>) -> Self {
        // In memory where the machine has such a place: what is lost with the power is not tested here.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (upstream, door) = (listen(), listen());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let truth = Clock::manual(START, seed);
        let sandbox = Sandbox::new(Options {
            seed,
            faults,
            concurrency: 3,
            render: 1_000..=600_000,
            ..Options::new(truth.clone(), url(&upstream))
        });
        let mut given = Given::default();
        let file = directory.path().join("sim.db").display().to_string();
        let database = postgres.unwrap_or(&file);
        for (name, value) in [
            ("database", database),
            ("heygen-url", &*url(&upstream)),
            ("heygen-api-key", "sim"),
            ("public-url", &*url(&door)),
            ("slots", "4"),
            // Short ones are met amid the trouble, long ones after everything else has been tried.
            ("deadline", ["3600", "7200", "3600", "86400"][seed as usize % 4]),
        ] {
            given.flags.insert(name.to_owned(), value.to_owned());
        }
        let mut world = Self {
            clock: Clock::manual(START, seed),
            sandbox: sandbox.unwrap(),
            line: Line::new(seed),
            app: None,
            runs: BTreeMap::new(),
            runtime: None,
            stopped: Stopped::default(),
            config: Config::resolve(&given).unwrap(),
            upstream,
            door,
            truth,
            seed,
            begun: 0,
            _directory: directory,
        };
        world.start(0);
        world
    }

    /// Starts the app on the store as it is, with a clock that is `skew` off.
    pub fn start(&mut self, skew: Millis) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        self.begun += 1;
        self.clock = Clock::manual(self.truth.now() + skew, self.seed ^ self.begun << 32);
        self.stopped = Stopped::default();
        let fail = fail_points(self.stopped.clone(), self.line.news.clone());
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let listeners =
            [(&self.upstream, self.line.before(self.sandbox.router())), (&self.door, self.line.door())];
        let listeners = listeners.map(|(listener, router)| (listener.try_clone().unwrap(), router));
        let app = runtime.block_on(async {
            for (listener, router) in listeners {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::spawn(async move { axum::serve(listener, router).await });
            }
            App::prepare_with(&config, clock, fail).await.unwrap()
        });
        (self.runtime, self.app) = (Some(runtime), Some(app));
    }

    /// The app is gone from one moment to the next, with all that was under way; the store stays.
    pub fn crash(&mut self) {
        self.runs.clear();
        // Everything that runs for the app is dropped where it stands; the sandbox remembers.
        drop(self.runtime.take());
        drop(self.app.take());
        let _ = self.line.take_hung();
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().expect("a running app")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a running app")
    }

    /// What the store says.
    pub fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&mut reelhook::store::Tx) -> reelhook::store::Result<T> + Send + 'static,
    ) -> T {
        self.runtime().block_on(self.app().db.read(read)).expect("the store can be read")
    }

    /// An operator ends whatever pause of submission there is.
    pub fn resume(&self) {
        let now = self.now();
        let write = move |tx: &mut reelhook::store::Tx| {
            let mut limit = upstream_limit::lock(tx)?;
            if limit.resume(now) {
                upstream_limit::put(tx, &limit)?;
            }
            Ok(())
        };
        self.runtime().block_on(self.app().db.write(write)).expect("the store can be written");
    }

    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    pub fn advance(&self, by: Millis) {
        self.truth.advance(Duration::from_millis(by.unsigned_abs()));
        self.clock.advance(Duration::from_millis(by.unsigned_abs()));
    }

    pub fn next_due(&self) -> Option<Millis> {
        let app = self.runtime().block_on(self.app().runner.next_due()).unwrap();
        let skew = self.now() - self.truth.now();
        app.into_iter().chain(self.sandbox.next_due().map(|at| at + skew)).min()
    }

    /// The sandbox does what is due; its webhooks land in the bag.
    pub fn settle_sandbox(&self) {
        self.runtime().block_on(async {
            let sandbox = self.sandbox.clone();
            tokio::spawn(async move { sandbox.settle().await }).await.unwrap();
        });
    }

    /// Begins a turn of the worker: what is due is claimed and run.
    pub fn begin_work(&mut self) -> Option<(String, Done)> {
        let runner = self.app().runner.clone();
        let handle = self.runtime().spawn(async move {
            runner.settle().await.expect("the store works");
            Done::Worked
        });
        self.begin("work".to_owned(), handle)
    }

    /// Begins a request to the app.
    pub fn begin_call(
        &mut self,
        what: String,
        method: &str,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Option<(String, Done)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))))
            .body(Body::from(body))
            .unwrap();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, "127.0.0.1".parse().unwrap());
        let router: Router = self.app().router();
        let handle = self.runtime().spawn(async move {
            let answer = router.oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            Done::Answered { status, body: answer.into_body().collect().await.unwrap().to_bytes() }
        });
        self.begin(what, handle)
    }

    fn begin(&mut self, what: String, handle: JoinHandle<Done>) -> Option<(String, Done)> {
        self.drive(Run { what, standing: Standing::Hung { until: self.now() }, handle })
    }

    /// Lets a run go on to where it next stands still. What it came to, if it ended.
    pub fn go_on(&mut self, number: u64) -> Option<(String, Done)> {
        let run = self.runs.remove(&number).expect("such a run");
        if let Some((_, go)) = self.stopped.0.lock().unwrap().remove(&run.handle.id()) {
            let _ = go.send(());
        }
        self.drive(run)
    }

    fn drive(&mut self, mut run: Run) -> Option<(String, Done)> {
        let (stopped, line, now) = (self.stopped.clone(), self.line.clone(), self.now());
        let id = run.handle.id();
        let handle = &mut run.handle;
        let stands = async {
            loop {
                tokio::select! {
                    biased;
                    done = &mut *handle => return Err(done.expect("a run does not panic")),
                    () = line.news.notified() => {}
                }
                if let Some((point, _)) = stopped.0.lock().unwrap().get(&id) {
                    return Ok(Standing::At(*point));
                }
                if let Some(wait) = line.take_hung() {
                    return Ok(Standing::Hung { until: now + wait });
                }
            }
        };
        let stands = async {
            // Already there: it went on when the clock moved.
            if let Some((point, _)) = stopped.0.lock().unwrap().get(&id) {
                return Some(Ok(Standing::At(*point)));
            }
            Clock::real().within(ESCAPED, stands).await
        };
        let stands = self.runtime().block_on(stands);
        match stands
            .unwrap_or_else(|| panic!("{} waits for something the simulation does not know", run.what))
        {
            Err(done) => Some((run.what, done)),
            Ok(standing) => {
                run.standing = standing;
                self.begun += 1;
                self.runs.insert(self.begun, run);
                None
            }
        }
    }
}

/// Every run stops at every point until it is told to go on.
fn fail_points(stopped: Stopped, news: Arc<Notify>) -> FailPoints {
    FailPoints::new(move |point| {
        let (go, told) = oneshot::channel();
        stopped.0.lock().unwrap().insert(tokio::task::id(), (point, go));
        news.notify_one();
        Box::pin(async move {
            // Nobody to tell it means that the app crashed; then it stays where it is.
            if told.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    })
}
