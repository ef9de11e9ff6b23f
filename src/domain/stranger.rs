//! Something upstream has that no job of ours is known to be.

use super::ids;
use super::job::Kind;
use super::time::Millis;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    pub kind: Kind,
    pub upstream_id: String,
    pub title: Option<String>,
    /// Whoever submitted it gave it this; on ours it is our job's id.
    pub callback_id: Option<String>,
    /// When it was made, by upstream's clock.
    pub created_at: Option<Millis>,
}

impl Stranger {
    /// The job it claims to be, of this reelhook or of another one.
    pub fn job_id(&self) -> Option<&str> {
        self.callback_id.as_deref().filter(|id| ids::has_shape(ids::JOB, id))
    }
}
