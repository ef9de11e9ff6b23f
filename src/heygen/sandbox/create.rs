//! The three calls that create jobs. Under one lock: key, body, scripted trouble, limit, credits,
//! and then the job, its charge and the stored answer together. Only the answer waits outside.
//!
//! A client job that is refused keeps what trouble it has left, so that a second try gets on.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::answer::{Problem, broken, gateway_page, json_answer, stalled, whole_body};
use super::events::Step;
use super::faults::{self, Stage};
use super::idempotency::{self, Earlier};
use super::jobs::{Job, JobKind};
use super::ledger::What;
use super::validate::{self, Route};
use super::world::World;
use super::{Fault, PRICE, Sandbox};
use crate::clock::Millis;

/// HeyGen's own client allows for this long: the p99 of a create call.
const SLOW_MS: i64 = 31_000;
const GET_500_TIMES: u32 = 3;

/// A body, or why it could not be read.
type Read = Result<Bytes, BytesRejection>;

/// How the answer leaves.
enum Reply {
    Now(Response),
    At(Millis, Response),
    Never,
}

/// One attempt, read but not judged.
struct Attempt {
    route: Route,
    key: Option<String>,
    body_hash: String,
    body: Value,
    now: Millis,
}

impl Attempt {
    /// One whose body is too long or broke off.
    fn unread(route: Route, now: Millis) -> Self {
        Self { route, key: None, body_hash: String::new(), body: Value::Null, now }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.body.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    fn callback_id(&self) -> Option<String> {
        self.text("callback_id")
    }

    /// What makes two attempts tries of one job: the client's own id, else the body. Not the key,
    /// which a careful client changes after a refusal.
    fn client(&self) -> String {
        let name = self.callback_id().unwrap_or_else(|| self.body_hash.clone());
        format!("{} {name}", self.route.path())
    }
}

pub async fn video(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Read) -> Response {
    sandbox.create(Route::Videos, &headers, body).await
}

pub async fn agent(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Read) -> Response {
    sandbox.create(Route::Agents, &headers, body).await
}

pub async fn translation(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Read) -> Response {
    sandbox.create(Route::Translations, &headers, body).await
}

impl Sandbox {
    async fn create(&self, route: Route, headers: &HeaderMap, body: Read) -> Response {
        let reply = match whole_body(body) {
            Ok(body) => self.decide(route, headers, &body),
            Err(problem) => self.refuse(&Attempt::unread(route, self.now()), problem),
        };
        self.sync();
        self.wake();
        match reply {
            Reply::Now(response) => response,
            Reply::At(at, response) => {
                self.0.options.clock.sleep_until(at).await;
                response
            }
            Reply::Never => std::future::pending().await,
        }
    }

    fn decide(&self, route: Route, headers: &HeaderMap, bytes: &[u8]) -> Reply {
        let body = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let body_hash = idempotency::body_hash(bytes);
        let mut attempt = Attempt { route, key: None, body_hash, body, now: self.now() };
        attempt.key = match idempotency::key(headers) {
            Ok(key) => key,
            Err(problem) => return self.refuse(&attempt, problem),
        };
        let mut world = self.world();
        if let Some(reply) = self.again(&mut world, &attempt) {
            return reply;
        }
        let kind = match validate::kind_of(route, &attempt.body) {
            Ok(kind) => kind,
            Err(problem) => return self.refuse(&attempt, problem),
        };
        let mut faults = self.faults_of(&mut world, &attempt);
        if let Some(place) = faults.iter().position(|f| f.stage() == Stage::Before) {
            let fault = faults.remove(place);
            world.keep_try(attempt.client(), faults);
            return self.trouble(&attempt, fault);
        }
        if let Some(problem) = self.lacks(&world, &attempt) {
            world.keep_try(attempt.client(), faults);
            return self.refuse(&attempt, problem);
        }
        self.accept(&mut world, &attempt, kind, faults)
    }

    /// The answer that an earlier call with this key got, or gets.
    fn again(&self, world: &mut World, attempt: &Attempt) -> Option<Reply> {
        let key = attempt.key.clone()?;
        let path = attempt.route.path();
        match world.earlier(&idempotency::scope(path, &key), &attempt.body_hash, attempt.now) {
            Earlier::None => None,
            Earlier::Running => Some(self.refuse(attempt, Problem::busy())),
            Earlier::Answered { status, value, same_body } => {
                let callback_id = attempt.callback_id();
                self.note(What::Replayed { route: path.to_owned(), key, callback_id, same_body });
                Some(Reply::Now(json_answer(status, &value)))
            }
        }
    }

    /// What this job has in store: what is left from an earlier try, else script, tags and dice.
    fn faults_of(&self, world: &mut World, attempt: &Attempt) -> Vec<Fault> {
        if let Some(left) = world.take_try(&attempt.client()) {
            return left;
        }
        let mut faults = world.script.pop_front().unwrap_or_default();
        faults.extend(faults::tagged(&attempt.body));
        faults.extend(faults::rolled(&self.0.options.faults, &self.0.dice));
        // Once each, and in the order they were asked for.
        let mut once = Vec::with_capacity(faults.len());
        for fault in faults {
            if !once.contains(&fault) {
                once.push(fault);
            }
        }
        once
    }

    /// The account's own limits.
    fn lacks(&self, world: &World, attempt: &Attempt) -> Option<Problem> {
        let jobs = validate::languages(&attempt.body).map_or(1, |list| list.len());
        let jobs = if attempt.route == Route::Translations { jobs } else { 1 };
        let (running, first_done) = world.unfinished(attempt.now);
        if running + jobs > self.0.options.concurrency {
            let wait_ms = first_done.map_or(30_000, |at| at - attempt.now);
            let seconds = u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1).clamp(1, 30);
            return Some(too_many().retry_after(seconds));
        }
        let cost = PRICE * jobs as f64;
        (world.balance < cost).then(|| no_credit(world.balance, cost))
    }

    fn accept(&self, world: &mut World, attempt: &Attempt, kind: JobKind, faults: Vec<Fault>) -> Reply {
        let languages = match kind {
            JobKind::Translation => validate::languages(&attempt.body).unwrap_or_default(),
            _ => Vec::new(),
        };
        let jobs: Vec<Job> = match kind {
            JobKind::Translation => {
                languages.into_iter().map(|l| self.new_job(attempt, kind, &faults, Some(l))).collect()
            }
            _ => vec![self.new_job(attempt, kind, &faults, None)],
        };
        self.note(What::Accepted {
            route: attempt.route.path().to_owned(),
            kind,
            key: attempt.key.clone(),
            body_hash: attempt.body_hash.clone(),
            callback_id: attempt.callback_id(),
            title: attempt.text("title"),
            ids: jobs.iter().map(|job| job.id.clone()).collect(),
            faults: faults.clone(),
        });
        let value = answer(&jobs, attempt);
        for job in jobs {
            self.charge(world, attempt, &job);
            begin(world, job);
        }
        let slow = faults.contains(&Fault::Slow);
        let ready_at = if slow { attempt.now + SLOW_MS } else { attempt.now };
        if let Some(key) = &attempt.key {
            let scope = idempotency::scope(attempt.route.path(), key);
            world.remember(&scope, &attempt.body_hash, &value, attempt.now, ready_at);
        }
        spoiled(&faults, &value, ready_at)
    }

    fn charge(&self, world: &mut World, attempt: &Attempt, job: &Job) {
        world.balance -= PRICE;
        self.note(What::Charged {
            id: job.id.clone(),
            route: attempt.route.path().to_owned(),
            key: attempt.key.clone(),
            callback_id: attempt.callback_id(),
            title: job.title.clone(),
            language: job.language.clone(),
            credits: PRICE,
            balance: world.balance,
        });
    }

    fn new_job(&self, attempt: &Attempt, kind: JobKind, faults: &[Fault], language: Option<String>) -> Job {
        let agent = kind == JobKind::VideoAgent;
        // The one kind of video whose call takes no callback fields.
        let told = kind != JobKind::CinematicAvatar;
        let fault = |fault| faults.contains(&fault);
        let wants_captions = attempt.body.get("caption").is_some_and(|c| c.is_object() || *c == json!(true))
            || attempt.body.get("enable_caption") == Some(&json!(true));
        Job {
            id: if agent { format!("sess_{}", self.new_id()) } else { self.new_id() },
            video_id: agent.then(|| self.new_id()),
            kind,
            title: attempt.text("title"),
            callback_id: attempt.callback_id().filter(|_| told),
            callback_url: attempt.text("callback_url").filter(|_| told),
            folder_id: attempt.text("folder_id"),
            language,
            captions: wants_captions,
            created_at: attempt.now,
            render_ms: self.render_ms(),
            faults: faults.to_vec(),
            get_500_left: if fault(Fault::Get500) { GET_500_TIMES } else { 0 },
            cuts_left: u32::from(fault(Fault::FileCut)),
        }
    }

    fn render_ms(&self) -> i64 {
        let (least, most) = (*self.0.options.render.start(), *self.0.options.render.end());
        let more = most.saturating_sub(least) as f64 * self.0.dice.factor(0.0, 1.0);
        i64::try_from(least.saturating_add(more as u64)).unwrap_or(i64::MAX)
    }

    fn refuse(&self, attempt: &Attempt, problem: Problem) -> Reply {
        self.note_refused(attempt, Some(problem.status), problem.code, None);
        Reply::Now(problem.into_response())
    }

    /// Scripted trouble before anything is accepted.
    fn trouble(&self, attempt: &Attempt, fault: Fault) -> Reply {
        let reply = match fault {
            Fault::Error500 => Some(Problem::internal().into_response()),
            Fault::Error503 => Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Fault::Error502Html => Some(gateway_page(StatusCode::BAD_GATEWAY)),
            Fault::Error200 => Some(axum::Json(Problem::internal().envelope()).into_response()),
            Fault::NoCredit => Some(no_credit(0.0, PRICE).into_response()),
            Fault::Refuse => {
                Some(Problem::param("avatar_id", "This value was refused on purpose.").into_response())
            }
            Fault::Rate => Some(too_many().retry_after(2).into_response()),
            Fault::RateBare => Some(too_many().into_response()),
            Fault::ResetBefore => Some(broken(StatusCode::OK, "application/json", &promise(), 0)),
            _ => None,
        };
        let answered = reply.as_ref().filter(|_| fault != Fault::ResetBefore).map(Response::status);
        self.note_refused(attempt, answered, fault.word(), Some(fault));
        reply.map_or(Reply::Never, Reply::Now)
    }

    fn note_refused(&self, attempt: &Attempt, status: Option<StatusCode>, code: &str, fault: Option<Fault>) {
        self.note(What::Refused {
            route: attempt.route.path().to_owned(),
            key: attempt.key.clone(),
            body_hash: attempt.body_hash.clone(),
            callback_id: attempt.callback_id(),
            status: status.map(|s| s.as_u16()),
            code: code.to_owned(),
            fault,
        });
    }
}

/// Puts the job into the world with all that will happen to it by itself.
fn begin(world: &mut World, job: Job) {
    let (done_at, created_at, render_ms) = (job.done_at(), job.created_at, job.render_ms);
    let forged = job.has(Fault::Forged);
    let number = world.add_job(job);
    if forged {
        world.schedule(created_at + render_ms / 2, Step::Forge(number));
    }
    if let Some(done_at) = done_at {
        world.schedule(done_at, Step::End(number));
    }
}

/// What an accepted call is answered.
fn answer(jobs: &[Job], attempt: &Attempt) -> Value {
    let Some(job) = jobs.first() else { return Value::Null };
    let data = match job.kind {
        JobKind::Translation => {
            let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
            json!({ "video_translation_ids": ids })
        }
        JobKind::VideoAgent => json!({
            "session_id": job.id,
            "status": "generating",
            "video_id": job.video_id,
            "created_at": job.created_at.div_euclid(1_000),
        }),
        _ => json!({
            "video_id": job.id,
            "status": "waiting",
            "output_format": attempt.text("output_format").unwrap_or_else(|| "mp4".to_owned()),
        }),
    };
    json!({ "data": data })
}

/// The answer of an accepted call, after scripted trouble with it.
fn spoiled(faults: &[Fault], value: &Value, ready_at: Millis) -> Reply {
    let whole = bytes::Bytes::from(value.to_string());
    for fault in faults {
        return match fault {
            Fault::Hang => Reply::Never,
            Fault::ResetAfter => Reply::Now(broken(StatusCode::OK, "application/json", &whole, 0)),
            Fault::Truncated => {
                Reply::Now(broken(StatusCode::OK, "application/json", &whole, whole.len() / 2))
            }
            Fault::Error504After => {
                let message = "The upstream did not answer in time.";
                let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "gateway_timeout", message);
                Reply::Now(problem.into_response())
            }
            Fault::Stall => Reply::Now(stalled(StatusCode::OK, "application/json", &whole, whole.len() / 2)),
            Fault::Slow => Reply::At(ready_at, json_answer(200, value)),
            _ => continue,
        };
    }
    Reply::Now(json_answer(200, value))
}

/// What a connection that breaks at once had promised.
fn promise() -> bytes::Bytes {
    bytes::Bytes::from_static(b"{}")
}

fn too_many() -> Problem {
    let message = "Too many unfinished jobs. Try again when one has ended.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
}

fn no_credit(has: f64, needs: f64) -> Problem {
    let message = format!("The account has {has} credits; this needs {needs}.");
    Problem::new(StatusCode::PAYMENT_REQUIRED, "insufficient_credit", message)
}
