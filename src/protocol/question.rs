//! The line that opens a connection to the control socket: a request, or the announcement of a message.

use super::request::{BadRequest, Request, usage};

/// The longest question, in octets: some thousand ids.
pub const QUESTION_MAX_OCTETS: usize = 64 * 1024;

/// The purpose of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A report about the queue or the daemon, or a change.
    Ask(Request),
    /// To hand over a message.
    Submit(SubmissionSizes),
}

/// The sizes that `submit` announces. The envelope follows at once, the message after [`super::piece::Piece::Go`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionSizes {
    /// Octets of the envelope, which has the format of the drop directory.
    pub envelope_octets: usize,
    /// Octets of the message, in canonical form.
    pub message_octets: u64,
}

impl SubmissionSizes {
    /// The question as one line, without its line end.
    #[must_use]
    pub fn print(self) -> String {
        format!("submit {} {}", self.envelope_octets, self.message_octets)
    }
}

impl Question {
    /// Reads the words of a question.
    ///
    /// # Errors
    /// The words are no request, or a size is not a number.
    pub fn parse(words: &[&str]) -> Result<Self, BadRequest> {
        let ["submit", sizes @ ..] = words else { return Request::parse(words).map(Self::Ask) };
        let [envelope, message] = sizes else { return Err(usage("two sizes are needed")) };
        let read = || {
            let (envelope_octets, message_octets) = (envelope.parse().ok()?, message.parse().ok()?);
            Some(SubmissionSizes { envelope_octets, message_octets })
        };
        read().map(Self::Submit).ok_or_else(|| usage("a size is not a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::USAGE;
    use super::*;
    use crate::rules::pacing::downtime::Uplink;

    #[test]
    fn a_message_is_announced_by_its_sizes() {
        let sizes = SubmissionSizes { envelope_octets: 12, message_octets: 5_000_000_000 };
        let line = sizes.print();
        assert_eq!(line, "submit 12 5000000000");
        let read = |line: &str| Question::parse(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(read(&line), Ok(Question::Submit(sizes)));
        assert_eq!(read("link up"), Ok(Question::Ask(Request::Link(Uplink::Up))));
        for line in
            ["submit", "submit 1", "submit 1 2 3", "submit -1 2", "submit 1 2\r", "submit 1 2\nlink down"]
        {
            assert_eq!(read(line).map_err(|bad| bad.code), Err(USAGE), "{line:?}");
        }
    }
}
