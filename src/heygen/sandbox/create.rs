//! The calls that create jobs, one per kind. Under one lock: key, body, scripted trouble, limit,
//! credits, and then the job, its charge and the stored answer together. Only the answer waits outside.
//!
//! A client job that is refused keeps what trouble it has left, so that a second try gets on.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::answer::{Problem, broken, gateway_page, json_answer, stalled, whole_body};
use super::events::Step;
use super::faults::{self, Stage};
use super::idempotency::{self, Earlier};
use super::jobs::Job;
use super::ledger::What;
use super::world::World;
use super::{Fault, PRICE, Sandbox, validate};
use crate::clock::Millis;
use crate::domain::job::Kind;
use crate::heygen::kinds::{self, Repeat};

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
    kind: Kind,
    /// With what stands for the names in braces.
    path: String,
    key: Option<String>,
    body_hash: String,
    body: Value,
    now: Millis,
}

impl Attempt {
    /// One whose body is too long or broke off.
    fn unread(kind: Kind, path: &str, now: Millis) -> Self {
        Self { kind, path: path.to_owned(), key: None, body_hash: String::new(), body: Value::Null, now }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.body.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    /// The wanted languages, each a job of its own.
    fn languages(&self) -> Vec<String> {
        if kinds::is_per_language(self.kind) {
            validate::texts(&self.body, "output_languages")
        } else {
            vec![]
        }
    }

    fn callback_id(&self) -> Option<String> {
        self.text("callback_id")
    }

    /// What makes two attempts tries of one job: the client's own id, else the body. Not the key,
    /// which a careful client changes after a refusal.
    fn client(&self) -> String {
        let name = self.callback_id().unwrap_or_else(|| {
            let mut bare = self.body.clone();
            if let (Repeat::Field(key), Some(fields)) = (kinds::route(self.kind).repeat, bare.as_object_mut())
            {
                fields.remove(key);
            }
            idempotency::body_hash(bare.to_string().as_bytes())
        });
        format!("{} {name}", self.path)
    }

    /// Where the key counts; nowhere on a route that is not known to honour one.
    fn scope(&self) -> Option<String> {
        let honours = kinds::route(self.kind).repeat != Repeat::Never;
        self.key.as_ref().filter(|_| honours).map(|key| idempotency::scope(&self.path, key))
    }
}

/// The create call of a kind.
pub fn of(kind: Kind) -> MethodRouter<Sandbox> {
    post(move |State(sandbox): State<Sandbox>, uri: Uri, headers: HeaderMap, body: Read| async move {
        sandbox.create(kind, uri.path(), &headers, body).await
    })
}

impl Sandbox {
    async fn create(&self, kind: Kind, path: &str, headers: &HeaderMap, body: Read) -> Response {
        let reply = match whole_body(body) {
            Ok(body) => self.decide(kind, path, headers, &body),
            Err(problem) => self.refuse(&Attempt::unread(kind, path, self.now()), problem),
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

    fn decide(&self, kind: Kind, path: &str, headers: &HeaderMap, bytes: &[u8]) -> Reply {
        let body: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let (body_hash, now) = (idempotency::body_hash(bytes), self.now());
        let mut attempt = Attempt { kind, path: path.to_owned(), key: None, body_hash, body, now };
        attempt.key = match (kinds::route(kind).repeat, idempotency::key(headers)) {
            // There the header is ignored (docs/heygen.md, Repeating).
            (Repeat::Field(name), _) => attempt.text(name),
            (_, Ok(key)) => key,
            (_, Err(problem)) => return self.refuse(&attempt, problem),
        };
        let mut world = self.world();
        if let Some(reply) = self.again(&mut world, &attempt) {
            return reply;
        }
        if let Err(problem) = validate::body(kind, &attempt.body) {
            return self.refuse(&attempt, problem);
        }
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
        self.accept(&mut world, &attempt, &faults)
    }

    /// The answer that an earlier call with this key got, or gets.
    fn again(&self, world: &mut World, attempt: &Attempt) -> Option<Reply> {
        match world.earlier(&attempt.scope()?, &attempt.body_hash, attempt.now) {
            Earlier::None => None,
            Earlier::Running => Some(self.refuse(attempt, Problem::busy())),
            Earlier::Answered { status, value, same_body } => {
                let (route, key) = (attempt.path.clone(), attempt.key.clone().unwrap_or_default());
                self.note(What::Replayed { route, key, callback_id: attempt.callback_id(), same_body });
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
        let jobs = attempt.languages().len().max(1);
        let (running, first_done) = world.unfinished(attempt.now);
        if running + jobs > self.0.options.concurrency {
            let wait_ms = first_done.map_or(30_000, |at| at - attempt.now);
            let seconds = u64::try_from((wait_ms + 999) / 1_000).unwrap_or(1).clamp(1, 30);
            return Some(too_many().retry_after(seconds));
        }
        let cost = PRICE * jobs as f64;
        (world.balance < cost).then(|| no_credit(world.balance, cost))
    }

    fn accept(&self, world: &mut World, attempt: &Attempt, faults: &[Fault]) -> Reply {
        let languages = attempt.languages();
        let jobs: Vec<Job> = match languages.is_empty() {
            true => vec![self.new_job(attempt, faults, None)],
            false => languages.into_iter().map(|l| self.new_job(attempt, faults, Some(l))).collect(),
        };
        self.note(What::Accepted {
            route: attempt.path.clone(),
            kind: attempt.kind,
            key: attempt.key.clone(),
            body_hash: attempt.body_hash.clone(),
            callback_id: attempt.callback_id(),
            title: attempt.text("title"),
            ids: jobs.iter().map(|job| job.id.clone()).collect(),
            faults: faults.to_vec(),
        });
        let value = json!({ "data": self.answer(&jobs, attempt) });
        for job in jobs {
            self.charge(world, attempt, &job);
            begin(world, job);
        }
        let slow = faults.contains(&Fault::Slow);
        let ready_at = if slow { attempt.now + SLOW_MS } else { attempt.now };
        if let Some(scope) = attempt.scope() {
            world.remember(&scope, &attempt.body_hash, &value, attempt.now, ready_at);
        }
        spoiled(faults, &value, ready_at)
    }

    fn charge(&self, world: &mut World, attempt: &Attempt, job: &Job) {
        world.balance -= PRICE;
        self.note(What::Charged {
            id: job.id.clone(),
            route: attempt.path.clone(),
            key: attempt.key.clone(),
            callback_id: attempt.callback_id(),
            title: job.title.clone(),
            language: job.language.clone(),
            credits: PRICE,
            balance: world.balance,
        });
    }

    fn new_job(&self, attempt: &Attempt, faults: &[Fault], language: Option<String>) -> Job {
        let (kind, body) = (attempt.kind, &attempt.body);
        let agent = kind == Kind::VideoAgent;
        let told = body.as_object().is_some_and(|fields| kinds::takes_callback(kind, fields));
        let fault = |fault| faults.contains(&fault);
        let wants_captions = body.get("caption").is_some_and(|c| c.is_object() || *c == json!(true))
            || body.get("enable_caption") == Some(&json!(true));
        let title = attempt.text("title").or_else(|| attempt.text("name"));
        let layers = validate::texts(body, "layers");
        Job {
            id: if agent { format!("sess_{}", self.new_id()) } else { self.new_id() },
            video_id: agent.then(|| self.new_id()),
            kind,
            family: family(kind, body),
            title: title.or_else(|| attempt.text("voice_name")),
            callback_id: attempt.callback_id().filter(|_| told),
            callback_url: attempt.text("callback_url").filter(|_| told),
            folder_id: attempt.text("folder_id"),
            language,
            layers: if layers.is_empty() { vec!["foreground".to_owned()] } else { layers },
            captions: wants_captions,
            created_at: attempt.now,
            render_ms: self.render_ms(),
            faults: faults.to_vec(),
            get_500_left: if fault(Fault::Get500) { GET_500_TIMES } else { 0 },
            cuts_left: u32::from(fault(Fault::FileCut)),
        }
    }

    /// What an accepted call is answered; where nobody documented it (AI clipping, background
    /// removal), the resource itself.
    fn answer(&self, jobs: &[Job], attempt: &Attempt) -> Value {
        let Some(job) = jobs.first() else { return Value::Null };
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        let resource = || job.shown(self.links(), attempt.now);
        match job.kind {
            Kind::Video => json!({
                "video_id": job.id,
                "status": "waiting",
                "output_format": attempt.text("output_format").unwrap_or_else(|| "mp4".to_owned()),
            }),
            Kind::VideoAgent => json!({
                "session_id": job.id,
                "status": "generating",
                "video_id": job.video_id,
                "created_at": job.created_at.div_euclid(1_000),
            }),
            Kind::Translation => json!({ "video_translation_ids": ids }),
            Kind::Proofread => json!({ "proofread_ids": ids, "status": "processing" }),
            Kind::ProofreadVideo => json!({ "video_translation_id": job.id, "status": "pending" }),
            Kind::Lipsync => json!({ "lipsync_id": job.id }),
            Kind::VoiceClone => json!({ "voice_clone_id": job.id }),
            Kind::Avatar => json!({ "avatar_group": null, "avatar_item": resource() }),
            Kind::Template | Kind::AiClipping | Kind::BackgroundRemoval => resource(),
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
            route: attempt.path.clone(),
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

/// What the names of a job's events begin with. Which ones tell of v3's avatars is not documented.
fn family(kind: Kind, body: &Value) -> Option<&'static str> {
    match (kind, body["type"].as_str()) {
        (Kind::Avatar, Some("digital_twin")) => Some("instant_avatar"),
        _ => kinds::route(kind).events.first().copied(),
    }
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
