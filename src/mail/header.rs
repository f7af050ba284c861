//! The header section of a message (RFC 5322 §2.2), read without rewriting it.
//!
//! Content inside pillarbox has LF line ends and no CR (see [`super::message`]).
//!
//! | field | what [`TraceScanner`] does with it |
//! | --- | --- |
//! | `Received` | counts it: more than [`RECEIVED_MAX`] is a loop |
//! | `Delivered-To` | keeps the mailbox: a second delivery to it is a loop (RFC 9228) |
//! | `Priority`, `X-Priority`, `Importance` | notes whether the message is urgent |
//!
//! The section ends at the first empty line, or at the first line that is neither a field nor a continuation. A line
//! is kept up to 1024 octets, so memory does not grow with the message.

use memchr::memchr;

/// Most Received fields before a message counts as looping (RFC 5321 §6.3 requires at least 100).
pub const RECEIVED_MAX: usize = 100;
/// Longest field value that is kept while scanning; a longer Delivered-To cannot name a mailbox.
const VALUE_MAX_OCTETS: usize = 1024;
/// The fields that mark a message as urgent (RFC 2156; X-Priority is a custom), and their words.
const URGENT: [(&str, &[&str]); 3] =
    [("Priority", &["urgent"]), ("X-Priority", &["1", "2"]), ("Importance", &["high"])];

/// Finds out from the header section where a message has been, and whether it is urgent. Takes pieces of any size, so
/// the message need not be in memory.
#[derive(Debug, Default)]
pub struct TraceScanner {
    received: usize,
    delivered_to: Vec<String>,
    is_urgent: bool,
    line: Vec<u8>,
    field: TraceField,
    done: bool,
}

/// The field that the current line belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TraceField {
    DeliveredTo,
    /// One of [`URGENT`], with its words.
    Urgency(&'static [&'static str]),
    #[default]
    Other,
}

impl TraceScanner {
    /// Takes the next piece of the content; octets after the header section are ignored.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !self.done && !rest.is_empty() {
            let end = memchr(b'\n', rest);
            let (line, after) = rest.split_at(end.map_or(rest.len(), |i| i + 1));
            let room = VALUE_MAX_OCTETS.saturating_sub(self.line.len());
            self.line.extend_from_slice(line.get(..room.min(line.len())).unwrap_or_default());
            if end.is_some() {
                self.end_line();
            }
            rest = after;
        }
    }

    fn end_line(&mut self) {
        // The buffer is used again for the next line.
        let mut line = std::mem::take(&mut self.line);
        self.take_line(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
        self.line = line;
    }

    fn take_line(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.done = true;
        } else if text.starts_with(b" ") || text.starts_with(b"\t") {
            match (self.field, self.delivered_to.last_mut()) {
                (TraceField::DeliveredTo, Some(last)) => last.push_str(String::from_utf8_lossy(text).trim()),
                (TraceField::Urgency(words), _) => self.is_urgent |= begins_with(text, words),
                _ => {}
            }
        } else {
            self.begin_field(text);
        }
    }

    fn begin_field(&mut self, text: &[u8]) {
        self.field = TraceField::Other;
        let Some((name, value)) = split_field(text) else {
            // Not a header field: the body begins without an empty line.
            self.done = true;
            return;
        };
        if name.eq_ignore_ascii_case(b"Received") {
            self.received += 1;
        } else if name.eq_ignore_ascii_case(b"Delivered-To") && self.delivered_to.len() < RECEIVED_MAX {
            self.field = TraceField::DeliveredTo;
            self.delivered_to.push(String::from_utf8_lossy(value).trim().to_owned());
        } else if let Some((_, words)) =
            URGENT.iter().find(|(it, _)| name.eq_ignore_ascii_case(it.as_bytes()))
        {
            self.field = TraceField::Urgency(words);
            self.is_urgent |= begins_with(value, words);
        }
    }

    /// Whether the header section is over.
    #[must_use]
    pub const fn is_in_body(&self) -> bool {
        self.done
    }

    /// Whether a field seen so far marks the message as urgent.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Whether the message has passed more hosts than RFC 5321 §6.3 allows.
    #[must_use]
    pub fn has_looped(&self) -> bool {
        self.received > RECEIVED_MAX
    }

    /// Whether the message was delivered to `mailbox` before. Compared without regard to case.
    #[must_use]
    pub fn was_delivered_to(&self, mailbox: &str) -> bool {
        self.delivered_to.iter().any(|seen| seen.eq_ignore_ascii_case(mailbox))
    }
}

/// Whether a value begins with one of these words, such as `1 (Highest)`.
fn begins_with(value: &[u8], words: &[&str]) -> bool {
    let first =
        value.trim_ascii().split(|&octet| matches!(octet, b' ' | b'\t' | b'(')).next().unwrap_or_default();
    words.iter().any(|word| first.eq_ignore_ascii_case(word.as_bytes()))
}

/// Longest name of a field, with the blanks behind it: the colon must stand on the first line (RFC 5322 §2.1.1).
pub const FIELD_NAME_MAX_OCTETS: usize = 998;

/// Splits `Name: value`; `None` if the line is not a header field (RFC 5322 §2.2: printable ASCII without colon).
#[must_use]
pub fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line.get(..=FIELD_NAME_MAX_OCTETS).unwrap_or(line))?;
    let (name, value) = line.split_at_checked(colon)?;
    // Obsolete syntax allows blanks before the colon (RFC 5322 §4.5.8).
    let name = name.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic))
        .then(|| (name, value.get(1..).unwrap_or_default()))
}

/// The fields of a header section, each with its line ends.
pub fn fields(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = section;
    std::iter::from_fn(move || {
        let is_end = |pair: &[u8]| matches!(pair, [b'\n', next] if !matches!(next, b' ' | b'\t'));
        let end = rest.windows(2).position(is_end).map_or(rest.len(), |at| at + 1);
        let (field, after) = rest.split_at(end);
        rest = after;
        (!field.is_empty()).then_some(field)
    })
}

/// The value of a field, if the field has this name.
#[must_use]
pub fn value_of<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    split_field(field)
        .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The octets of the header section within `content`, without the empty line that ends it.
#[must_use]
pub fn section(content: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in content.split_inclusive(|&b| b == b'\n') {
        let is_continuation = end > 0 && (line.starts_with(b" ") || line.starts_with(b"\t"));
        if line == b"\n" || !(is_continuation || split_field(line).is_some()) {
            break;
        }
        end += line.len();
    }
    content.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(content: &str) -> TraceScanner {
        let mut scanner = TraceScanner::default();
        scanner.feed(content.as_bytes());
        scanner
    }

    #[test]
    fn a_hundred_received_fields_pass_and_one_more_does_not() {
        let field = "Received: from a by b;\n\tMon, 1 Jan 2024 00:00:00 +0000\n";
        assert!(!scan(&format!("{}\nbody\n", field.repeat(100))).has_looped());
        assert!(scan(&format!("{}\nbody\n", field.repeat(101))).has_looped());
        assert!(!scan(&format!("Subject: x\n\n{}", field.repeat(101))).has_looped());
    }

    #[test]
    fn delivered_to_is_found_folded_and_in_any_case() {
        let scanner =
            scan("delivered-to:\n Me@Example.org\nSubject: x\n y\n\nDelivered-To: other@example.org\n");
        assert!(scanner.was_delivered_to("me@example.ORG"));
        assert!(!scanner.was_delivered_to("other@example.org"));
        assert!(!scanner.was_delivered_to("me@example.or"));
    }

    #[test]
    fn urgent_is_what_one_of_three_fields_says() {
        for field in [
            "Priority: urgent",
            "priority:URGENT",
            "X-Priority: 1 (Highest)",
            "X-Priority: 1(Highest)",
            "X-PRIORITY : 2",
            "Importance:\tHigh ",
            "Importance:\n high",
        ] {
            assert!(scan(&format!("Subject: x\n{field}\nX-Priority: 3\n\n")).is_urgent(), "{field}");
            assert!(!scan(&format!("Subject: x\n\n{field}\n")).is_urgent(), "{field}");
        }
        for field in [
            "Priority: normal",
            "Priority: non-urgent",
            "Priority: 1",
            "Priority: urgently",
            "Priority:",
            "X-Priority: 3 (1)",
            "X-Priority: 12",
            "X-Priority: high",
            "Importance: normal (high)",
            "Importance: low\nSubject:\n high",
            "X-Importance: high",
            "Subject: Priority: urgent",
        ] {
            assert!(!scan(&format!("{field}\n\n")).is_urgent(), "{field}");
        }
    }

    #[test]
    fn the_header_section_ends_where_fields_end() {
        assert_eq!(section(b"A: 1\n b\n\nbody\n"), b"A: 1\n b\n");
        assert_eq!(section(b"A: 1\nbody without colon\n"), b"A: 1\n");
        assert_eq!(section(b"\nbody\n"), b"");
        assert_eq!(section(b" folded\nA: 1\n"), b"");
        assert_eq!(section(b"A: 1"), b"A: 1");
    }

    proptest! {
        #[test]
        fn the_split_of_the_input_does_not_matter(
            content in "((Received|Delivered-To|X|X-Priority): ?[a-c@1 ]{0,8}\n( [a-c]{0,5}\n)?){0,8}\n?[a-c:\n]{0,20}",
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let whole = scan(&content);
            let mut pieces = TraceScanner::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(content.len())).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                pieces.feed(&content.as_bytes()[pair[0]..pair[1]]);
            }
            prop_assert_eq!((whole.received, whole.is_urgent), (pieces.received, pieces.is_urgent));
            prop_assert_eq!(whole.delivered_to, pieces.delivered_to);
        }
    }
}
