//! The question that nodes ask each other: what do you say of yourself? What is said is made above (`edge/admin/facts`); here
//! are bytes.
//!
//! Shape: the question is a two (no group's name begins with it) and a version; the answer begins with the same two bytes. A
//! node of an older build answers with nothing that begins so.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

const QUESTION: &[u8] = &[2, 1];

/// Says what is to be said of this process.
pub type SelfPortrait = Box<dyn Fn() -> Bytes + Send + Sync>;

/// Unset until somebody above can say it.
pub(super) type Portrait = Arc<OnceLock<SelfPortrait>>;

pub(super) fn question() -> Bytes {
    Bytes::from_static(QUESTION)
}

pub(super) fn is_question(question: &[u8]) -> bool {
    question.first() == QUESTION.first()
}

/// Answers another node; with nothing if the question is of a newer build, or nothing can be said yet.
pub(super) fn answer(portrait: &Portrait, question: &[u8]) -> Bytes {
    let Some(portrait) = portrait.get().filter(|_| question == QUESTION) else { return Bytes::new() };
    let mut out = BytesMut::from(QUESTION);
    out.put(portrait());
    out.freeze()
}

pub(super) fn read_answer(answer: &Bytes) -> Option<Bytes> {
    answer.starts_with(QUESTION).then(|| answer.slice(QUESTION.len()..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_and_an_older_build_says_nothing() {
        let portrait = Portrait::default();
        assert_eq!(answer(&portrait, QUESTION), Bytes::new(), "nobody can say anything yet");
        assert!(portrait.set(Box::new(|| Bytes::from_static(b"me"))).is_ok());
        assert_eq!(read_answer(&answer(&portrait, QUESTION)), Some(Bytes::from_static(b"me")));
        assert_eq!(answer(&portrait, &[2, 9]), Bytes::new(), "a newer question");
        assert!(is_question(QUESTION) && !is_question(b"group") && !is_question(&[0, 1]) && !is_question(&[1, 1]));
        for older in [&[][..], &[0], &[2], &[1, 1, 0]] {
            assert_eq!(read_answer(&Bytes::copy_from_slice(older)), None);
        }
    }
}
