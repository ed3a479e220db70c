//! One to four changes of an input, of bytes, of numbers in both orders, of texts, and with parts of other inputs.

use crate::rng::Rng;

/// What limits are at, and one beside them.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];
/// What texts are tried with.
const TEXTS: [&str; 24] = [
    "",
    " ",
    "\0",
    "\r\n",
    "\t",
    "'",
    "\"",
    "\\",
    "%",
    "=",
    ":",
    ";",
    ",",
    "(",
    ")",
    "-1",
    "0",
    "9223372036854775807",
    "9223372036854775808",
    "1e999",
    "\u{a0}",
    "\u{feff}",
    "地区",
    "\u{1f600}",
];

pub fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[Vec<u8>], rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        one(input, corpus, words, rng);
    }
}

fn one(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.below(input.len() + 1);
    match rng.below(12) {
        0 => flip(input, rng),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        2 => number(input, at, rng),
        3 => input.truncate(at),
        4 => drop(input.drain(part(input.len(), at, rng))),
        5 => {
            let doubled = input[part(input.len(), at, rng)].to_vec();
            insert(input, rng, &doubled);
        }
        6 => {
            let other = rng.one_of(corpus).cloned().unwrap_or_default();
            let from = rng.below(other.len() + 1);
            let taken = other[part(other.len(), from, rng)].to_vec();
            insert(input, rng, &taken);
        }
        7 => {
            let other = rng.one_of(corpus).cloned().unwrap_or_default();
            input.truncate(at);
            input.extend_from_slice(&other[rng.below(other.len() + 1)..]);
        }
        8 | 9 if !words.is_empty() => {
            let word = rng.one_of(words).cloned().unwrap_or_default();
            put(input, at, &word, rng);
        }
        8 => flip(input, rng),
        9 | 10 => put(input, at, TEXTS[rng.below(TEXTS.len())].as_bytes(), rng),
        _ => digits(input, rng),
    }
}

fn flip(input: &mut [u8], rng: &mut Rng) {
    let at = rng.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

/// Some bytes from `at` on, mostly few.
fn part(length: usize, at: usize, rng: &mut Rng) -> std::ops::Range<usize> {
    let most = if rng.below(4) == 0 { length } else { 16 };
    at..(at + rng.below(most) + 1).min(length).max(at)
}

fn insert(input: &mut Vec<u8>, rng: &mut Rng, bytes: &[u8]) {
    let at = rng.below(input.len() + 1);
    input.splice(at..at, bytes.iter().copied());
}

/// Before what is there, or in its place.
fn put(input: &mut Vec<u8>, at: usize, bytes: &[u8], rng: &mut Rng) {
    let end = if rng.below(2) == 0 { at } else { (at + bytes.len()).min(input.len()) };
    input.splice(at..end, bytes.iter().copied());
}

/// A number of one to eight bytes that is at some limit, or near what the length is.
fn number(input: &mut [u8], at: usize, rng: &mut Rng) {
    let width = [1, 2, 3, 4, 8][rng.below(5)];
    let length = input.len() as u64;
    let Some(place) = input.get_mut(at..at + width) else { return };
    let number = match rng.below(3) {
        0 => length.wrapping_sub(at as u64).wrapping_add(rng.next() % 9).wrapping_sub(4),
        _ => NUMBERS[rng.below(NUMBERS.len())],
    };
    place.copy_from_slice(&number.to_be_bytes()[8 - width..]);
    if rng.below(3) == 0 {
        place.reverse();
    }
}

/// A number in a text becomes another one.
fn digits(input: &mut Vec<u8>, rng: &mut Rng) {
    let from = rng.below(input.len() + 1);
    let Some(start) = input[from..].iter().position(u8::is_ascii_digit).map(|start| from + start) else { return };
    let end = input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |end| start + end);
    let number = NUMBERS[rng.below(NUMBERS.len())];
    let text = match rng.below(4) {
        0 => format!("-{number}"),
        1 => format!("{number}.5"),
        _ => number.to_string(),
    };
    input.splice(start..end, text.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_made_to_any_input() {
        let corpus = [b"one 17".to_vec(), vec![], vec![0; 40]];
        let mut rng = Rng::new(7);
        let (mut longer, mut shorter) = (0, 0);
        for round in 0..20_000 {
            let mut input = corpus[round % 3].clone();
            let before = input.len();
            change(&mut input, &corpus, &[b"word".to_vec()], &mut rng);
            longer += u32::from(input.len() > before);
            shorter += u32::from(input.len() < before);
        }
        assert!(longer > 2000 && shorter > 2000, "{longer} {shorter}");
    }
}
