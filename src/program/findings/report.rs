//! The problems and warnings that were found.

use crate::config::{Place, Problem};

/// What was found about a configuration.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The configuration, as problems name it.
    pub file: String,
    /// What can't work.
    pub problems: Vec<Problem>,
    /// What may be meant that way.
    pub warnings: Vec<Problem>,
}

impl CheckReport {
    /// Adds a problem of the configuration itself.
    pub fn problem(&mut self, place: Option<Place>, text: String) {
        self.problems.push(Problem { file: self.file.clone(), place, text });
    }

    /// Adds a warning about the configuration itself.
    pub fn warn(&mut self, place: Option<Place>, text: String) {
        self.warnings.push(Problem { file: self.file.clone(), place, text });
    }
}
