//! The upstream. Nothing above this room knows HeyGen's JSON.

pub mod sandbox;
