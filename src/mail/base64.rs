//! Base64 (RFC 4648 §4), as AUTH uses it.
//!
//! Each sequence of octets has exactly one text: blanks, line ends, missing padding and non-zero bits behind the end
//! are refused, so `encode(decode(x)) == x`. Decoding may fail.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The octets as base64 text, padded.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = ALPHABET.get(bits as usize >> shift & 63).filter(|_| i <= group.len());
            text.push(char::from(*letter.unwrap_or(&b'=')));
        }
    }
    text
}

/// The octets of a base64 text; `None` if it is malformed.
///
/// The octets are written once, into a buffer that is large enough, so that no copy of a secret is left behind.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&octet| octet == b'=').count();
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (groups, rest) = text.as_chunks::<4>();
    for (i, group) in groups.iter().enumerate() {
        let is_last = i + 1 == groups.len();
        let kept = if is_last { 3_usize.checked_sub(padding).filter(|&kept| kept > 0)? } else { 3 };
        let bits = group.iter().take(kept + 1).try_fold(0, |bits, &octet| Some(bits << 6 | value(octet)?))?;
        // The bits of the letters, from the top of three octets.
        let whole = bits << (6 * (3 - kept));
        if whole.trailing_zeros() < 8 * (3 - kept as u32) {
            return None;
        }
        octets.extend(whole.to_be_bytes().iter().skip(1).take(kept));
    }
    rest.is_empty().then_some(octets)
}

/// The six bits that a letter stands for.
fn value(letter: u8) -> Option<u32> {
    Some(match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648_section_10() {
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(octets.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()), Some(octets.into()), "{text}");
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zm8", "Zg==Zg==", "Zh==", "Zm9=", "====", "Z===", "=", "Zm9v\n", " Zm9v",
            "Zm-v", "Zm_v", "Z=9v", "Zm=v", "Zm9v=", "Zm9v==", "Zm9v====", "Zm9\0",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(octets: Vec<u8>) {
            prop_assert_eq!(decode(encode(&octets).as_bytes()), Some(octets));
        }

        #[test]
        fn each_text_is_that_of_its_octets(text in "[A-D/+=]{0,12}|[ -~]{0,12}") {
            if let Some(octets) = decode(text.as_bytes()) {
                prop_assert_eq!(encode(&octets), text);
            }
        }
    }
}
