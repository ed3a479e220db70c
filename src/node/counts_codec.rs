//! The question that nodes ask each other: what did you count? Its answer between peers.
//!
//! Shape: a question is a zero (no group's name begins with it), a version, and the query; the answer a version, the
//! sums, and a page of rows. Counts are lists of varints, so that a build with more of them is understood.

use std::sync::Weak;

use bytes::{BufMut, Bytes, BytesMut};

use crate::broker::{
    Broker, CountsKey, CountsOf, CountsPage, CountsQuery, CountsRow, Flow, Inspector, Periods, ShardCounts,
};
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, GroupName, LogIndex, Timestamp, TopicId, TopicName};

const VERSION: u8 = 1;
/// Rows that another node is asked for at once: some hundred KiB.
const ASKED_ROWS_MAX: usize = 1024;

/// Whether another node asks for statistics.
pub(super) fn is_question(question: &[u8]) -> bool {
    question.first() == Some(&0)
}

/// Answers another node; with nothing if the question is of a newer build, or while this node starts or stops.
pub(super) fn answer(broker: Option<&Weak<Broker>>, question: Bytes) -> Bytes {
    let page = || {
        let mut query = read_question(question).ok()?;
        query.limit = query.limit.min(ASKED_ROWS_MAX);
        let inspector = Inspector::new(&*broker?.upgrade()?);
        Some(encode(&inspector.shard_counts(), &inspector.counts(&query).ok()?))
    };
    page().unwrap_or_default()
}

pub(super) fn question(query: &CountsQuery) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[0, VERSION]);
    out.put_option(query.topic.as_ref(), |out, topic| out.put_text(topic.as_str()));
    out.put_option(query.group.as_ref(), |out, group| out.put_text(group.as_str()));
    out.put_option(query.after, put_key);
    out.put_varint(query.limit as u64);
    out.freeze()
}

fn read_question(question: Bytes) -> Result<CountsQuery, Malformed> {
    let mut reader = Reader::versioned(question.slice(1.min(question.len())..), "question for counts", VERSION)?;
    Ok(CountsQuery {
        topic: reader.option(Reader::text)?.map(|name| TopicName::stored(&name)),
        group: reader.option(Reader::text)?.map(|name| GroupName::stored(&name)),
        after: reader.option(read_key)?,
        limit: usize::try_from(reader.varint()?).unwrap_or(usize::MAX),
    })
}

fn encode(shard: &ShardCounts, page: &CountsPage) -> Bytes {
    let mut out = BytesMut::with_capacity(256 + page.rows.len() * 128);
    out.put_u8(VERSION);
    out.put_u64(shard.since.0);
    out.put_u64(shard.counted_after.0);
    put_periods(&mut out, &shard.taken_in, |counts| counts.to_fields().to_vec());
    put_periods(&mut out, &shard.given_out, |counts| counts.to_fields().to_vec());
    out.put_list(&page.rows, |out, row| {
        out.put_text(row.topic.as_str());
        match &row.of {
            CountsOf::Topic(periods) => {
                out.put_u8(0);
                put_periods(out, periods, |counts| counts.to_fields().to_vec());
            }
            CountsOf::Group(group, periods) => {
                out.put_u8(1);
                out.put_text(group.as_str());
                put_periods(out, periods, |counts| counts.to_fields().to_vec());
            }
        }
    });
    out.put_option(page.next, put_key);
    out.freeze()
}

pub(super) fn read_answer(answer: Bytes) -> Result<(ShardCounts, CountsPage), Malformed> {
    let mut reader = Reader::versioned(answer, "counts", VERSION)?;
    let shard = ShardCounts {
        since: Timestamp(reader.u64()?),
        counted_after: LogIndex(reader.u64()?),
        taken_in: read_periods(&mut reader, TopicCounts::from_fields)?,
        given_out: read_periods(&mut reader, GroupCounts::from_fields)?,
    };
    let rows = reader.list(|reader| {
        let topic = TopicName::stored(&reader.text()?);
        let of = match reader.u8()? {
            0 => CountsOf::Topic(read_periods(reader, TopicCounts::from_fields)?),
            1 => {
                let group = GroupName::stored(&reader.text()?);
                CountsOf::Group(group, read_periods(reader, GroupCounts::from_fields)?)
            }
            tag => return Err(reader.unknown(tag.into())),
        };
        Ok(CountsRow { topic, of })
    })?;
    Ok((shard, CountsPage { rows, next: reader.option(read_key)? }))
}

fn put_key(out: &mut BytesMut, key: CountsKey) {
    match key {
        CountsKey::Topic(topic) => {
            out.put_u8(0);
            out.put_u32(topic.0);
        }
        CountsKey::Group(topic, group) => {
            out.put_u8(1);
            out.put_u32(topic.0);
            out.put_u32(group.0);
        }
    }
}

fn read_key(reader: &mut Reader) -> Result<CountsKey, Malformed> {
    Ok(match reader.u8()? {
        0 => CountsKey::Topic(TopicId(reader.u32()?)),
        1 => CountsKey::Group(TopicId(reader.u32()?), GroupId(reader.u32()?)),
        tag => return Err(reader.unknown(tag.into())),
    })
}

fn put_periods<Of: Copy>(out: &mut BytesMut, periods: &Periods<Of>, fields: impl Fn(Of) -> Vec<u64>) {
    let Periods { total, today, yesterday, per_second, hour, day } = *periods;
    for counts in [total, today, yesterday] {
        out.put_list(&fields(counts), |out, field| out.put_varint(*field));
    }
    out.put_u64(per_second.to_bits());
    for flow in [hour, day] {
        out.put_varint(flow.messages);
        out.put_varint(flow.bytes);
    }
}

fn read_periods<Of>(reader: &mut Reader, of: impl Fn(&[u64]) -> Of) -> Result<Periods<Of>, Malformed> {
    let counts = |reader: &mut Reader| Ok(of(&reader.list(Reader::varint)?));
    Ok(Periods {
        total: counts(reader)?,
        today: counts(reader)?,
        yesterday: counts(reader)?,
        per_second: f64::from_bits(reader.u64()?),
        hour: Flow { messages: reader.varint()?, bytes: reader.varint()? },
        day: Flow { messages: reader.varint()?, bytes: reader.varint()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_come_back_from_their_bytes() {
        let (topic, group) = (TopicName::parse("t").unwrap(), GroupName::parse("g").unwrap());
        let query = CountsQuery {
            topic: Some(topic.clone()),
            group: Some(group.clone()),
            after: Some(CountsKey::Group(TopicId(3), GroupId(4))),
            limit: 300,
        };
        let asked = question(&query);
        assert!(is_question(&asked) && !is_question(b"g") && !is_question(b""));
        assert_eq!(read_question(asked), Ok(query));
        let total = TopicCounts::from_fields(&[1, 2, 3, 4, 5, 6, 700]);
        let hour = Flow { messages: 9, bytes: 99 };
        let taken_in = Periods { total, per_second: 2.5, hour, ..Periods::default() };
        let today = GroupCounts::from_fields(&[1, 2, 3, 4, 5]);
        let given_out = Periods { today, day: hour, ..Periods::default() };
        let shard = ShardCounts { since: Timestamp(7), counted_after: LogIndex(8), taken_in, given_out };
        let rows = vec![
            CountsRow { topic: topic.clone(), of: CountsOf::Topic(taken_in) },
            CountsRow { topic, of: CountsOf::Group(group, given_out) },
        ];
        let page = CountsPage { rows, next: Some(CountsKey::Topic(TopicId(1))) };
        let answer = encode(&shard, &page);
        assert_eq!(read_answer(answer.clone()), Ok((shard, page)));
        assert!(read_answer(answer.slice(..answer.len() - 1)).is_err());
        // What an older build, and one that starts, answer.
        assert!(read_answer(Bytes::from_static(&[0])).is_err() && read_answer(Bytes::new()).is_err());
        assert!(super::answer(None, question(&CountsQuery::default())).is_empty());
    }

    #[test]
    fn counts_of_builds_with_more_and_fewer_fields_are_understood() {
        let counts = TopicCounts::from_fields(&[1, 2]);
        assert_eq!((counts.messages, counts.bytes, counts.rollbacks), (1, 2, 0));
        assert_eq!(GroupCounts::from_fields(&[1, 2, 3, 4, 5, 6, 7]).dead_letters, 5);
    }
}
