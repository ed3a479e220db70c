//! Frames of a link: messages of `proto/raftmq/peer.proto` with a length before and a checksum behind.
//!
//! Hot path. A frame costs one write and one read; over HTTP/2 these streams took a third of all CPU at 64 sends in
//! flight. Bodies are shared, not copied, on both sides.
//!
//! * Shape: `length u32`, the message, `crc32c u32` of the message (P3: TCP's own sum misses one error in 65,536).

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, encoding};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::proto::peer as proto;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::record;
use crate::store::log::record::Record;

/// Largest frame: two full reads of the log.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest frame of the greeting: what a stranger can make this node collect.
const GREETING_BYTES_MAX: usize = 8 * 1024;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Least room for a read.
const READ_BYTES_MIN: usize = 4 * 1024;
const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
/// Number of the field `records` in an `AppendFrame`.
const RECORDS_TAG: u32 = 5;
/// Number of the field `proposals` in a `ForwardFrame`.
const PROPOSALS_TAG: u32 = 2;

/// Bytes of a link that come in, in the clear.
pub(in crate::raft) type Incoming = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes of a link that go out, in the clear.
pub(in crate::raft) type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// Frames that come in.
pub(in crate::raft) struct FrameReader<R = Incoming> {
    from: R,
    buffer: BytesMut,
    /// Length of the last frame: the next one is often like it.
    last: usize,
    /// Largest frame that is taken.
    bytes_max: usize,
}

/// Frames that go out.
pub(in crate::raft) struct FrameWriter<W = Outgoing> {
    to: W,
    out: GatherBuffer,
    /// Checksum of the frame that is being put.
    crc: u32,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes small frames only, until [`Self::trust`].
    pub(super) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), last: 0, bytes_max: GREETING_BYTES_MAX }
    }

    /// The other side has proved who it is: frames of all sizes are taken.
    pub(super) fn trust(&mut self) {
        self.bytes_max = FRAME_BYTES_MAX;
    }

    /// Fills `bytes` with what comes before the first frame.
    pub(super) async fn read_bytes(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        debug_assert!(self.buffer.is_empty(), "no frame was read yet");
        self.from.read_exact(bytes).await.map(|_| ())
    }

    /// The next frame; `None` at the end of the link. Cancel safe.
    ///
    /// * Errors: the link broke, a frame is too large or is not the message expected.
    pub(in crate::raft) async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            let missing = match self.buffer.first_chunk::<LENGTH_BYTES>() {
                None => LENGTH_BYTES,
                Some(length) => {
                    let length = u32::from_be_bytes(*length) as usize;
                    if length > self.bytes_max {
                        return Err(invalid(format!("a frame of {length} bytes; {} is the most", self.bytes_max)));
                    }
                    if let Some(frame) = self.take(length) {
                        return frame.map(Some);
                    }
                    LENGTH_BYTES + length + CRC_BYTES - self.buffer.len()
                }
            };
            // The tail cache keeps the bodies, and with them the memory they came in: fill it up first.
            if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES_MIN) {
                // Before a large frame only its length is read: what comes with it would be copied once more.
                let ahead = if self.last > BUFFER_BYTES { READ_BYTES_MIN } else { BUFFER_BYTES };
                self.buffer.reserve(missing.max(ahead));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                let is_between = self.buffer.is_empty();
                return if is_between { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn take<M: Message + Default>(&mut self, length: usize) -> Option<io::Result<M>> {
        let bytes = LENGTH_BYTES + length + CRC_BYTES;
        if self.buffer.len() < bytes {
            return None;
        }
        self.last = bytes;
        self.buffer.advance(LENGTH_BYTES);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.get_u32() != crc32c::crc32c(&message) {
            return Some(Err(invalid(format!("the checksum of a frame of {length} bytes does not fit"))));
        }
        // Bodies in the message share this memory.
        Some(M::decode(message).map_err(invalid))
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, out: GatherBuffer::default(), crc: 0 }
    }

    /// Adds what comes before the first frame.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.out.buffer().put_slice(bytes);
    }

    /// Adds a frame to what the next [`Self::flush`] writes.
    pub(in crate::raft) fn put(&mut self, message: &impl Message) {
        self.begin(message.encoded_len());
        self.copy(|buffer| message.encode(buffer).expect("a BytesMut grows"));
        self.end();
    }

    /// As [`Self::put`], with these records in the frame: what a decoder finds in [`proto::AppendFrame::records`]. Their
    /// bodies are shared.
    pub(in crate::raft) fn put_append(&mut self, frame: &proto::AppendFrame, records: &[Record]) {
        debug_assert!(frame.records.is_empty(), "the records are those given");
        let bytes: usize = records.iter().map(Record::wire_bytes).sum();
        if bytes == 0 {
            return self.put(frame);
        }
        let field = encoding::key_len(RECORDS_TAG) + encoding::encoded_len_varint(bytes as u64) + bytes;
        self.begin(frame.encoded_len() + field);
        self.copy(|buffer| {
            frame.encode(buffer).expect("a BytesMut grows");
            encoding::encode_key(RECORDS_TAG, encoding::WireType::LengthDelimited, buffer);
            encoding::encode_varint(bytes as u64, buffer);
        });
        for record in records {
            self.copy(|buffer| {
                record::encode_head(record, buffer);
            });
            self.share(record.body.clone());
        }
        self.end();
    }

    /// As [`Self::put`] of a [`proto::ForwardFrame`]; the proposals are shared.
    pub(in crate::raft) fn put_forward(&mut self, id: u64, proposals: Vec<Bytes>) {
        let frame = proto::ForwardFrame { id, proposals: Vec::new() };
        let head = |bytes: usize| encoding::key_len(PROPOSALS_TAG) + encoding::encoded_len_varint(bytes as u64);
        let fields: usize = proposals.iter().map(|proposal| head(proposal.len()) + proposal.len()).sum();
        self.begin(frame.encoded_len() + fields);
        self.copy(|buffer| frame.encode(buffer).expect("a BytesMut grows"));
        for proposal in proposals {
            self.copy(|buffer| {
                encoding::encode_key(PROPOSALS_TAG, encoding::WireType::LengthDelimited, buffer);
                encoding::encode_varint(proposal.len() as u64, buffer);
            });
            self.share(proposal);
        }
        self.end();
    }

    fn begin(&mut self, length: usize) {
        self.out.buffer().put_u32(u32::try_from(length).expect("frames are cut far below 4 GiB"));
        self.crc = 0;
    }

    /// Puts bytes of the message.
    fn copy(&mut self, put: impl FnOnce(&mut BytesMut)) {
        let buffer = self.out.buffer();
        let start = buffer.len();
        put(buffer);
        self.crc = crc32c::crc32c_append(self.crc, &buffer[start..]);
    }

    /// Puts bytes of the message without copying them, if they are many.
    fn share(&mut self, bytes: Bytes) {
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        self.out.share(bytes);
    }

    fn end(&mut self) {
        let crc = self.crc;
        self.out.buffer().put_u32(crc);
    }

    /// Writes what was put.
    pub(in crate::raft) async fn flush(&mut self) -> io::Result<()> {
        self.to.write_all_buf(&mut self.out).await?;
        // TLS keeps what the socket did not take.
        self.to.flush().await?;
        self.out.shrink();
        Ok(())
    }

    /// Says that no more comes.
    pub(in crate::raft) async fn close(&mut self) -> io::Result<()> {
        self.to.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (FrameReader<tokio::io::DuplexStream>, FrameWriter<tokio::io::DuplexStream>) {
        let (from, to) = tokio::io::duplex(7);
        let mut reader = FrameReader::new(from);
        reader.trust();
        (reader, FrameWriter::new(to))
    }

    fn reply(id: u64) -> proto::ForwardReply {
        proto::ForwardReply { id, result: None }
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_however_they_are_cut() {
        let (mut reader, mut writer) = pair();
        let sent = tokio::spawn(async move {
            for id in 0..100 {
                writer.put(&reply(id * 1000));
                if id % 3 == 0 {
                    writer.flush().await.unwrap();
                }
            }
            writer.flush().await.unwrap();
            writer.close().await.unwrap();
        });
        for id in 0..100 {
            assert_eq!(reader.next().await.unwrap(), Some(reply(id * 1000)));
        }
        assert_eq!(reader.next::<proto::ForwardReply>().await.unwrap(), None);
        sent.await.unwrap();
    }

    #[tokio::test]
    async fn an_append_with_shared_bodies_reads_as_any_other_frame() {
        let (mut reader, mut writer) = pair();
        let record = |index: u64, bytes: usize| Record {
            term: crate::model::Term(3),
            node: crate::model::NodeId(1),
            index: crate::model::LogIndex(index),
            kind: record::RecordKind::Batch,
            body: vec![7; bytes].into(),
        };
        for records in [vec![], vec![record(1, 3)], vec![record(2, 100_000), record(3, 0), record(4, 20_000)]] {
            let frame = proto::AppendFrame { record_count: 9, ..proto::AppendFrame::default() };
            writer.put_append(&frame, &records);
            writer.put(&reply(5));
            let (sent, read) = tokio::join!(writer.flush(), async {
                (reader.next::<proto::AppendFrame>().await.unwrap(), reader.next().await.unwrap())
            });
            sent.unwrap();
            assert_eq!(
                read,
                (
                    Some(proto::AppendFrame { records: crate::raft::peer::wire::records(&records), ..frame }),
                    Some(reply(5))
                )
            );
        }
    }

    #[tokio::test]
    async fn shared_proposals_read_as_any_other_frame() {
        let (mut reader, mut writer) = pair();
        for sizes in [vec![], vec![3], vec![100_000, 0, 20_000, 5]] {
            let proposals: Vec<Bytes> = sizes.into_iter().map(|bytes| vec![7; bytes].into()).collect();
            let frame = proto::ForwardFrame { id: 300, proposals: proposals.clone() };
            writer.put_forward(frame.id, proposals);
            writer.put(&reply(5));
            let (sent, read) = tokio::join!(writer.flush(), async {
                (reader.next::<proto::ForwardFrame>().await.unwrap(), reader.next().await.unwrap())
            });
            sent.unwrap();
            assert_eq!(read, (Some(frame), Some(reply(5))));
        }
    }

    #[tokio::test]
    async fn p3_a_frame_with_a_flipped_bit_is_refused() {
        let mut sent = GatherBuffer::default();
        {
            let (_, mut writer) = pair();
            writer.put(&reply(300));
            std::mem::swap(&mut sent, &mut writer.out);
        }
        let sent = sent.copy_to_bytes(sent.remaining());
        for bit in LENGTH_BYTES * 8..sent.len() * 8 {
            let mut bytes = sent.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = FrameReader::new(&bytes[..]).next::<proto::ForwardReply>().await.unwrap_err();
            assert!(error.to_string().contains("checksum"), "bit {bit}: {error}");
        }
    }

    #[tokio::test]
    async fn a_stranger_cannot_make_this_node_collect_much() {
        let bytes = u32::try_from(GREETING_BYTES_MAX + 1).unwrap().to_be_bytes();
        let error = FrameReader::new(&bytes[..]).next::<proto::Hello>().await.unwrap_err();
        assert!(error.to_string().contains("8192 is the most"), "{error}");
    }

    #[tokio::test]
    async fn a_link_that_ends_inside_a_frame_or_sends_too_large_a_one_is_broken() {
        let (mut reader, mut writer) = pair();
        writer.out.buffer().put_slice(&[0, 0, 0, 9, 1]);
        writer.flush().await.unwrap();
        writer.close().await.unwrap();
        let error = reader.next::<proto::ForwardReply>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        let (mut reader, mut writer) = pair();
        writer.out.buffer().put_u32(u32::MAX);
        writer.flush().await.unwrap();
        let error = reader.next::<proto::ForwardReply>().await.unwrap_err();
        assert!(error.to_string().contains("67108864 is the most"), "{error}");
    }

    #[test]
    fn fuzz_peer_frames() {
        use crate::raft::peer::wire;
        use futures_util::FutureExt;

        let vote = Some(proto::Vote { term: 3, node: 1, committed: true });
        let record = |index: u64| Record {
            term: crate::model::Term(3),
            node: crate::model::NodeId(1),
            index: crate::model::LogIndex(index),
            kind: record::RecordKind::Batch,
            body: Bytes::from_static(b"a body"),
        };
        let records = wire::records(&[record(1), record(2)]);
        let prev = Some(proto::LogId { term: 3, node: 1, index: 0 });
        let append = proto::AppendFrame { vote, prev, committed: prev, records, record_count: 2 };
        let vote_call = proto::VoteCall { vote, last: prev, leader_transfer: false };
        let call = proto::Call { id: 7, call: Some(proto::call::Call::Vote(vote_call)) };
        let forward = proto::ForwardFrame { id: 5, proposals: vec![Bytes::from_static(b"proposal")] };
        let acks = proto::AppendAck { outcome: 1, matching: prev, vote, conflict: prev };
        let framed = |message: &dyn Fn(&mut FrameWriter<tokio::io::DuplexStream>)| {
            let (_, mut writer) = pair();
            message(&mut writer);
            writer.out.copy_to_bytes(writer.out.remaining()).to_vec()
        };
        let corpus = [
            framed(&|out| out.put(&append)),
            framed(&|out| out.put(&call)),
            framed(&|out| out.put(&forward)),
            framed(&|out| out.put(&acks)),
            framed(&|out| out.put(&proto::Hello::default())),
        ];
        let mend = |bytes: &mut Vec<u8>, _: &mut odd_bytes::Rng| {
            bytes.resize(bytes.len().max(LENGTH_BYTES + CRC_BYTES), 0);
            let end = bytes.len() - CRC_BYTES;
            let length = (end - LENGTH_BYTES) as u32;
            bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[LENGTH_BYTES..end]);
            bytes[end..].copy_from_slice(&crc.to_be_bytes());
        };
        fn read<M: Message + Default>(bytes: &[u8]) -> io::Result<Option<M>> {
            FrameReader::new(bytes).next().now_or_never().expect("bytes in memory are there at once")
        }
        odd_bytes::Fuzz::of("peer_frames", corpus).mend(mend).run(|bytes| {
            let mut taken = Vec::new();
            if let Ok(Some(frame)) = read::<proto::AppendFrame>(bytes) {
                let request = wire::append(frame).map_err(|error| error.to_string());
                taken.push(format!("append: {}", request.map_or_else(|error| error, |_| "sound".to_owned())));
            }
            if let Ok(Some(proto::Call { call: Some(call), .. })) = read::<proto::Call>(bytes) {
                use proto::call::Call;
                let is_sound = match call {
                    Call::Vote(call) | Call::PreVote(call) => wire::vote_call(call).is_ok(),
                    _ => true,
                };
                taken.push(format!("call: {is_sound}"));
            }
            if let Ok(Some(ack)) = read::<proto::AppendAck>(bytes) {
                taken.push(format!("ack: {}", wire::ack(ack, 3).is_ok()));
            }
            let others = [
                read::<proto::ForwardFrame>(bytes).is_ok(),
                read::<proto::ForwardReply>(bytes).is_ok(),
                read::<proto::Hello>(bytes).is_ok(),
                read::<proto::Challenge>(bytes).is_ok(),
                read::<proto::Proof>(bytes).is_ok(),
                read::<proto::Welcome>(bytes).is_ok(),
            ];
            let why = read::<proto::Welcome>(bytes).err().map(|error| error.to_string());
            if taken.is_empty() && !others.contains(&true) {
                Err(why.unwrap_or_default())
            } else {
                Ok(taken.join(", "))
            }
        });
    }
}
