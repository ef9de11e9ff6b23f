//! Three nodes on one PostgreSQL behind one address: nodes that die or stand still, a server that
//! restarts and drops connections, a transaction of somebody else's that never ends.

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::Stopwatch;
use reelhook::heygen::sandbox::What;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::ground::{Engine, Ground, has_ended, injections, is_long};
use crate::kills::{callers, troubled};
use crate::oracle;
use crate::postgres::{Ours, Session};
use crate::server::{Client, Server, Setup};

pub const NODES: usize = 3;
/// What all nodes together may have outstanding; no more is taken by the sandbox, either.
pub const SLOTS: usize = 60;
/// How long a node may be gone before others take over what it was sending.
const LEASE_S: f64 = 150.0;

/// The nodes, reached by the ground's own client through a balancer.
pub struct Nodes<'a> {
    ground: &'a Ground,
    /// How each of them reaches the database.
    databases: Vec<String>,
    clients: Vec<Client>,
    servers: Vec<Option<Server>>,
}

impl<'a> Nodes<'a> {
    pub async fn start(ground: &'a Ground) -> Self {
        Self::start_on(ground, vec![ground.database.clone(); NODES]).await
    }

    pub async fn start_on(ground: &'a Ground, databases: Vec<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", ground.client.port)).await.unwrap();
        let mut nodes = Self { ground, databases, clients: vec![], servers: vec![] };
        for at in 0..nodes.databases.len() {
            nodes.clients.push(Client::new());
            nodes.servers.push(None);
            nodes.launch(at).await;
        }
        tokio::spawn(balance(listener, nodes.clients.clone()));
        ground.client.is_up.send_replace(true);
        nodes.node(0).register(&ground.client).await;
        nodes
    }

    async fn launch(&mut self, at: usize) {
        let (client, database) = (self.clients[at].0.clone(), self.databases[at].clone());
        let setup = Setup { client, database, ..self.ground.setup() };
        let balancer = format!("http://127.0.0.1:{}", self.ground.client.port);
        let variables = [("REELHOOK_SLOTS", &*SLOTS.to_string()), ("REELHOOK_PUBLIC_URL", &balancer)];
        self.servers[at] = Some(self.ground.serve_as(setup, &variables).await);
    }

    async fn kill(&mut self, at: usize) {
        if let Some(server) = self.servers[at].take() {
            server.kill().await;
        }
    }

    pub async fn kill_all(&mut self) {
        for at in 0..self.servers.len() {
            self.kill(at).await;
        }
    }

    /// It keeps what it holds, and gets no more connections.
    async fn stand_still(&self, at: usize) {
        self.clients[at].is_up.send_replace(false);
        self.node(at).signal("-STOP").await;
    }

    async fn go_on(&self, at: usize) {
        self.node(at).signal("-CONT").await;
        self.clients[at].is_up.send_replace(true);
    }

    fn node(&self, at: usize) -> &Server {
        self.servers[at].as_ref().expect("it runs")
    }
}

/// Hands each connection to a node that is up, in turn. With none up it only ends it.
async fn balance(listener: TcpListener, nodes: Vec<Client>) {
    for turn in 0.. {
        let Ok((mut caller, _)) = listener.accept().await else { return };
        let up: Vec<u16> = nodes.iter().filter(|node| *node.is_up.borrow()).map(|node| node.port).collect();
        let Some(port) = up.get(turn % up.len().max(1)).copied() else { continue };
        tokio::spawn(async move {
            if let Ok(mut node) = TcpStream::connect(("127.0.0.1", port)).await {
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut node).await;
            }
        });
    }
}

/// B20: one of three killed in turn; in the long form one stands still past its lease, too.
pub async fn nodes_may_die() {
    let ground = Ground::new(Engine::Postgres, |options| {
        troubled(options);
        options.concurrency = SLOTS;
    })
    .await;
    let mut nodes = Nodes::start(&ground).await;
    let is_short = !is_long();
    let stale = if is_short { None } else { Some(stale_finish(&nodes).await) };
    // Nothing is claimed of what was not tried.
    let not_refused = stale.as_ref().map(|(_, refused)| ("stale_not_refused", usize::from(!refused)));
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let callers = callers(&ground);
    for nth in 0..injections() {
        for _ in 0..dice.random_range(1..60) {
            let _ = seen.recv().await;
        }
        nodes.kill(nth % NODES).await;
        nodes.launch(nth % NODES).await;
    }
    let mut jobs = callers.end().await.unwrap();
    jobs.extend(stale.map(|(job, _)| job));
    if is_short {
        // One that starts alone takes back at once what the dead were running.
        nodes.kill_all().await;
        nodes.launch(0).await;
    } else {
        nodes.kill(0).await;
    }
    let recovery = ground.drained(&jobs).await;
    let verdict = oracle::compare(&ground, &jobs).await;
    let mut zero = oracle::zeros(&verdict).to_vec();
    zero.push(("beyond_the_bound", beyond_the_bound(&ground)));
    zero.extend(not_refused);
    let figures = [
        ("nodes", NODES as f64),
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
        ("stale_finishes_tried", f64::from(u8::from(!is_short))),
        ("recovery_s", recovery),
    ];
    ground.report("B20", injections(), &zero, &figures);
    assert!(recovery <= LEASE_S + 5.0, "taken over when the lease ends: {recovery} s");
    nodes.kill_all().await;
}

/// How often HeyGen was asked for more than it takes: then the nodes did not share one bound.
fn beyond_the_bound(ground: &Ground) -> usize {
    let refused = |what: &What| matches!(what, What::Refused { status: Some(429), fault: None, .. });
    ground.ledger().iter().filter(|entry| refused(&entry.what)).count()
}

/// One node stands still while HeyGen owes it an answer; when its lease is over, another has found out
/// and the job has ended, it goes on and wants to record what it thinks. The job, and whether that was
/// refused.
async fn stale_finish(nodes: &Nodes<'_>) -> (String, bool) {
    for at in 1..NODES {
        nodes.stand_still(at).await;
    }
    // Nobody is told of it, so that only who takes over can find out.
    let (job, _) = nodes.ground.accepted("b20-stale", "p #hang #lost").await;
    nodes.stand_still(0).await;
    for at in 1..NODES {
        nodes.go_on(at).await;
    }
    let mut ended = false;
    while !ended {
        let path = format!("/api/jobs/{job}?wait=60");
        ended = has_ended(&nodes.clients[1].insist("GET", &path, None, None).await);
    }
    nodes.go_on(0).await;
    // Its patience with HeyGen is over at once, and what it says of the job comes too late.
    let mut refused = 0.0;
    for _ in 0..100 {
        nodes.clients[0].insist("GET", "/api/jobs", None, None).await;
        refused = nodes.clients[0].metric("reelhook_tasks_stale_finish_total").await;
        if refused > 0.0 {
            break;
        }
    }
    (job, refused > 0.0)
}

/// B18: the server restarts, in order and hard, lets go of connections, and takes no writes for a while,
/// under load and beside many who hold one and do nothing.
pub async fn postgres_may_go_away() {
    const IDLE: usize = 100;
    let ours = Ours::start(0).await;
    let address = &ours.addresses[0];
    let ground = Ground::on(Some(address.clone()), |_| {}).await;
    let mut nodes = Nodes::start(&ground).await;
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let callers = callers(&ground);
    let (mut slowest, mut restarts, mut dropped, mut read_only, mut refused) = (0_f64, 0, 0, 0_u32, 0_u32);
    let (mut jobs, mut idle) = (vec![], Session::many(address, IDLE).await);
    for nth in 0..injections() {
        for _ in 0..dice.random_range(1..60) {
            let _ = seen.recv().await;
        }
        if nth % 6 < 4 {
            let share = dice.random_range(1..=100_i64);
            let all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE application_name = 'reelhook' AND pid % 100 < ";
            dropped += Session::open(address).await.number(format!("{all}{share}")).await;
        } else if nth % 6 == 4 {
            let (job, was_refused) = submitted_read_only(&ground, address, nth).await;
            (read_only, refused) = (read_only + 1, refused + u32::from(was_refused));
            jobs.push(job);
        } else {
            Session::leave(idle).await;
            ours.restart(["fast", "immediate"][nth / 6 % 2]).await;
            restarts += 1;
            idle = Session::many(address, IDLE).await;
        }
        let (job, took) = ground.one_more(&format!("b18-{nth}")).await;
        slowest = slowest.max(took);
        jobs.push(job);
    }
    jobs.extend(callers.end().await.unwrap());
    let drained = ground.drained(&jobs).await;
    let verdict = oracle::compare(&ground, &jobs).await;
    let figures = [
        ("restarts", f64::from(restarts)),
        ("read_only", f64::from(read_only)),
        ("submits_refused_read_only", f64::from(refused)),
        ("connections_ended", dropped as f64),
        ("idle_connections", IDLE as f64),
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
        ("recovery_s_max", slowest),
        ("drain_s", drained),
    ];
    ground.report("B18", injections(), &oracle::zeros(&verdict), &figures);
    Session::leave(idle).await;
    nodes.kill_all().await;
    ours.stop().await;
}

/// What a primary is that was demoted under us: connected to, and read only, for as long as it takes to
/// answer a submission. Its job, and whether it was refused, and so had to be sent again.
async fn submitted_read_only(ground: &Ground, address: &str, nth: usize) -> (String, bool) {
    const END: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                       WHERE application_name = 'reelhook'";
    // One session, and not read only itself: settings of a database are for those that come later.
    let mut session = Session::open(address).await;
    session.batch("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    session.batch(END).await;
    let body = json!({"kind": "video_agent", "request": {"prompt": "p"}});
    let key = format!("b18-read-only-{nth}");
    let answer = ground.client.call("POST", "/api/jobs", Some(&key), Some(&body)).await;
    session.batch("ALTER DATABASE postgres RESET default_transaction_read_only").await;
    session.batch(END).await;
    Session::leave(vec![session]).await;
    match answer {
        Ok((status, job)) if status < 300 => (job["id"].as_str().unwrap().to_owned(), false),
        _ => (ground.submit(&key, "p").await, true),
    }
}

/// B19: somebody else's writing transaction stays open, so that nothing that died can be cleaned up.
pub async fn a_long_transaction_does_not_choke() {
    let each = injections() * 8;
    let ground = Ground::new(Engine::Postgres, |options| options.concurrency = SLOTS).await;
    let mut nodes = Nodes::start(&ground).await;
    // Caches are warm and the bound has grown when it is measured.
    let mut jobs = work(&ground, "warm", each).await.0;
    let (alone, without) = work(&ground, "alone", each).await;
    let mut session = Session::open(&ground.database).await;
    session.batch("CREATE TABLE held (n INT); BEGIN; INSERT INTO held VALUES (1)").await;
    let held = Stopwatch::start();
    let (beside, with) = work(&ground, "beside", each).await;
    let held = held.elapsed().as_secs_f64();
    let dead = Session::open(&ground.database).await;
    let dead = dead.number("SELECT COALESCE(sum(n_dead_tup), 0)::BIGINT FROM pg_stat_user_tables").await;
    session.batch("COMMIT").await;
    jobs.extend(alone);
    jobs.extend(beside);
    let verdict = oracle::compare(&ground, &jobs).await;
    let figures = [
        ("jobs", jobs.len() as f64),
        ("jobs_per_s_without", without),
        ("jobs_per_s_with", with),
        ("ratio_goal_0.9", with / without),
        ("held_s", held),
        ("dead_rows", dead as f64),
    ];
    ground.report("B19", each, &oracle::zeros(&verdict), &figures);
    Session::leave(vec![session]).await;
    nodes.kill_all().await;
}

/// So many jobs, from first submit to last end. Their ids, and how many a second.
pub async fn work(ground: &Ground, name: &str, count: usize) -> (Vec<String>, f64) {
    const CALLERS: usize = 20;
    let watch = Stopwatch::start();
    let all = join_all((0..CALLERS).map(async |caller| {
        let mut jobs = vec![];
        for nth in (caller..count).step_by(CALLERS) {
            let id = ground.submit(&format!("{name}-{nth}"), "p").await;
            ground.end_of(&id).await;
            jobs.push(id);
        }
        jobs
    }))
    .await;
    (all.concat(), count as f64 / watch.elapsed().as_secs_f64())
}
