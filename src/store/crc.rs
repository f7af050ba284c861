//! CRC-32 (IEEE 802.3). It finds what a bad disk does to a queue file. It does not protect against malice, and need
//! not: anyone who can write to the queue can do worse.
//!
//! Written here, because the fast crates add 20 KiB, of which 16 are tables. Where the processor can multiply for it
//! ([`crate::sys::fold`]) a message of 1 MiB takes a tenth of a millisecond, else half of one: eight octets at once with
//! eight tables (slicing-by-8), which are made when they are first needed instead of adding 8 KiB to the program.

use crate::sys::fold::folded;
use std::sync::LazyLock;

type Table = [u32; 256];

/// What an octet adds to the checksum if 0 to 7 octets follow it in the same step.
static TABLES: LazyLock<Box<[Table; 8]>> = LazyLock::new(|| {
    let one = |octet: u8| (0..8).fold(u32::from(octet), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)));
    let first: Table = std::array::from_fn(|octet| one(octet as u8));
    let mut next = first;
    Box::new(std::array::from_fn(|_| {
        let table = next;
        next = table.map(|crc| step(&first, crc, 0));
        table
    }))
});

/// The checksum after one more octet.
fn step(table: &Table, crc: u32, octet: u8) -> u32 {
    at(table, crc.to_le_bytes()[0] ^ octet) ^ (crc >> 8)
}

/// An octet is always an index into 256 entries.
#[allow(clippy::indexing_slicing)]
fn at(table: &Table, octet: u8) -> u32 {
    table[usize::from(octet)]
}

/// A checksum that is being computed.
#[derive(Debug, Clone)]
pub struct Crc(u32);

impl Crc {
    /// The checksum of no octets.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Adds octets.
    pub fn update(&mut self, octets: &[u8]) {
        match folded(self.0, octets) {
            Some((start, rest)) => {
                self.0 = 0;
                self.add(&start);
                self.add(rest);
            }
            None => self.add(octets),
        }
    }

    fn add(&mut self, octets: &[u8]) {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &**TABLES;
        let (words, rest) = octets.as_chunks::<8>();
        let crc = words.iter().fold(self.0, |crc, &[a, b, c, d, e, f, g, h]| {
            let [w, x, y, z] = crc.to_le_bytes();
            let first = at(t7, a ^ w) ^ at(t6, b ^ x) ^ at(t5, c ^ y) ^ at(t4, d ^ z);
            first ^ at(t3, e) ^ at(t2, f) ^ at(t1, g) ^ at(t0, h)
        });
        self.0 = rest.iter().fold(crc, |crc, &octet| step(t0, crc, octet));
    }

    /// The checksum.
    pub const fn finalize(self) -> u32 {
        !self.0
    }
}

/// The checksum of some octets.
pub fn hash(octets: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(octets);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(hash(b""), 0);
        let mut crc = Crc::new();
        b"123456789".chunks(2).for_each(|piece| crc.update(piece));
        assert_eq!(crc.finalize(), 0xCBF4_3926);
    }

    /// As IEEE 802.3 defines it, bit by bit.
    fn by_bits(octets: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        !octets.iter().fold(!0, |crc, &octet| (0..8).fold(crc ^ u32::from(octet), step))
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_have_the_checksum_of_the_whole(
            octets in proptest::collection::vec(any::<u8>(), 0..700), piece in 1_usize..300
        ) {
            let (mut crc, mut slow) = (Crc::new(), Crc::new());
            for piece in octets.chunks(piece) {
                crc.update(piece);
                slow.add(piece);
            }
            prop_assert_eq!((crc.finalize(), slow.finalize()), (by_bits(&octets), by_bits(&octets)));
        }
    }
}
