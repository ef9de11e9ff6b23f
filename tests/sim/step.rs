//! One seed: what happens next is rolled, done, and checked; then the trouble ends and everything
//! has to come to its end.

use std::fmt;
use std::ops::AddAssign;

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reelhook::domain::ids;
use reelhook::domain::job::Kind;
use reelhook::domain::signature;
use reelhook::domain::time::{DAY, HOUR, MINUTE, Millis, SECOND, rfc3339};
use reelhook::heygen::kinds;
use reelhook::heygen::sandbox::{Fault, Stage};
use reelhook::store::webhook_secret;
use serde_json::{Value, json};

use crate::check::Oracle;
use crate::upstream::Sent;
use crate::world::{Done, Standing, World};

/// Things a caller wants, at most.
const MOST_JOBS: usize = 4;
/// Runs under way at once, at most.
const MOST_RUNS: usize = 6;
/// Steps to the end once all trouble is over, at most: a world that needs more stands still.
const LAST_STEPS: usize = 3_000;

#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub steps: u64,
    pub crashes: u64,
    pub webhooks: u64,
    pub hung: u64,
    pub jumps: u64,
    /// Starts with a clock that is an hour off.
    pub skewed: u64,
    /// Runs that came to their end when their lease was another's.
    pub stale: u64,
    pub finished: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.webhooks += other.webhooks;
        self.hung += other.hung;
        self.jumps += other.jumps;
        self.skewed += other.skewed;
        self.stale += other.stale;
        self.finished += other.finished;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} crashes, {} webhooks delivered, {} calls hung, {} clock jumps, {} stale finishes, {} jobs ended",
            self.steps, self.crashes, self.webhooks, self.hung, self.jumps, self.stale, self.finished
        )
    }
}

struct Sim {
    world: World,
    oracle: Oracle,
    dice: StdRng,
    /// What the caller asks for, each with whether its answer is still awaited.
    wanted: Vec<Value>,
    counts: Counts,
    loud: bool,
}

pub fn run(seed: u64, steps: u64, loud: bool, postgres: Option<&str>) -> Counts {
    let mut dice = StdRng::seed_from_u64(seed);
    let chance = [0.0, 0.02, 0.1].choose(&mut dice).copied().unwrap_or_default();
    let faults = Fault::ALL.iter().map(|fault| match fault.stage() {
        // Rarely, or too few jobs would get anywhere.
        Stage::Before => (*fault, chance / 2.0),
        _ => (*fault, chance),
    });
    let world = World::new(seed, faults.collect(), postgres);
    let oracle = Oracle::default();
    let mut sim = Sim { world, oracle, dice, wanted: vec![], counts: Counts::default(), loud };
    // Else every webhook comes unsigned to its job's own address.
    if sim.dice.random_bool(0.7) {
        sim.register();
    }
    sim.world.line.set_trouble([0.0, 0.1, 0.4].choose(&mut sim.dice).copied().unwrap_or_default());
    for nth in 0..steps {
        sim.step(nth);
        sim.oracle.check(&sim.world);
    }
    sim.wind_up();
    sim.oracle.check_end(&sim.world, sim.wanted_jobs());
    sim.counts.steps = steps;
    sim.counts.finished = sim.oracle.finished() as u64;
    sim.end_of_life();
    sim.world.crash();
    sim.counts
}

impl Sim {
    fn say(&self, what: impl fmt::Display) {
        if self.loud {
            println!("{:>9} s  {what}", (self.world.now() - crate::world::START) as f64 / 1_000.0);
        }
    }

    fn step(&mut self, nth: u64) {
        match self.dice.random_range(0..100) {
            0..8 if self.wanted.len() < MOST_JOBS => self.want(),
            0..12 => self.ask(),
            12..17 => self.wish(),
            17..40 => self.work(),
            40..55 => self.deliver(),
            55..76 => self.go_on(),
            76..90 => self.pass_time(),
            90..94 => self.jump(),
            94..99 => self.crash(),
            _ => self.trouble(nth),
        }
    }

    /// HeyGen learns the address and tells its secret; it asks the address first, so that its answer
    /// comes in several turns.
    fn register(&mut self) {
        let headers = json_headers(None);
        let mut done =
            self.world.begin_call("register".into(), "POST", "/api/webhooks", headers, "{}".into());
        while done.is_none() {
            let (number, _) = self.world.runs.last_key_value().expect("the call is under way");
            done = self.world.go_on(*number);
        }
        let Some((_, Done::Answered { status: 201, .. })) = done else { panic!("registered: {done:?}") };
    }

    /// A new thing is wanted.
    fn want(&mut self) {
        let kind = *Kind::ALL.choose(&mut self.dice).expect("a kind");
        let mut body = json!({"kind": kind.name(), "request": kinds::example(kind)});
        if self.dice.random_bool(0.15) {
            body["hold"] = json!(true);
        }
        if self.dice.random_bool(0.15) {
            let at = self.world.clock.now() + self.dice.random_range(-HOUR..2 * HOUR);
            body["not_before"] = json!(rfc3339(at));
        }
        // A group of two.
        if kinds::is_per_language(kind) && self.dice.random_bool(0.7) {
            body["request"]["output_languages"] = json!(["German", "French"]);
        }
        self.wanted.push(body);
        self.ask_for(self.wanted.len() - 1);
    }

    /// Something that is wanted is asked for, again and again until it is acknowledged, and after.
    fn ask(&mut self) {
        if !self.wanted.is_empty() {
            let nth = self.dice.random_range(0..self.wanted.len());
            self.ask_for(nth);
        }
    }

    fn ask_for(&mut self, nth: usize) {
        let headers = json_headers(Some(nth));
        let body = Bytes::from(self.wanted[nth].to_string());
        let done = self.world.begin_call(format!("submit {nth}"), "POST", "/api/jobs", headers, body);
        self.took(done);
    }

    fn wish(&mut self) {
        let jobs: Vec<String> = self.oracle.jobs.values().cloned().collect();
        let Some(id) = jobs.choose(&mut self.dice) else { return };
        let wish =
            *["cancel", "refresh", "refresh", "approve", "reject"].choose(&mut self.dice).expect("a wish");
        // Of a group only the cancel is there; the others are no such thing.
        let noun = if id.starts_with(ids::GROUP) { "groups" } else { "jobs" };
        let done = self.world.begin_call(
            format!("{wish} {id}"),
            "POST",
            &format!("/api/{noun}/{id}/{wish}"),
            json_headers(None),
            Bytes::new(),
        );
        self.took(done);
    }

    fn work(&mut self) {
        if self.world.runs.len() < MOST_RUNS {
            let done = self.world.begin_work();
            self.took(done);
        }
    }

    fn deliver(&mut self) {
        if self.dice.random_bool(0.05) {
            return self.lie();
        }
        self.world.settle_sandbox();
        let size = self.world.line.bag_size();
        if size == 0 {
            return;
        }
        let nth = self.dice.random_range(0..size);
        let stays = self.dice.random_bool(0.4);
        let sent = self.world.line.pick(nth, stays);
        if self.dice.random_bool(0.1) {
            return self.say("a webhook is lost");
        }
        self.bring(&sent);
    }

    /// Somebody who has the secret says of a job that it failed, true or not.
    fn lie(&mut self) {
        let Some(secret) = self.secrets().pop() else { return };
        let jobs: Vec<String> = self.oracle.jobs.values().cloned().collect();
        let Some(id) = jobs.choose(&mut self.dice) else { return };
        let name =
            *["avatar_video", "video_agent", "video_translate"].choose(&mut self.dice).expect("a name");
        let body =
            json!({"event_type": format!("{name}.fail"), "event_data": {"callback_id": id, "error": "e"}});
        let body = Bytes::from(body.to_string());
        let mut headers = json_headers(None);
        headers.insert("signature", signature::sign(&secret, &body).parse().expect("a header"));
        self.bring(&Sent { path: "/webhooks/heygen".to_owned(), headers, body });
    }

    fn secrets(&self) -> Vec<String> {
        let live = self.world.read(|tx| webhook_secret::list_live(tx, i64::MAX - 1));
        live.into_iter().map(|s| s.secret).collect()
    }

    fn bring(&mut self, sent: &Sent) {
        let secrets = self.secrets();
        let header = |name: &str| sent.headers.get(name).and_then(|v| v.to_str().ok());
        let is_signed = signature::verify(&sent.body, header, &secrets, self.world.now()).is_ok();
        self.counts.webhooks += 1;
        // What it is, so that its end can be judged wherever it is met.
        let what = format!("webhook {}", if is_signed { hex::encode(&sent.body) } else { String::new() });
        let done = self.world.begin_call(what, "POST", &sent.path, sent.headers.clone(), sent.body.clone());
        self.took(done);
    }

    fn go_on(&mut self) {
        let ready: Vec<u64> =
            self.world.runs.iter().filter(|(_, run)| self.is_ready(run.standing)).map(|(n, _)| *n).collect();
        if let Some(number) = ready.choose(&mut self.dice) {
            let done = self.world.go_on(*number);
            self.took(done);
        }
    }

    fn is_ready(&self, standing: Standing) -> bool {
        match standing {
            Standing::At(_) => true,
            Standing::Hung { until } => until <= self.world.now(),
        }
    }

    fn pass_time(&mut self) {
        let by = match self.dice.random_range(0..10) {
            0 => HOUR,
            1 if self.dice.random_bool(0.2) => DAY,
            1..4 => self.dice.random_range(1..10 * MINUTE),
            4..6 => self.dice.random_range(1..2 * SECOND),
            _ => self.world.next_due().map_or(SECOND, |at| (at - self.world.now()).clamp(1, HOUR)),
        };
        self.world.advance(by);
        self.world.settle_sandbox();
        self.say(format_args!("{by} ms pass"));
        self.wake();
    }

    /// Calls whose patience ended go on to their next stop.
    fn wake(&mut self) {
        let over = |run: &crate::world::Run| matches!(run.standing, Standing::Hung { until } if until <= self.world.now());
        let over: Vec<u64> = self.world.runs.iter().filter(|(_, run)| over(run)).map(|(n, _)| *n).collect();
        for number in over {
            self.counts.hung += 1;
            let done = self.world.go_on(number);
            self.took(done);
        }
    }

    /// The app's clock alone jumps ahead, by an hour or by a day.
    fn jump(&mut self) {
        if self.dice.random_bool(0.3) {
            let by = if self.dice.random_bool(0.8) { HOUR } else { DAY };
            self.world.clock.advance(std::time::Duration::from_millis(by.unsigned_abs()));
            self.counts.jumps += 1;
            self.say(format_args!("the clock jumps by {by} ms"));
            self.wake();
        }
    }

    /// Everything of the app is gone, and it starts again, its clock perhaps an hour off.
    fn crash(&mut self) {
        self.counts.crashes += 1;
        self.say(format_args!("crash, with {} runs under way", self.world.runs.len()));
        let skew = [0, 0, HOUR, -HOUR].choose(&mut self.dice).copied().unwrap_or_default();
        self.counts.skewed += u64::from(skew != 0);
        self.end_of_life();
        self.world.crash();
        self.world.start(skew);
    }

    fn trouble(&mut self, nth: u64) {
        match nth % 4 {
            0 => self.world.sandbox.revoke_key(self.dice.random_bool(0.5)),
            1 => self.world.sandbox.set_balance(if self.dice.random_bool(0.5) { 0.0 } else { 1_000.0 }),
            2 => self.world.sandbox.set_offline(self.dice.random_bool(0.5)),
            _ => self.world.line.set_trouble([0.0, 0.1, 0.4, 1.0][self.dice.random_range(0..4)]),
        }
        self.say("the weather changes");
    }

    fn took(&mut self, done: Option<(String, Done)>) {
        match done {
            None => {
                if let Some((_, run)) = self.world.runs.last_key_value() {
                    self.say(format_args!("{:.40} stands at {:?}", run.what, run.standing));
                }
            }
            Some((what, Done::Worked)) => self.say(format_args!("{what}: done")),
            Some((what, Done::Answered { status, body })) => self.answered(&what, status, &body),
        }
    }

    fn answered(&mut self, what: &str, status: u16, body: &Bytes) {
        self.say(format_args!("{what:.40}: {status}"));
        assert!(status < 500 || status == 503, "{what:.40}: {status} {}", String::from_utf8_lossy(body));
        if let (Some(body), 200) = (what.strip_prefix("webhook ").filter(|b| !b.is_empty()), status) {
            self.oracle.receipts.insert(hex::decode(body).expect("hex").into());
        }
        if let (Some(nth), 202) = (what.strip_prefix("submit "), status) {
            let made: Value = serde_json::from_slice(body).expect("a job");
            let id = made["id"].as_str().expect("an id").to_owned();
            let first = self.oracle.jobs.insert(nth.parse().expect("a number"), id.clone());
            assert!(first.is_none_or(|first| first == id), "two jobs for what was wanted once: {what}");
        }
    }

    /// What the app counted is lost with it.
    fn end_of_life(&mut self) {
        let metrics = &self.world.app().http.metrics;
        assert_eq!(metrics.task_panics.get(), 0, "a run panicked");
        self.counts.stale += metrics.stale_finishes.get();
    }

    /// No more trouble: everybody insists, everything arrives, and time passes until all is done.
    fn wind_up(&mut self) {
        self.say("all trouble ends");
        self.world.line.set_trouble(0.0);
        self.world.sandbox.revoke_key(false);
        self.world.sandbox.set_offline(false);
        self.world.sandbox.set_balance(1_000.0);
        for _ in 0..LAST_STEPS {
            while let Some(number) =
                self.world.runs.iter().find(|(_, run)| self.is_ready(run.standing)).map(|(n, _)| *n)
            {
                let done = self.world.go_on(number);
                self.took(done);
            }
            let unasked = (0..self.wanted.len()).find(|nth| !self.oracle.jobs.contains_key(nth));
            if let Some(nth) = unasked {
                self.ask_for(nth);
                continue;
            }
            self.world.settle_sandbox();
            if self.world.line.bag_size() > 0 {
                let sent = self.world.line.pick(0, false);
                self.bring(&sent);
                continue;
            }
            let done = self.world.begin_work();
            let idle = matches!(done, Some((_, Done::Worked)));
            self.took(done);
            if !idle {
                continue;
            }
            self.oracle.check(&self.world);
            // A job that was made and could not be paid stops all others until somebody says go on.
            self.world.resume();
            if self.world.runs.is_empty() && self.oracle.finished() == self.wanted_jobs() {
                return;
            }
            let hung = self.world.runs.values().filter_map(|run| match run.standing {
                Standing::Hung { until } => Some(until),
                Standing::At(_) => None,
            });
            let next = self.world.next_due().into_iter().chain(hung).min();
            let pause = next.map_or(MINUTE, |at| (at - self.world.now()).clamp(1, MINUTE as Millis * 15));
            self.world.advance(pause);
            self.wake();
        }
        panic!("{} of {} jobs ended, and nothing more happens", self.oracle.finished(), self.wanted_jobs());
    }

    fn wanted_jobs(&self) -> usize {
        let languages = |body: &Value| body["request"]["output_languages"].as_array().map_or(1, Vec::len);
        self.wanted.iter().map(languages).sum()
    }
}

fn json_headers(key: Option<usize>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(nth) = key {
        headers.insert("idempotency-key", HeaderValue::from(nth as u64 + 1));
    }
    headers
}
