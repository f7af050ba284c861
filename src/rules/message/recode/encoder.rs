//! Quoted-printable and base64 (RFC 2045 §6.7, §6.8), from pieces of any size, in lines of at most 76 characters.
//!
//! | octet | in quoted-printable |
//! | --- | --- |
//! | a line end | itself |
//! | a blank or tab at the end of a line | `=20` or `=09`: hosts strip such blanks (rule 3) |
//! | `F`, `.` or `-` at the start of a line | encoded: some hosts change "From ", some forget transparency, and hyphens could form a boundary |
//! | another printable ASCII character, but `=` | itself |
//! | any other | `=` and two hexadecimal digits |

use super::parts::Encoding;
use crate::mail::base64;

/// The longest line in characters (RFC 2045 §6.7 rule 5).
const LINE_MAX: usize = 76;
/// The octets in one line of base64.
const BASE64_OCTETS: usize = LINE_MAX / 4 * 3;

/// The encoder for the body of one part.
#[derive(Debug)]
pub struct Encoder {
    encoding: Encoding,
    /// Octets not encoded yet: a blank that may end a line, or less than a line of base64.
    held: Vec<u8>,
    /// The length of the current line in characters.
    column: usize,
}

impl Encoder {
    /// An encoder at the start of a body.
    #[must_use]
    pub const fn new(encoding: Encoding) -> Self {
        Self { encoding, held: Vec::new(), column: 0 }
    }

    /// Takes the next octets in canonical form and appends their encoding.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::QuotedPrintable => octets.iter().for_each(|&octet| self.quote(octet, out)),
            Encoding::Base64 => {
                for &octet in octets {
                    // A line end is encoded as CRLF (RFC 2045 §6.8). The latest one waits: it may belong to a boundary.
                    self.end_line();
                    self.held.push(octet);
                    if self.held.len() >= BASE64_OCTETS + 3 {
                        self.put_lines(false, out);
                    }
                }
            }
        }
    }

    /// Ends the body. `by_boundary`: the latest line end belongs to the boundary.
    pub fn finish(&mut self, by_boundary: bool, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::QuotedPrintable => {
                if let Some(blank) = self.held.pop() {
                    self.put_quoted(blank, out);
                }
            }
            Encoding::Base64 => {
                if by_boundary && self.held.last() == Some(&b'\n') {
                    self.held.pop();
                } else {
                    self.end_line();
                }
                self.put_lines(true, out);
            }
        }
    }

    /// Replaces a final LF by CRLF.
    fn end_line(&mut self) {
        let is_done = self.held.ends_with(b"\r\n");
        if !is_done && self.held.last() == Some(&b'\n') {
            self.held.pop();
            self.held.extend_from_slice(b"\r\n");
        }
    }

    fn put_lines(&mut self, all: bool, out: &mut Vec<u8>) {
        // The latest octets may be a line end and stay.
        let settled = self.held.len().saturating_sub(2);
        let ready = if all { self.held.len() } else { settled / BASE64_OCTETS * BASE64_OCTETS };
        let rest = self.held.split_off(ready);
        for line in self.held.chunks(BASE64_OCTETS) {
            out.extend_from_slice(base64::encode(line).as_bytes());
            out.push(b'\n');
        }
        self.held = rest;
    }

    fn quote(&mut self, octet: u8, out: &mut Vec<u8>) {
        if let Some(blank) = self.held.pop() {
            // At the end of a line a blank would be lost on the way (rule 3).
            if octet == b'\n' { self.put_quoted(blank, out) } else { self.put(&[blank], out) }
        }
        match octet {
            b'\n' => {
                out.push(b'\n');
                self.column = 0;
            }
            b' ' | b'\t' => self.held.push(octet),
            // Some hosts change a line that begins with "From ", and a dot is lost by hosts that forget transparency.
            // Two hyphens could turn text into a boundary, also after a soft line break (RFC 2045 §6.7).
            b'F' | b'.' | b'-' if self.column == 0 || self.column + 1 >= LINE_MAX => {
                self.put_quoted(octet, out);
            }
            b'=' | ..=0x20 | 0x7f.. => self.put_quoted(octet, out),
            _ => self.put(&[octet], out),
        }
    }

    fn put_quoted(&mut self, octet: u8, out: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
        self.put(&[b'=', digit(octet >> 4), digit(octet & 15)], out);
    }

    fn put(&mut self, characters: &[u8], out: &mut Vec<u8>) {
        // The last column is reserved for the mark of a soft line break.
        if self.column + characters.len() >= LINE_MAX {
            out.extend_from_slice(b"=\n");
            self.column = 0;
        }
        out.extend_from_slice(characters);
        self.column += characters.len();
    }
}
