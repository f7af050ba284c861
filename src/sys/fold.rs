//! CRC-32 by the carry-less multiplication of x86-64 (Gopal and others, "Fast CRC computation using PCLMULQDQ", Intel 2009):
//! a long message is folded into one of sixteen octets that has the same checksum.

/// The octets that are folded in one step.
#[cfg(target_arch = "x86_64")]
const BLOCK_OCTETS: usize = 64;

/// Folds the whole blocks of `octets`, if this processor can. `crc` is the state before them, and 0 the state after them: the
/// sixteen octets, and then the rest, are the message that is left.
#[must_use]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub fn folded(crc: u32, octets: &[u8]) -> Option<([u8; 16], &[u8])> {
    let (blocks, rest) = octets.as_chunks();
    let (first, blocks) = blocks.split_first()?;
    // SAFETY: the processor has the instruction for which the function is compiled, and the function is safe but for that.
    std::arch::is_x86_feature_detected!("pclmulqdq").then(|| (unsafe { fold(crc, first, blocks) }, rest))
}

/// Other processors are not known here.
#[must_use]
#[cfg(not(target_arch = "x86_64"))]
pub const fn folded(_: u32, _: &[u8]) -> Option<([u8; 16], &[u8])> {
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
fn fold(crc: u32, first: &[u8; BLOCK_OCTETS], blocks: &[[u8; BLOCK_OCTETS]]) -> [u8; 16] {
    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64, _mm_xor_si128,
    };
    // The powers of x by which 64 and 16 octets are shifted, from the table of the paper.
    let (by_64, by_16) =
        (_mm_set_epi64x(0x1_c6e4_1596, 0x1_5444_2bd4), _mm_set_epi64x(0x0_ccaa_009e, 0x1_7519_97d0));
    let load = |block: &[u8; BLOCK_OCTETS]| {
        let words = block.as_chunks::<8>().0;
        let word = |at: usize| words.get(at).map_or(0, |octets| i64::from_le_bytes(*octets));
        [0, 2, 4, 6].map(|at| _mm_set_epi64x(word(at + 1), word(at)))
    };
    let shift = |value: __m128i, by: __m128i, next: __m128i| {
        let (low, high) = (_mm_clmulepi64_si128::<0x00>(value, by), _mm_clmulepi64_si128::<0x11>(value, by));
        _mm_xor_si128(_mm_xor_si128(low, high), next)
    };
    let [a, b, c, d] = load(first);
    let start = [_mm_xor_si128(a, _mm_set_epi64x(0, i64::from(crc))), b, c, d];
    let [a, b, c, d] = blocks.iter().fold(start, |[a, b, c, d], block| {
        let [e, f, g, h] = load(block);
        [shift(a, by_64, e), shift(b, by_64, f), shift(c, by_64, g), shift(d, by_64, h)]
    });
    let last = shift(shift(shift(a, by_16, b), by_16, c), by_16, d);
    let (low, high) = (_mm_cvtsi128_si64(last), _mm_cvtsi128_si64(_mm_unpackhi_epi64(last, last)));
    (low as u64 as u128 | (high as u64 as u128) << 64).to_le_bytes()
}
