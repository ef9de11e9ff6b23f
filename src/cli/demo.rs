//! `reelhook demo`.
use super::{Exit, Result};

#[derive(clap::Args)]
pub struct Args {}

pub async fn run(_: Args) -> Result<Exit> {
    Ok(Exit::Ok)
}
