//! A row of advice: the steps that it is for, the words that lead to it, and what to do. The rows themselves stand in
//! `hints`, and in `refusal` for what a host says about mail.
//!
//! The first row that fits counts. The notation of the words:
//!
//! | written | means |
//! | --- | --- |
//! | `a\|b` | `a` or `b` is in the text |
//! | `a&b` | both are |
//! | `^a` | the text begins with `a` |
//! | `5.7.2` | the code as a whole word: it is not in `5.7.26` |
//! | `@a` | `a` is a part of the host's name |

use super::step::Stage;

/// Who or what is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// This message: its size, its sender's syntax.
    Message,
    /// The recipient, or its mailbox.
    Recipient,
    /// The account or its login.
    Account,
    /// The sender's right to send, by this account or at all.
    Sender,
    /// How much, or how fast, the account may send.
    Limit,
    /// To pass mail on to others.
    Relaying,
    /// This host: its address, its name, how it connects.
    Host,
}

impl About {
    /// Its word in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Recipient => "recipient",
            Self::Account => "account",
            Self::Sender => "sender",
            Self::Limit => "limit",
            Self::Relaying => "relaying",
            Self::Host => "host",
        }
    }

    /// Whether a smarthost would refuse the next message for the same reason.
    pub(super) const fn is_routes(self) -> bool {
        matches!(self, Self::Account | Self::Sender | Self::Limit | Self::Relaying | Self::Host)
    }
}

/// A row.
#[derive(Debug)]
pub struct Hint {
    /// The steps that it is for.
    pub stages: &'static [Stage],
    /// Who or what is refused, if it is for a reply about mail.
    pub about: Option<About>,
    /// What has to be in the text, in lower case: one of the alternatives between `|`, all parts of it between `&`.
    /// `^` ties a part to the beginning; codes stand alone there; `@` begins a part of the host's name.
    pub when: &'static str,
    /// What to do.
    pub advice: &'static str,
}

/// The first of some rows that fits a step, and what was said there by which host.
pub(super) fn fits(rows: &'static [Hint], stage: Stage, text: &str, host: &str) -> Option<&'static Hint> {
    let (text, host) = (text.to_ascii_lowercase(), host.to_ascii_lowercase());
    let has = |part: &str| match part.strip_prefix('@') {
        Some(name) => host.contains(name),
        None => holds(&text, part),
    };
    let fits =
        |row: &&Hint| row.stages.contains(&stage) && row.when.split('|').any(|all| all.split('&').all(has));
    rows.iter().find(fits)
}

/// Whether the text has this part. Codes are whole words: 5.7.2 is not in 5.7.26.
fn holds(text: &str, part: &str) -> bool {
    if let Some(start) = part.strip_prefix('^') {
        return text.starts_with(start);
    }
    let is_code = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    text.match_indices(part).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + part.len()..).unwrap_or_default();
        !is_code || !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words() {
        assert!(holds("550 5.7.26 no", "5.7.26") && !holds("550 5.7.26 no", "5.7.2"));
        assert!(holds("from 192.0.2.1", "192.0.2.1") && !holds("from 192.0.2.15", "192.0.2.1"));
        assert!(holds("450 no", "^45") && !holds("no 450", "^45"));
    }
}
