//! A row of advice: the steps to which it applies, a pattern, and what to do. The rows are in `hints`, and in `refusal`,
//! `account` and `host` for replies to mail.
//!
//! The most specific row that matches counts, and the order of the rows never matters. A pattern is in lower case and reads
//! like this:
//!
//! | written | matches |
//! | --- | --- |
//! | `a\|b` | a text with `a` or with `b` |
//! | `a&b` | a text with both |
//! | `^a` | a text that begins with `a`, such as a reply code |
//! | `5.7.2` | the status as a whole word: not in `5.7.26` |
//! | `@a` | a host with a label that begins with `a`: a provider |
//! | `%mx`, `%smarthost` | an MX host of a domain; a host that the operator named |
//! | `=a` | as `a`, and decides: nothing else that is said counts more |
//! | `~a` | as `a`, but any other words and any status count more |
//!
//! A matching alternative has a weight ([`Weight`]): the alternative that names the provider counts more than one that does
//! not; then one that decides; then words and a status together, words, a status; then the kind of host; then the longer one;
//! then the row for fewer steps. Words with an `@` are addresses that replies repeat: they are not read.

use super::step::Stage;
use std::cmp::Reverse;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// This message: its size, or the syntax of its sender.
    Message,
    /// The recipient, or the recipient's mailbox.
    Recipient,
    /// The account or its login.
    Account,
    /// The sender's right to send, with this account or at all.
    Sender,
    /// The amount or the rate of mail of the account.
    Limit,
    /// Relaying to other hosts.
    Relaying,
    /// This host: its address, its name, how it connects.
    Host,
}

impl About {
    /// The word in the log.
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

/// The host that said something, or to which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer<'a> {
    /// Its name; empty if no host is concerned.
    pub name: &'a str,
    /// What it is for this host.
    pub kind: PeerKind,
}

/// What a host is for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerKind {
    /// Not known, or no host.
    #[default]
    Unknown,
    /// An MX host of a domain.
    Mx,
    /// A host that the operator named.
    Smarthost,
}

/// A row of advice.
#[derive(Debug, PartialEq, Eq)]
pub struct Hint {
    /// The steps to which the row applies.
    pub stages: &'static [Stage],
    /// The subject, if the row is for a reply about mail.
    pub about: Option<About>,
    /// The pattern; see the table above.
    pub when: &'static str,
    /// What to do, in a sentence.
    pub advice: &'static str,
}

/// How specific a match is: the fields in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight {
    names_provider: bool,
    decides: bool,
    has_words: bool,
    has_status: bool,
    names_kind: bool,
    octets: usize,
    stages: Reverse<usize>,
}

/// The row that matches most specifically. Of equal ones the first by advice, which no order of the rows changes.
pub(super) fn fits(
    rows: impl Iterator<Item = &'static Hint>,
    stage: Stage,
    text: &str,
    peer: Peer<'_>,
) -> Option<&'static Hint> {
    let (text, name) = (words(text), peer.name.to_ascii_lowercase());
    let weighed = rows.filter_map(|row| Some((row.weight(stage, &text, Peer { name: &name, ..peer })?, row)));
    weighed.max_by_key(|(weight, row)| (*weight, Reverse(row.advice))).map(|(_, row)| row)
}

/// A text as rows read it: in lower case, without addresses.
pub(super) fn words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.contains('@')).collect();
    words.join(" ").to_ascii_lowercase()
}

impl Hint {
    /// The weight of the best alternative that matches; `None`: no alternative matches. `text` is as [`words`] makes it.
    pub(super) fn weight(&self, stage: Stage, text: &str, peer: Peer<'_>) -> Option<Weight> {
        if !self.stages.contains(&stage) {
            return None;
        }
        self.when.split('|').filter_map(|all| self.weight_of(all, text, peer)).max()
    }

    fn weight_of(&self, all: &str, text: &str, peer: Peer<'_>) -> Option<Weight> {
        let mut weight = Weight {
            names_provider: false,
            decides: false,
            has_words: false,
            has_status: false,
            names_kind: false,
            octets: 0,
            stages: Reverse(self.stages.len()),
        };
        for part in all.split('&') {
            let (part, decides) = part.strip_prefix('=').map_or((part, false), |part| (part, true));
            let (part, is_vague) = part.strip_prefix('~').map_or((part, false), |part| (part, true));
            weight.decides |= decides;
            let matches = if let Some(name) = part.strip_prefix('@') {
                weight.names_provider = true;
                is_of(peer.name, name)
            } else if let Some(kind) = part.strip_prefix('%') {
                weight.names_kind = true;
                peer.kind == if kind == "mx" { PeerKind::Mx } else { PeerKind::Smarthost }
            } else {
                weight.octets += part.len();
                weight.has_status |= is_status(part);
                weight.has_words |= !is_vague && !is_status(part) && !part.is_empty();
                holds(text, part)
            };
            if !matches {
                return None;
            }
        }
        Some(weight)
    }
}

/// Whether a host is one of a provider: its name has the provider's at the beginning of a label, and a whole domain ends there.
fn is_of(host: &str, provider: &str) -> bool {
    host.match_indices(provider).any(|(at, _)| {
        let after = host.get(at + provider.len()..).unwrap_or_default();
        let before = host.get(..at).unwrap_or_default();
        (before.is_empty() || before.ends_with('.'))
            && (!provider.contains('.') || after.is_empty() || after.starts_with('.'))
    })
}

/// Whether a part of a pattern is a reply code or a status.
fn is_status(part: &str) -> bool {
    let digits = part.strip_prefix('^').unwrap_or(part);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Whether the text contains this part. A code matches only as a whole word.
fn holds(text: &str, part: &str) -> bool {
    if let Some(start) = part.strip_prefix('^') {
        return text.starts_with(start);
    }
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    text.match_indices(part).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + part.len()..).unwrap_or_default();
        // A full stop may end the sentence.
        let goes_on = after.starts_with(|c: char| c.is_ascii_digit())
            || after.starts_with('.')
                && after.get(1..).unwrap_or_default().starts_with(|c: char| c.is_ascii_digit());
        !is_status(part) || !before.ends_with(is_part) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words() {
        assert!(holds("550 5.7.26 no", "5.7.26") && !holds("550 5.7.26 no", "5.7.2"));
        assert!(holds("from 192.0.2.1", "192.0.2.1") && !holds("from 192.0.2.1.5", "192.0.2.1"));
        assert!(!holds("from 192.0.2.15", "192.0.2.1") && holds("it is 5.7.1.", "5.7.1"));
        assert!(holds("450 no", "^45") && !holds("no 450", "^45"));
    }

    #[test]
    fn providers_are_labels_of_names() {
        assert!(is_of("smtp.mail.com", "mail.com") && is_of("mta5.am0.yahoodns.net", "yahoo"));
        for (host, provider) in
            [("smtp.fastmail.com", "mail.com"), ("smtp.mail.community", "mail.com"), ("notgmx.net", "gmx")]
        {
            assert!(!is_of(host, provider), "{host}");
        }
    }

    /// From the least to the most specific.
    #[test]
    fn a_match_that_says_more_weighs_more() {
        const ALL: &[&str] = &[
            "",
            "~mailbox full",
            "^5",
            "^550",
            "5.7.1",
            "full",
            "mailbox full",
            "5.7.1&full",
            "%mx&5.7.1&full",
            "=5.7.1",
            "=5.7.1&full",
            "@mail.example&^5",
            "@mail.example&full",
        ];
        let peer = Peer { name: "mail.example", kind: PeerKind::Mx };
        let weight = |when: &'static str, stages| {
            let row = Hint { stages, about: None, when, advice: "Do." };
            row.weight(Stage::Rcpt, &words("550 5.7.1 <joe@far.example> Mailbox FULL"), peer)
        };
        let weights: Vec<Option<Weight>> = ALL.iter().map(|when| weight(when, &[Stage::Rcpt])).collect();
        assert!(weights.iter().all(Option::is_some) && weights.is_sorted(), "{weights:#?}");
        assert!(weight("full", &[Stage::Rcpt]) > weight("full", &[Stage::Rcpt, Stage::Mail]));
        for none in ["%smarthost&full", "@other&full", "joe", "5.7.2", "full&5.7.2"] {
            assert_eq!(weight(none, &[Stage::Rcpt]), None, "{none}");
        }
        assert_eq!(weight("full", &[Stage::Mail]), None);
    }
}
