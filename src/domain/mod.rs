//! The pure middle: values and decisions. No I/O, no async, no clock, no randomness, no logging.

pub mod address;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod event_log;
pub mod failure;
pub mod group;
pub mod guard;
pub mod history;
pub mod ids;
pub mod job;
pub mod job_json;
pub mod limit;
pub mod outage;
pub mod pause;
pub mod receipt;
pub mod retry;
pub mod signature;
pub mod signing;
pub mod step;
pub mod stranger;
pub mod table;
pub mod task;
pub mod template;
pub mod time;
