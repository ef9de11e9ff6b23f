//! JSON from where people keep it: in the argument itself, in a file, or on standard input.

use std::io::{IsTerminal, Read};

use serde_json::{Map, Value};

use super::output::to_stderr;
use super::{CliError, Result};

/// More is no request of ours.
const MAX_BYTES: u64 = 4 << 20;

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

pub fn object(given: &str, flag: &str) -> Result<Map<String, Value>> {
    match json(given, flag)? {
        Value::Object(object) => Ok(object),
        _ => Err(CliError::usage(format!("--{flag} must be one JSON object"))),
    }
}

pub fn json(given: &str, flag: &str) -> Result<Value> {
    let bytes = bytes(given, flag)?;
    serde_json::from_slice(&bytes).map_err(|e| CliError::usage(format!("--{flag} is not JSON: {e}")))
}
