//! What is wrong with a configuration, and where: `FILE:LINE:COLUMN: what is wrong; what to write instead`.
//!
//! Text of the file is quoted only with its control characters escaped, so it can't play tricks on a terminal.

use std::fmt;

/// A place in the file; lines and columns (in characters) count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// The place of the octet at `offset`; beyond the end or within a character, that of the character before.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = (0..=offset.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column =
            before.get(line_start..).unwrap_or_default().trim_start_matches('\u{feff}').chars().count();
        Self { line: before.matches('\n').count() + 1, column: column + 1 }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named.
    pub file: String,
    /// Where in the file; `None` if it is about the file as a whole, or about a default.
    pub place: Option<Place>,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for Problem {}
