//! The files the rules read, and the little understanding of Rust they need: what of a file is
//! comment, what is a test, and what is code.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Source {
    /// Relative to the root of the project, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// `(number, line)` of the lines that are not blank and not only a comment.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//") && !line.starts_with("--"))
    }

    /// Code up to the tests, which stand last in a file; nothing of a file that is all tests.
    pub fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let all_tests = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        let end = match self.text.lines().position(|line| line.trim() == "#[cfg(test)]") {
            // A module in a file of its own is one line here, and the code goes on after it.
            Some(at) if !self.text.lines().nth(at + 1).is_some_and(|next| next.ends_with(';')) => at,
            _ => usize::MAX,
        };
        self.code().filter(move |(n, _)| !all_tests && *n <= end)
    }

    pub fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rust and SQL below these folders, but for what tests only read.
pub fn all(folders: &[&str]) -> Vec<Source> {
    let mut found = vec![];
    for folder in folders {
        walk(&root().join(folder), &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "the rules found nothing to read");
    found.iter().filter_map(|path| read(path)).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "sql") {
            found.push(path);
        }
    }
}

/// Every file git tracks that is text.
pub fn machine_text() -> Vec<Source> {
    let listed = Command::new("git").arg("ls-files").current_dir(root()).output();
    let listed = listed.expect("git lists the tracked files");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names are text");
    // A file may be listed and already deleted in the work tree, or be no text.
    names.lines().filter_map(|name| read(&root().join(name))).collect()
}

fn read(path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let path = path.strip_prefix(root()).ok()?.to_string_lossy().replace('\\', "/");
    Some(Source { path, text })
}

#[test]
fn code_ends_where_the_tests_begin() {
    let text = "//! h\n\n// c\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
    let lines: Vec<usize> = Source::new("src/a.rs", text).shipped().map(|(n, _)| n).collect();
    assert_eq!(lines, [4]);
    let elsewhere = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
    assert_eq!(Source::new("src/a.rs", elsewhere).shipped().count(), 3);
    assert_eq!(Source::new("src/a/tests/b.rs", elsewhere).shipped().count(), 0);
}
