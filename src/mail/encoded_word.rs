//! Encoded words (RFC 2047): text beyond ASCII in a header field that must be ASCII.
//!
//! The encoder writes UTF-8 in the Q encoding, without characters that a phrase, a comment or unstructured text
//! forbids, so the result fits everywhere. The decoder knows UTF-8, ASCII and Latin-1. Nothing fails.

use super::base64;
use std::borrow::Cow;

/// The longest encoded word in octets (RFC 2047 §2).
pub const WORD_MAX_OCTETS: usize = 75;
const HEAD: &str = "=?utf-8?Q?";
const TAIL: &str = "?=";
/// The characters of Windows-1252 at 0x80 to 0x9F, where Latin-1 has control characters that no text uses.
const WINDOWS: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

/// Octets as the text that their writer meant: UTF-8, or else Latin-1 with the characters of Windows-1252, as other
/// programs read it.
#[must_use]
pub fn text_of(octets: &[u8]) -> Cow<'_, str> {
    let latin = |&octet: &u8| match octet {
        0x80..=0x9f => WINDOWS.chars().nth(usize::from(octet - 0x80)).unwrap_or(char::from(octet)),
        octet => char::from(octet),
    };
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(octets.iter().map(latin).collect()),
    }
}

/// Whether the text is an encoded word that may stand in a phrase (RFC 2047 §5).
#[must_use]
pub fn is_encoded_word(word: &str) -> bool {
    let inside = word.strip_prefix("=?").and_then(|rest| rest.strip_suffix(TAIL));
    word.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&octet))
        && inside.is_some_and(|inside| inside.split('?').filter(|part| !part.is_empty()).count() == 3)
        && word.matches('?').count() == 4
}

/// Appends the text as encoded words, to be separated by blanks; no character is split. The first word has at most
/// `first_max_octets`, unless a single character needs more.
pub fn encode(text: &str, first_max_octets: usize, words: &mut Vec<String>) {
    let (mut word, mut most) = (HEAD.to_owned(), first_max_octets.min(WORD_MAX_OCTETS));
    for c in text.chars() {
        let piece = match c {
            ' ' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() || "!*+-/".contains(c) => c.to_string(),
            c => c.encode_utf8(&mut [0; 4]).bytes().map(|octet| format!("={octet:02X}")).collect(),
        };
        if word.len() + piece.len() + TAIL.len() > most && word.len() > HEAD.len() {
            most = WORD_MAX_OCTETS;
            words.push(std::mem::replace(&mut word, HEAD.to_owned()) + TAIL);
        }
        word.push_str(&piece);
    }
    words.push(word + TAIL);
}

/// The text of an encoded word in UTF-8, ASCII or Latin-1; `None` if it is malformed, or in another character set.
#[must_use]
pub fn decode(word: &str) -> Option<String> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix(TAIL)?.split('?');
    let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
    // A question mark in the text: programs that only replace blanks write one.
    if parts.next().is_some() {
        return None;
    }
    let charset = charset.split('*').next().unwrap_or_default().to_ascii_lowercase();
    let octets = match encoding {
        "B" | "b" => base64::decode(text.as_bytes())?,
        "Q" | "q" => unquote(text.as_bytes())?,
        _ => return None,
    };
    match charset.as_str() {
        "utf-8" | "us-ascii" => String::from_utf8(octets).ok(),
        "iso-8859-1" | "windows-1252" => Some(text_of(&octets).into_owned()),
        _ => None,
    }
}

/// What a word means to a reader: what it encodes, or itself.
#[must_use]
pub fn meaning_of(word: &[u8]) -> String {
    let text = text_of(word);
    decode(&text).unwrap_or_else(|| text.into_owned())
}

fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let (mut octets, mut out) = (text.iter().copied(), Vec::new());
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'_' => b' ',
            b'=' => {
                let mut digit = || char::from(octets.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            octet => octet,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn octets_are_what_their_writer_meant() {
        for (octets, text) in [
            (&b"plain"[..], "plain"),
            ("für".as_bytes(), "für"),
            (b"f\xfcr", "für"),
            (b"5 \x80 \x96 \xa9", "5 € – ©"),
            (b"\x81\x9d", "\u{81}\u{9d}"),
        ] {
            assert_eq!(text_of(octets), text);
        }
    }

    #[test]
    fn encoded_words_of_others_are_read() {
        for (word, text) in [
            ("=?utf-8?Q?J=C3=BCr_gen?=", Some("Jür gen")),
            ("=?UTF-8*de?b?SsO8cg==?=", Some("Jür")),
            ("=?iso-8859-1?q?f=fcr?=", Some("für")),
            ("=?utf-8?Q?=C3?=", None),
            ("=?utf-8?Q?=C?=", None),
            ("=?koi8-r?Q?x?=", None),
            ("=?utf-8?X?x?=", None),
            ("=?utf-8?Q?Backup?_Pruefen?=", None),
            ("plain", None),
        ] {
            assert_eq!(decode(word).as_deref(), text, "{word}");
        }
    }

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(text in "[a-z =?_ü€\u{1f600}\0]{0,200}", first in 0_usize..90) {
            let mut words = Vec::new();
            encode(&text, first, &mut words);
            prop_assert!(words.iter().all(|word| word.len() <= WORD_MAX_OCTETS), "{:?}", words);
            prop_assert!(text.is_empty() || words.iter().all(|word| is_encoded_word(word)), "{:?}", words);
            prop_assert_eq!(words.iter().map(|word| decode(word).unwrap()).collect::<String>(), text);
        }
    }
}
