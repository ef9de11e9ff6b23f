//! A bad network: passes bytes on between nodes and a server, late, held back, or not at all, and to another
//! server from one moment on. What it passes on it never changes, and of a connection it loses only the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::{Clock, Millis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The least time after which TCP sends again what was lost, on Linux. Each time again it is doubled.
const SENT_AGAIN_AFTER: Millis = 200;
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes that are on their way: beyond it the sender waits.
const CHUNKS: usize = 64;

#[derive(Clone, Copy, Default)]
pub struct Way {
    /// Each way.
    pub late: Millis,
    /// The share of what is passed on that is late as if a packet had been lost.
    pub lost: f64,
    /// Nothing passes.
    pub is_held: bool,
}

pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    target: watch::Sender<u16>,
    way: watch::Sender<Way>,
    /// Of each connection that may be there still: what ends it.
    open: Mutex<Vec<watch::Sender<()>>>,
    dice: Mutex<StdRng>,
}

impl Relay {
    pub async fn start(target: u16, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            target: watch::Sender::new(target),
            way: watch::Sender::default(),
            open: Mutex::default(),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
        });
        tokio::spawn(accept(listener, state.clone()));
        Self { port, state }
    }

    pub fn set(&self, way: Way) {
        self.state.way.send_replace(way);
    }

    /// Nothing passes for so long. It is how long the trouble lasts; no effect is waited for.
    pub async fn stand_still(&self, for_ms: Millis) {
        let clock = Clock::real();
        self.set(Way { is_held: true, ..Way::default() });
        clock.sleep_until(clock.now() + for_ms).await;
        self.set(Way::default());
    }

    /// This share of the connections end, without a word. How many.
    pub fn cut(&self, share: f64) -> usize {
        let mut open = self.state.open.lock().unwrap();
        open.retain(|connection| connection.receiver_count() > 0);
        let before = open.len();
        open.retain(|_| !self.state.dice.lock().unwrap().random_bool(share));
        before - open.len()
    }

    /// All connections end, and new ones lead elsewhere.
    pub fn lead_to(&self, target: u16) {
        self.state.target.send_replace(target);
        self.cut(1.0);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((node, _)) = listener.accept().await {
        let (end, ended) = watch::channel(());
        state.open.lock().unwrap().push(end);
        tokio::spawn(connection(node, state.clone(), ended));
    }
}

async fn connection(node: TcpStream, state: Arc<State>, mut ended: watch::Receiver<()>) {
    let target = *state.target.borrow();
    let passing = async {
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
        let _ = (node.set_nodelay(true), server.set_nodelay(true));
        let ((from_node, to_node), (from_server, to_server)) = (node.into_split(), server.into_split());
        // When one side ends, so does the connection.
        tokio::select! {
            () = pass(from_node, to_server, &state) => {}
            () = pass(from_server, to_node, &state) => {}
        }
    };
    tokio::select! {
        () = passing => {}
        _ = ended.changed() => {}
    }
}

/// One direction of a connection.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let clock = Clock::real();
    let mut way = state.way.subscribe();
    let (mut waiting, mut chunk) = (VecDeque::<(Millis, Vec<u8>)>::new(), vec![0; CHUNK_BYTES]);
    loop {
        let due = waiting.front().map(|(due, _)| *due);
        let is_held = way.borrow_and_update().is_held;
        tokio::select! {
            read = from.read(&mut chunk), if waiting.len() < CHUNKS => {
                let Ok(count @ 1..) = read else { return };
                // What comes after something that is late waits for it.
                let last = waiting.back().map_or(0, |(due, _)| *due);
                waiting.push_back((last.max(clock.now() + state.late()), chunk[..count].to_vec()));
            }
            () = clock.sleep_until(due.unwrap_or_default()), if due.is_some() && !is_held => {
                let Some((_, bytes)) = waiting.pop_front() else { continue };
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            _ = way.changed() => {}
        }
    }
}

impl State {
    /// How late the next chunk is.
    fn late(&self) -> Millis {
        let (way, mut dice) = (*self.way.borrow(), self.dice.lock().unwrap());
        let (mut late, mut again) = (way.late, SENT_AGAIN_AFTER);
        while way.lost > 0.0 && dice.random_bool(way.lost) {
            late += again;
            again *= 2;
        }
        late
    }
}
