//! JSON from where people keep it: in the argument itself, in a file, or on standard input.

use std::io::{IsTerminal, Read};

use serde_json::{Map, Value};

use super::output::to_stderr;
use super::{CliError, Result};
use crate::domain::json as strict;
use crate::domain::signing::is_secret;

/// More is no request of ours.
const MAX_BYTES: u64 = 4 << 20;
const MAX_SECRET_BYTES: u64 = 4 << 10;

pub fn bytes(given: &str, flag: &str) -> Result<Vec<u8>> {
    bytes_up_to(given, flag, MAX_BYTES)
}

/// `-`, `{…}`, `@file` or a file, as bytes.
pub fn bytes_up_to(given: &str, flag: &str, most: u64) -> Result<Vec<u8>> {
    if given.trim_start().starts_with(['{', '[']) {
        return Ok(given.as_bytes().to_vec());
    }
    let mut found = vec![];
    let read = if given == "-" {
        if std::io::stdin().is_terminal() {
            to_stderr("reading from the terminal; Ctrl-D ends it");
        }
        std::io::stdin().lock().take(most + 1).read_to_end(&mut found)
    } else {
        let path = given.strip_prefix('@').unwrap_or(given);
        std::fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut found))
    };
    match read {
        Ok(_) if found.len() as u64 > most => {
            Err(CliError::usage(format!("--{flag} {given}: more than {most} bytes")))
        }
        Ok(_) => Ok(found),
        Err(e) => Err(CliError::usage(format!("--{flag} {given}: {e}"))),
    }
}

/// A signing secret: itself, or from a file or `-`. What was given is never told: it may be a secret that is
/// written wrong.
pub fn secret(given: &str, flag: &str) -> Result<String> {
    if is_secret(given) {
        return Ok(given.to_owned());
    }
    let found =
        bytes_up_to(given, flag, MAX_SECRET_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let secret = found.as_deref().map(str::trim).filter(|text| is_secret(text));
    let why = "neither a signing secret, which is whsec_ and the base64 of 24 to 64 random bytes, nor a file with one";
    secret.map(str::to_owned).ok_or_else(|| CliError::usage(format!("--{flag} is {why}")))
}

pub fn object(given: &str, flag: &str) -> Result<Map<String, Value>> {
    match json(given, flag)? {
        Value::Object(object) => Ok(object),
        _ => Err(CliError::usage(format!("--{flag} must be one JSON object"))),
    }
}

pub fn json(given: &str, flag: &str) -> Result<Value> {
    let bytes = bytes(given, flag)?;
    strict::read(&bytes).map_err(|e| CliError::usage(format!("--{flag} cannot be read as JSON: {e}")))
}
