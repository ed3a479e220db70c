//! The body of one Raft entry: a batch of commands and the messages they carry.
//!
//! Hot path. Built once by `raft/propose`; the same bytes go to the segment, the followers, the tail cache and the
//! readers. A message is found by its slot without decoding the rest.
//!
//! * Shape: `version u8, stamp u64, command count u32, message count u32,
//!   message ends [u32], commands [len varint, bytes], messages [bytes]`; ends count from the first message's first
//!   byte.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::Timestamp;
use crate::model::codec::{Malformed, Reader, Writer};

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 1 + 8 + 4 + 4;
const WHAT: &str = "batch";

/// One command for the log with its messages, all encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The encoded [`super::Command`].
    pub command: Bytes,
    /// Encoded messages, in slot order.
    pub messages: Vec<Bytes>,
}

impl Proposal {
    /// Bytes this adds to a batch.
    pub fn bytes(&self) -> usize {
        4 + self.command.len() + self.messages.iter().map(|message| message.len() + 4).sum::<usize>()
    }

    /// The bytes for the leader.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes() + 8);
        out.put_bytes_field(&self.command);
        out.put_list(&self.messages, |out, message| out.put_bytes_field(message));
        out.freeze()
    }

    /// From [`Self::encode`], sharing the bytes.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, "proposal");
        Ok(Self { command: reader.bytes()?, messages: reader.list(Reader::bytes)? })
    }
}

/// A decoded batch; shares the entry's bytes.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Bytes,
    stamp: Timestamp,
    command_count: u32,
    message_count: u32,
    commands_at: usize,
    messages_at: usize,
}

impl Batch {
    /// Builds the body of an entry from proposals.
    pub fn encode<'a>(stamp: Timestamp, proposals: impl ExactSizeIterator<Item = &'a Proposal> + Clone) -> Bytes {
        let message_count: usize = proposals.clone().map(|proposal| proposal.messages.len()).sum();
        let bytes: usize = proposals.clone().map(Proposal::bytes).sum();
        let mut out = BytesMut::with_capacity(HEADER_BYTES + bytes);
        out.put_u8(VERSION);
        out.put_u64(stamp.0);
        out.put_u32(count(proposals.len()));
        out.put_u32(count(message_count));
        let mut end = 0usize;
        for message in proposals.clone().flat_map(|proposal| &proposal.messages) {
            end += message.len();
            out.put_u32(count(end));
        }
        for proposal in proposals.clone() {
            out.put_bytes_field(&proposal.command);
        }
        for message in proposals.flat_map(|proposal| &proposal.messages) {
            out.put_slice(message);
        }
        out.freeze()
    }

    /// Reads the head and checks that commands and messages are as many and as long as it says.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes.clone(), WHAT, VERSION)?;
        let stamp = Timestamp(reader.u64()?);
        let command_count = reader.u32()?;
        let message_count = reader.u32()?;
        let ends = reader.take(message_count as usize * 4)?;
        let mut previous = 0;
        for end in ends.as_ref().chunks_exact(4).map(be_u32) {
            if end < previous {
                return Err(Malformed::Unknown { what: "message end", value: end.into() });
            }
            previous = end;
        }
        let commands_at = HEADER_BYTES + ends.len();
        for _ in 0..command_count {
            reader.bytes()?;
        }
        let messages_at = bytes.len() - reader.remaining();
        if reader.remaining() != previous as usize {
            return Err(Malformed::Short(WHAT));
        }
        Ok(Self { bytes, stamp, command_count, message_count, commands_at, messages_at })
    }

    /// The leader's time when it made the batch.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    pub fn command_count(&self) -> usize {
        self.command_count as usize
    }

    pub fn message_count(&self) -> u32 {
        self.message_count
    }

    /// The encoded commands in order.
    pub fn commands(&self) -> impl Iterator<Item = Result<Bytes, Malformed>> + use<> {
        let mut reader = Reader::new(self.bytes.slice(self.commands_at..self.messages_at), WHAT);
        (0..self.command_count).map(move |_| reader.bytes())
    }

    /// Bytes of the whole entry, which each of its messages keeps in memory.
    pub fn entry_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded message in `slot`, sharing the entry's bytes.
    pub fn message(&self, slot: u32) -> Option<Bytes> {
        if slot >= self.message_count {
            return None;
        }
        let start = if slot == 0 { 0 } else { self.end(slot - 1) };
        Some(self.bytes.slice(self.messages_at + start..self.messages_at + self.end(slot)))
    }

    /// Size of the encoded message in `slot`.
    pub fn message_bytes(&self, slot: u32) -> u32 {
        let start = if slot == 0 { 0 } else { self.end(slot - 1) };
        count(self.end(slot) - start)
    }

    fn end(&self, slot: u32) -> usize {
        let at = HEADER_BYTES + slot as usize * 4;
        be_u32(&self.bytes[at..at + 4]) as usize
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("the caller cut four bytes"))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("limits keep a batch far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Bytes {
        let proposals = [
            Proposal {
                command: Bytes::from_static(b"one"),
                messages: vec![Bytes::from_static(b"a"), Bytes::from_static(b"bb")],
            },
            Proposal { command: Bytes::from_static(b"two"), messages: vec![] },
            Proposal { command: Bytes::from_static(b""), messages: vec![Bytes::from_static(b"ccc")] },
        ];
        Batch::encode(Timestamp(7), proposals.iter())
    }

    #[test]
    fn messages_are_found_by_slot() {
        let batch = Batch::decode(batch()).unwrap();
        assert_eq!(batch.stamp(), Timestamp(7));
        let commands: Vec<_> = batch.commands().map(Result::unwrap).collect();
        assert_eq!(commands, ["one", "two", ""]);
        let messages: Vec<_> = (0..4).map(|slot| batch.message(slot)).collect();
        assert_eq!(messages, [Some("a".into()), Some("bb".into()), Some("ccc".into()), None]);
        assert_eq!(batch.message_bytes(1), 2);
    }

    #[test]
    fn a_batch_cut_short_anywhere_is_refused() {
        let bytes = batch();
        for end in 0..bytes.len() {
            assert!(Batch::decode(bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
