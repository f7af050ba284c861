//! Text forms that the files of the store share: escaped values, lines with a checksum, pairs of clocks.
//!
//! A value from a peer stays data: after [`escape`] it is one line without control characters, so it can neither
//! forge a line of a file nor move the cursor of a terminal that shows the file. `unescape(escape(x)) == x`.
//!
//! | octets | escaped |
//! | --- | --- |
//! | `\` | `\\` |
//! | LF, CR | `\n`, `\r` |
//! | any other control character, C1 included | `\xHH` for each octet of its UTF-8 |
//! | anything else | itself |

use crate::mail::date::{Now, WallTime, micros};
use std::fmt::Write;
use std::time::Duration;

/// Appends `value` with backslashes doubled, line ends as `\n` and `\r`, and the octets of every other control
/// character as `\xHH`.
pub(super) fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a String cannot fail; the same applies below.
                    let _ = write!(out, "\\x{octet:02x}");
                }
            }
            c => out.push(c),
        }
    }
}

/// Appends a line `key=value`, the value escaped.
pub(super) fn push_line(key: &str, value: &str, out: &mut String) {
    out.push_str(key);
    out.push('=');
    escape(value, out);
    out.push('\n');
}

/// Parses what [`escape`] wrote; `None` for any other text.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
                _ => return None,
            },
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

fn hex_digit(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Appends `text` as a line with its own CRC-32 in front: `1a2b3c4d text`.
pub(super) fn print_checked(text: &str, out: &mut String) {
    let _ = writeln!(out, "{:08x} {text}", super::crc::hash(text.as_bytes()));
}

/// The text of a line that [`print_checked`] wrote, without its line end; `None` if any bit has changed.
pub(super) fn parse_checked(line: &[u8]) -> Option<&str> {
    let (crc, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (crc == format!("{:08x}", super::crc::hash(text.as_bytes()))).then_some(text)
}

/// Appends both clocks, in microseconds.
pub(super) fn print_now(now: Now, out: &mut String) {
    let _ = write!(out, "{} {}", now.wall.0, micros(now.running));
}

/// Parses what [`print_now`] wrote.
pub(super) fn parse_now(text: &str) -> Option<Now> {
    let (wall, running) = text.split_once(' ')?;
    Some(Now { wall: WallTime(wall.parse().ok()?), running: Duration::from_micros(running.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(value: &str) -> String {
        let mut out = String::new();
        escape(value, &mut out);
        out
    }

    #[test]
    fn escaped_values_are_one_harmless_line() {
        assert_eq!(escaped("a\r\nb\\c\t\u{1b}[2J\u{9b}ü"), r"a\r\nb\\c\x09\x1b[2J\xc2\x9bü");
        for text in ["\\", "\\x", "\\x4", "\\xg0", "\\q", "\\xff", "\\x+1"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn a_checked_line_knows_each_of_its_bits() {
        let mut line = String::new();
        print_checked("delivered\tto=0", &mut line);
        let line = line.trim_end().as_bytes();
        assert_eq!(parse_checked(line), Some("delivered\tto=0"));
        for bit in 0..line.len() * 8 {
            let mut flipped = line.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_checked(&flipped), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn unescape_is_the_inverse_of_escape(value: String) {
            let text = escaped(&value);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescape(&text), Some(value));
        }

        #[test]
        fn nothing_makes_the_readers_panic(octets: Vec<u8>) {
            let text = String::from_utf8_lossy(&octets);
            let _ = (unescape(&text), parse_checked(&octets), parse_now(&text));
        }

        #[test]
        fn times_come_back_as_they_were(wall: u64, running: u64) {
            let now = Now { wall: WallTime(wall), running: Duration::from_micros(running) };
            let mut text = String::new();
            print_now(now, &mut text);
            prop_assert_eq!(parse_now(&text), Some(now));
        }
    }
}
