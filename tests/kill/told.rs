//! The application behind the server under test: it hears at as many paths as a row wants, outside of that
//! process, keeps what it heard on disk before it answers, and answers as the row says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use reelhook::clock::{Clock, Millis};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::ground::PATIENCE;
use crate::server::Client;
use crate::signed;

/// Where the ends of jobs are told.
const ENDS: &str = "/ends";
/// What an endless answer claims to be long, and the bytes it is made of.
const ENDLESS: u64 = 1 << 30;
const CHUNK: usize = 16 << 10;
/// Bytes that wait in a connection to be read by whoever called.
const SEND_BUFFER: u32 = 64 << 10;
const BACKLOG: u32 = 1_024;

/// How one path answers one call.
#[derive(Clone)]
pub enum Manner {
    Status(u16),
    With(u16, HeaderName, String),
    /// 200, after so long.
    Late(Millis),
    /// 200 and a gigabyte.
    Endless,
}

#[derive(Clone)]
pub struct Heard {
    pub at: Millis,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        signed::header(&self.headers, name)
    }

    pub fn is_signed_with(&self, secret: &str) -> bool {
        signed::signed_with(&self.headers, &self.body, secret) == 1
    }
}

#[derive(Default)]
struct Inner {
    heard: HashMap<String, Vec<Heard>>,
    manners: HashMap<String, VecDeque<Manner>>,
    /// Ids and bodies of the events that told of each job's end.
    ends: HashMap<String, HashSet<(String, Bytes)>>,
    repeated: usize,
}

#[derive(Clone)]
pub struct Application {
    /// Address and port.
    pub authority: String,
    ledger: Arc<Ledger>,
    inner: Arc<Mutex<Inner>>,
    /// Of endless answers: the most bytes one caller was ready for.
    pub longest: Arc<AtomicU64>,
    count: watch::Sender<usize>,
}

/// What came of telling.
pub struct Told {
    pub lost: usize,
    /// Two different ends of one job.
    pub different: usize,
    /// The same event again, which at least once means.
    pub repeated: usize,
}

impl Application {
    /// At an address of this machine.
    pub async fn start(ip: &str, ledger: File) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Its connections have the same: what it can say beyond what is read is little.
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.bind((ip.parse::<Ipv4Addr>().unwrap(), 0).into()).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let ledger =
            Arc::new(Ledger { file: ledger, dirty: AtomicBool::new(false), syncing: Mutex::new(()) });
        let made = Self {
            authority,
            ledger,
            inner: Arc::default(),
            longest: Arc::default(),
            count: watch::Sender::new(0),
        };
        let router = Router::new().fallback(hear).with_state(made.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        made
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }

    /// Has itself told of the ends of jobs.
    pub async fn register(&self, client: &Client) {
        self.add(client, ENDS, json!({"events": ["job.completed", "job.failed", "job.canceled"]})).await;
    }

    /// Adds an endpoint at one of its paths. The endpoint's id and its signing secret.
    pub async fn add(&self, client: &Client, path: &str, wishes: Value) -> (String, String) {
        add(client, &self.url(path), wishes).await
    }

    /// How a path answers its next calls, and all others as the last of them. Else it answers 200.
    pub fn answer(&self, path: &str, manners: &[Manner]) {
        let mut inner = self.inner.lock().unwrap();
        inner.manners.insert(path.to_owned(), manners.iter().cloned().collect());
    }

    pub fn heard(&self, path: &str) -> Vec<Heard> {
        self.inner.lock().unwrap().heard.get(path).cloned().unwrap_or_default()
    }

    /// Waits until what a path heard is as wanted. False when it is not within `PATIENCE`.
    pub async fn until(&self, path: &str, wanted: impl Fn(&[Heard]) -> bool) -> bool {
        self.wait_for(|inner| wanted(inner.heard.get(path).map_or(&[], Vec::as_slice))).await
    }

    /// The same, until it was called so often.
    pub async fn hears(&self, path: &str, calls: usize) -> bool {
        self.until(path, |heard| heard.len() >= calls).await
    }

    async fn wait_for(&self, is_so: impl Fn(&Inner) -> bool) -> bool {
        let mut count = self.count.subscribe();
        let so = count.wait_for(|_| is_so(&self.inner.lock().unwrap()));
        Clock::real().within(PATIENCE, so).await.is_some()
    }

    /// Waits until the end of each of these jobs was told, then says how.
    pub async fn compare(&self, jobs: &[String]) -> Told {
        // What is missing after that is counted as lost.
        self.wait_for(|inner| jobs.iter().all(|id| inner.ends.contains_key(id))).await;
        let inner = self.inner.lock().unwrap();
        let lost = jobs.iter().filter(|id| !inner.ends.contains_key(*id)).count();
        let different = inner.ends.values().map(|told| told.len() - 1).sum();
        Told { lost, different, repeated: inner.repeated }
    }

    /// A gigabyte, counted as it is taken.
    fn endless(&self) -> Response {
        let longest = self.longest.clone();
        let chunks = stream::unfold(0, move |sent| {
            let longest = longest.clone();
            async move {
                longest.fetch_max(sent, Ordering::Relaxed);
                let next = (sent < ENDLESS).then(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; CHUNK])));
                next.map(|chunk| (chunk, sent + CHUNK as u64))
            }
        });
        ([("content-length", ENDLESS.to_string())], Body::from_stream(chunks)).into_response()
    }
}

/// Adds an endpoint at this address; its id and its signing secret.
pub async fn add(client: &Client, url: &str, mut wishes: Value) -> (String, String) {
    wishes["url"] = json!(url);
    let made = client.insist("POST", "/api/endpoints", None, Some(&wishes)).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn hear(State(app): State<Application>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (path, at) = (uri.path().to_owned(), Clock::real().now());
    let line = json!({
        "at": at,
        "path": path,
        "webhook_id": signed::header(&headers, "webhook-id"),
        "body": String::from_utf8_lossy(&body),
    });
    app.ledger.append(&line);
    let ledger = app.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.sync()).await.unwrap();
    let manner = {
        let mut inner = app.inner.lock().unwrap();
        if path == ENDS {
            let event: Value = serde_json::from_slice(&body).unwrap();
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            if !inner.ends.entry(text("job_id")).or_default().insert((text("id"), body.clone())) {
                inner.repeated += 1;
            }
        }
        let next = inner.manners.get_mut(&path).and_then(|manners| match manners.len() {
            0 | 1 => manners.front().cloned(),
            _ => manners.pop_front(),
        });
        inner.heard.entry(path).or_default().push(Heard { at, headers, body });
        next
    };
    app.count.send_modify(|n| *n += 1);
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    match manner {
        None => StatusCode::OK.into_response(),
        Some(Manner::Status(code)) => status(code).into_response(),
        Some(Manner::With(code, name, value)) => (status(code), [(name, value)]).into_response(),
        Some(Manner::Late(by)) => {
            Clock::real().sleep_until(at + by).await;
            StatusCode::OK.into_response()
        }
        Some(Manner::Endless) => app.endless(),
    }
}

/// What was heard, one JSON object a line.
struct Ledger {
    file: File,
    dirty: AtomicBool,
    /// Held while syncing: who waits for it also waits for the sync that covers his own line.
    syncing: Mutex<()>,
}

impl Ledger {
    fn append(&self, line: &Value) {
        (&self.file).write_all(format!("{line}\n").as_bytes()).unwrap();
        self.dirty.store(true, Ordering::SeqCst);
    }

    fn sync(&self) {
        let _turn = self.syncing.lock().unwrap();
        if self.dirty.swap(false, Ordering::SeqCst) {
            self.file.sync_data().unwrap();
        }
    }
}
