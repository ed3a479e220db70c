//! A fuzzer for tests: bytes from a corpus, changed by a seed, are given to a decoder.
//!
//! It sees no coverage. What guides it is what the decoder says: an input with an answer of a new kind (a text, without its
//! digits and what is in quotes) joins the corpus. In a usual run of the tests it tries some thousand inputs of a fixed seed; with
//! `FUZZ_SECONDS=600` each goes on for as long, with a seed that it prints; `FUZZ_SEED` says one.

mod change;
mod rng;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

pub use rng::Rng;

use change::change;

/// Inputs of a run that is not told how long to go on.
const SHORT_RUN: u64 = 2000;
/// Inputs that the corpus keeps.
const CORPUS_MAX: usize = 4096;
/// No input may take longer, in a debug build on a busy machine.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Tries to find a shorter input that fails the same way.
const SHORTER_TRIES: usize = 2000;

/// What a decoder made of an input: what it read, or why it refused it.
pub type Answer = Result<String, String>;

/// What is fuzzed.
pub struct Fuzz {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    mend: Box<dyn Fn(&mut Vec<u8>, &mut Rng)>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub inputs: u64,
    /// Of them, those that the decoder took.
    pub taken: u64,
    /// Different answers.
    pub kinds: usize,
}

impl Fuzz {
    /// With inputs that the decoder takes.
    pub fn of<B: AsRef<[u8]>>(name: &'static str, corpus: impl IntoIterator<Item = B>) -> Self {
        let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|input| input.as_ref().to_vec()).collect();
        assert!(!corpus.is_empty(), "there is nothing to begin with");
        Self { name, corpus, words: Vec::new(), mend: Box::new(|_, _| {}) }
    }

    /// Puts these into inputs too.
    pub fn words<B: AsRef<[u8]>>(mut self, words: impl IntoIterator<Item = B>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_vec()));
        self
    }

    /// Mends half of the changed inputs, so that they come further: a length, a checksum.
    pub fn mend(mut self, mend: impl Fn(&mut Vec<u8>, &mut Rng) + 'static) -> Self {
        self.mend = Box::new(mend);
        self
    }

    /// Gives the decoder one input after the other. It must not panic, nor take long.
    pub fn run(self, mut decode: impl FnMut(&[u8]) -> Answer) -> Counts {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let seconds = number("FUZZ_SECONDS");
        let clock =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.as_nanos() as u64);
        let seed = number("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { clock() } else { 1 });
        let until = Instant::now() + Duration::from_secs(seconds.unwrap_or_default());
        let goes_on = |inputs: u64| if seconds.is_some() { Instant::now() < until } else { inputs < SHORT_RUN };
        let Self { name, mut corpus, words, mend } = self;
        let given = corpus.len();
        let (mut rng, mut kinds) = (Rng::new(seed), HashSet::new());
        let mut counts = Counts { inputs: 0, taken: 0, kinds: 0 };
        while goes_on(counts.inputs) {
            let is_given = counts.inputs < given as u64;
            let input = if is_given {
                corpus[counts.inputs as usize].clone()
            } else {
                let mut input = corpus[rng.below(corpus.len())].clone();
                change(&mut input, &corpus, &words, &mut rng);
                if rng.below(2) == 0 {
                    mend(&mut input, &mut rng);
                }
                input.truncate(INPUT_BYTES_MAX);
                input
            };
            counts.inputs += 1;
            let began = Instant::now();
            let answer = match catch_unwind(AssertUnwindSafe(|| decode(&input))) {
                Ok(answer) => answer,
                Err(panic) => {
                    let input = shorter(input, &mut decode);
                    eprintln!("fuzz {name}: seed {seed}, input {}: {}", counts.inputs, shown(&input));
                    resume_unwind(panic);
                }
            };
            let took = began.elapsed();
            assert!(took < INPUT_TIME_MAX, "fuzz {name}: seed {seed}: {took:?} for {}", shown(&input));
            counts.taken += u64::from(answer.is_ok());
            if kinds.insert(kind(&answer)) && !is_given && corpus.len() < CORPUS_MAX {
                corpus.push(input);
            }
        }
        counts.kinds = kinds.len();
        let Counts { inputs, taken, kinds } = counts;
        if let Some(seconds) = seconds {
            println!(
                "fuzz {name}: seed {seed}: {inputs} inputs in {seconds} s, {taken} taken, {kinds} kinds of answers"
            );
        }
        assert!(
            taken > 0 && kinds > 1,
            "fuzz {name}: {inputs} inputs, {taken} taken, {kinds} kinds: it reaches nothing"
        );
        counts
    }
}

/// Of answers that differ in numbers and quoted texts only, the same.
fn kind(answer: &Answer) -> u64 {
    let (is_taken, text) = match answer {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    let mut hasher = DefaultHasher::new();
    is_taken.hash(&mut hasher);
    let mut is_quoted = false;
    for letter in text.chars() {
        is_quoted ^= matches!(letter, '\'' | '"');
        if !is_quoted && letter.is_ascii_alphabetic() {
            letter.hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The same failure with fewer bytes, as far as some tries find one.
fn shorter(mut input: Vec<u8>, decode: &mut impl FnMut(&[u8]) -> Answer) -> Vec<u8> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut part, mut tries) = (input.len() / 2, 0);
    while part > 0 && tries < SHORTER_TRIES {
        let (mut at, before) = (0, input.len());
        while at + part <= input.len() && tries < SHORTER_TRIES {
            let mut candidate = input.clone();
            candidate.drain(at..at + part);
            tries += 1;
            if catch_unwind(AssertUnwindSafe(|| decode(&candidate))).is_err() {
                input = candidate;
            } else {
                at += part;
            }
        }
        if input.len() == before {
            part /= 2;
        }
    }
    std::panic::set_hook(hook);
    input
}

fn shown(input: &[u8]) -> String {
    format!("{} bytes: \"{}\"", input.len(), input.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a decoder with a bug three steps deep would do.
    fn decode(input: &[u8]) -> Answer {
        let Some(rest) = input.strip_prefix(b"key=") else { return Err("no key".to_owned()) };
        let text = std::str::from_utf8(rest).map_err(|_| "no text".to_owned())?;
        let number: u64 = text.parse().map_err(|error| format!("{error}"))?;
        assert!(number <= u64::from(u32::MAX), "a bug");
        Ok("a number".to_owned())
    }

    #[test]
    fn a_bug_behind_some_checks_is_found_and_shown_shorter() {
        let found = catch_unwind(|| Fuzz::of("test", ["key=17"]).run(decode));
        assert!(found.is_err(), "the number of five digits and more is not tried");
        let input = shorter(b"key=00000000000000000099999999999".to_vec(), &mut decode);
        assert!(decode_fails(&input) && input.len() < 20, "{}", shown(&input));
    }

    fn decode_fails(input: &[u8]) -> bool {
        catch_unwind(|| decode(input)).is_err()
    }

    #[test]
    fn a_run_counts_what_was_taken_and_which_answers_there_were() {
        let mut inputs = 0;
        let counts = Fuzz::of("test", ["ab"]).run(|input| {
            inputs += 1;
            if input.len() % 2 == 0 { Ok("even".to_owned()) } else { Err(format!("{} bytes", input.len())) }
        });
        assert_eq!((counts.inputs, counts.kinds), (inputs, 2));
        assert!(counts.taken > inputs / 10 && counts.taken < inputs, "{counts:?}");
    }

    #[test]
    #[should_panic(expected = "it reaches nothing")]
    fn a_run_that_is_refused_all_the_time_is_no_test() {
        Fuzz::of("test", ["ab"]).run(|_| Err("no".to_owned()));
    }

    #[test]
    fn answers_that_differ_in_numbers_and_quoted_texts_are_of_one_kind() {
        let of = |text: &str| kind(&Err(text.to_owned()));
        assert_eq!(of("length 7 of 'a' is wrong"), of("length 12 of 'bcd' is wrong"));
        assert_ne!(of("length 7"), of("width 7"));
        assert_ne!(of("a"), kind(&Ok("a".to_owned())));
    }
}
