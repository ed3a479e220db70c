//! MD5 of message bodies (RFC 1321): the only digest that every official client computes alike (contract §9.3).
//!
//! Hot path: with one body after the other this was the greatest cost of a receive, because each step of MD5 waits
//! for the one before. Four bodies side by side fill the vector registers that every machine has, in two fifths of the
//! time; no library does that.

use std::fmt::Write;

use bytes::Bytes;

/// Bodies side by side.
const LANES: usize = 4;
const BLOCK_BYTES: usize = 64;
const START: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
/// `floor(2^32 * abs(sin(i + 1)))`.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xD76A_A478, 0xE8C7_B756, 0x2420_70DB, 0xC1BD_CEEE, 0xF57C_0FAF, 0x4787_C62A, 0xA830_4613, 0xFD46_9501,
    0x6980_98D8, 0x8B44_F7AF, 0xFFFF_5BB1, 0x895C_D7BE, 0x6B90_1122, 0xFD98_7193, 0xA679_438E, 0x49B4_0821,
    0xF61E_2562, 0xC040_B340, 0x265E_5A51, 0xE9B6_C7AA, 0xD62F_105D, 0x0244_1453, 0xD8A1_E681, 0xE7D3_FBC8,
    0x21E1_CDE6, 0xC337_07D6, 0xF4D5_0D87, 0x455A_14ED, 0xA9E3_E905, 0xFCEF_A3F8, 0x676F_02D9, 0x8D2A_4C8A,
    0xFFFA_3942, 0x8771_F681, 0x6D9D_6122, 0xFDE5_380C, 0xA4BE_EA44, 0x4BDE_CFA9, 0xF6BB_4B60, 0xBEBF_BC70,
    0x289B_7EC6, 0xEAA1_27FA, 0xD4EF_3085, 0x0488_1D05, 0xD9D4_D039, 0xE6DB_99E5, 0x1FA2_7CF8, 0xC4AC_5665,
    0xF429_2244, 0x432A_FF97, 0xAB94_23A7, 0xFC93_A039, 0x655B_59C3, 0x8F0C_CC92, 0xFFEF_F47D, 0x8584_5DD1,
    0x6FA8_7E4F, 0xFE2C_E6E0, 0xA301_4314, 0x4E08_11A1, 0xF753_7E82, 0xBD3A_F235, 0x2AD7_D2BB, 0xEB86_D391,
];

/// Each item with its body's digest; computed a few at a time, as they are asked for.
pub(in crate::edge) fn with_digests<T>(items: Vec<T>, body: fn(&T) -> &Bytes) -> impl Iterator<Item = (T, String)> {
    let mut items = items.into_iter();
    let few = move || {
        let few: Vec<T> = items.by_ref().take(LANES).collect();
        let bodies: Vec<&[u8]> = few.iter().map(|item| &body(item)[..]).collect();
        let digests = md5_upper_hex(&bodies);
        (!few.is_empty()).then(|| few.into_iter().zip(digests))
    };
    std::iter::from_fn(few).flatten()
}

/// The digests of some bodies, in upper-case hex.
pub(in crate::edge) fn md5_upper_hex(bodies: &[&[u8]]) -> Vec<String> {
    let mut digests = Vec::with_capacity(bodies.len());
    for bodies in bodies.chunks(LANES) {
        match bodies.try_into() {
            Ok(side_by_side) if are_alike(bodies) => digests.extend(md5::<LANES>(side_by_side)),
            _ => digests.extend(bodies.iter().flat_map(|body| md5([*body]))),
        }
    }
    digests.iter().map(upper_hex).collect()
}

/// Whether it pays to go through them together: that takes as long as the longest does.
fn are_alike(bodies: &[&[u8]]) -> bool {
    let lengths = bodies.iter().map(|body| blocks_of(body));
    lengths.clone().max() <= lengths.min().map(|shortest| 2 * shortest)
}

fn upper_hex(digest: &[u32; 4]) -> String {
    let mut text = String::with_capacity(32);
    for word in digest {
        write!(text, "{:08X}", word.swap_bytes()).expect("writing to a string does not fail");
    }
    text
}

/// The four words of each body's digest.
fn md5<const N: usize>(bodies: [&[u8]; N]) -> [[u32; 4]; N] {
    let blocks = bodies.map(blocks_of);
    let mut state = START.map(|word| [word; N]);
    let mut digests = [START; N];
    for index in 0..blocks.iter().copied().max().unwrap_or(0) {
        let mut words = [[0; N]; 16];
        for (lane, body) in bodies.iter().enumerate() {
            for (word, bytes) in words.iter_mut().zip(block(body, index).as_chunks().0) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        compress(&mut state, &words);
        for lane in (0..N).filter(|lane| index + 1 == blocks[*lane]) {
            digests[lane] = state.map(|word| word[lane]);
        }
    }
    digests
}

/// Blocks of a body with its end mark and its length.
fn blocks_of(body: &[u8]) -> usize {
    (body.len() + 8) / BLOCK_BYTES + 1
}

/// A block of a body; zeros after the last one.
fn block(body: &[u8], index: usize) -> [u8; BLOCK_BYTES] {
    let start = index * BLOCK_BYTES;
    let rest = body.get(start..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut block = [0; BLOCK_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    if start <= body.len() {
        block[rest.len()] = 0x80;
    }
    if index + 1 == blocks_of(body) {
        block[BLOCK_BYTES - 8..].copy_from_slice(&(8 * body.len() as u64).to_le_bytes());
    }
    block
}

type Lanes<const N: usize> = [u32; N];

fn compress<const N: usize>(state: &mut [Lanes<N>; 4], words: &[Lanes<N>; 16]) {
    let mixed = round::<N, 0, 7, 12, 17, 22>(*state, words);
    let mixed = round::<N, 1, 5, 9, 14, 20>(mixed, words);
    let mixed = round::<N, 2, 4, 11, 16, 23>(mixed, words);
    let mixed = round::<N, 3, 6, 10, 15, 21>(mixed, words);
    for (state, mixed) in state.iter_mut().flatten().zip(mixed.iter().flatten()) {
        *state = state.wrapping_add(*mixed);
    }
}

/// Sixteen steps; what differs between rounds is known when this is compiled, or it would not be turned into vectors.
#[inline(always)]
fn round<const N: usize, const ROUND: usize, const S0: u32, const S1: u32, const S2: u32, const S3: u32>(
    [mut a, mut b, mut c, mut d]: [Lanes<N>; 4],
    words: &[Lanes<N>; 16],
) -> [Lanes<N>; 4] {
    let input = |step: usize| {
        let at = [step, 5 * step + 1, 3 * step + 5, 7 * step][ROUND] % 16;
        (&words[at], SINES[16 * ROUND + step])
    };
    // A loop would not be unrolled, and would read its constants from memory.
    macro_rules! four_steps {
        ($first:literal) => {
            a = mix::<N, ROUND, S0>(a, b, c, d, input($first));
            d = mix::<N, ROUND, S1>(d, a, b, c, input($first + 1));
            c = mix::<N, ROUND, S2>(c, d, a, b, input($first + 2));
            b = mix::<N, ROUND, S3>(b, c, d, a, input($first + 3));
        };
    }
    four_steps!(0);
    four_steps!(4);
    four_steps!(8);
    four_steps!(12);
    [a, b, c, d]
}

#[inline(always)]
fn mix<const N: usize, const ROUND: usize, const SHIFT: u32>(
    a: Lanes<N>,
    b: Lanes<N>,
    c: Lanes<N>,
    d: Lanes<N>,
    (word, sine): (&Lanes<N>, u32),
) -> Lanes<N> {
    let mut next = b;
    for lane in 0..N {
        let (b, c, d) = (b[lane], c[lane], d[lane]);
        let mixed = match ROUND {
            0 => d ^ (b & (c ^ d)),
            1 => c ^ (d & (b ^ c)),
            2 => b ^ c ^ d,
            _ => c ^ (b | !d),
        };
        let sum = a[lane].wrapping_add(mixed).wrapping_add(word[lane]).wrapping_add(sine);
        next[lane] = b.wrapping_add(sum.rotate_left(SHIFT));
    }
    next
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};
    use proptest::prelude::*;

    use super::*;

    fn by_the_library(body: &[u8]) -> String {
        Md5::digest(body).iter().map(|byte| format!("{byte:02X}")).collect()
    }

    #[test]
    fn it_is_md5_in_upper_case_hex() {
        assert_eq!(md5_upper_hex(&[b"hi"]), ["49F68A5C8493EC2C0BF489821C21FC3B"]);
        assert_eq!(md5_upper_hex(&[]), [""; 0]);
    }

    #[test]
    fn every_length_around_the_borders_of_blocks_is_as_the_library_has_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(400).collect();
        for length in 0..=300 {
            let bodies: Vec<&[u8]> = (0..5).map(|lane| &bytes[lane..lane + length]).collect();
            let expected: Vec<_> = bodies.iter().map(|body| by_the_library(body)).collect();
            assert_eq!(md5_upper_hex(&bodies), expected, "length {length}");
        }
    }

    #[test]
    fn every_item_comes_with_its_own_digest_in_order() {
        let items: Vec<Bytes> = (0..10u8).map(|item| vec![item; usize::from(item)].into()).collect();
        let expected: Vec<_> = items.iter().map(|item| (item.clone(), by_the_library(item))).collect();
        assert_eq!(with_digests(items, |item| item).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn bodies_of_any_lengths_are_as_the_library_has_them(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..500), 0..14),
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let expected: Vec<_> = bodies.iter().map(|body| by_the_library(body)).collect();
            prop_assert_eq!(md5_upper_hex(&bodies), expected);
        }
    }
}
