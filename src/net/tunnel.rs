//! Connects to hosts: straight, or by a tunnel (`CONNECT`) through the operator's proxy. Where there is a
//! guard, names are looked up and vetted here, and the tunnel is to that very address: a proxy that was told
//! the name would look it up anew. TLS begins inside of the tunnel, so no proxy reads along.
//!
//! A tunnel that does not come about is a connection that does not: nothing was sent to the host. Never shows
//! what a proxy is told of who we are.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

use super::causes;
use super::names::{Names, is_forbidden};
use crate::clock::Clock;
use crate::domain::proxy::{Proxies, Proxy};

/// Time allowed for TCP to be set up, and the tunnel where there is one, inside the limit of the whole exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one host that a proxy is asked for, one after the other.
const MOST_ADDRESSES: usize = 4;

type Connection = TokioIo<TcpStream>;
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
pub struct Connector(Arc<Ways>);

struct Ways {
    names: Names,
    hosts: HttpConnector<Names>,
    proxies: Proxies,
    /// Finds the proxies themselves, which no guard judges: the operator named them.
    to_proxies: HttpConnector<Names>,
    clock: Clock,
}

impl Connector {
    pub fn new(names: Names, proxies: Proxies, clock: Clock) -> Self {
        let (hosts, to_proxies) = (tcp(names.clone()), tcp(Names::of_system(None)));
        Self(Arc::new(Ways { names, hosts, proxies, to_proxies, clock }))
    }
}

impl Ways {
    async fn connect(&self, to: Uri) -> Result<Connection, Failed> {
        let https = to.scheme_str() == Some("https");
        let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
        if self.proxies.of(https, host).is_none() {
            return self.straight(to).await;
        }
        let port = to.port_u16().unwrap_or(if https { 443 } else { 80 });
        let places = self.places(host).await?;
        let limit = CONNECT_TIMEOUT / u32::try_from(places.len().max(1))?;
        let mut failed = format!("{host} has no address").into();
        for place in places {
            let authority =
                if place.contains(':') { format!("[{place}]:{port}") } else { format!("{place}:{port}") };
            let connected = match self.proxies.of(https, &place) {
                Some(proxy) => self.tunnel_within(limit, proxy, &authority).await,
                // A name may lead where no proxy is wanted.
                None => self.straight(format!("http://{authority}/").parse()?).await,
            };
            match connected {
                Ok(connection) => return Ok(connection),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn straight(&self, to: Uri) -> Result<Connection, Failed> {
        Ok(self.hosts.clone().oneshot(to).await?)
    }

    async fn tunnel_within(&self, limit: Duration, proxy: &Proxy, to: &str) -> Result<Connection, Failed> {
        let tunnel = self.clock.within(limit, self.tunnel(proxy, to)).await;
        let why = || format!("opened no tunnel to {to} within {} s", limit.as_secs_f32());
        tunnel.unwrap_or_else(|| Err(no_tunnel(proxy, &why())))
    }

    /// What a proxy may be asked for, to reach a host: its name, or where there is a guard, its vetted addresses.
    async fn places(&self, host: &str) -> Result<Vec<String>, Failed> {
        let unknown = |e: std::io::Error| {
            if is_forbidden(&e) {
                return e;
            }
            let why = "to judge its address this machine must be able to look it up, behind a proxy, too";
            std::io::Error::new(e.kind(), format!("{host}: {e}; {why}"))
        };
        match self.names.vetted(host).await.map_err(unknown)? {
            None => Ok(vec![host.to_owned()]),
            Some(vetted) => Ok(vetted.iter().take(MOST_ADDRESSES).map(ToString::to_string).collect()),
        }
    }

    async fn tunnel(&self, proxy: &Proxy, authority: &str) -> Result<Connection, Failed> {
        let tcp = self.to_proxies.clone().oneshot(proxy.to_string().parse()?).await;
        let tcp = tcp.map_err(|e| no_tunnel(proxy, &format!("is not reached: {}", causes(&e))))?;
        let (mut ask, answers) = http1::handshake(tcp).await?;
        // Ends with the tunnel's beginning, or when nobody waits for it any more.
        tokio::spawn(answers.with_upgrades());
        let mut request = Request::builder().method(Method::CONNECT).uri(authority).header(HOST, authority);
        if let Some(authorization) = proxy.authorization() {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let broken = |e: hyper::Error| {
            no_tunnel(
                proxy,
                &format!("gave no answer to CONNECT {authority} that makes sense: {}", causes(&e)),
            )
        };
        let answer = ask.send_request(request.body(Empty::<Bytes>::new())?).await.map_err(broken)?;
        let status = answer.status();
        if !status.is_success() {
            let hint = match (status, proxy.authorization()) {
                (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => "; it wants a user and a password",
                (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(_)) => {
                    "; it does not take this user and password"
                }
                _ => "",
            };
            return Err(no_tunnel(proxy, &format!("answered {status} to CONNECT {authority}{hint}")));
        }
        let tunnel = hyper::upgrade::on(answer).await.map_err(broken)?.downcast::<Connection>();
        match tunnel {
            // Whoever is called speaks second, in TLS as in HTTP.
            Ok(tunnel) if tunnel.read_buf.is_empty() => Ok(tunnel.io),
            _ => Err(no_tunnel(proxy, &format!("said more than an answer to CONNECT {authority}"))),
        }
    }
}

fn no_tunnel(proxy: &Proxy, why: &str) -> Failed {
    format!("the proxy {proxy} {why}").into()
}

fn tcp(names: Names) -> HttpConnector<Names> {
    let mut tcp = HttpConnector::new_with_resolver(names);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Connection, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let ways = self.0.clone();
        async move { ways.connect(to).await }.boxed()
    }
}

#[cfg(test)]
mod tests;
