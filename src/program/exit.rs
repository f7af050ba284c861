//! Exit codes (sysexits.h), and failures that end a command.
//!
//! Scripts and cron act on these codes: sendmail's callers keep a message after 75 and give it up after others. The codes of
//! answers on the control socket are the same numbers, in `protocol::request`.

use super::remote::client::BrokenOff;
use crate::config::ConfigProblem;
use crate::net::transport::WireError;

/// EX_OK: success.
pub const OK: u8 = 0;
/// EX_USAGE: the command line is wrong.
pub const USAGE: u8 = 64;
/// EX_DATAERR: the input is wrong.
pub const DATA: u8 = 65;
/// EX_NOINPUT: a file can't be read.
pub const NO_INPUT: u8 = 66;
/// EX_NOUSER: no such user.
pub const UNKNOWN_USER: u8 = 67;
/// EX_UNAVAILABLE: a service does not answer.
pub const UNAVAILABLE: u8 = 69;
/// EX_OSERR: the operating system refused.
pub const OS_ERROR: u8 = 71;
/// EX_CANTCREAT: a file or directory can't be made.
pub const CANT_CREATE: u8 = 73;
/// EX_IOERR: reading or writing failed.
pub const IO: u8 = 74;
/// EX_TEMPFAIL: a later attempt may succeed.
pub const TEMPORARY: u8 = 75;
/// EX_NOPERM: this user may not do that.
pub const NO_PERMISSION: u8 = 77;
/// EX_CONFIG: the configuration is wrong.
pub const CONFIG: u8 = 78;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFailure {
    /// The exit code.
    pub code: u8,
    /// Lines for standard error.
    pub lines: Vec<String>,
}

impl CommandFailure {
    /// A failure with one line.
    #[must_use]
    pub fn new(code: u8, line: String) -> Self {
        Self { code, lines: vec![format!("pillarbox: {line}")] }
    }

    /// A configuration with problems.
    #[must_use]
    pub fn problems(problems: &[ConfigProblem]) -> Self {
        Self { code: CONFIG, lines: problems.iter().map(ToString::to_string).collect() }
    }
}

impl From<BrokenOff> for CommandFailure {
    fn from(BrokenOff(error): BrokenOff) -> Self {
        let text = match WireError::from(error) {
            WireError::TimedOut => {
                "the daemon runs but does not answer; it may be stopped, or its disk may hang".to_owned()
            }
            error => format!("the daemon broke off: {error}"),
        };
        Self::new(TEMPORARY, text)
    }
}

/// Ends a command with the exit code of an answer.
///
/// # Errors
/// Any code but 0; the text of the answer has been shown.
pub fn finish(code: u8) -> Result<(), CommandFailure> {
    if code == OK { Ok(()) } else { Err(CommandFailure { code, lines: Vec::new() }) }
}
