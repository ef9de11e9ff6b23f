//! What a process was given: flags, environment and the `.env` file of its working directory, not
//! yet read as settings. The only reader of the environment and of `.env`.
//!
//! Whatever is wrong with a name or a line is said with the place it stands in. A value of `.env` is
//! never shown: it may be a secret.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{ConfigError, FAIL_POINT, FAIL_POINTS_BUILT, OTHER_VARIABLES, SETTINGS, Setting};

const DOT_ENV: &str = ".env";
const PREFIX: &str = "REELHOOK_";
/// A name this many edits away may have been meant, if they are no more than a third of what was written.
const NEAR: usize = 2;

/// Where the value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Flag,
    Environment(String),
    /// The name, and the line it stands in.
    DotEnv(String, usize),
    /// A secret's `…_FILE`.
    File(String, PathBuf),
    /// What several variables hold, together.
    Both(Box<Source>, Box<Source>),
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => write!(f, "the command line"),
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::DotEnv(name, line) => write!(f, "{name} in line {line} of {DOT_ENV}"),
            Self::File(name, path) => write!(f, "the file {} named by {name}", path.display()),
            Self::Both(one, other) => write!(f, "{one} and {other}"),
            Self::Default => write!(f, "the default"),
        }
    }
}

/// The lines of `.env`, by name: the value, and the number of the line.
pub type DotEnv = BTreeMap<String, (String, usize)>;

#[derive(Debug, Clone, Default)]
pub struct Given {
    pub flags: BTreeMap<String, String>,
    pub environment: BTreeMap<String, String>,
    pub dot_env: DotEnv,
}

impl Given {
    /// The environment of this process, and `.env` in its working directory if there is one. A name
    /// of ours that nobody knows is an error, whichever command is run.
    #[allow(clippy::disallowed_methods)]
    pub fn from_process() -> Result<Self, ConfigError> {
        let environment = environment(std::env::vars_os())?;
        let dot_env = match std::fs::read_to_string(DOT_ENV) {
            Ok(text) => dot_env(&text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => DotEnv::new(),
            Err(e) => return Err(ConfigError::DotEnv(format!("cannot read {DOT_ENV}: {e}"))),
        };
        let given = Self { flags: BTreeMap::new(), environment, dot_env };
        given.refuse_strangers()?;
        Ok(given)
    }

    /// A variable, from the environment or else from `.env`.
    pub fn variable(&self, name: &str) -> Option<(String, Source)> {
        let set = self.environment.get(name).filter(|value| !value.is_empty());
        if let Some(value) = set {
            return Some((value.clone(), Source::Environment(name.to_owned())));
        }
        let (value, line) = self.dot_env.get(name).filter(|(value, _)| !value.is_empty())?;
        Some((value.clone(), Source::DotEnv(name.to_owned(), *line)))
    }

    /// A secret from its variable, or from the file its `…_FILE` names. Both is an error: one of them
    /// would be ignored.
    pub fn secret(&self, name: &str) -> Result<Option<(String, Source)>, String> {
        let file = format!("{name}_FILE");
        let (path, named_by) = match (self.variable(name), self.variable(&file)) {
            (Some((_, one)), Some((_, other))) => {
                return Err(format!("it is given twice, by {one} and by {other}; leave one of them out"));
            }
            (found, None) => return Ok(found),
            (None, Some(named)) => named,
        };
        let text = std::fs::read_to_string(&path).map_err(|e| {
            format!(
                "the file {path}, named by {named_by}, cannot be read: {e}; name a file of text that is there and \
                 ours to read, or set {name} itself"
            )
        })?;
        Ok(Some((text.trim_end().to_owned(), Source::File(file, path.into()))))
    }

    /// Refuses a variable with our prefix that nobody reads: a mistyped name must not act as if it
    /// were not there.
    pub fn refuse_strangers(&self) -> Result<(), ConfigError> {
        let known = known_variables();
        let set = self.environment.keys().map(|name| (name, "in the environment".to_owned()));
        let lines =
            self.dot_env.iter().map(|(name, (_, line))| (name, format!("in line {line} of {DOT_ENV}")));
        let stranger = set.chain(lines).find(|(name, _)| name.starts_with(PREFIX) && !known.contains(*name));
        let Some((name, place)) = stranger else { return Ok(()) };
        // The prefix is no sign of what was meant: all have it.
        let written = name.trim_start_matches(PREFIX);
        let most = NEAR.min(written.chars().count() / 3);
        let edits = |known: &str| distance(known.trim_start_matches(PREFIX), written);
        let near = known.iter().map(|k| (edits(k), k)).filter(|(edits, _)| *edits <= most);
        Err(ConfigError::Unknown { name: name.clone(), place, near: near.min().map(|(_, k)| k.clone()) })
    }

    pub(super) fn find(&self, setting: &'static Setting) -> Result<Option<(String, Source)>, ConfigError> {
        if let Some(value) = self.flags.get(setting.name) {
            return Ok(Some((value.clone(), Source::Flag)));
        }
        if let Some(own) = self.value(setting, &setting.variable())? {
            return Ok(Some(own));
        }
        let mut found: Option<(String, Source)> = None;
        for alias in setting.aliases {
            let Some(next) = self.value(setting, alias)? else { continue };
            found = Some(match found {
                Some(first) => both(first, next),
                None => next,
            });
            if !setting.joined {
                break;
            }
        }
        Ok(found.or(setting.default.map(|d| (d.to_owned(), Source::Default))))
    }

    /// What one of a setting's variables holds.
    fn value(&self, setting: &Setting, name: &str) -> Result<Option<(String, Source)>, ConfigError> {
        if !setting.secret {
            return Ok(self.variable(name));
        }
        self.secret(name).map_err(|why| ConfigError::Together(format!("--{}: {why}", setting.name)))
    }
}

/// Two lists as one.
fn both((one, from): (String, Source), (other, and): (String, Source)) -> (String, Source) {
    (format!("{one},{other}"), Source::Both(Box::new(from), Box::new(and)))
}

/// The variables that can be read. One of ours that cannot be is an error: it must not act as if it were not there.
pub(super) fn environment(
    set: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, value) in set {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                all.insert(name, value);
            }
            (name, _) => {
                let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                if is_ours(&name) {
                    return Err(ConfigError::NotText(name));
                }
            }
        }
    }
    Ok(all)
}

/// Whether a variable of this name is meant for us.
fn is_ours(name: &str) -> bool {
    let is = |s: &Setting, alias: &str| {
        name == alias || s.secret && name.strip_suffix("_FILE").is_some_and(|of| of == alias)
    };
    name.starts_with(PREFIX) || SETTINGS.iter().any(|s| s.aliases.iter().any(|alias| is(s, alias)))
}

fn known_variables() -> Vec<String> {
    let of_settings = SETTINGS.iter().flat_map(|s| {
        let file = s.secret.then(|| format!("{}_FILE", s.variable()));
        std::iter::once(s.variable()).chain(file)
    });
    let others = OTHER_VARIABLES.map(str::to_owned);
    of_settings.chain(others).chain(FAIL_POINTS_BUILT.then(|| FAIL_POINT.to_owned())).collect()
}

/// Edits between two names, to guess what was meant.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// What a `.env` file says; of a name that stands twice, the last line.
pub(super) fn dot_env(text: &str) -> Result<DotEnv, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = DotEnv::new();
    // Lines that were read.
    let mut read = 0;
    for pair in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, value) = pair.map_err(|e| broken(text, read, &e))?;
        read = next_line(text, read, |line| names(line, &name));
        all.insert(name, (value, read));
    }
    Ok(all)
}

fn broken(text: &str, read: usize, e: &dotenvy::Error) -> ConfigError {
    let dotenvy::Error::LineParse(entry, _) = e else {
        return ConfigError::DotEnv(format!("cannot read {DOT_ENV}: {e}"));
    };
    // The entry or its value; a quote that is never closed makes one entry of all that follows.
    let first = entry.lines().next().unwrap_or_default().trim();
    let line = next_line(text, read, |line| line.contains(first) && !line.trim_start().starts_with('#'));
    ConfigError::DotEnv(format!(
        "line {line} of {DOT_ENV} cannot be read.\n  Write NAME=value, and put a value that holds blanks, \
         quotes, $ or # in single quotes: NAME='two words'. A line that begins with # is a comment."
    ))
}

/// The number of the first line behind those already read that `is_it`.
fn next_line(text: &str, read: usize, is_it: impl Fn(&str) -> bool) -> usize {
    text.lines().enumerate().skip(read).find(|(_, line)| is_it(line)).map_or(read, |(nth, _)| nth + 1)
}

/// Whether a line gives this name a value.
fn names(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let of = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='));
    of(line) || line.strip_prefix("export ").is_some_and(|rest| of(rest.trim_start()))
}
