//! The question that nodes ask each other: which consumers does each group have with you? One question for all groups: a list
//! of ten thousand of them asked each node ten thousand times (A6).
//!
//! Shape: the question is a three (no group's name begins with it) and a version; the answer the version and a list of groups,
//! each its name and a list of hashes of client ids, by which a client that two nodes see counts once.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::GroupName;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::node::Sessions;

const VERSION: u8 = 1;
const QUESTION: &[u8] = &[3, VERSION];
/// Most bytes of an answer, give or take one group: a group that does not fit is said to have no consumers.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) fn question() -> Bytes {
    Bytes::from_static(QUESTION)
}

/// Whether another node asks for the consumers of all groups.
pub(super) fn is_question(question: &[u8]) -> bool {
    question.first() == QUESTION.first()
}

/// Answers another node; with nothing if the question is of a newer build.
pub(super) fn answer(sessions: &Sessions, question: &[u8]) -> Bytes {
    if question != QUESTION {
        return Bytes::new();
    }
    let mut groups: Vec<(GroupName, Vec<u64>)> = sessions.consumer_ids().into_iter().collect();
    let mut total = 0;
    groups.retain(|(group, ids)| {
        total += group.as_str().len() + 16 + ids.len() * size_of::<u64>();
        total <= ANSWER_BYTES_MAX
    });
    let mut out = BytesMut::with_capacity(total.min(ANSWER_BYTES_MAX));
    out.put_u8(VERSION);
    out.put_list(&groups, |out, (group, ids)| {
        out.put_text(group.as_str());
        out.put_list(ids, |out, id| out.put_u64(*id));
    });
    out.freeze()
}

/// Reads what another node answered; an older build knows the question for none.
pub(super) fn read_answer(answer: Bytes) -> Result<BTreeMap<GroupName, Vec<u64>>, Malformed> {
    let mut reader = Reader::versioned(answer, "consumers of all groups", VERSION)?;
    let groups = reader.list(|reader| Ok((GroupName::stored(&reader.text()?), reader.list(Reader::u64)?)))?;
    Ok(groups.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::clock::ManualClock;
    use crate::model::{Timestamp, text_hash};
    use crate::node::{ClientHeader, SessionSettings};

    #[test]
    fn an_answer_names_the_consumers_of_every_group() {
        let sessions = Sessions::new(Arc::new(ManualClock::new(Timestamp(0))));
        for (client_id, group) in [("a", Some("g")), ("b", Some("h")), ("c", Some("g")), ("d", None)] {
            sessions.seen(ClientHeader { client_id, ..ClientHeader::default() });
            let group = group.map(|group| GroupName::parse(group).unwrap());
            let (topics, subscriptions) = (Vec::new(), Vec::new());
            sessions.settings(client_id, SessionSettings { group, topics, subscriptions, request_timeout: None });
        }
        let of = |group, ids: &[&str]| (GroupName::parse(group).unwrap(), ids.iter().map(|id| text_hash(id)).collect());
        let expected = BTreeMap::from([of("g", &["a", "c"]), of("h", &["b"])]);
        assert_eq!(read_answer(answer(&sessions, &question())), Ok(expected));
        assert_eq!(answer(&sessions, &[3, 9]), Bytes::new(), "a newer question");
        assert!(is_question(&question()) && !is_question(b"group") && !is_question(&[2, 1]));
        for older in [&[][..], &[0]] {
            assert!(read_answer(Bytes::copy_from_slice(older)).is_err(), "an older build does not know the question");
        }
    }
}
