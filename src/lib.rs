//! reelhook: HeyGen's asynchronous video API, made dependable. One line per room; what a room
//! may use is in ARCHITECTURE.md and checked by `tests/tidy.rs`.

// A pipe whose reader has gone makes these panic; `cli::output` writes to both with care.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod fail;
pub mod flow;
pub mod heygen;
pub mod http;
pub mod metrics;
pub mod net;
pub mod store;
pub mod work;

/// Jobs and receipts are many small texts; the reason is beside the dependency.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
