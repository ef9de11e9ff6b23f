//! A PostgreSQL database that did not exist before and is gone afterwards, for a run that must touch
//! nothing else. Only makes, describes and removes it; it is opened as any other.

use url::Url;

use super::error::{Error, Result};
use super::postgres;

/// Makes a database of this name beside the one of `address`. Its address.
///
/// Blocks, as all here do.
pub fn create(address: &str, name: &str) -> Result<String> {
    let mut own: Url = address
        .parse()
        .map_err(|_| Error::Unfit("the database address is no valid postgres:// address".to_owned()))?;
    own.set_path(name);
    // Not a copy of what somebody may have added to the server's template.
    postgres::administer(address, &format!("CREATE DATABASE {name} TEMPLATE template0"))?;
    Ok(own.into())
}

/// Version and durability of the server, for people.
pub fn describe(address: &str) -> Result<String> {
    let show = |setting: &str| postgres::show(address, setting);
    let (version, fsync, commit) = (show("server_version")?, show("fsync")?, show("synchronous_commit")?);
    Ok(format!("PostgreSQL {version}, fsync {fsync}, synchronous_commit {commit}"))
}

/// Drops the database of this name, whoever is still connected to it.
pub fn remove(address: &str, name: &str) -> Result<()> {
    postgres::administer(address, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
}
