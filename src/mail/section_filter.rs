//! A filter for every incoming message: it makes the header section end where its fields end.
//!
//! Devices send text without any header section, and programs forget the empty line behind it. Readers would take
//! such text for fields and show an empty message. So the filter adds an empty line before the first line that is
//! neither a field nor a continuation; a message that begins with a blank is text from its first line on. The `From `
//! line that an mbox has before each message is removed: a first line with a date as mbox writes it, or one that a
//! field follows.
//!
//! | the message begins with | the filter |
//! | --- | --- |
//! | a field | passes it on |
//! | an empty line | passes it on: there is no header section |
//! | `From root Mon Nov 23 06:53:30 2026` | removes the line |
//! | `From ` with other text, then a field | removes the line |
//! | `From ` with other text, then no field | adds an empty line before it |
//! | any other text | adds an empty line before it |
//!
//! At final delivery the filter also removes the fields of one name: there is only one Return-Path, and this host
//! writes it (RFC 5321 §4.4).
//!
//! It takes octets in canonical form (see [`super::message`]) in pieces of any size. It holds the start of a line, up
//! to [`FIELD_NAME_MAX_OCTETS`], and passes on everything else at once. Nothing fails.

use super::date::{MONTHS, WEEKDAYS};
use super::header::{FIELD_NAME_MAX_OCTETS, split_field};
use memchr::{memchr, memchr2};

/// The position within the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterState {
    /// In the start of a line, which is held until its kind is known.
    Start,
    /// In the rest of a line of a field.
    Field,
    /// Behind the header section.
    Body,
}

/// The filter for one message.
#[derive(Debug)]
pub struct SectionFilter {
    left_out: Option<&'static str>,
    state: FilterState,
    held: Vec<u8>,
    /// A first line that belongs to mbox if a field follows.
    mbox_line: Vec<u8>,
    has_field: bool,
    /// Whether the current field is removed.
    is_left_out: bool,
}

impl Default for SectionFilter {
    fn default() -> Self {
        Self::new(None)
    }
}

impl SectionFilter {
    /// A filter at the start of a message that removes the fields of this name.
    #[must_use]
    pub fn without(name: &'static str) -> Self {
        Self::new(Some(name))
    }

    fn new(left_out: Option<&'static str>) -> Self {
        let (held, mbox_line) = (Vec::new(), Vec::new());
        Self { left_out, state: FilterState::Start, held, mbox_line, has_field: false, is_left_out: false }
    }

    /// Whether the header section is over: the rest passes unchanged, and need not be fed.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.state == FilterState::Body
    }

    /// Takes the next piece of the content, and appends the result to `out`.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while !rest.is_empty() {
            let length = match self.state {
                FilterState::Body => return out.extend_from_slice(rest),
                FilterState::Start => self.undecided(rest),
                FilterState::Field => memchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
            };
            let (part, after) = rest.split_at(length);
            rest = after;
            if self.state == FilterState::Field {
                self.pass(part, out);
                continue;
            }
            self.held.extend_from_slice(part);
            if self.is_known() {
                self.judge(out);
            }
        }
    }

    /// Ends the content: appends the octets that were held.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() || !self.mbox_line.is_empty() {
            self.judge(out);
        }
    }

    fn is_at_mbox_line(&self) -> bool {
        let text = self.held.iter().position(|&octet| octet != b'>').and_then(|at| self.held.get(at..));
        !self.has_field && self.mbox_line.is_empty() && text.is_some_and(|text| text.starts_with(b"From "))
    }

    /// The number of octets up to the first one that can decide the kind of the line; at least one.
    fn undecided(&self, rest: &[u8]) -> usize {
        let most = match (self.held.len(), rest.first()) {
            // A blank decides, if it is the first.
            (0, Some(octet)) if is_blank(octet) => 1,
            (held, _) => (FIELD_NAME_MAX_OCTETS + 1).saturating_sub(held).max(1),
        };
        let room = rest.get(..most).unwrap_or(rest);
        memchr2(b':', b'\n', room).map_or(room.len(), |at| at + 1)
    }

    /// Whether the held octets decide the kind of the line.
    fn is_known(&self) -> bool {
        let ends_name = self.held.ends_with(b":") && !self.is_at_mbox_line();
        let is_long = self.held.len() > FIELD_NAME_MAX_OCTETS;
        ends_name || is_long || self.held.ends_with(b"\n") || self.is_blank_first()
    }

    fn is_blank_first(&self) -> bool {
        self.held.first().is_some_and(is_blank)
    }

    fn judge(&mut self, out: &mut Vec<u8>) {
        let is_mbox_line = self.is_at_mbox_line() && self.held.ends_with(b"\n");
        let field = split_field(&self.held).map(|(name, _)| name);
        if let Some(name) = field {
            self.is_left_out =
                self.left_out.is_some_and(|left_out| name.eq_ignore_ascii_case(left_out.as_bytes()));
            self.has_field = true;
            self.mbox_line = Vec::new();
        } else if is_mbox_line {
            let line = std::mem::take(&mut self.held);
            if !has_mbox_date(&line) {
                self.mbox_line = line;
            }
            return;
        } else if !(self.has_field && self.is_blank_first()) {
            self.end_section(out);
            return;
        }
        // The buffer is used again for the next line.
        let mut held = std::mem::take(&mut self.held);
        self.pass(&held, out);
        held.clear();
        self.held = held;
    }

    /// Passes on a part of a line of the current field.
    fn pass(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !self.is_left_out {
            out.extend_from_slice(part);
        }
        self.state = if part.ends_with(b"\n") { FilterState::Start } else { FilterState::Field };
    }

    /// Ends the section: the held octets are the empty line, or text.
    fn end_section(&mut self, out: &mut Vec<u8>) {
        let (held, mbox_line) = (std::mem::take(&mut self.held), std::mem::take(&mut self.mbox_line));
        if held != b"\n" || !mbox_line.is_empty() {
            out.push(b'\n');
        }
        out.extend_from_slice(&mbox_line);
        out.extend_from_slice(&held);
        self.state = FilterState::Body;
    }
}

const fn is_blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// Whether a line holds weekday, month, day and time, like the lines between the messages of an mbox: text that only
/// begins with the same words is kept.
fn has_mbox_date(line: &[u8]) -> bool {
    let is_one_of = |names: &[&str], word: &[u8]| names.iter().any(|name| name.as_bytes() == word);
    let words: Vec<&[u8]> =
        line.split(|&octet| matches!(octet, b' ' | b'\n')).filter(|word| !word.is_empty()).collect();
    let is_number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let is_time = |word: &[u8]| word.contains(&b':') && word.split(|&octet| octet == b':').all(is_number);
    words.windows(4).any(|four| {
        matches!(four, [weekday, month, day, time]
            if is_one_of(&WEEKDAYS, weekday) && is_one_of(&MONTHS, month) && is_number(day) && is_time(time))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filtered(mut filter: SectionFilter, input: &[u8], cut: usize) -> String {
        let mut out = Vec::new();
        for piece in input.chunks(cut) {
            filter.feed(piece, &mut out);
            assert!(filter.held.len() <= FIELD_NAME_MAX_OCTETS + 1, "too much is held");
        }
        filter.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn an_empty_line_stands_in_front_of_the_first_text() {
        for (input, expected) in [
            ("", ""),
            ("\n", "\n"),
            ("A: 1\n\nb\n", "A: 1\n\nb\n"),
            ("A: 1\n b\n\tc: 2\n\nd\n", "A: 1\n b\n\tc: 2\n\nd\n"),
            ("A: 1\n", "A: 1\n"),
            ("A: 1", "A: 1"),
            ("A : 1\n", "A : 1\n"),
            ("UPS on battery\nCall somebody\n", "\nUPS on battery\nCall somebody\n"),
            ("Subject: x\nUPS on battery\nB: 1\n", "Subject: x\n\nUPS on battery\nB: 1\n"),
            ("UPS on battery: call\nB: 1\n\nb\n", "\nUPS on battery: call\nB: 1\n\nb\n"),
            ("text", "\ntext"),
            (" A: 1\nB: 2\n", "\n A: 1\nB: 2\n"),
            ("\tx\n", "\n\tx\n"),
            (": 1\n", "\n: 1\n"),
            ("A: 1\n: 2\n", "A: 1\n\n: 2\n"),
            ("Ü: 1\n", "\nÜ: 1\n"),
            ("\nA: 1\ntext\n", "\nA: 1\ntext\n"),
            ("A: 1\n \n\nb\n", "A: 1\n \n\nb\n"),
            ("A: 1\nFrom x\n", "A: 1\n\nFrom x\n"),
        ] {
            for cut in [1, 2, 3, 1000] {
                let out = filtered(SectionFilter::default(), input.as_bytes(), cut);
                assert_eq!(out, expected, "{input:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn the_line_in_front_of_a_message_of_an_mbox_goes() {
        let dated = "From nobody Thu Jan  1 00:00:00 1970\n";
        for (input, expected) in [
            (format!("{dated}Subject: x\n\nb\n"), "Subject: x\n\nb\n"),
            (format!(">{dated}Subject: x\n\nb\n"), "Subject: x\n\nb\n"),
            (format!("{dated}text\n"), "\ntext\n"),
            (format!("{dated}\ntext\n"), "\ntext\n"),
            (format!("{dated} text\n"), "\n text\n"),
            (dated.to_owned(), ""),
            ("From x\nSubject: x\n\nb\n".into(), "Subject: x\n\nb\n"),
            ("From x Mon Nov 23 06:53 2026\ntext\n".into(), "\ntext\n"),
            ("From x Mon Nov 23 06:53:30 CET 2026\ntext\n".into(), "\ntext\n"),
            // A weekday and a month are not yet a date.
            ("From Mon Nov on: battery\ncall\n".into(), "\nFrom Mon Nov on: battery\ncall\n"),
            ("From Mon Nov 23 on\ncall\n".into(), "\nFrom Mon Nov 23 on\ncall\n"),
            // Text may begin with the same word, and a field with the same letters.
            ("From now on: battery\ncall\n".into(), "\nFrom now on: battery\ncall\n"),
            ("From now on\n\ncall\n".into(), "\nFrom now on\n\ncall\n"),
            ("From now on".into(), "\nFrom now on"),
            ("From now on\n".into(), "\nFrom now on\n"),
            ("From : joe@a.test\n\nb\n".into(), "From : joe@a.test\n\nb\n"),
            ("From: joe@a.test\n\nb\n".into(), "From: joe@a.test\n\nb\n"),
        ] {
            for cut in [1, 2, 3, 1000] {
                let out = filtered(SectionFilter::default(), input.as_bytes(), cut);
                assert_eq!(out, expected, "{input:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn fields_of_a_name_are_left_out() {
        for (input, expected) in [
            ("Return-Path: <a@b>\nA: 1\n\nReturn-Path: x\n", "A: 1\n\nReturn-Path: x\n"),
            ("A: 1\nreturn-path :\n <a@b>\nB: 2\n c\n\n", "A: 1\nB: 2\n c\n\n"),
            ("Return-Path: <a@b>\ntext\n", "\ntext\n"),
            ("Return-Path: <a@b>", ""),
            ("Return-Path", "\nReturn-Path"),
            ("Return-Paths: x\nX-Return-Path: y\n\n", "Return-Paths: x\nX-Return-Path: y\n\n"),
        ] {
            for cut in [1, 2, 3, 1000] {
                let out = filtered(SectionFilter::without("Return-Path"), input.as_bytes(), cut);
                assert_eq!(out, expected, "{input:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        for unit in ["x", " ", ":", "From ", "A: 1\n b\n", "x: y"] {
            let input = unit.repeat(100_000);
            let out = filtered(SectionFilter::default(), input.as_bytes(), 999);
            assert!(out == input || out == format!("\n{input}"), "{unit:?}");
        }
        let name = "x".repeat(FIELD_NAME_MAX_OCTETS);
        let field = format!("{name}: 1\n");
        assert_eq!(filtered(SectionFilter::default(), field.as_bytes(), 10), field);
        let text = format!("x{field}");
        assert_eq!(filtered(SectionFilter::default(), text.as_bytes(), 10), format!("\n{text}"));
    }

    proptest! {
        #[test]
        fn the_split_of_the_input_does_not_matter_and_twice_is_once(
            input in "(From |>|Return-Path: |To: a|Mon Nov |[ a:\né]){0,30}", cut in 1usize..9
        ) {
            for filter in [SectionFilter::default, || SectionFilter::without("Return-Path")] {
                let whole = filtered(filter(), input.as_bytes(), 1000);
                prop_assert_eq!(&filtered(filter(), input.as_bytes(), cut), &whole);
                prop_assert_eq!(&filtered(filter(), whole.as_bytes(), cut), &whole);
                let section = super::super::header::section(whole.as_bytes());
                prop_assert!(section.len() == whole.len() || whole.as_bytes()[section.len()] == b'\n');
            }
        }
    }
}
