//! The store's contract: one body of cases, run on both engines.
//!
//! A case is a plain function; `cases!` stamps it out as `sqlite::name` and `postgres::name`. One
//! that is not listed there is dead code, which the lints refuse. The PostgreSQL half needs the
//! server that `scripts/test` starts.

#[path = "../support/database.rs"]
mod database;
mod harness;

mod api_key;
mod audit;
mod coverage;
mod db;
mod dead_letter;
mod delivery;
mod endpoint;
mod event;
mod flow_apply;
mod flow_group;
mod flow_publish;
mod flow_replay;
mod flow_send;
mod flow_submit;
mod group;
mod idempotency;
mod inbox;
mod job;
mod job_list;
mod opening;
mod replay;
mod scratch;
mod setting;
mod task;
mod upstream_limit;
mod webhook_secret;
mod work_time;
