//! A problem of a configuration, and its place: `FILE:LINE:COLUMN: what is wrong; what to write instead`.
//!
//! Editors jump to that form. Text of the file is quoted with its control characters escaped, so that a file can't play
//! tricks on a terminal.

use std::fmt;

/// A place in the file; lines and columns (in characters) count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePosition {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl FilePosition {
    /// The place of the octet at `offset`. Beyond the end, or within a character, it is the place of the character before.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = (0..=offset.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column =
            before.get(line_start..).unwrap_or_default().trim_start_matches('\u{feff}').chars().count();
        Self { line: before.matches('\n').count() + 1, column: column + 1 }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The configuration file, as it was named.
    pub file: String,
    /// The place in the file; `None` for a problem of the whole file, or of a default.
    pub place: Option<FilePosition>,
    /// The problem and its cure: `what is wrong; what to write instead`.
    pub text: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(FilePosition { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for ConfigProblem {}
