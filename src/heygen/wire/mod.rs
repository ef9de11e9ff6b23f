//! HeyGen's shapes, read tolerantly: what it sends us and what it answers becomes our own values.
//!
//! Reads and never asks: no I/O, no clock. It says what a body claims; whom to believe and what
//! follows is decided elsewhere. Bytes of strangers never make it panic.

mod answer;
mod error;
mod family;
mod heard;
mod loose;
mod page;

pub use answer::{Created, read_created, read_running, read_status, read_status_value};
pub use error::{UpstreamError, read_error, without_words};
pub use family::is_unknown_type;
pub use heard::{Heard, Unusable, hear, hear_value};
pub use loose::created_at;
pub use page::{Page, read_page};

/// Rises when a body is taken to say something else than before; a receipt keeps the version that understood it.
pub const VERSION: i64 = 2;
