//! The common part of the subjects of similar alerts: numbers, ids, addresses, dates and times are replaced by one
//! character. `91 % of sda1 at Mon Nov 23 10:00:00` and `7 % of sda2 at Fri Dec 4 01:02:03` become equal; subjects
//! with different words do not.
//!
//! | text | becomes |
//! | --- | --- |
//! | `alice@example.com` | `@` |
//! | a number, also several with joints: `10:00`, `192.0.2.1/24` | `#` |
//! | an id: hexadecimal with a digit, UUID, MAC address, queue id | `#` |
//! | a day or a month | `#` |
//! | an encoded word in base64 (RFC 2047) | its folded text |
//!
//! The rule is cheap and coarse on purpose: a false match delays a message, but loses none.

use crate::mail::base64;

/// The number of characters that are compared.
const SUBJECT_MAX_CHARS: usize = 500;
/// Replaces a folded number.
const NUMBER: char = '#';
const ADDRESS: char = '@';
/// Characters at which a word ends.
const BRACKETS: &[char] = &['(', ')', '[', ']', '{', '}', '<', '>', '"', '\'', ',', ';', '=', '|', '/'];
/// Characters that may follow a folded word.
const ENDS: &[char] = &['.', ':', '!', '?', '-'];
/// Characters that join two numbers to one: 1.5, 10:00, 2026-11-23T10:00, 192.0.2.1/24.
const JOINTS: &[char] = &['.', ',', ':', '-', '/', '+', '_', 'T'];
/// Days and months, also by their first three letters.
const DATE_WORDS: [&str; 19] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The common part of similar subjects.
#[must_use]
pub fn fold(subject: &str) -> String {
    let end = subject.char_indices().nth(SUBJECT_MAX_CHARS).map_or(subject.len(), |(at, _)| at);
    let mut folded = String::new();
    let words = subject.get(..end).unwrap_or_default().split_whitespace();
    let decoded: Vec<String> = words.map(|word| decoded(word).unwrap_or_else(|| word.to_owned())).collect();
    for word in decoded.iter().flat_map(|word| word.split_whitespace()) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        for piece in word.split_inclusive(BRACKETS) {
            let text = piece.trim_end_matches(BRACKETS);
            let core = text.trim_end_matches(ENDS);
            fold_word(core, &mut folded);
            folded.push_str(piece.strip_prefix(core).unwrap_or_default());
        }
    }
    folded
}

/// The text of an encoded word in base64 (RFC 2047 §4.1), which hides its numbers; in the other encoding digits stay
/// visible. The character set does not matter.
fn decoded(word: &str) -> Option<String> {
    let mut parts = word.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (encoding, text) = (parts.nth(1)?, parts.next()?);
    let octets = base64::decode(text.as_bytes()).filter(|_| encoding.eq_ignore_ascii_case("b"))?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

fn fold_word(word: &str, folded: &mut String) {
    if is_address(word) {
        folded.push(ADDRESS);
    } else if is_groups(word) || is_date_word(word) {
        push_number(folded);
    } else {
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let is_run = first.is_ascii_alphanumeric();
            let end = rest.find(|c: char| c.is_ascii_alphanumeric() != is_run).unwrap_or(rest.len());
            let (run, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            if is_run {
                fold_run(run, folded);
            } else {
                folded.push_str(run);
            }
            rest = after;
        }
    }
}

/// Folds letters and digits: an id as a whole, otherwise each number.
fn fold_run(run: &str, folded: &mut String) {
    if is_id(run) {
        return push_number(folded);
    }
    let mut was_digit = false;
    for c in run.chars() {
        match (c.is_ascii_digit(), was_digit) {
            (true, false) => push_number(folded),
            (true, true) => {}
            (false, _) => folded.push(c),
        }
        was_digit = c.is_ascii_digit();
    }
}

/// Appends one number, or extends the number before the joints.
fn push_number(folded: &mut String) {
    let before = folded.trim_end_matches(JOINTS);
    if before.ends_with(NUMBER) {
        folded.truncate(before.len());
    } else {
        folded.push(NUMBER);
    }
}

fn is_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(local_part, domain)| !local_part.is_empty() && !domain.is_empty())
}

fn is_date_word(word: &str) -> bool {
    DATE_WORDS.iter().any(|full| *full == word || full.get(..3) == Some(word))
}

/// Hexadecimal groups, such as UUIDs, MAC addresses and IPv6 addresses; dates and times match, too.
fn is_groups(word: &str) -> bool {
    let is_separator = |c: char| matches!(c, ':' | '-' | '.');
    word.chars().all(|c| c.is_ascii_hexdigit() || is_separator(c))
        && word.chars().any(|c| c.is_ascii_digit())
        && word.chars().filter(|&c| is_separator(c)).count() >= 2
        && (word.len() >= 8 || word.contains("::"))
}

/// Hexadecimal with a digit, or a long mixture of letters and digits, such as a queue id.
fn is_id(run: &str) -> bool {
    let has_digit = run.bytes().any(|c| c.is_ascii_digit());
    let is_hex = |digits: &str| digits.bytes().all(|c| c.is_ascii_hexdigit());
    let kinds = run.bytes().map(|c| c.is_ascii_digit());
    let changes = kinds.clone().zip(kinds.skip(1)).filter(|(a, b)| a != b).count();
    has_digit
        && (run.len() >= 4 && is_hex(run)
            || run.strip_prefix("0x").is_some_and(is_hex)
            || run.len() >= 8 && changes >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_differs_between_like_alerts_is_folded() {
        for (subject, folded) in [
            ("", ""),
            ("disk full", "disk full"),
            ("  disk \t full ", "disk full"),
            ("sda1 is 91% full", "sda# is #% full"),
            ("load 1.5, 12,345 jobs", "load #, # jobs"),
            ("at 2026-11-23T10:00:00Z", "at #Z"),
            ("at 2026-11-23 10:00:00.5 +0100", "at # # +#"),
            ("Mon, 23 Nov 2026 10:00:00 +0000", "#, # # # # +#"),
            ("Monday 3 May", "# # #"),
            ("[router] 11/23/2026: down", "[router] #: down"),
            ("ban 192.0.2.7 (192.0.2.0/24)", "ban # (#)"),
            ("ban 2001:db8::1.", "ban #."),
            ("link aa:bb:cc:11:22:33 up", "link # up"),
            ("id 550e8400-e29b-abcd-efab-446655440000", "id #"),
            ("commit 1f3a9c0 by <joe@b.example>", "commit # by <@>"),
            ("joe@a.example: failed", "@: failed"),
            ("CR7D4E9DEKBP3 deferred", "# deferred"),
            ("trap at 0x7ffe", "trap at #"),
            ("eth0 and webserver01", "eth# and webserver#"),
            ("@ home, a@, May-be", "@ home, a@, May-be"),
            ("Prüfung 5 läuft", "Prüfung # läuft"),
            ("=?utf-8?B?UHLDvGZ1bmcgNQ==?= x", "Prüfung # x"),
            ("=?utf-8?Q?Pr=C3=BCfung_5?=", "=?utf-#?Q?Pr=C#=BCfung_#?="),
        ] {
            assert_eq!(fold(subject), folded, "{subject}");
        }
        for (one, other) in [("sda full", "sdb full"), ("up", "down"), ("a: 1", "b: 1")] {
            assert_ne!(fold(one), fold(other));
        }
        assert_eq!(fold(&"ü".repeat(10_000)).chars().count(), SUBJECT_MAX_CHARS);
    }

    proptest! {
        #[test]
        fn any_two_numbers_are_alike(
            words in "[a-z]{1,8}( [a-z]{1,8}){0,3}",
            one in any::<u64>(),
            other in any::<u32>(),
            id in "[0-9][0-9a-f]{7}",
            address in any::<std::net::Ipv4Addr>(),
        ) {
            let folded = fold(&format!("{words} {one} ({words})"));
            prop_assert_eq!(&folded, &format!("{words} # ({words})"));
            prop_assert_eq!(&folded, &fold(&format!("{words} {other}  ({words})")));
            prop_assert_eq!(&folded, &fold(&format!("{words} {id} ({words})")));
            prop_assert_eq!(&folded, &fold(&format!("{words} {address} ({words})")));
            prop_assert_eq!(&folded, &fold(&format!("{words} {one}.{other} ({words})")));
        }

        #[test]
        fn words_without_digits_are_told_apart(one in "[g-z]{4,9}", other in "[g-z]{4,9}") {
            prop_assert_eq!(fold(&one) == fold(&other), one == other);
        }

        #[test]
        fn no_subject_does_harm_and_what_is_folded_stays_so(subject: String) {
            let folded = fold(&subject);
            prop_assert!(!folded.chars().any(|c| c.is_ascii_digit()));
            prop_assert_eq!(fold(&folded), folded);
        }
    }
}
