//! What happens to jobs by itself: they end, and their events enter the event log and fan out to
//! the endpoints that want them and to the job's own `callback_url`.
//!
//! Only plans deliveries; `deliver` makes them.

use serde_json::{Value, json};

use super::deliver::{Delivery, Seal};
use super::jobs::{Job, Phase};
use super::ledger::What;
use super::media::File;
use super::world::World;
use super::{Fault, Sandbox, dialect};
use crate::clock::Millis;
use crate::domain::job::Kind;

/// Seen on real traffic between a video's event and its captions'.
const CAPTION_LAG_MS: i64 = 12_000;
const LATE_MS: i64 = 600_000;
const REORDER_MS: i64 = 30_000;
const THIRD_COPY_MS: i64 = 30_000;

/// Something that happens to a job at a time. The job may be deleted by then.
pub enum Step {
    End(u64),
    Forge(u64),
    Captions(u64),
}

/// One line of the event log.
pub struct Logged {
    pub number: u64,
    pub event_id: String,
    pub event_type: String,
    pub event_data: Value,
    pub created_at: Millis,
    /// The job's id; what `entity_id` filters by.
    pub id: String,
}

impl Sandbox {
    /// Takes every step that is due, then the delivery that is due first.
    pub(super) fn next_delivery(&self) -> Option<Delivery> {
        let now = self.now();
        let mut world = self.world();
        while let Some(first) = world.steps.first_entry()
            && first.key().0 <= now
        {
            let ((at, _), step) = first.remove_entry();
            self.take(&mut world, step, at);
        }
        let first = world.deliveries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn take(&self, world: &mut World, step: Step, at: Millis) {
        let (Step::End(number) | Step::Forge(number) | Step::Captions(number)) = step;
        let Some(job) = world.jobs.get(&number).cloned() else { return };
        match step {
            Step::End(number) => {
                world.close(number);
                self.end(world, number, &job, at);
            }
            Step::Forge(_) => self.forge(world, &job, at),
            Step::Captions(_) => self.tell(world, &job, self.captions(&job, at), at, 0),
        }
    }

    fn end(&self, world: &mut World, number: u64, job: &Job, at: Millis) {
        let phase = job.phase(at);
        let (id, callback_id) = (job.id.clone(), job.callback_id.clone());
        self.note(What::Ended { id, kind: job.kind, callback_id, phase, done_at: at });
        let done = phase == Phase::Completed;
        if job.has(Fault::Reorder) && done {
            self.tell(world, job, self.captions(job, at), at, 0);
            self.tell(world, job, self.gif(job, at), at, 0);
        } else if job.has_captions() && done {
            world.schedule(at + CAPTION_LAG_MS, Step::Captions(number));
        }
        if job.family.is_none() && job.callback_url.is_none() {
            // Nobody can be told.
            return;
        }
        let event = if done { self.success(job, at) } else { self.failure(job) };
        let lag = if job.has(Fault::Reorder) { REORDER_MS } else { 0 };
        self.tell(world, job, event, at, lag);
    }

    /// Logs one event and plans its deliveries, `lag` after it happened.
    fn tell(&self, world: &mut World, job: &Job, event: (String, Value), at: Millis, lag: i64) {
        let (event_type, event_data) = event;
        let event_id = format!("evt_{}", self.new_id());
        let number = world.number();
        let (id, callback_id) = (job.id.clone(), job.callback_id.clone());
        let body = dialect::body(&job.faults, &event_type, &event_data, &event_id, at).to_string();
        let event = Logged { number, event_id, event_type, event_data, created_at: at, id };
        if !job.has(Fault::Lost) {
            let due = at + lag + if job.has(Fault::Late) { LATE_MS } else { 0 };
            let first = Delivery::new(Some(&event), &event.event_type, &event.id, callback_id, body);
            fan_out(world, job, &first, due, Seal::of(&job.faults));
        }
        // What is no event of HeyGen's list is none of its log either.
        if job.family.is_some() {
            self.note(What::Event {
                event_id: event.event_id.clone(),
                event_type: event.event_type.clone(),
                id: event.id.clone(),
            });
            world.add_event(event);
        }
    }

    /// A delivery that HeyGen did not send: somebody claims that the job failed.
    fn forge(&self, world: &mut World, job: &Job, at: Millis) {
        let (event_type, event_data) = self.failure(job);
        let body = json!({ "event_type": event_type, "event_data": event_data }).to_string();
        let delivery = Delivery::new(None, &event_type, &job.id, job.callback_id.clone(), body);
        fan_out(world, job, &delivery, at, Seal::Forged);
    }

    fn success(&self, job: &Job, at: Millis) -> (String, Value) {
        let links = self.links();
        let link = |file: File| match () {
            () if job.has(Fault::NoLink) => None,
            () if job.has(Fault::DeadLink) => Some(links.dead(job.file_id(), file, at)),
            () => Some(links.live(job.file_id(), file, at)),
        };
        let url = link(File::Video);
        let data = match job.kind {
            Kind::Translation | Kind::ProofreadVideo => json!({
                "video_translate_id": job.id,
                "url": url,
                "output_language": job.language,
                "callback_id": job.callback_id,
            }),
            Kind::VideoAgent => json!({
                "session_id": job.id,
                "video_id": job.video_id,
                "url": url,
                "callback_id": job.callback_id,
            }),
            Kind::Video | Kind::Template => json!({
                "video_id": job.id,
                "url": url,
                "gif_download_url": links.live(&job.id, File::Gif, at),
                "video_page_url": links.page("videos", &job.id),
                "video_share_page_url": links.page("share", &job.id),
                "folder_id": job.folder_id,
                "callback_id": job.callback_id,
            }),
            Kind::Lipsync => json!({ "lipsync_id": job.id, "url": url, "callback_id": job.callback_id }),
            // The resource as its status route shows it (docs/heygen.md, Events).
            Kind::AiClipping => job.as_clipping(links, at, link),
            _ => thing(job),
        };
        (name(job, "success"), data)
    }

    fn failure(&self, job: &Job) -> (String, Value) {
        let message = job.failure().map_or("The video could not be rendered.", |f| f.message);
        let data = match job.kind {
            Kind::Translation | Kind::ProofreadVideo => json!({
                "video_translate_id": job.id,
                "message": message,
                "output_language": job.language,
                "callback_id": job.callback_id,
            }),
            Kind::VideoAgent => json!({
                "session_id": job.id,
                "video_id": job.video_id,
                "msg": message,
                "callback_id": job.callback_id,
            }),
            Kind::Video | Kind::Template => {
                json!({ "video_id": job.id, "msg": message, "callback_id": job.callback_id })
            }
            Kind::Lipsync => json!({ "lipsync_id": job.id, "msg": message, "callback_id": job.callback_id }),
            Kind::AiClipping => json!({
                "id": job.id,
                "status": "failed",
                "clips": [],
                "failure_message": message,
                "callback_id": job.callback_id,
            }),
            _ => {
                let mut data = thing(job);
                data["message"] = json!(message);
                data
            }
        };
        (name(job, "fail"), data)
    }

    fn captions(&self, job: &Job, at: Millis) -> (String, Value) {
        let data = json!({
            "video_id": job.file_id(),
            "caption_url": self.links().live(job.file_id(), File::Captions, at),
            "callback_id": job.callback_id,
        });
        ("avatar_video_caption.success".to_owned(), data)
    }

    fn gif(&self, job: &Job, at: Millis) -> (String, Value) {
        let data = json!({
            "video_id": job.file_id(),
            "url": self.links().live(job.file_id(), File::Gif, at),
            "callback_id": job.callback_id,
        });
        ("avatar_video_gif.success".to_owned(), data)
    }
}

/// The name of an event. HeyGen's list has none for lipsyncs, and what their callback says is not
/// documented: here it is a name nobody can subscribe to.
fn name(job: &Job, end: &str) -> String {
    format!("{}.{end}", job.family.unwrap_or(job.kind.name()))
}

/// What events say of things that are no videos; only their names are documented.
fn thing(job: &Job) -> Value {
    match job.kind {
        Kind::Proofread => json!({ "proofread_id": job.id }),
        _ => json!({ "avatar_id": job.id }),
    }
}

/// One delivery per endpoint that wants the event, and one to the job's own address on top.
fn fan_out(world: &mut World, job: &Job, delivery: &Delivery, due: Millis, seal: Seal) {
    let endpoints = world.endpoints.values().filter(|_| job.family.is_some());
    let wanted = endpoints.filter(|e| e.wants(&delivery.event_type, &job.id));
    let mut targets: Vec<Delivery> = wanted
        .map(|e| Delivery { endpoint_id: Some(e.id.clone()), url: e.url.clone(), seal, ..delivery.clone() })
        .collect();
    if let Some(url) = &job.callback_url {
        // HeyGen signs only for registered endpoints; a forger signs whatever he likes.
        let seal = if seal == Seal::Forged { seal } else { Seal::Nothing };
        targets.push(Delivery { url: url.clone(), seal, ..delivery.clone() });
    }
    let copies: &[i64] = match seal {
        Seal::Forged => &[0],
        _ if job.has(Fault::Double) => &[0, 0, THIRD_COPY_MS],
        _ => &[0],
    };
    for lag in copies {
        for target in &targets {
            world.enqueue(due + lag, target.clone());
        }
    }
}
