//! The mbox format in its variant mboxrd: messages one after the other, each behind a line `From SENDER DATE` and
//! followed by an empty line. A line of a message that looks like that first line, after any number of `>`, gets one
//! more `>`; a reader can remove it again, so nothing is lost.
//!
//! ```text
//! From alice@example.org Mon Nov 23 06:53:30 2026
//! Subject: hello
//!
//! >From the start          was "From the start"
//! >>From the start         was ">From the start"
//!
//! From bob@example.org …
//! ```

use super::address::ReversePath;
use super::date::{WallTime, names};

/// The text that begins each message, and that no line within a message may begin with.
const FROM: &[u8] = b"From ";

/// The first line of a message, without its line end. The date has the form of C's asctime, in UTC. Programs split
/// the line at blanks, so the blanks of a quoted sender become `-`.
#[must_use]
pub fn from_line(sender: &ReversePath, when: WallTime) -> String {
    let sender = match sender {
        ReversePath::Null => "MAILER-DAEMON".to_owned(),
        ReversePath::Mailbox(mailbox) => mailbox.to_string().replace(char::is_whitespace, "-"),
    };
    let utc = when.to_utc();
    let ((weekday, month), (hour, minute, second)) = (names(utc), utc.to_hms());
    format!(
        "From {sender} {weekday} {month} {:2} {hour:02}:{minute:02}:{second:02} {}",
        utc.day(),
        utc.year()
    )
}

/// Quotes a message in canonical form (see [`super::message`]), in pieces of any size.
#[derive(Debug, Default)]
pub struct Quoter {
    place: LinePosition,
}

/// The position within a line.
#[derive(Debug, Clone, Copy, Default)]
enum LinePosition {
    /// At its start.
    #[default]
    Start,
    /// After any number of `>` and this many octets of [`FROM`], which have not been written yet.
    Begin(usize),
    /// In a line that does not look like a first line.
    Within,
}

impl Quoter {
    /// Takes the next piece, and appends its quoted form to `output`.
    pub fn feed(&mut self, piece: &[u8], output: &mut Vec<u8>) {
        for line in piece.split_inclusive(|&octet| octet == b'\n') {
            let mut rest = line;
            while let (false, Some((&octet, after))) =
                (matches!(self.place, LinePosition::Within), rest.split_first())
            {
                let known = if let LinePosition::Begin(known) = self.place { known } else { 0 };
                if FROM.get(known) == Some(&octet) {
                    self.place = LinePosition::Begin(known + 1);
                    if known + 1 == FROM.len() {
                        // Any of several `>` may be the new one.
                        output.push(b'>');
                        self.release(output);
                    }
                } else if octet == b'>' && known == 0 {
                    output.push(octet);
                    self.place = LinePosition::Begin(0);
                } else {
                    self.release(output);
                    break;
                }
                rest = after;
            }
            output.extend_from_slice(rest);
            if line.ends_with(b"\n") {
                self.place = LinePosition::Start;
            }
        }
    }

    /// Ends the message: completes its last line, and adds an empty one.
    pub fn finish(mut self, output: &mut Vec<u8>) {
        if !matches!(self.place, LinePosition::Start) {
            self.release(output);
            output.push(b'\n');
        }
        output.push(b'\n');
    }

    /// Writes the octets that were held back: the kind of the line is known.
    fn release(&mut self, output: &mut Vec<u8>) {
        if let LinePosition::Begin(known) = self.place {
            output.extend_from_slice(FROM.get(..known).unwrap_or_default());
        }
        self.place = LinePosition::Within;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quote(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut quoter, mut output) = (Quoter::default(), Vec::new());
        let mut all = Vec::new();
        for piece in pieces {
            quoter.feed(piece, &mut output);
            // The caller that writes the pieces empties the buffer between them.
            all.append(&mut output);
        }
        quoter.finish(&mut output);
        all.append(&mut output);
        all
    }

    #[test]
    fn lines_that_look_like_a_first_line_are_quoted() {
        for (message, quoted) in [
            ("", "\n"),
            ("\n", "\n\n"),
            ("A: b\n\ntext\n", "A: b\n\ntext\n\n"),
            ("no line end", "no line end\n\n"),
            ("From x\n", ">From x\n\n"),
            ("A: b\n\nFrom here on\n", "A: b\n\n>From here on\n\n"),
            ("\n>From x\n>>>From y\n", "\n>>From x\n>>>>From y\n\n"),
            ("\nFrom\nFrom:x\n From x\n>Fro", "\nFrom\nFrom:x\n From x\n>Fro\n\n"),
            ("\nx From y\nfrom z\n> From z\nFFrom z", "\nx From y\nfrom z\n> From z\nFFrom z\n\n"),
            ("\nFrom ", "\n>From \n\n"),
            ("\nFro>From x\n>\n>>", "\nFro>From x\n>\n>>\n\n"),
            ("\nFrom \nFrom From \n", "\n>From \n>From From \n\n"),
        ] {
            assert_eq!(String::from_utf8(quote(&[message.as_bytes()])).unwrap(), quoted, "{message:?}");
        }
    }

    #[test]
    fn the_first_line_is_as_programs_read_it() {
        let mailbox = |text: &str| ReversePath::Mailbox(crate::mail::address::Mailbox::parse(text).unwrap());
        for (sender, micros, line) in [
            (ReversePath::Null, 1_795_416_810_000_001, "From MAILER-DAEMON Mon Nov 23 06:53:30 2026"),
            (mailbox("root@box.example"), 0, "From root@box.example Thu Jan  1 00:00:00 1970"),
            (mailbox("\"a b\"@x.example"), 0, "From \"a-b\"@x.example Thu Jan  1 00:00:00 1970"),
        ] {
            assert_eq!(from_line(&sender, WallTime(micros)), line);
        }
    }

    proptest! {
        /// Whatever a message holds and however it is cut: none of its lines looks like a first line, and removing
        /// one `>` from each quoted line restores the message.
        #[test]
        fn quoting_can_be_undone(text in "([>From x\n]{0,3}|From |\n){0,40}", cut in 0usize..40) {
            let (a, b) = text.as_bytes().split_at(cut.min(text.len()));
            let quoted = quote(&[a, b]);
            prop_assert_eq!(&quoted, &quote(&text.as_bytes().chunks(1).collect::<Vec<_>>()));
            let quoted = String::from_utf8(quoted).unwrap();
            prop_assert!(quoted.lines().all(|line| !line.starts_with("From ")));
            prop_assert!(quoted.ends_with("\n\n") || quoted == "\n");
            let unquote = |line: &str| match line.strip_prefix('>') {
                Some(rest) if rest.trim_start_matches('>').starts_with("From ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            };
            let restored: String = quoted.strip_suffix('\n').unwrap().lines().map(unquote).collect();
            let whole = if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
            prop_assert_eq!(restored, whole);
        }
    }
}
