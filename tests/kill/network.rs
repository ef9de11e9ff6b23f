//! What lies between the nodes and PostgreSQL: its address leads to a standby that was promoted, or the way there
//! is long, loses packets, stands still and is cut.

use futures_util::future::join;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::{Millis, Stopwatch};
use reelhook::domain::time::SECOND;

use crate::ground::{Engine, Ground, injections, is_long};
use crate::kills::callers;
use crate::nodes::{NODES, Nodes, SLOTS, work};
use crate::oracle;
use crate::postgres::{Ours, port};
use crate::relay::{Relay, Way};

/// What a standby must have brought back, of before: the time in which it is counted.
const WINDOW_S: f64 = 30.0;
/// A round trip to PostgreSQL that is far away, half of it each way.
const FAR_MS: Millis = 200;
const FAR_MS_SHORT: Millis = 20;
const LOSSY: Way = Way { late: 0, lost: 0.05, is_held: false };

/// B18: the server is killed under load, and the standby that followed it synchronously takes its place. Two nodes
/// reach whichever it is by one address, which is switched; the third knows the addresses of all.
pub async fn a_standby_takes_over() {
    let rounds = injections().div_ceil(if is_long() { 10 } else { 20 });
    let ours = Ours::start(rounds).await;
    let address = &ours.addresses[0];
    let ground = Ground::on(Some(address.clone()), |options| options.concurrency = SLOTS).await;
    let relay = Relay::start(port(address), ground.seed).await;
    let switched = with_ports(address, &[relay.port]);
    let all: Vec<u16> = ours.addresses.iter().map(|address| port(address)).collect();
    let all = format!("{}?target_session_attrs=read-write", with_ports(address, &all));
    let mut nodes = Nodes::start_on(&ground, vec![switched.clone(), switched, all]).await;
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    // Caches are warm and the bound has grown when it is measured.
    let each = 60;
    let mut jobs = work(&ground, "b18-warm", each).await.0;
    let (mut befores, mut afters, mut slowest) = (vec![], vec![], 0_f64);
    for nth in 0..rounds {
        let (alone, before) = work(&ground, &format!("b18-before-{nth}"), each).await;
        ours.follow(nth).await;
        while seen.try_recv().is_ok() {}
        let failing_over = async {
            for _ in 0..dice.random_range(1..each) {
                let _ = seen.recv().await;
            }
            let watch = Stopwatch::start();
            ours.fail_over(nth).await;
            relay.lead_to(port(&ours.addresses[nth + 1]));
            let (job, _) = ground.one_more(&format!("b18-first-{nth}")).await;
            (job, watch.elapsed().as_secs_f64())
        };
        let under_load = format!("b18-during-{nth}");
        let ((during, _), (first, recovery)) = join(work(&ground, &under_load, each), failing_over).await;
        slowest = slowest.max(recovery);
        let counted = if is_long() { (before * WINDOW_S) as usize } else { each };
        let (since, after) = work(&ground, &format!("b18-after-{nth}"), counted).await;
        befores.push(before);
        afters.push(after);
        jobs.extend([alone, during, vec![first], since].concat());
    }
    let verdict = oracle::compare(&ground, &jobs).await;
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let figures = [
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
        ("recovery_s_max", slowest),
        ("jobs_per_s_before", mean(&befores)),
        ("jobs_per_s_after", mean(&afters)),
        ("recovery_ratio_goal_0.95", mean(&afters) / mean(&befores)),
    ];
    ground.report("B18 standby", rounds, &oracle::zeros(&verdict), &figures);
    nodes.kill_all().await;
    ours.stop().await;
}

/// The same server at other ports, of which any may be the right one.
fn with_ports(address: &str, ports: &[u16]) -> String {
    let url: url::Url = address.parse().unwrap();
    let (host, user) = (url.host_str().unwrap(), url.username());
    let hosts: Vec<String> = ports.iter().map(|port| format!("{host}:{port}")).collect();
    format!("postgres://{user}@{}{}", hosts.join(","), url.path())
}

/// B18: far away; with one packet in twenty lost; held back for a while, and cut, again and again.
pub async fn the_network_is_bad() {
    let ground = Ground::new(Engine::Postgres, |options| options.concurrency = SLOTS).await;
    let relay = Relay::start(port(&ground.database), ground.seed).await;
    let mut nodes = Nodes::start_on(&ground, vec![with_ports(&ground.database, &[relay.port]); NODES]).await;
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let (each, few) = (injections(), injections().div_ceil(5));
    let mut jobs = work(&ground, "b18-warm", each).await.0;
    let (near, well) = work(&ground, "b18-near", each).await;
    let round_trip = if is_long() { FAR_MS } else { FAR_MS_SHORT };
    relay.set(Way { late: round_trip / 2, ..Way::default() });
    let (far, late) = work(&ground, "b18-far", few).await;
    relay.set(LOSSY);
    let (with_loss, lossy) = work(&ground, "b18-lossy", few).await;
    relay.set(Way::default());
    jobs.extend([near, far, with_loss].concat());
    let callers = callers(&ground);
    let (longest, between): (Millis, _) = if is_long() { (20 * SECOND, 30) } else { (SECOND, 5) };
    let faults = injections().div_ceil(2);
    let (mut cut, mut held, mut slowest) = (0, 0.0, 0_f64);
    for nth in 0..faults {
        for _ in 0..dice.random_range(1..between) {
            let _ = seen.recv().await;
        }
        if nth % 4 == 3 {
            let for_ms = dice.random_range(0..longest);
            relay.stand_still(for_ms).await;
            held += for_ms as f64 / 1_000.0;
        } else {
            cut += relay.cut(dice.random_range(0.05..1.0));
        }
        let (job, took) = ground.one_more(&format!("b18-network-{nth}")).await;
        slowest = slowest.max(took);
        jobs.push(job);
    }
    jobs.extend(callers.end().await.unwrap());
    let drained = ground.drained(&jobs).await;
    let verdict = oracle::compare(&ground, &jobs).await;
    let figures = [
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
        ("jobs_per_s_near", well),
        ("round_trip_ms_far", round_trip as f64),
        ("jobs_per_s_far", late),
        ("jobs_per_s_with_loss", lossy),
        ("connections_cut", cut as f64),
        ("held_s", held),
        ("recovery_s_max", slowest),
        ("drain_s", drained),
    ];
    ground.report("B18 network", faults, &oracle::zeros(&verdict), &figures);
    nodes.kill_all().await;
}
