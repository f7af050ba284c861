//! The problems and warnings that were found.
//!
//! Each carries its own file: most are about the configuration, some about a line of the users file or the aliases. Problems
//! come in the order in which the checks found them; those of the text of the configuration come first.

use crate::config::{ConfigProblem, FilePosition};

/// The findings about a configuration.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The configuration, as problems name it.
    pub file: String,
    /// Settings that cannot work.
    pub problems: Vec<ConfigProblem>,
    /// Settings that may be intended.
    pub warnings: Vec<ConfigProblem>,
}

impl CheckReport {
    /// Adds a problem of the configuration itself.
    pub fn problem(&mut self, place: Option<FilePosition>, text: String) {
        self.problems.push(ConfigProblem { file: self.file.clone(), place, text });
    }

    /// Adds a warning about the configuration itself.
    pub fn warn(&mut self, place: Option<FilePosition>, text: String) {
        self.warnings.push(ConfigProblem { file: self.file.clone(), place, text });
    }
}
