//! Fail points: named places between two steps of a life, at which a test may end the process or
//! stop a run for good.
//!
//! Only debug builds and builds with the feature `fail-points` have them. In every other build they
//! are nothing, and the variable that names one is an unknown setting. They decide nothing.

#[cfg(any(debug_assertions, feature = "fail-points"))]
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

macro_rules! points {
    ($($name:ident $word:literal $about:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Point { $(#[doc = $about] $name,)* }

        impl Point {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What is done by then, and what is not.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }
        }
    };
}

points! {
    HookRead "hook.read" "a webhook was read and is not judged";
    HookJudged "hook.judged" "a webhook is signed and is not stored";
    HookStored "hook.stored" "a webhook is on disk and is not answered";
    SubmitRead "submit.read" "a submit was read and is not stored";
    SubmitStored "submit.stored" "a job is on disk and is not answered";
    RunClaimed "run.claimed" "tasks are claimed and not begun";
    SendBegun "send.begun" "`submitting` is on disk and HeyGen was not called";
    SendAnswered "send.answered" "HeyGen was called and nothing of what came of it is on disk";
    PollBegun "poll.begun" "a job is to be asked for and HeyGen was not called";
    PollAnswered "poll.answered" "HeyGen was asked and nothing of what it said is on disk";
    ApplyRead "apply.read" "receipts are understood and not applied";
    ApplyStored "apply.stored" "receipts are applied and nobody was told";
    DeliverBegun "deliver.begun" "a delivery is to be sent and the receiver was not called";
    DeliverAnswered "deliver.answered" "the receiver was called and nothing of what it said is on disk";
    RunStored "run.stored" "the end of a run is on disk and nobody was told";
}

#[cfg(any(debug_assertions, feature = "fail-points"))]
type Action = dyn Fn(Point) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// What happens at the fail points of one app: nothing, unless a test wants something.
#[derive(Clone, Default)]
pub struct FailPoints {
    #[cfg(any(debug_assertions, feature = "fail-points"))]
    action: Option<Arc<Action>>,
}

impl FailPoints {
    /// Passes one. In an ordinary build this is nothing at all.
    // Not `async`: a build without them has nothing to wait for.
    #[cfg(not(any(debug_assertions, feature = "fail-points")))]
    pub fn at(&self, _: Point) -> std::future::Ready<()> {
        std::future::ready(())
    }

    #[cfg(any(debug_assertions, feature = "fail-points"))]
    pub async fn at(&self, point: Point) {
        if let Some(action) = &self.action {
            action(point).await;
        }
    }

    /// Every point waits for what `action` makes of it.
    #[cfg(any(debug_assertions, feature = "fail-points"))]
    pub fn new(
        action: impl Fn(Point) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self { action: Some(Arc::new(action)) }
    }

    /// Ends the process, as hard as a signal does, when a point is reached for the n-th time:
    /// `POINT:N`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let point = Point::ALL.iter().copied().find(|p| p.name() == name);
        let all = || Point::ALL.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
        let point = point.ok_or_else(|| format!("no fail point is called {name}; there are {}", all()))?;
        let nth: u64 = nth.parse().map_err(|_| format!("{nth} is no number of times"))?;
        Self::killing(point, nth)
    }

    #[cfg(any(debug_assertions, feature = "fail-points"))]
    fn killing(point: Point, nth: u64) -> Result<Self, String> {
        let reached = AtomicU64::new(0);
        Ok(Self::new(move |at| {
            if at == point && reached.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                // Nothing is unwound, flushed or closed.
                std::process::abort();
            }
            Box::pin(std::future::ready(()))
        }))
    }

    #[cfg(not(any(debug_assertions, feature = "fail-points")))]
    fn killing(_: Point, _: u64) -> Result<Self, String> {
        Err("this build has no fail points".to_owned())
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_or_refused() {
        assert!(FailPoints::parse("hook.stored").is_ok());
        assert!(FailPoints::parse("send.begun:3").is_ok());
        assert!(FailPoints::parse("send.begun:often").is_err());
        assert!(FailPoints::parse("nowhere:1").is_err_and(|why| why.contains("hook.stored")));
        assert!(Point::ALL.iter().all(|p| !p.about().is_empty()));
    }
}
