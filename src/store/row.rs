//! Parameters and rows, the same for both engines: integer, text, bytes, null.

use std::borrow::Cow;

use super::error::{Error, Result};

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// PostgreSQL's text cannot hold the letter of code zero, which JSON from outside may bring; both
/// engines keep the sign for what cannot be shown.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

impl From<i64> for Param<'_> {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<bool> for Param<'_> {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl<'a> From<&'a str> for Param<'a> {
    fn from(v: &'a str) -> Self {
        Self::Text(v)
    }
}
impl<'a> From<&'a String> for Param<'a> {
    fn from(v: &'a String) -> Self {
        Self::Text(v)
    }
}
impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(v: &'a [u8]) -> Self {
        Self::Bytes(v)
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(v: &'a [u8; N]) -> Self {
        Self::Bytes(v)
    }
}
impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(v: &'a Vec<u8>) -> Self {
        Self::Bytes(v)
    }
}
impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}
impl<'a> From<&'a Option<String>> for Param<'a> {
    fn from(v: &'a Option<String>) -> Self {
        v.as_ref().map_or(Self::Null, |v| Self::Text(v))
    }
}

/// A value read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row read, by position of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    pub fn int(&mut self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| Self::lie(column, "null"))
    }

    pub fn opt_int(&mut self, column: usize) -> Result<Option<i64>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Int(v) => Ok(Some(v)),
            _ => Err(Self::lie(column, "not an integer")),
        }
    }

    pub fn text(&mut self, column: usize) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| Self::lie(column, "null"))
    }

    pub fn opt_text(&mut self, column: usize) -> Result<Option<String>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Text(v) => Ok(Some(v)),
            _ => Err(Self::lie(column, "not text")),
        }
    }

    pub fn bytes(&mut self, column: usize) -> Result<Vec<u8>> {
        self.opt_bytes(column)?.ok_or_else(|| Self::lie(column, "null"))
    }

    pub(super) fn opt_bytes(&mut self, column: usize) -> Result<Option<Vec<u8>>> {
        match self.take(column)? {
            Value::Null => Ok(None),
            Value::Bytes(v) => Ok(Some(v)),
            _ => Err(Self::lie(column, "not bytes")),
        }
    }

    fn take(&mut self, column: usize) -> Result<Value> {
        let slot = self.0.get_mut(column).ok_or_else(|| Self::lie(column, "absent"))?;
        Ok(std::mem::replace(slot, Value::Null))
    }

    fn lie(column: usize, why: &str) -> Error {
        Error::Bug(format!("column {column} of a row is {why}"))
    }
}
