//! SQL and only SQL: one file per table, two engines behind one `Tx`.
//!
//! Functions here take a `Tx` and values, and decide nothing. They never talk to the network.

pub mod api_key;
pub mod audit;
mod callers;
pub mod db;
pub mod dead_letter;
pub mod delivery;
pub mod endpoint;
mod error;
pub mod event;
pub mod file_system;
pub mod group;
pub mod idempotency;
pub mod inbox;
pub mod job;
mod migrate;
mod postgres;
pub mod replay;
mod row;
pub mod scratch;
pub mod setting;
mod sql;
mod sqlite;
pub mod task;
mod tls;
pub mod upstream_limit;
pub mod webhook_secret;

pub use db::{Bell, Db, Tx};
pub use error::{Error, Result};
pub use row::{Param, Row};

/// Parameters of a statement, in the order of `?1`, `?2`, ….
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::Param::from($value)),*][..] };
}
