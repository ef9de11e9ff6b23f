//! Those who hear of events as they happen: readers of the stream whose connection is cut at every event, and
//! `listen`, which sleeps, loses its network, its receiver and its life. Nobody misses anything.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::{Clock, Stopwatch};
use reelhook::net::{self, Call, Reading};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use crate::ground::{Engine, Ground, PATIENCE, injections, is_long};
use crate::receivers::resident_mb;
use crate::server::Client;
use crate::told::Heard;

/// Readers of one node at once; one more is refused. And what they read.
const READERS: usize = 250;
const READERS_LONG: usize = 9_000;
const READ_BY_MANY: usize = 20;
/// So many of them open their connections at the same time.
const OPENING: usize = 200;
/// Proxies cut what is silent for so long.
const PROXY_CUTS_S: f64 = 30.0;

/// B23: a reader whose connection is cut at every few events, over nodes and a restart; then as many readers as
/// there may be.
pub async fn streams_have_no_holes(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    // Of sockets a process may have 20,000 on many machines, and of these 1,024 by default.
    let readers = if is_long() { READERS_LONG } else { READERS };
    let most = readers.to_string();
    let settings = [("REELHOOK_STREAMS", &*most)];
    let server = ground.serve_with(&settings).await;
    let second = ground.second().await;
    let nodes = if second.0.is_ok() { vec![&ground.client, &second.1] } else { vec![&ground.client] };
    let events = injections() * 5;
    let writing = async {
        let (mut server, mut jobs) = (server, vec![]);
        for nth in 0..events {
            if nth == events / 2 {
                server.kill().await;
                server = ground.serve_with(&settings).await;
            }
            jobs.push(ground.submit_with(&format!("b23-{nth}"), "p", json!({"hold": true})).await);
        }
        (server, jobs)
    };
    let ((server, jobs), (read, cuts)) = join(writing, cut_at_events(&nodes, events, ground.seed)).await;
    let (gaps, duplicates) = holes(&jobs, &read);

    // The first reader may not be let go of yet.
    let before = resident_mb(&server);
    let from = format!("since={}", read[events - READ_BY_MANY - 1]["number"]);
    let open = (0..readers - 8).map(|_| Stream::open(&ground.client, &from, None));
    let many: Vec<Result<Stream, u16>> = stream::iter(open).buffer_unordered(OPENING).collect().await;
    let mut many: Vec<Stream> = many.into_iter().map(|stream| stream.expect("there is room")).collect();
    let lasts = &jobs[events - READ_BY_MANY..];
    let read = join_all(many.iter_mut().map(async |stream| {
        let mut told = vec![];
        while told.len() < READ_BY_MANY {
            told.push(stream.event().await.expect("it goes on").1);
        }
        told
    }))
    .await;
    let each = (resident_mb(&server) - before) * 1_024.0 / many.len() as f64;
    let of_many: Vec<(usize, usize)> = read.iter().map(|read| holes(lasts, read)).collect();
    let silent = many[0].silence().await;
    let refused = refused(&ground.client, readers).await;
    let zero = [
        ("gaps", gaps + of_many.iter().map(|holes| holes.0).sum::<usize>()),
        ("duplicates", duplicates + of_many.iter().map(|holes| holes.1).sum::<usize>()),
        ("silent_for_long", usize::from(silent > PROXY_CUTS_S)),
        ("one_too_many_taken", usize::from(!refused)),
    ];
    let figures = [
        ("events", events as f64),
        ("nodes", nodes.len() as f64),
        ("readers", many.len() as f64),
        ("kib_per_reader", each),
        ("longest_silence_s", silent),
    ];
    ground.report("B23", cuts, &zero, &figures);
    server.kill().await;
}

/// Jobs that were told of less than once, and how often one was told of more than that or too early.
fn holes(jobs: &[String], read: &[Value]) -> (usize, usize) {
    let told: HashSet<&str> = read.iter().filter_map(|event| event["job_id"].as_str()).collect();
    let gaps = jobs.iter().filter(|id| !told.contains(id.as_str())).count();
    let numbers: Vec<i64> = read.iter().filter_map(|event| event["number"].as_i64()).collect();
    (gaps, numbers.windows(2).filter(|two| two[0] >= two[1]).count())
}

/// Reads one to three events of a connection, then cuts it and comes back to the next node.
async fn cut_at_events(nodes: &[&Client], events: usize, seed: u64) -> (Vec<Value>, usize) {
    let (mut dice, mut told, mut last, mut cuts) = (StdRng::seed_from_u64(seed), vec![], None, 0);
    while told.len() < events {
        let node = nodes[cuts % nodes.len()];
        let most = dice.random_range(1..=3);
        let _ = node.is_up.subscribe().wait_for(|up| *up).await;
        let Ok(mut stream) = Stream::open(node, "since=all", last.as_deref()).await else { continue };
        for _ in 0..most {
            // A server that is killed cuts it, too.
            let Some((id, event)) = stream.event().await else { break };
            last = Some(id);
            told.push(event);
            if told.len() == events {
                // No more will come.
                break;
            }
        }
        cuts += 1;
    }
    (told, cuts)
}

struct Stream(Reading);

impl Stream {
    async fn open(node: &Client, query: &str, last: Option<&str>) -> Result<Self, u16> {
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert(HeaderName::from_static("last-event-id"), HeaderValue::from_str(last).unwrap());
        }
        let call = Call {
            method: Method::GET,
            url: format!("http://127.0.0.1:{}/api/stream?events=job.held&{query}", node.port),
            headers,
            body: Bytes::new(),
            timeout: Duration::from_secs(60),
            max_body_bytes: 1 << 20,
        };
        let reading = net::Client::new(Clock::real(), false).open(call).await.map_err(|_| 0_u16)?;
        if reading.status.is_success() { Ok(Self(reading)) } else { Err(reading.status.as_u16()) }
    }

    /// The next event of the log with its position; none when the connection ended, or all too late.
    async fn event(&mut self) -> Option<(String, Value)> {
        Clock::real().within(PATIENCE, self.next_event()).await.flatten()
    }

    async fn next_event(&mut self) -> Option<(String, Value)> {
        let mut id = String::new();
        loop {
            let line = self.0.line().await.ok().flatten()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(position) = line.strip_prefix("id: ") {
                id = position.to_owned();
            }
            let data = line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap());
            if let Some(event) = data.filter(|data| data["type"] == "job.held") {
                // Up to the blank line, without which a reader must not take it for an event.
                self.0.line().await.ok().flatten()?;
                return Some((id, event));
            }
        }
    }

    /// How long nothing comes when nothing happens, in seconds.
    async fn silence(&mut self) -> f64 {
        // What is left to be said of how far it is.
        while self.0.line().await.is_ok_and(|line| line.is_some_and(|line| !line.starts_with(b"event: live")))
        {
        }
        let watch = Stopwatch::start();
        while self.0.line().await.is_ok_and(|line| line.is_some_and(|line| !line.starts_with(b":"))) {}
        watch.elapsed().as_secs_f64()
    }
}

/// Whether readers beyond the bound are turned away in so many words.
async fn refused(node: &Client, readers: usize) -> bool {
    let mut open = vec![];
    for _ in 0..=readers {
        match Stream::open(node, "since=all", None).await {
            Ok(stream) => open.push(stream),
            Err(status) => return status == 503,
        }
    }
    false
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// What is connected stays so, and nothing comes through.
    Silent,
    /// Nobody listens, and nothing that was connected stays so.
    Cut,
}

/// A wire between two.
struct Wire {
    port: u16,
    state: Arc<watch::Sender<State>>,
}

impl Wire {
    async fn to(authority: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, state) =
            (listener.local_addr().unwrap().port(), Arc::new(watch::Sender::new(State::Whole)));
        let (seen, mut listener) = (state.subscribe(), Some(listener));
        tokio::spawn(async move {
            loop {
                let mut now = seen.clone();
                if listener.is_none() {
                    let _ = now.wait_for(|now| *now != State::Cut).await;
                    listener = TcpListener::bind(("127.0.0.1", port)).await.ok();
                }
                let Some(open) = &listener else { continue };
                tokio::select! {
                    _ = now.wait_for(|now| *now == State::Cut) => listener = None,
                    Ok((near, _)) = open.accept() => {
                        tokio::spawn(carry(near, authority.clone(), seen.clone()));
                    }
                }
            }
        });
        Self { port, state }
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn carry(mut near: TcpStream, authority: String, mut now: watch::Receiver<State>) {
    let Ok(mut far) = TcpStream::connect(authority).await else { return };
    let became = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        became = now.wait_for(|now| *now != State::Whole) => became.map_or(State::Cut, |now| *now),
    };
    if became == State::Silent {
        let _ = now.wait_for(|now| *now != State::Silent).await;
    }
}

/// B26: `listen` is put to sleep, hears nothing any more, loses the server, the receiver, and its life, while events are published.
pub async fn the_tunnel_loses_nothing(engine: Engine) {
    const PATH: &str = "/listen";
    const EACH: usize = 3;
    /// After so long it has to say how it stands.
    const SILENT_S: f64 = 15.0;
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    let to_server = Wire::to(format!("127.0.0.1:{}", ground.client.port)).await;
    let to_receiver = Wire::to(ground.application.authority.clone()).await;
    let state = tempfile::tempdir().unwrap();
    let start =
        async || Listening::start(&ground, state.path(), to_server.port, to_receiver.port, PATH).await;
    let mut listening = start().await;
    let (mut jobs, mut longest, faults) = (vec![], 0_f64, injections());
    for nth in 0..faults {
        match nth % 4 {
            0 => listening.signal("-STOP").await,
            1 => {
                // It costs most of the seconds that are allowed, so once.
                to_server.set(if nth == 1 { State::Silent } else { State::Cut });
                let watch = Stopwatch::start();
                listening.says("not connected").await;
                longest = longest.max(watch.elapsed().as_secs_f64());
            }
            2 => to_receiver.set(State::Cut),
            _ => listening.child.kill().await.unwrap(),
        }
        for job in 0..EACH {
            jobs.push(ground.submit_with(&format!("b26-{nth}-{job}"), "p", json!({"hold": true})).await);
        }
        match nth % 4 {
            0 => listening.signal("-CONT").await,
            1 => {
                to_server.set(State::Whole);
                listening.says("ready").await;
            }
            2 => {
                let watch = Stopwatch::start();
                listening.says("nobody is at").await;
                longest = longest.max(watch.elapsed().as_secs_f64());
                to_receiver.set(State::Whole);
            }
            _ => listening = start().await,
        }
        let all = |heard: &[Heard]| {
            let last = jobs.last().unwrap();
            heard.iter().any(|heard| heard.header("reelhook-job") == last)
        };
        ground.application.until(PATH, all).await;
    }
    let heard = ground.application.heard(PATH);
    let (mut seen, mut first) = (HashSet::new(), vec![]);
    for one in &heard {
        let job = one.header("reelhook-job").to_owned();
        if seen.insert(job.clone()) {
            first.push(job);
        }
    }
    let lost = jobs.iter().filter(|job| !seen.contains(*job)).count();
    let in_order: Vec<&String> = jobs.iter().filter(|job| seen.contains(*job)).collect();
    let zero = [
        ("lost_notifications", lost),
        ("out_of_order", first.iter().zip(in_order).filter(|(a, b)| a != b).count()),
        ("silent_for_long", usize::from(longest > SILENT_S)),
    ];
    let figures = [
        ("notifications", jobs.len() as f64),
        ("dup_notifications", (heard.len() - first.len()) as f64),
        ("longest_silence_s", longest),
    ];
    ground.report("B26", faults, &zero, &figures);
    listening.child.kill().await.unwrap();
    server.kill().await;
}

/// `reelhook listen`, and what it says.
struct Listening {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Listening {
    async fn start(ground: &Ground, state: &std::path::Path, server: u16, receiver: u16, path: &str) -> Self {
        let mut child = Command::new(ground.setup().program)
            .args(["listen", "--forward-to", &format!("http://127.0.0.1:{receiver}{path}")])
            .env_clear()
            .env("REELHOOK_URL", format!("http://127.0.0.1:{server}"))
            .env("XDG_STATE_HOME", state)
            .current_dir(state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut listening = Self { child, said };
        listening.says("ready").await;
        listening
    }

    /// Reads what it says up to the line that holds `words`.
    async fn says(&mut self, words: &str) {
        let reading = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended without saying `{words}`");
        };
        Clock::real().within(PATIENCE, reading).await.unwrap_or_else(|| panic!("it does not say `{words}`"));
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }
}
