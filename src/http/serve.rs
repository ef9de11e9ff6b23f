//! Connections: taken, bounded in time, and ended in order. Nothing here knows what is asked over them.
//!
//! A stop loses nobody who is connected: who waits to be taken is taken and answered before the door is
//! closed, and whoever comes later is refused by the system.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt;
use tower_http::timeout::DeadlineBody;

use crate::clock::Clock;

/// A connection on which no request begins, or its head is not whole, in so long is ended. Balancers keep
/// theirs for 60 s, and are to be the first to let go.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// A body that is not whole in so long is not waited for: 16 MiB at 2.3 Mbit/s.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// When there is no room for another connection.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Once it is stopping, what is on its way over connections that are there is still answered for so long.
const LINGER: Duration = Duration::from_millis(500);

/// Serves until `stop`, then answers what has begun; returns when all connections have ended.
pub async fn serve(listener: TcpListener, router: Router, clock: &Clock, stop: impl Future<Output = ()>) {
    let door = Door { router, stage: watch::Sender::new(Stage::Open) };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            taken = listener.accept() => match taken {
                Ok((stream, from)) => door.take(stream, from),
                Err(e) if is_of_the_caller(&e) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "no connection can be taken");
                    clock.sleep(NO_ROOM_PAUSE).await;
                }
            },
        }
    }
    // Closing the door would end the connections that the system has made and nobody has taken yet.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, from)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                door.take(stream, from);
            }
        }
    }
    door.stage.send_replace(Stage::Last);
    tokio::select! {
        () = door.stage.closed() => {}
        () = clock.sleep(LINGER) => {}
    }
    door.stage.send_replace(Stage::Over);
    door.stage.closed().await;
}

/// It came and went before it was taken.
fn is_of_the_caller(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Each answer is the last of its connection.
    Last,
    /// Nothing more is begun.
    Over,
}

struct Door {
    router: Router,
    /// Every connection holds a receiver for as long as it lasts.
    stage: watch::Sender<Stage>,
}

impl Door {
    fn take(&self, stream: TcpStream, from: SocketAddr) {
        // Small answers and events are sent at once. It fails only on a connection that is gone.
        let _ = stream.set_nodelay(true);
        let (router, stage, mut over) = (self.router.clone(), self.stage.subscribe(), self.stage.subscribe());
        let service = service_fn(move |request| {
            let (router, stage) = (router.clone(), stage.clone());
            async move {
                let mut answer = answer(router, request, from).await?;
                if *stage.borrow() != Stage::Open {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let is_over = async {
                let _ = over.wait_for(|stage| *stage == Stage::Over).await;
            };
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = is_over => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(e) = ended {
                tracing::trace!(error = %e, "a connection ended early");
            }
        });
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    from: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(|body| Body::new(DeadlineBody::new(BODY_PATIENCE, body)));
    request.extensions_mut().insert(ConnectInfo(from));
    router.oneshot(request).await
}

/// Whether a body could not be read because it came too slowly.
pub fn is_too_slow(e: &(dyn std::error::Error + 'static)) -> bool {
    e.is::<tower_http::timeout::TimeoutError>() || e.source().is_some_and(is_too_slow)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::http::input;

    /// The address, what stops it, and what ends when it has stopped.
    async fn started() -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let whole = async |body: Body| match input::read(body).await {
            Ok(_) => "whole".to_owned(),
            Err(problem) => format!("{:?}", problem.kind),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = Router::new().route("/", axum::routing::post(whole));
        let serving = async move {
            serve(listener, router, &Clock::real(), async { drop(stopped.await) }).await;
        };
        (at, stop, tokio::spawn(serving))
    }

    async fn said(stream: &mut TcpStream) -> String {
        let mut said = vec![];
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    }

    // Time goes on by itself when all wait for something else.
    #[tokio::test(start_paused = true)]
    async fn who_sends_half_of_something_is_let_go() {
        let (at, _stop, _) = started().await;
        for half in ["", "POST / HTT", "POST / HTTP/1.1\r\nhost: a\r\n"] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(half.as_bytes()).await.unwrap();
            assert_eq!(said(&mut stream).await, "", "{half:?}");
        }
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        assert!(said(&mut stream).await.ends_with("TooSlow"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_connected_when_it_stops_is_answered() {
        let (at, stop, serving) = started().await;
        let whole = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let mut all = vec![];
        for _ in 0..50 {
            // By the system; nobody has taken them, for on this one thread nobody had a turn yet.
            let stream = std::net::TcpStream::connect(at).unwrap();
            stream.set_nonblocking(true).unwrap();
            all.push(TcpStream::from_std(stream).unwrap());
        }
        stop.send(()).unwrap();
        for stream in &mut all {
            stream.write_all(whole).await.unwrap();
        }
        for stream in &mut all {
            assert!(said(stream).await.ends_with("whole"));
        }
        serving.await.unwrap();
        assert_eq!(std::net::TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
