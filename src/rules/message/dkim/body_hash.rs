//! The hash of a body in relaxed form (RFC 6376 §3.4.4), from pieces of any size.
//!
//! | in the body | hashed as |
//! | --- | --- |
//! | blanks at the end of a line | nothing |
//! | blanks elsewhere | one blank |
//! | a line end | CRLF, once text follows |
//! | empty lines at the end | nothing; the last line gets its CRLF |

use openssl::sha::Sha256;
use std::fmt;

/// The hash of a body in relaxed form (§3.4.4): no blanks at the end of a line, one blank for each run within, no
/// empty lines at the end.
#[derive(Default)]
pub(super) struct BodyHash {
    hash: Sha256,
    /// Line ends that are hashed once text follows.
    line_ends: u64,
    /// Whether blanks came after the last text.
    is_blank: bool,
    has_text: bool,
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHash")
    }
}

impl BodyHash {
    /// Takes the next piece of the body, of any size.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let is_text = |octet: &u8| !matches!(octet, b' ' | b'\t' | b'\n');
        for run in piece.chunk_by(|a, b| is_text(a) && is_text(b)) {
            match run {
                [b'\n'] => {
                    self.line_ends += 1;
                    self.is_blank = false;
                }
                [b' ' | b'\t'] => self.is_blank = true,
                text => self.text(text),
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.hash.update(b"\r\n");
        }
        if std::mem::take(&mut self.is_blank) {
            self.hash.update(b" ");
        }
        self.hash.update(text);
        self.has_text = true;
    }

    /// Ends the body; a body without text has the hash of no octets.
    pub(super) fn finish(mut self) -> [u8; 32] {
        if self.has_text {
            self.hash.update(b"\r\n");
        }
        self.hash.finish()
    }
}
