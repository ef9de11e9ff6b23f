//! Addresses that a stranger chose: whatever is not public is reached in no way that a URL, a name or an answer
//! can lead there. The server finds names in a file that only it sees.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONNECTION, LOCATION};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::addresses::{CRAFTED, SPECIAL, SPELLINGS, words};
use crate::disk::mounting;
use crate::ground::{Engine, Ground};
use crate::server::{Client, Setup};
use crate::told::{Application, Manner};

/// The one place that is let pass here; the corpus does not have it.
const OPEN: &str = "127.9.9.9";
/// What a name that led there leads to when it is looked up again.
const REBOUND: &str = "127.0.0.1";
/// How often a name is turned.
const TURNS: usize = 10;

/// B27: every address of the corpus, as a URL of endpoints and of jobs, behind a name, behind a redirect, and
/// behind a name that was harmless before; with proxies set that nobody may use.
pub async fn nothing_inside_is_reached(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let place = tempfile::tempdir().unwrap();
    let hosts = place.path().join("hosts");
    let application = Application::start(OPEN, File::create(hosts.with_extension("jsonl")).unwrap()).await;
    let trap = Trap::set("[::]:0").await;
    let turned = Trap::set(&application.authority.replace(OPEN, REBOUND)).await;
    let proxy = format!("http://{REBOUND}:{}", trap.port);
    let proxies =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"].map(|name| (name, &*proxy));
    let variables = [&proxies[..], &[("REELHOOK_ALLOW_PRIVATE", OPEN)]].concat();
    fs::write(&hosts, names(OPEN)).unwrap();
    let setup = ground.setup();
    let seen =
        mounting(&format!("mount --bind '{}' /etc/hosts", hosts.display()), &hosts, &setup.program).await;
    let program = seen.clone().unwrap_or(setup.program.clone());
    let server = ground.serve_as(Setup { program, ..setup }, &variables).await;

    let urls = urls(trap.port);
    let taken = urls_taken(&ground.client, &application, &urls).await;
    let endpoint = Endpoint::add(&ground.client, &application).await;
    let redirects = special(trap.port);
    let manners: Vec<Manner> = redirects.iter().map(|to| Manner::With(307, LOCATION, to.clone())).collect();
    application.answer("/", &manners);
    let mut let_through = 0;
    for _ in &redirects {
        let told = endpoint.test().await;
        let_through += usize::from(told["state"] != "dead" || !says(&told, "redirects are not followed"));
    }
    let (mut by_name, mut turns) = (0, 0);
    if seen.is_some() {
        by_name = words(SPECIAL).count();
        for nth in 0..by_name {
            endpoint.lead_to(&format!("http://n{nth}.corpus.example:{}/", trap.port)).await;
            let told = endpoint.test().await;
            let refused = says(&told, "no public address");
            if !refused {
                println!("B27: {told}");
            }
            let_through += usize::from(told["state"] != "dead" || !refused);
        }
        turns = TURNS;
        let_through += rebound(&endpoint, &application, &hosts).await;
    } else {
        // Not through the test's own output, which is shown only when it fails.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: of B27, names that lead inside need `unshare` and `mount` and the right to use them"
        );
    }
    let zero = [("reached", trap.caught() + turned.caught()), ("taken", taken), ("let_through", let_through)];
    let figures = [
        ("urls", urls.len() as f64),
        ("redirects", redirects.len() as f64),
        ("names", by_name as f64),
        ("names_turned", turns as f64),
    ];
    ground.report("B27", urls.len() + redirects.len() + by_name + turns, &zero, &figures);
    server.kill().await;
}

/// A listener that nobody may connect to.
struct Trap {
    port: u16,
    caught: Arc<AtomicUsize>,
}

impl Trap {
    async fn set(at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let (port, caught) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = caught.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, caught }
    }

    fn caught(&self) -> usize {
        self.caught.load(Ordering::SeqCst)
    }
}

/// The endpoint through which everything is tried.
struct Endpoint<'a> {
    client: &'a Client,
    path: String,
}

impl<'a> Endpoint<'a> {
    async fn add(client: &'a Client, application: &Application) -> Self {
        let (id, _) = application.add(client, "/", json!({"events": ["group.finished"]})).await;
        Self { client, path: format!("/api/endpoints/{id}") }
    }

    async fn lead_to(&self, url: &str) {
        self.client.insist("PATCH", &self.path, None, Some(&json!({"url": url}))).await;
    }

    /// What became of a test event.
    async fn test(&self) -> Value {
        self.client.insist("POST", &format!("{}/test?wait=60", self.path), None, None).await
    }
}

fn says(told: &Value, words: &str) -> bool {
    told["attempts"][0]["error"].as_str().is_some_and(|error| error.contains(words))
}

fn special(port: u16) -> Vec<String> {
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    words(SPECIAL).map(|ip| format!("http://{}:{port}/hook", host(ip))).collect()
}

/// The corpus, each where the trap would see it if it can be seen at all.
fn urls(port: u16) -> Vec<String> {
    let spelled = words(SPELLINGS).map(|host| format!("http://{host}:{port}/"));
    special(port).into_iter().chain(spelled).chain(CRAFTED.map(str::to_owned)).collect()
}

/// How often one of them is taken for an address to send to: of a new endpoint, of one that is there, of a
/// job.
async fn urls_taken(client: &Client, application: &Application, urls: &[String]) -> usize {
    let there = Endpoint::add(client, application).await;
    let mut taken = 0;
    for (nth, url) in urls.iter().enumerate() {
        let named = json!({"url": url});
        let job = json!({"kind": "video_agent", "request": {"prompt": "p"}, "hold": true, "notify_url": url});
        let key = format!("b27-{nth}");
        for (method, path, key, body) in [
            ("POST", "/api/endpoints", None, &named),
            ("PATCH", &*there.path, None, &named),
            ("POST", "/api/jobs", Some(&*key), &job),
        ] {
            let (status, answer) = client.call(method, path, key, Some(body)).await.unwrap();
            if status != 422 {
                println!("B27: {method} {path} with {url}: {status} {answer}");
                taken += 1;
            }
        }
    }
    taken
}

/// A name for each of the special addresses, and one that leads to `turning`.
fn names(turning: &str) -> String {
    let all = words(SPECIAL).enumerate().map(|(nth, ip)| format!("{ip} n{nth}.corpus.example\n"));
    all.chain([format!("{turning} turning.corpus.example\n")]).collect()
}

/// A name leads to a place that is let pass, and at the next look-up elsewhere. How often the second call
/// was not refused, or the first was.
async fn rebound(endpoint: &Endpoint<'_>, application: &Application, hosts: &Path) -> usize {
    // Or the next call needs no look-up.
    application.answer("/", &[Manner::With(200, CONNECTION, "close".to_owned())]);
    endpoint.lead_to(&format!("{}/", application.url("").replace(OPEN, "turning.corpus.example"))).await;
    let mut wrong = 0;
    for _ in 0..TURNS {
        fs::write(hosts, names(OPEN)).unwrap();
        wrong += usize::from(endpoint.test().await["state"] != "delivered");
        fs::write(hosts, names(REBOUND)).unwrap();
        wrong += usize::from(!says(&endpoint.test().await, "no public address"));
    }
    wrong
}
