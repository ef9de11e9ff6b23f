//! The upstream. Nothing above this room knows HeyGen's JSON.

pub mod account;
pub mod catalog;
pub mod client;
pub mod failure;
pub mod fault;
pub mod kinds;
pub mod rules;
pub mod sandbox;
pub mod webhooks;
pub mod wire;
