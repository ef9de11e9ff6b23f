//! Names, labels and help of every metric, in one list. Labels come from small fixed sets; ids and
//! addresses are never labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    pub outcome: &'static str,
    pub found_by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Called {
    pub call: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GivenUp {
    pub task: &'static str,
    pub reason: &'static str,
}

/// A metric with one label, by the label's name.
#[derive(Clone)]
pub struct By<M>(&'static str, Family<[(&'static str, &'static str); 1], M>);

impl<M: Clone + Default> By<M> {
    fn new(label: &'static str) -> Self {
        Self(label, Family::default())
    }

    fn of(&self, value: &'static str) -> M {
        self.1.get_or_create_owned(&[(self.0, value)])
    }
}

type Counts = By<Counter<u64, AtomicU64>>;
type Gauges = By<Gauge<i64, AtomicI64>>;

/// Hangs off the app; two apps in one process count apart.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub webhooks_received: Counts,
    pub webhooks_refused: Counts,
    pub webhook_duplicates: Counter,
    pub webhook_unknown_types: Counter,
    pub hints_dropped: Counts,
    pub webhook_ack_seconds: Histogram,
    pub receipts_applied: Counts,
    pub jobs_submitted: Counts,
    pub jobs_finished: Family<Ended, Counter>,
    pub jobs_open: Gauges,
    pub upstream_calls: Family<Called, Counter>,
    pub upstream_slots_in_use: Gauge<i64, AtomicI64>,
    pub upstream_slots_bound: Gauge<i64, AtomicI64>,
    pub submission_paused: Gauges,
    pub delivery_attempts: Counts,
    pub endpoint_circuit_state: Gauges,
    pub notify_lag_seconds: Histogram,
    pub dead_letters: Family<GivenUp, Gauge<i64, AtomicI64>>,
    pub stream_clients: Gauge<i64, AtomicI64>,
    pub clock_skew_seconds: Gauge<f64, AtomicU64>,
    pub tasks_claimed: Counts,
    pub tasks_due: Gauges,
    pub stale_finishes: Counter,
    pub task_panics: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("reelhook");
        // 0.1 ms to 3.3 s: an acknowledgement is a group commit, or something is wrong.
        let ack = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let mut m = Self {
            registry: Arc::new(Registry::default()),
            webhooks_received: By::new("verdict"),
            webhooks_refused: By::new("reason"),
            webhook_duplicates: Counter::default(),
            webhook_unknown_types: Counter::default(),
            hints_dropped: By::new("reason"),
            webhook_ack_seconds: ack,
            receipts_applied: By::new("outcome"),
            jobs_submitted: By::new("kind"),
            jobs_finished: Family::default(),
            jobs_open: By::new("state"),
            upstream_calls: Family::default(),
            upstream_slots_in_use: Gauge::default(),
            upstream_slots_bound: Gauge::default(),
            submission_paused: By::new("reason"),
            delivery_attempts: By::new("outcome"),
            endpoint_circuit_state: By::new("state"),
            // 5 ms to 87 min; a delivery that takes days is in the last.
            notify_lag_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 21)),
            dead_letters: Family::default(),
            stream_clients: Gauge::default(),
            clock_skew_seconds: Gauge::default(),
            tasks_claimed: By::new("lane"),
            tasks_due: By::new("lane"),
            stale_finishes: Counter::default(),
            task_panics: Counter::default(),
        };
        let r = &mut registry;
        r.register("webhook_received", "Webhooks stored or known, by verdict", m.webhooks_received.1.clone());
        r.register("webhook_refused", "Webhooks refused, by reason", m.webhooks_refused.1.clone());
        r.register("webhook_duplicate", "Webhooks that were stored before", m.webhook_duplicates.clone());
        r.register(
            "webhook_unknown_type",
            "Signed webhooks, and entries of HeyGen's event log, of an event type not known here",
            m.webhook_unknown_types.clone(),
        );
        r.register(
            "webhook_hint_dropped",
            "Unsigned webhooks beyond a bound, by bound",
            m.hints_dropped.1.clone(),
        );
        r.register("webhook_ack_duration_seconds", "From body read to commit", m.webhook_ack_seconds.clone());
        r.register("receipts_applied", "Receipts understood, by what they did", m.receipts_applied.1.clone());
        r.register("jobs_submitted", "Jobs taken in, by kind", m.jobs_submitted.1.clone());
        r.register("jobs_finished", "Jobs ended, by outcome and what found it", m.jobs_finished.clone());
        r.register("jobs_open", "Jobs not ended, by state", m.jobs_open.1.clone());
        r.register("upstream_calls", "Calls to HeyGen, by what for and outcome", m.upstream_calls.clone());
        r.register("upstream_slots_in_use", "Jobs outstanding at HeyGen", m.upstream_slots_in_use.clone());
        r.register("upstream_slots_bound", "How many may be", m.upstream_slots_bound.clone());
        r.register("submission_paused", "1 while nothing is sent, by reason", m.submission_paused.1.clone());
        r.register("stream_clients", "Readers of the event stream now", m.stream_clients.clone());
        r.register(
            "clock_skew_seconds",
            "How far this machine's wall clock is ahead of the server's time",
            m.clock_skew_seconds.clone(),
        );
        r.register("delivery_attempts", "Attempts to deliver, by outcome", m.delivery_attempts.1.clone());
        r.register(
            "endpoint_circuit_state",
            "Endpoints sent to, left alone for a while, or disabled",
            m.endpoint_circuit_state.1.clone(),
        );
        r.register("notify_lag_seconds", "From event to delivery", m.notify_lag_seconds.clone());
        r.register("dead_letters", "Tasks given up and kept, by task and reason", m.dead_letters.clone());
        r.register("tasks_claimed", "Tasks claimed, by lane", m.tasks_claimed.1.clone());
        r.register("tasks_due", "Tasks due and not done, by lane", m.tasks_due.1.clone());
        r.register("tasks_stale_finish", "Runs whose lease was lost meanwhile", m.stale_finishes.clone());
        r.register("task_panics", "Runs that panicked", m.task_panics.clone());
        m.registry = Arc::new(registry);
        m
    }

    pub fn count(&self, counts: &Counts, by: &'static str) {
        counts.of(by).inc();
    }

    pub fn count_many(&self, counts: &Counts, by: &'static str, n: u64) {
        if n > 0 {
            counts.of(by).inc_by(n);
        }
    }

    pub fn set(&self, gauges: &Gauges, by: &'static str, value: i64) {
        gauges.of(by).set(value);
    }

    /// Those there are now, and no others.
    pub fn set_dead_letters(&self, counts: impl IntoIterator<Item = (GivenUp, i64)>) {
        self.dead_letters.clear();
        for (by, count) in counts {
            self.dead_letters.get_or_create(&by).set(count);
        }
    }

    pub fn acked(&self, took: Duration) {
        self.webhook_ack_seconds.observe(took.as_secs_f64());
    }

    /// A delivery made at `made` was taken at `now`, both in milliseconds.
    pub fn told(&self, made: i64, now: i64) {
        let lag = u64::try_from(now.saturating_sub(made)).unwrap_or(0);
        self.notify_lag_seconds.observe(Duration::from_millis(lag).as_secs_f64());
    }

    pub fn called(&self, call: &'static str, outcome: &'static str) {
        self.upstream_calls.get_or_create(&Called { call, outcome }).inc();
    }

    pub fn finished(&self, outcome: &'static str, found_by: &'static str) {
        self.jobs_finished.get_or_create(&Ended { outcome, found_by }).inc();
    }

    /// The OpenMetrics text of all of them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
