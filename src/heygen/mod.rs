//! The upstream. Nothing above this room knows HeyGen's JSON.

pub mod client;
pub mod fault;
pub mod kinds;
pub mod rules;
pub mod sandbox;
pub mod webhooks;
pub mod wire;
