//! The prefix of Subject fields (`rewrite.subject_prefix`): which of many hosts a message is from, seen in a list of mail.
//!
//! | Subject | with the prefix `[box] ` |
//! | --- | --- |
//! | `Disk is full` | `[box] Disk is full` |
//! | `=?utf-8?Q?Gr=C3=BC=C3=9Fe?=` | `[box] =?utf-8?Q?Gr=C3=BC=C3=9Fe?=` |
//! | `[box] Disk is full`, also as an encoded word, or behind `Re:` | itself |
//! | none, or a second one | itself |
//!
//! A prefix beyond ASCII becomes encoded words (RFC 2047), as not every host takes UTF-8 in a header. Blanks between two encoded
//! words are not shown, so the blank that ends the prefix is encoded with it there.

use super::{LINE_COLUMNS, LINE_MAX_OCTETS};
use crate::mail::encoded_word::{WORD_MAX_OCTETS, decode, encode, text_of};
use crate::mail::header::{fields, value_of};

/// The name of the field.
const NAME: &str = "Subject";
/// The longest word such as `Re:` or `Antw:` before a subject, without its colon.
const REPLY_MAX_OCTETS: usize = 5;

/// The header section with the prefix in front of its Subject. `None`: it stays.
#[must_use]
pub fn prefixed(header: &[u8], prefix: &str) -> Option<Vec<u8>> {
    let (prefix, visible) = (prefix.trim_start(), collapsed(prefix));
    if visible.is_empty() {
        return None;
    }
    let mut new = Vec::with_capacity(header.len() + 2 * prefix.len());
    let mut is_found = false;
    for field in fields(header) {
        match value_of(field, NAME).filter(|_| !is_found) {
            Some(value) => {
                is_found = true;
                if begins_with(value, &visible) {
                    return None;
                }
                print(prefix, value, &mut new);
            }
            None => new.extend_from_slice(field),
        }
    }
    is_found.then_some(new)
}

/// Appends the field.
fn print(prefix: &str, value: &[u8], out: &mut Vec<u8>) {
    let rest = value.trim_ascii();
    let is_word = rest.starts_with(b"=?");
    let mut field = format!("{NAME}: ");
    if prefix.is_ascii() {
        field.push_str(prefix);
    } else {
        let mut words = Vec::new();
        encode(if is_word { prefix } else { prefix.trim_end() }, WORD_MAX_OCTETS - field.len(), &mut words);
        field.push_str(&words.join("\n "));
    }
    // An encoded word stands alone.
    if !prefix.is_ascii() || is_word && !field.ends_with(' ') {
        field.push(' ');
    }
    let columns = field.len() - field.rfind('\n').map_or(0, |end| end + 1);
    let first_line = rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
    let is_long = columns + first_line > LINE_COLUMNS && field.ends_with(' ');
    if is_long || columns + first_line > LINE_MAX_OCTETS {
        field.truncate(field.trim_end().len());
        field.push_str("\n ");
    }
    out.extend_from_slice(if rest.is_empty() { field.trim_end().as_bytes() } else { field.as_bytes() });
    out.extend_from_slice(rest);
    out.push(b'\n');
}

/// Whether the subject, as it is shown, begins with the prefix; `Re:` and its like do not count.
fn begins_with(value: &[u8], prefix: &str) -> bool {
    let shown = collapsed(&shown(value));
    let mut rest = shown.as_str();
    loop {
        if rest.starts_with(prefix) {
            return true;
        }
        match rest.split_once(':') {
            Some((word, after))
                if word.len() <= REPLY_MAX_OCTETS && word.bytes().all(|b| b.is_ascii_alphabetic()) =>
            {
                rest = after.trim_start();
            }
            _ => return false,
        }
    }
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text of a subject as a reader shows it: on one line, encoded words decoded.
fn shown(value: &[u8]) -> String {
    let text = text_of(value);
    let mut shown = String::with_capacity(text.len());
    let mut was_decoded = false;
    for word in text.split_ascii_whitespace() {
        let decoded = decode(word);
        // Blanks between two encoded words are not shown.
        let is_joined = was_decoded && decoded.is_some();
        if !shown.is_empty() && !is_joined {
            shown.push(' ');
        }
        was_decoded = decoded.is_some();
        shown.push_str(decoded.as_deref().unwrap_or(word));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    fn left(subject: &str, prefix: &str) -> String {
        let header = format!("To: a@b.example\n{subject}X: y\n");
        prefixed(header.as_bytes(), prefix).map_or(header, |new| String::from_utf8(new).unwrap())
    }

    #[test]
    fn the_prefix_stands_in_front_and_not_twice() {
        for (subject, expected) in [
            ("Subject: Disk is full\n", "Subject: [box] Disk is full\n"),
            ("SUBJECT:Disk\n", "Subject: [box] Disk\n"),
            ("Subject:\n folded\n text\n", "Subject: [box] folded\n text\n"),
            ("Subject:\n", "Subject: [box]\n"),
            ("Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\n", "Subject: [box] =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\n"),
            ("Subject: [boxes] x\n", "Subject: [box] [boxes] x\n"),
            ("Subject: Note: x\n", "Subject: [box] Note: x\n"),
        ] {
            let once = left(subject, "[box] ");
            assert_eq!(once, format!("To: a@b.example\n{expected}X: y\n"), "{subject}");
            assert_eq!(prefixed(once.as_bytes(), "[box] "), None, "{once}");
        }
        for stays in [
            "",
            "Subject: [box] x\n",
            "Subject:\n [box]\n",
            "Subject: Re: AW: [box] x\n",
            "Subject: =?utf-8?Q?=5Bbox=5D_Gr=C3=BC=C3=9Fe?=\n",
            "Subject: =?utf-8?Q?=5Bb?= =?utf-8?Q?ox=5D_x?=\n",
        ] {
            assert_eq!(left(stays, "[box] "), format!("To: a@b.example\n{stays}X: y\n"), "{stays}");
            assert_eq!(left(stays, ""), format!("To: a@b.example\n{stays}X: y\n"), "{stays}");
        }
        assert_eq!(
            left("Subject: a\nSubject: b\n", "x: "),
            "To: a@b.example\nSubject: x: a\nSubject: b\nX: y\n"
        );
    }

    #[test]
    fn long_and_foreign_prefixes_fit_into_lines() {
        let long = "word ".repeat(15);
        let found = left(&format!("Subject: {long}\n"), "[box] ");
        assert!(
            found.contains("Subject: [box]\n word word") && found.lines().all(|line| line.len() <= 78),
            "{found}"
        );
        for (prefix, subject) in
            [("[Küche] ", "Disk"), ("[Küche] ", "=?utf-8?Q?Gr=C3=BC=C3=9Fe?="), ("Küche", "x")]
        {
            let found = left(&format!("Subject: {subject}\n"), prefix);
            let parsed = MessageParser::default().parse(found.as_bytes()).unwrap();
            let plain = if subject.starts_with("=?") { "Grüße" } else { subject };
            let shown = parsed.subject().unwrap();
            assert!(
                found.is_ascii() && shown.starts_with(prefix.trim_end()) && shown.ends_with(plain),
                "{found}{shown}"
            );
            assert_eq!(prefixed(found.as_bytes(), prefix), None, "{found}");
        }
    }

    proptest! {
        /// Whatever the subject is, no field is lost and a second pass changes nothing.
        #[test]
        fn once_is_as_good_as_twice(value in "[ -~äé\n\t]{0,200}", prefix in "[ -~ö]{0,20}") {
            let value: String = value.replace('\n', "\n ");
            let header = format!("A: b\nSubject:{value}\nC: d\n");
            if let Some(new) = prefixed(header.as_bytes(), &prefix) {
                prop_assert!(new.starts_with(b"A: b\nSubject: ") && new.ends_with(b"C: d\n"));
                let names: Vec<bool> = fields(&new).map(|field| value_of(field, "C").is_some()).collect();
                prop_assert_eq!(names.len(), 3);
                prop_assert_eq!(prefixed(&new, &prefix), None);
            }
        }
    }
}
