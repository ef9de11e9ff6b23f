//! Looks up the names of hosts for outgoing connections. A guarded client is given only addresses
//! that its guard lets pass, and connects to these: no second look-up can lead it elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

use crate::domain::guard::{Guard, refusal};

type LookUp = dyn Fn(Name) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// How a client finds hosts.
#[derive(Clone)]
pub struct Names {
    guard: Option<Arc<Guard>>,
    look_up: Arc<LookUp>,
}

impl Names {
    /// As this machine finds them.
    pub fn of_system(guard: Option<Arc<Guard>>) -> Self {
        let look_up = |name: Name| {
            let found = async move { GaiResolver::new().call(name).await.map(Iterator::collect) };
            found.boxed()
        };
        Self { guard, look_up: Arc::new(look_up) }
    }

    /// Where else than by its name a host has to be asked for: those of its addresses that the guard lets pass.
    /// `None` without a guard.
    pub async fn vetted(&self, host: &str) -> io::Result<Option<Vec<IpAddr>>> {
        let Some(guard) = &self.guard else { return Ok(None) };
        let found = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, 0)],
            Err(_) => (self.look_up)(host.parse().map_err(io::Error::other)?).await?,
        };
        let vetted = vetted(guard, host, found)?;
        Ok(Some(vetted.into_iter().map(|at| at.ip().to_canonical()).collect()))
    }
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.guard.clone();
        let found = (self.look_up)(name.clone());
        async move {
            let found = found.await?;
            let open = match &guard {
                Some(guard) => vetted(guard, name.as_str(), found)?,
                None => found,
            };
            Ok(open.into_iter())
        }
        .boxed()
    }
}

/// Those of a name's addresses that may be connected to; a name with none is refused.
fn vetted(guard: &Guard, name: &str, found: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let first = found.first().map(SocketAddr::ip);
    let (open, closed): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| guard.check(at.ip()).is_ok());
    if !open.is_empty() || closed.is_empty() {
        return Ok(open);
    }
    let refused = first.and_then(|ip| Some(refusal(&format!("{name} is {ip}"), guard.check(ip).err()?)));
    Err(io::Error::other(Forbidden(refused.unwrap_or_default())))
}

/// The guard lets none of a name's addresses pass.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Forbidden(String);

/// Whether that is what a call failed by.
pub fn is_forbidden(e: &(dyn std::error::Error + 'static)) -> bool {
    super::is_by::<Forbidden>(e)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::guard::Network;
    use crate::domain::proxy::Proxies;
    use crate::net::{Answer, Call, Client, Fault};

    fn at(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0)
    }

    #[test]
    fn what_is_not_public_is_left_out_and_a_name_without_more_is_refused() {
        let guard = Guard::default();
        let of = |all: &[&str]| vetted(&guard, "x.example", all.iter().map(|ip| at(ip)).collect());
        assert_eq!(of(&["8.8.8.8", "127.0.0.1", "::1"]).unwrap(), [at("8.8.8.8")]);
        assert_eq!(of(&[]).unwrap(), []);
        let why = of(&["10.0.0.1", "::ffff:127.0.0.1"]).unwrap_err().to_string();
        assert!(why.starts_with("x.example is 10.0.0.1, which is private"), "{why}");
    }

    /// A host that answers what it is told to, one call per connection, and counts them.
    pub async fn host(answer: String) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4_096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        (port, called)
    }

    /// A client that finds every name at these addresses, one more list of them at each look-up, and how often
    /// it looked.
    pub fn client(
        private: &[&str],
        answers: &'static [&'static str],
        proxies: Proxies,
        clock: Clock,
    ) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let look_up = move |_: Name| {
            let nth = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            async move { Ok(answers[nth].split(' ').map(at).collect()) }.boxed()
        };
        let guard = Arc::new(Guard::new(private.iter().map(|text| Network::parse(text).unwrap()).collect()));
        let names = Names { guard: Some(guard.clone()), look_up: Arc::new(look_up) };
        (Client::built(clock, false, names, Some(guard), proxies), asked)
    }

    fn straight(private: &[&str], answers: &'static [&'static str]) -> (Client, Arc<AtomicUsize>) {
        client(private, answers, Proxies::default(), Clock::real())
    }

    pub async fn call(client: &Client, url: &str) -> Result<Answer, Fault> {
        let call = Call {
            method: Method::POST,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
            timeout: Duration::from_secs(20),
            max_body_bytes: 100,
        };
        client.tell(call).await
    }

    pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_judged_at_each_connection() {
        let (port, called) = host(OK.to_owned()).await;
        // Loopback stands for the address that is let pass, the private one for the trap.
        let (client, asked) = straight(&["127.0.0.1"], &["127.0.0.1", "10.0.0.1", "127.0.0.2"]);
        let url = format!("http://rebound.example:{port}/");
        assert!(call(&client, &url).await.is_ok());
        assert_eq!(asked.load(Ordering::SeqCst), 1, "one look-up, which is the one connected to");
        for _ in 0..2 {
            let refused = call(&client, &url).await.unwrap_err();
            assert!(
                matches!(&refused, Fault::Forbidden(why) if why.contains("no public address")),
                "{refused}"
            );
        }
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_refused_address_is_never_connected_to() {
        let (port, called) = host(OK.to_owned()).await;
        let (client, asked) = straight(&[], &["127.0.0.1"]);
        for at in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "name.example"] {
            let refused = call(&client, &format!("http://{at}:{port}/")).await.unwrap_err();
            assert!(matches!(refused, Fault::Forbidden(_)), "{at}: {refused}");
        }
        assert_eq!(
            (called.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)),
            (0, 1),
            "only a name is asked for"
        );
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let (inside, called) = host(OK.to_owned()).await;
        let moved = format!(
            "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{inside}/\r\ncontent-length: 0\r\n\r\n"
        );
        let (port, _) = host(moved).await;
        let (client, _) = straight(&["127.0.0.1"], &["127.0.0.1"]);
        assert_eq!(call(&client, &format!("http://a.example:{port}/")).await.unwrap().status, 307);
        assert_eq!(called.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_told_answer_is_cut_at_its_limit() {
        for (sent, kept) in [(99, 99), (100, 100), (101, 100), (3_000_000, 100)] {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {sent}\r\n\r\n{}", "x".repeat(sent));
            let (port, _) = host(answer).await;
            let (client, _) = straight(&["127.0.0.1"], &["127.0.0.1"]);
            let answer = call(&client, &format!("http://a.example:{port}/")).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, kept));
        }
    }
}
