//! Calls through a proxy that writes down what it is asked for, and leads every tunnel to one place or
//! answers as it is told. Addresses that are public here are never dialed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::clock::Clock;
use crate::domain::proxy::{Proxies, Proxy, Straight};
use crate::net::names::tests::{OK, call, client, host};
use crate::net::{Client, Fault};

/// How a proxy treats who asks for a tunnel.
#[derive(Clone)]
enum Manner {
    /// Every tunnel leads to this port of this machine, once `Notify` says so if there is one.
    To(u16, Option<Arc<Notify>>),
    /// These are its words to the first, the second…, and the last to all others; then it closes.
    Says(&'static [&'static str]),
    /// Opens the tunnel, and writes down what comes first in it.
    Listens,
    /// Says nothing, until whoever asked is gone.
    Hangs,
}

struct Recorder {
    port: u16,
    /// Heads of what it was asked, and the first bytes of tunnels that it listens to.
    told: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Told when somebody who was kept hanging is gone.
    gone: Arc<Notify>,
}

impl Recorder {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        let gone = Arc::new(Notify::new());
        let (hung, nth) = (gone.clone(), Arc::new(Mutex::new(0)));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, manner.clone(), tell.clone(), hung.clone(), nth.clone()));
            }
        });
        Self { port, told, gone }
    }

    /// All traffic goes through it, of a user with a password.
    fn proxies(&self) -> Proxies {
        let proxy = Proxy::parse(&format!("http://user:hunter2@127.0.0.1:{}", self.port)).ok();
        Proxies { http: proxy.clone(), https: proxy, ..Proxies::default() }
    }

    /// What it was asked for since.
    fn asked(&mut self) -> Vec<String> {
        let mut all = vec![];
        while let Ok(head) = self.told.try_recv() {
            all.push(String::from_utf8(head).unwrap().lines().next().unwrap().to_owned());
        }
        all
    }
}

async fn serve(
    mut socket: TcpStream,
    manner: Manner,
    tell: mpsc::UnboundedSender<Vec<u8>>,
    gone: Arc<Notify>,
    nth: Arc<Mutex<usize>>,
) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    tell.send(head).unwrap();
    let opened = b"HTTP/1.1 200 Connection established\r\n\r\n";
    match manner {
        Manner::To(port, when) => {
            if let Some(when) = when {
                when.notified().await;
            }
            socket.write_all(opened).await.unwrap();
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = copy_bidirectional(&mut socket, &mut to).await;
        }
        Manner::Says(words) => {
            let nth = std::mem::replace(&mut *nth.lock().unwrap(), 1).min(words.len() - 1);
            socket.write_all(words[nth].as_bytes()).await.unwrap();
        }
        Manner::Listens => {
            socket.write_all(opened).await.unwrap();
            let mut first = vec![0; 4_096];
            let length = socket.read(&mut first).await.unwrap();
            first.truncate(length);
            tell.send(first).unwrap();
        }
        Manner::Hangs => {
            assert_eq!(socket.read(&mut [0]).await.unwrap_or(0), 0, "nothing is sent before an answer");
            gone.notify_one();
        }
    }
}

fn not_sent(fault: &Fault) -> String {
    let Fault::NotSent(why) = fault else { panic!("{fault}") };
    assert!(!why.contains("hunter2") && !why.contains("dXNlcjpodW50ZXIy"), "{why}");
    why.clone()
}

#[tokio::test]
async fn who_is_not_guarded_is_asked_for_by_name_with_user_and_password() {
    let (port, called) = host(OK.to_owned()).await;
    let mut proxy = Recorder::start(Manner::To(port, None)).await;
    let client = Client::through(proxy.proxies(), Clock::real(), false);
    assert_eq!(call(&client, "http://api.example/path").await.unwrap().status, 200);
    assert_eq!(called.load(Ordering::SeqCst), 1);
    let head = String::from_utf8(proxy.told.recv().await.unwrap()).unwrap();
    assert_eq!(
        head,
        "CONNECT api.example:80 HTTP/1.1\r\nhost: api.example:80\r\nproxy-authorization: Basic \
         dXNlcjpodW50ZXIy\r\n\r\n"
    );
}

#[tokio::test]
async fn tls_is_spoken_with_the_name_inside_of_a_tunnel_to_the_address() {
    let mut proxy = Recorder::start(Manner::Listens).await;
    let guarded = client(&[], &["8.8.8.8"], proxy.proxies(), Clock::real()).0;
    let by_name = Client::through(proxy.proxies(), Clock::real(), false);
    for (client, asked) in [(guarded, "CONNECT 8.8.8.8:443 "), (by_name, "CONNECT api.example:443 ")] {
        not_sent(&call(&client, "https://api.example/").await.unwrap_err());
        let head = String::from_utf8(proxy.told.recv().await.unwrap()).unwrap();
        assert!(head.starts_with(asked), "{head}");
        let hello = proxy.told.recv().await.unwrap();
        let names_it = hello.windows("api.example".len()).any(|part| part == b"api.example");
        assert!(hello[0] == 0x16 && names_it, "a TLS handshake for that name: {hello:?}");
    }
}

#[tokio::test]
async fn a_guarded_client_asks_for_what_was_vetted_and_for_nothing_else() {
    let (port, called) = host(OK.to_owned()).await;
    let mut proxy = Recorder::start(Manner::To(port, None)).await;
    let answers = &["10.0.0.9 8.8.8.8", "2606:4700::1111", "10.0.0.1 ::1"];
    let (client, looked) = client(&[], answers, proxy.proxies(), Clock::real());
    for (url, asked) in [
        ("http://a.example/", "CONNECT 8.8.8.8:80 HTTP/1.1"),
        ("http://a.example:8080/", "CONNECT [2606:4700::1111]:8080 HTTP/1.1"),
        ("http://1.1.1.1/", "CONNECT 1.1.1.1:80 HTTP/1.1"),
        ("http://[::ffff:8.8.4.4]:81/", "CONNECT 8.8.4.4:81 HTTP/1.1"),
    ] {
        assert_eq!(call(&client, url).await.unwrap().status, 200, "{url}");
        assert_eq!(proxy.asked(), [asked], "{url}");
    }
    for url in ["http://a.example/", "https://a.example/", "http://10.0.0.1/", "http://localhost/"] {
        let refused = call(&client, url).await.unwrap_err();
        assert!(matches!(&refused, Fault::Forbidden(why) if why.contains("no public address")), "{refused}");
    }
    assert_eq!((proxy.asked(), called.load(Ordering::SeqCst)), (vec![], 4));
    assert_eq!(looked.load(Ordering::SeqCst), 4, "one look-up for each call by name");
}

#[tokio::test]
async fn where_no_proxy_is_wanted_the_vetted_address_is_called_straight() {
    let (port, called) = host(OK.to_owned()).await;
    let mut proxy = Recorder::start(Manner::Hangs).await;
    // By its name, by the address a name leads to, and because this machine is meant, not the proxy's.
    for (straight, private, url) in [
        ("a.example", "127.0.0.1", "http://a.example"),
        ("127.0.0.0/8", "127.0.0.1", "http://a.example"),
        ("", "127.0.0.1", "http://a.example"),
        ("", "127.0.0.1", "http://127.0.0.1"),
    ] {
        let proxies = Proxies { straight: Straight::parse(straight).unwrap(), ..proxy.proxies() };
        let (client, _) = client(&[private], &["127.0.0.1"], proxies, Clock::real());
        assert!(call(&client, &format!("{url}:{port}/")).await.is_ok(), "{straight} {url}");
    }
    assert_eq!((called.load(Ordering::SeqCst), proxy.asked()), (4, vec![]));
}

#[tokio::test]
async fn another_address_is_asked_for_when_one_is_not_reached() {
    const BAD: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
    let many = &["2606:4700::1 2606:4700::2 8.8.8.1 8.8.8.2 8.8.8.3"];
    let mut proxy = Recorder::start(Manner::Says(&[BAD, "HTTP/1.1 503 No\r\n\r\n"])).await;
    let (client, _) = client(&[], many, proxy.proxies(), Clock::real());
    let why = not_sent(&call(&client, "http://a.example/").await.unwrap_err());
    assert!(why.ends_with("answered 503 Service Unavailable to CONNECT 8.8.8.2:80"), "{why}");
    let asked: Vec<String> = proxy.asked().iter().map(|line| line.replace(" HTTP/1.1", "")).collect();
    let four = ["[2606:4700::1]:80", "[2606:4700::2]:80", "8.8.8.1:80", "8.8.8.2:80"];
    assert_eq!(asked, four.map(|to| format!("CONNECT {to}")), "and no more than four");
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_leaves_the_call_unsent_and_says_why() {
    for (words, why) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 4\r\n\r\nword",
            "answered 407 Proxy Authentication Required to CONNECT api.example:80; it does not take this user",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "answered 403 Forbidden to CONNECT api.example:80"),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "answered 502 Bad Gateway to CONNECT api.example:80"),
        ("HTTP/1.1 302 Found\r\nlocation: http://login.example/\r\n\r\n", "answered 302 Found"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "gave no answer to CONNECT api.example:80 that makes sense"),
        ("HTTP/1.1 200", "gave no answer to CONNECT api.example:80 that makes sense"),
        ("", "gave no answer to CONNECT api.example:80 that makes sense"),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "said more than an answer"),
    ] {
        let words: &'static [&'static str] = Box::leak(Box::new([words]));
        let proxy = Recorder::start(Manner::Says(words)).await;
        let client = Client::through(proxy.proxies(), Clock::real(), false);
        let said = not_sent(&call(&client, "http://api.example/").await.unwrap_err());
        assert!(said.starts_with(&format!("the proxy http://127.0.0.1:{} {why}", proxy.port)), "{said}");
    }
    let mut proxy = Recorder::start(Manner::Says(&["HTTP/1.1 407 Who\r\n\r\n"])).await;
    let http = Proxy::parse(&format!("127.0.0.1:{}", proxy.port)).ok();
    let nameless = Client::through(Proxies { http, ..Proxies::default() }, Clock::real(), false);
    let said = not_sent(&call(&nameless, "http://api.example/").await.unwrap_err());
    assert!(said.ends_with("; it wants a user and a password"), "{said}");
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_leaves_the_call_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let http = Proxy::parse(&format!("127.0.0.1:{port}")).ok();
    let client = Client::through(Proxies { http, ..Proxies::default() }, Clock::real(), false);
    let said = not_sent(&call(&client, "http://api.example/").await.unwrap_err());
    assert!(said.starts_with(&format!("the proxy http://127.0.0.1:{port} is not reached: ")), "{said}");
}

#[tokio::test]
async fn a_proxy_has_ten_seconds_and_not_one_more() {
    let (port, called) = host(OK.to_owned()).await;
    for (passed_ms, in_time) in [(9_999, true), (10_000, false)] {
        let (clock, open) = (Clock::manual(0, 1), Arc::new(Notify::new()));
        let manner = if in_time { Manner::To(port, Some(open.clone())) } else { Manner::Hangs };
        let mut proxy = Recorder::start(manner).await;
        let client = Client::through(proxy.proxies(), clock.clone(), false);
        let calling = tokio::spawn(async move { call(&client, "http://api.example/").await });
        proxy.told.recv().await.unwrap();
        clock.advance(std::time::Duration::from_millis(passed_ms));
        open.notify_one();
        let done = calling.await.unwrap();
        if in_time {
            assert_eq!(done.unwrap().status, 200);
        } else {
            let said = not_sent(&done.unwrap_err());
            assert!(said.ends_with("opened no tunnel to api.example:80 within 10 s"), "{said}");
            // Nor is its connection left behind.
            proxy.gone.notified().await;
        }
    }
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_nobody_knows_here_says_that_proxies_do_not_help() {
    // No resolver finds a name below `invalid` (RFC 6761, section 6.4).
    let proxy = Recorder::start(Manner::Hangs).await;
    let client = Client::guarded(Clock::real(), crate::domain::guard::Guard::default(), proxy.proxies());
    let said = not_sent(&call(&client, "http://nobody.invalid/").await.unwrap_err());
    assert!(said.starts_with("nobody.invalid: ") && said.contains("behind a proxy, too"), "{said}");
}
