//! Faults of the store. Each says whether trying again can help.

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Too much is waiting to be written; a moment later there may be room.
    #[error("the write queue is full")]
    Busy,
    /// The database's disk has no room. Nothing was written; reading goes on.
    #[error("the disk of the database is full: {0}")]
    DiskFull(String),
    /// The database cannot be reached or cannot write now (connection lost, disk read-only).
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Found when it was opened: this database is not for us, or not as it is. Says what to do.
    #[error("{0}")]
    Unfit(String),
    /// Somebody else changed the same row first. The engine runs the closure again before it tells.
    #[error("changed by somebody else at the same moment")]
    Conflict,
    /// The data is not what this program wrote.
    #[error("unreadable data in {table}.{column} of {id}: {why}")]
    Corrupt { table: &'static str, column: &'static str, id: String, why: String },
    /// A mistake in this program: bad SQL, a broken constraint, a panic in a closure.
    #[error("the store was used wrongly: {0}")]
    Bug(String),
    /// The server is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether the same call can succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Busy | Self::DiskFull(_) | Self::Unavailable(_) | Self::Conflict | Self::Closed)
    }
}
