//! Addresses that a stranger chose: whatever is not public is reached in no way that a URL, a name or an answer
//! can lead there, neither straight nor through a proxy. The server finds names in a file that only it sees.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONNECTION, LOCATION};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::addresses::{CRAFTED, SPECIAL, SPELLINGS, words};
use crate::disk::mounting;
use crate::ground::{Engine, Ground};
use crate::server::{Client, Setup};
use crate::told::{Application, Manner};

/// What a name that led to a place that is let pass leads to when it is looked up again.
const REBOUND: &str = "127.0.0.1";
/// How often a name is turned.
const TURNS: usize = 10;

/// How the server goes to a host: the one place that is let pass that way, which the corpus does not have, and
/// the domain whose names are called that way.
struct Way {
    open: &'static str,
    domain: &'static str,
}

const STRAIGHT: Way = Way { open: "127.9.9.9", domain: "straight.example" };
/// The proxy leads this address to the application; nobody calls the host it belongs to.
const BY_PROXY: Way = Way { open: "8.8.8.8", domain: "proxied.example" };

/// B27: every address of the corpus, as a URL of endpoints and of jobs, behind a name, behind a redirect, and
/// behind a name that was harmless before; straight and through a proxy.
pub async fn nothing_inside_is_reached(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let place = tempfile::tempdir().unwrap();
    let hosts = place.path().join("hosts");
    let ledger = File::create(hosts.with_extension("jsonl")).unwrap();
    let application = Application::start(STRAIGHT.open, ledger).await;
    let trap = Trap::set("[::]:0").await;
    let turned = Trap::set(&application.authority.replace(STRAIGHT.open, REBOUND)).await;
    let proxy = Proxy::start(&application.authority).await;
    let at = format!("http://user:word@{REBOUND}:{}", proxy.port);
    let proxies =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"].map(|name| (name, &*at));
    let others = [("REELHOOK_ALLOW_PRIVATE", STRAIGHT.open), ("NO_PROXY", STRAIGHT.domain)];
    let variables = [&proxies[..], &others].concat();
    fs::write(&hosts, names(&STRAIGHT, STRAIGHT.open)).unwrap();
    let setup = ground.setup();
    let seen =
        mounting(&format!("mount --bind '{}' /etc/hosts", hosts.display()), &hosts, &setup.program).await;
    let program = seen.clone().unwrap_or(setup.program.clone());
    let server = ground.serve_as(Setup { program, ..setup }, &variables).await;

    let urls = urls(trap.port);
    let taken = urls_taken(&ground.client, &application, &urls).await;
    let endpoint = Endpoint::add(&ground.client, &application).await;
    let redirects = special(trap.port);
    let (mut let_through, mut by_name, mut turns) = (0, 0, 0);
    for way in [STRAIGHT, BY_PROXY] {
        endpoint.lead_to(&by(way.open, &application)).await;
        let manners: Vec<Manner> =
            redirects.iter().map(|to| Manner::With(307, LOCATION, to.clone())).collect();
        application.answer("/", &manners);
        for _ in &redirects {
            let told = endpoint.test().await;
            let_through += usize::from(told["state"] != "dead" || !says(&told, "redirects are not followed"));
        }
        if seen.is_none() {
            continue;
        }
        fs::write(&hosts, names(&way, way.open)).unwrap();
        by_name += words(SPECIAL).count();
        for nth in 0..words(SPECIAL).count() {
            endpoint.lead_to(&format!("http://n{nth}.{}:{}/", way.domain, trap.port)).await;
            let told = endpoint.test().await;
            let refused = says(&told, "no public address");
            if !refused {
                println!("B27: {told}");
            }
            let_through += usize::from(told["state"] != "dead" || !refused);
        }
        turns += TURNS;
        let_through += rebound(&way, &endpoint, &application, &hosts).await;
    }
    if seen.is_none() {
        // Not through the test's own output, which is shown only when it fails.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TESTED: of B27, names that lead inside need `unshare` and `mount` and the right to use them"
        );
    }
    let zero = [
        ("reached", trap.caught() + turned.caught()),
        ("asked_of_the_proxy", count(&proxy.forbidden)),
        ("taken", taken),
        ("let_through", let_through),
        ("proxy_unused", usize::from(count(&proxy.tunnels) == 0)),
    ];
    let figures = [
        ("urls", urls.len() as f64),
        ("redirects", 2.0 * redirects.len() as f64),
        ("names", by_name as f64),
        ("names_turned", turns as f64),
        ("tunnels", count(&proxy.tunnels) as f64),
    ];
    ground.report("B27", urls.len() + 2 * redirects.len() + by_name + turns, &zero, &figures);
    server.kill().await;
}

/// The application's address, by this host.
fn by(host: &str, application: &Application) -> String {
    format!("{}/", application.url("").replace(STRAIGHT.open, host))
}

fn count(n: &AtomicUsize) -> usize {
    n.load(Ordering::SeqCst)
}

/// A proxy that leads the one place that is let pass to the application, and counts who asks for another.
struct Proxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
    forbidden: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(application: &str) -> Self {
        let listener = TcpListener::bind((REBOUND, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, tunnels: Arc::default(), forbidden: Arc::default() };
        let (tunnels, forbidden) = (proxy.tunnels.clone(), proxy.forbidden.clone());
        let to = application.to_owned();
        let asked = format!("CONNECT {} HTTP/1.1\r\n", to.replace(STRAIGHT.open, BY_PROXY.open));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let of = (asked.clone(), to.clone(), tunnels.clone(), forbidden.clone());
                tokio::spawn(async move {
                    let (asked, to, tunnels, forbidden) = of;
                    // Who is gone again wants nothing.
                    let _ = Self::tunnel(socket, &asked, &to, &tunnels, &forbidden).await;
                });
            }
        });
        proxy
    }

    async fn tunnel(
        mut socket: TcpStream,
        asked: &str,
        to: &str,
        tunnels: &AtomicUsize,
        forbidden: &AtomicUsize,
    ) -> std::io::Result<()> {
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        if !head.starts_with(asked.as_bytes()) {
            forbidden.fetch_add(1, Ordering::SeqCst);
            println!("B27: the proxy was asked {}", String::from_utf8_lossy(&head));
            return socket.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
        }
        tunnels.fetch_add(1, Ordering::SeqCst);
        let mut host = TcpStream::connect(to).await?;
        socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut socket, &mut host).await.map(|_| ())
    }
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
        count(&self.caught)
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
fn names(way: &Way, turning: &str) -> String {
    let all = words(SPECIAL).enumerate().map(|(nth, ip)| format!("{ip} n{nth}.{}\n", way.domain));
    all.chain([format!("{turning} turning.{}\n", way.domain)]).collect()
}

/// A name leads to a place that is let pass, and at the next look-up elsewhere. How often the second call
/// was not refused, or the first was.
async fn rebound(way: &Way, endpoint: &Endpoint<'_>, application: &Application, hosts: &Path) -> usize {
    // Or the next call needs no look-up.
    application.answer("/", &[Manner::With(200, CONNECTION, "close".to_owned())]);
    endpoint.lead_to(&by(&format!("turning.{}", way.domain), application)).await;
    let mut wrong = 0;
    for _ in 0..TURNS {
        fs::write(hosts, names(way, way.open)).unwrap();
        wrong += usize::from(endpoint.test().await["state"] != "delivered");
        fs::write(hosts, names(way, REBOUND)).unwrap();
        wrong += usize::from(!says(&endpoint.test().await, "no public address"));
    }
    wrong
}
