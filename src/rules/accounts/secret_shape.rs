//! Likely mistakes in a password as it was saved: editors and copied lines add characters that nobody sees, and the
//! server says no more than "wrong".
//!
//! | mistake | sign | can the password work? |
//! | --- | --- | --- |
//! | UTF-16 | a UTF-16 byte order mark, or a zero octet | no |
//! | empty | nothing on the first line | no |
//! | in quotes | a pair of quotes around it | yes, if they belong to it |
//! | blanks | white space at an end | yes, if they belong to it |
//! | invisible characters | a zero width space, a byte order mark within | yes, if they belong to it |
//!
//! A byte order mark of UTF-8 and CRLF are no mistakes: the reader drops both. The module looks at the octets and
//! never shows them.

/// A mistake, in two wordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    /// For `check`: what is wrong; what to do.
    pub text: &'static str,
    /// For `probe`, after the server has refused the password.
    pub advice: &'static str,
    /// No server could accept the password.
    pub is_fatal: bool,
}

const UTF_16: Flaw = Flaw {
    text: "the text is UTF-16; save the file as UTF-8",
    advice: "The password is in UTF-16: save its file as UTF-8.",
    is_fatal: true,
};
const EMPTY: Flaw = Flaw {
    text: "the first line is empty; write the password there",
    advice: "Write the password into the first line of the file.",
    is_fatal: true,
};
const QUOTED: Flaw = Flaw {
    text: "the password is in quotes, which are sent with it; remove them, unless they belong to it",
    advice: "The password is in quotes, which are sent with it: remove them, unless they belong to it.",
    is_fatal: false,
};
const BLANK: Flaw = Flaw {
    text: "the password begins or ends with a blank, which is sent with it; remove it, unless it belongs to it",
    advice: "The password begins or ends with a blank, which is sent with it: remove it, unless it belongs to it.",
    is_fatal: false,
};

const INVISIBLE: Flaw = Flaw {
    text: "the password has an invisible character, which is sent with it; type it again by hand",
    advice: "The password has an invisible character, which is sent with it: type it again by hand.",
    is_fatal: false,
};

/// Characters that nobody sees and that copied texts have: zero width spaces and joiners, soft hyphens, byte order marks.
const INVISIBLE_CHARACTERS: [char; 6] =
    ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}'];
/// The byte order mark of UTF-8, which some editors write in front of a text.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Pairs of quotes that people type.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('„', '“')];

/// The password in a text: its first line, without the line end and without a byte order mark.
#[must_use]
pub fn first_line(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let line = text.split(|&octet| octet == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The likely mistake in the password of a text.
#[must_use]
pub fn flaw(text: &[u8]) -> Option<Flaw> {
    let line = first_line(text);
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") || line.contains(&0) {
        return Some(UTF_16);
    }
    let line = String::from_utf8_lossy(line);
    let trimmed = line.trim();
    if trimmed.is_empty() {
        return Some(EMPTY);
    }
    let is_quoted =
        |&(open, close): &(char, char)| trimmed.strip_prefix(open).is_some_and(|rest| rest.ends_with(close));
    if QUOTES.iter().any(is_quoted) {
        return Some(QUOTED);
    }
    if line.contains(INVISIBLE_CHARACTERS) {
        return Some(INVISIBLE);
    }
    (trimmed.len() < line.len()).then_some(BLANK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_found() {
        for (text, line, expected) in [
            (&b"secret"[..], &b"secret"[..], None),
            (b"secret\r\nmore\n", b"secret", None),
            (b"\xef\xbb\xbfsecret\n", b"secret", None),
            (b"a b\"c'\n", b"a b\"c'", None),
            (b"\"\n", b"\"", None),
            ("pässwörd\n".as_bytes(), "pässwörd".as_bytes(), None),
            (b"\xe4\xff\n", b"\xe4\xff", None),
            (b"\"secret\"\n", b"\"secret\"", Some(QUOTED)),
            (b"'secret' \r\n", b"'secret' ", Some(QUOTED)),
            ("“secret”\n".as_bytes(), "“secret”".as_bytes(), Some(QUOTED)),
            (b"secret \n", b"secret ", Some(BLANK)),
            (b"\tsecret\n", b"\tsecret", Some(BLANK)),
            ("secret\u{a0}\n".as_bytes(), "secret\u{a0}".as_bytes(), Some(BLANK)),
            ("sec\u{200b}ret\n".as_bytes(), "sec\u{200b}ret".as_bytes(), Some(INVISIBLE)),
            ("\u{feff}\u{feff}secret\n".as_bytes(), "\u{feff}secret".as_bytes(), Some(INVISIBLE)),
            (b"", b"", Some(EMPTY)),
            (b"\nsecret\n", b"", Some(EMPTY)),
            (b"\xef\xbb\xbf\r\nsecret\n", b"", Some(EMPTY)),
            (b"  \nsecret\n", b"  ", Some(EMPTY)),
            (b"\xff\xfes\0e\0\r\0\n\0", b"\xff\xfes\0e\0\r\0", Some(UTF_16)),
            (b"\xfe\xff\0s\0e", b"\xfe\xff\0s\0e", Some(UTF_16)),
            (b"s\0e\0\n\0", b"s\0e\0", Some(UTF_16)),
        ] {
            assert_eq!(
                (first_line(text), flaw(text)),
                (line, expected),
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
