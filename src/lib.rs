//! reelhook: HeyGen's asynchronous video API, made dependable. One line per room; what a room
//! may use is in ARCHITECTURE.md and checked by `tests/tidy.rs`.

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
