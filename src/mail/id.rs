//! Queue ids: the name of a message in every log line, in the reply to its data, and on disk.
//!
//! ```text
//! 0RRZ4K8W3T5QM    13 digits of base 32, which sort like the number
//! └ 51 bits: microseconds since 1970 ┘└ 13 bits: a counter that began at random ┘
//! ```
//!
//! Parsing is strict, so a file name that parses can be trusted: it has no `/`, no dot and a fixed length.

use std::fmt;

/// Crockford's alphabet, which leaves out letters that look like digits: safe in file names, and sorts by value.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 64 bits in groups of five.
const DIGITS: usize = 13;
/// Bits of the id that are a counter; the others are microseconds of the wall clock.
const COUNTER_BITS: u32 = 13;

/// A queue id: 13 characters of `[0-9A-HJKMNP-TV-Z]`. Ids sort by arrival, unless the clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// An id from the wall clock in microseconds and a counter that began at a random number. Two processes, or one
    /// process after its clock was set back, collide only if both agree; the store refuses to overwrite a file even
    /// then.
    #[must_use]
    pub const fn new(wall_micros: u64, counter: u64) -> Self {
        Self((wall_micros << COUNTER_BITS) | (counter & ((1 << COUNTER_BITS) - 1)))
    }

    /// The wall clock at which the message arrived, in microseconds since 1970.
    #[must_use]
    pub const fn wall_micros(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Parses what `Display` printed; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != DIGITS {
            return None;
        }
        let value = text.bytes().try_fold(0u128, |value, digit| {
            let digit = ALPHABET.iter().position(|&d| d == digit)?;
            Some(value << 5 | digit as u128)
        })?;
        u64::try_from(value).ok().map(Self)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in (0..DIGITS as u32).rev() {
            let digit = (self.0 >> (group * 5)) as usize & 31;
            fmt::Write::write_char(f, ALPHABET.get(digit).copied().unwrap_or(b'0') as char)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_sort_by_time_and_do_not_repeat() {
        let a = QueueId::new(1_700_000_000_000_000, 8191);
        let b = QueueId::new(1_700_000_000_000_001, 0);
        assert!(a < b && a.to_string() < b.to_string());
        assert_ne!(QueueId::new(5, 1), QueueId::new(5, 2));
        assert_eq!(a.wall_micros(), 1_700_000_000_000_000);
    }

    #[test]
    fn only_printed_ids_are_read() {
        for text in [
            "",
            "..",
            "0000000000000/",
            "000000000000",
            "00000000000000",
            "000000000000U",
            "000000000000a",
            "ZZZZZZZZZZZZZ",
        ] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(value: u64) {
            prop_assert_eq!(QueueId::parse(&QueueId(value).to_string()), Some(QueueId(value)));
        }
    }
}
