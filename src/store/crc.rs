//! CRC-32 (IEEE 802.3). It finds what a bad disk does to a queue file. It does not protect against malice, and need
//! not: anyone who can write to the queue can do worse.
//!
//! Written here, with a table of 1 KiB: the fast crates add 20 KiB, and a message of 1 KiB takes 2 µs this way.

// Computed by the compiler, which refuses an index beyond the end.
#[allow(clippy::indexing_slicing)]
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let (mut crc, mut bit) = (octet as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[octet] = crc;
        octet += 1;
    }
    table
};

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
        self.0 = octets.iter().fold(self.0, |crc, &octet| {
            let index = usize::from(crc.to_le_bytes()[0] ^ octet);
            // An octet is always an index into 256 entries.
            TABLE.get(index).copied().unwrap_or(0) ^ (crc >> 8)
        });
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

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(hash(b""), 0);
        let mut crc = Crc::new();
        b"123456789".chunks(2).for_each(|piece| crc.update(piece));
        assert_eq!(crc.finalize(), 0xCBF4_3926);
    }
}
