//! Framed connections between replicas: what carries appends and forwarded commands.
//!
//! Hot path. Over HTTP/2 these two took a third of all CPU at 64 sends in flight; here a frame costs one
//! write and one read. A connection carries one stream, so TCP's flow control is all it needs.
//!
//! Shape: the dialling side sends [`MAGIC`], then frames; the other side answers with frames. A frame is a
//! `u32` length and a message of `proto/raftmq/peer.proto`. The first frame is a `Hello`, its answer a
//! `Welcome`; what follows is agreed by the hello's purpose. The port is the one that also serves gRPC,
//! which begins with other bytes.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, encoding};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::proto::peer as proto;
use crate::raft::peer::wire::{PeerIdentity, Unusable};
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::record;
use crate::store::log::record::Record;

/// First bytes of a link. The last two are the version and what no text protocol begins with.
pub(in crate::raft) const MAGIC: [u8; 8] = *b"RAFTMQ\x01\n";
/// Largest frame: two full reads of the log.
pub(in crate::raft) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Least room for a read.
const READ_BYTES_MIN: usize = 4 * 1024;
const LENGTH_BYTES: usize = 4;
/// Number of the field `records` in an `AppendFrame`.
const RECORDS_TAG: u32 = 5;
/// Number of the field `proposals` in a `ForwardFrame`.
const PROPOSALS_TAG: u32 = 2;
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for the hello and its answer: a peer that takes longer would not answer frames either.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer whose host is gone is noticed after about three of these.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBES: u32 = 2;
/// A link that the other host has taken nothing from for this long is broken.
const UNANSWERED_MAX_MS: u32 = 3000;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum LinkError {
    /// Nobody listens, or not in time.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Who was dialled.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// It broke, or what came is not a frame.
    #[error("the link broke: {0}")]
    Broken(#[from] io::Error),
    /// The peer does not take it.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer is not who it should be.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Frames that come in.
pub(in crate::raft) struct FrameReader<R = OwnedReadHalf> {
    from: R,
    buffer: BytesMut,
    /// Length of the last frame: the next one is often like it.
    last: usize,
}

/// Frames that go out.
pub(in crate::raft) struct FrameWriter<W = OwnedWriteHalf> {
    to: W,
    pieces: GatherBuffer,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// The next frame; `None` at the end of the link. Nothing is lost if the future is dropped.
    ///
    /// * Errors: the link broke, a frame is too large or is not the message expected.
    pub(in crate::raft) async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            let missing = match self.buffer.first_chunk::<LENGTH_BYTES>() {
                None => LENGTH_BYTES,
                Some(length) => {
                    let length = u32::from_be_bytes(*length) as usize;
                    if length > FRAME_BYTES_MAX {
                        let reason = format!("a frame of {length} bytes; {FRAME_BYTES_MAX} is the most");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                    }
                    if let Some(frame) = self.take(length) {
                        return frame.map(Some);
                    }
                    LENGTH_BYTES + length - self.buffer.len()
                }
            };
            // Bodies keep the memory they came in for as long as the tail cache does: fill it up first.
            if self.buffer.capacity() - self.buffer.len() < missing.max(READ_BYTES_MIN) {
                // Before a large frame only its length is looked for: what comes with it is copied once more.
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
        if self.buffer.len() < LENGTH_BYTES + length {
            return None;
        }
        self.last = LENGTH_BYTES + length;
        self.buffer.advance(LENGTH_BYTES);
        // Bodies in the message share this memory.
        let message = M::decode(self.buffer.split_to(length).freeze());
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Adds a frame to what the next [`Self::flush`] writes.
    pub(in crate::raft) fn put(&mut self, message: &impl Message) {
        let length = message.encoded_len();
        self.begin(length);
        message.encode(self.pieces.buffer()).expect("a BytesMut grows");
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
        let buffer = self.pieces.buffer();
        frame.encode(buffer).expect("a BytesMut grows");
        encoding::encode_key(RECORDS_TAG, encoding::WireType::LengthDelimited, buffer);
        encoding::encode_varint(bytes as u64, buffer);
        for record in records {
            record::encode_head(record, self.pieces.buffer());
            self.pieces.share(record.body.clone());
        }
    }

    /// As [`Self::put`] of a [`proto::ForwardFrame`]; the proposals are shared.
    pub(in crate::raft) fn put_forward(&mut self, id: u64, proposals: Vec<Bytes>) {
        let frame = proto::ForwardFrame { id, proposals: Vec::new() };
        let head = |bytes: usize| encoding::key_len(PROPOSALS_TAG) + encoding::encoded_len_varint(bytes as u64);
        let fields: usize = proposals.iter().map(|proposal| head(proposal.len()) + proposal.len()).sum();
        self.begin(frame.encoded_len() + fields);
        frame.encode(self.pieces.buffer()).expect("a BytesMut grows");
        for proposal in proposals {
            let buffer = self.pieces.buffer();
            encoding::encode_key(PROPOSALS_TAG, encoding::WireType::LengthDelimited, buffer);
            encoding::encode_varint(proposal.len() as u64, buffer);
            self.pieces.share(proposal);
        }
    }

    fn begin(&mut self, length: usize) {
        self.pieces.buffer().put_u32(u32::try_from(length).expect("frames are cut far below 4 GiB"));
    }

    /// Writes what was put.
    pub(in crate::raft) async fn flush(&mut self) -> io::Result<()> {
        self.to.write_all_buf(&mut self.pieces).await?;
        self.pieces.shrink();
        Ok(())
    }

    /// Says that no more comes.
    pub(in crate::raft) async fn close(&mut self) -> io::Result<()> {
        self.to.shutdown().await
    }
}

fn halves(stream: TcpStream) -> io::Result<(FrameReader, FrameWriter)> {
    stream.set_nodelay(true)?;
    // Links are idle for long, and a host that lost its power closes nothing.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepintvl(&stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    // The system does not probe while something is under way.
    sockopt::set_tcp_user_timeout(&stream, UNANSWERED_MAX_MS)?;
    let (from, to) = stream.into_split();
    Ok((FrameReader { from, buffer: BytesMut::new(), last: 0 }, FrameWriter { to, pieces: GatherBuffer::default() }))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Opens a link to `target` at `address`; its first frame has been answered.
pub(in crate::raft) async fn dial(
    identity: &PeerIdentity,
    target: u64,
    address: &str,
    purpose: proto::Purpose,
) -> Result<(FrameReader, FrameWriter), LinkError> {
    let unreachable = |source| LinkError::Unreachable { address: address.to_owned(), source };
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await;
    let stream = dialled.map_err(|_| unreachable(late()))?.map_err(unreachable)?;
    let (mut reader, mut writer) = halves(stream)?;
    let greeting = async {
        writer.pieces.buffer().put_slice(&MAGIC);
        writer.put(&proto::Hello { envelope: Some(identity.envelope(target)), purpose: purpose.into() });
        writer.flush().await?;
        reader.next::<proto::Welcome>().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    let welcome: io::Result<proto::Welcome> =
        tokio::time::timeout(HELLO_TIMEOUT, greeting).await.map_err(|_| late())?;
    let welcome = welcome?;
    if !welcome.refusal.is_empty() {
        return Err(LinkError::Refused(welcome.refusal));
    }
    identity.meet(target, welcome.disk).await?;
    Ok((reader, writer))
}

/// Takes a link whose first byte was seen to be one of [`MAGIC`]; gives what it is for.
pub(in crate::raft) async fn accept(
    identity: &PeerIdentity,
    stream: TcpStream,
) -> Result<(proto::Purpose, FrameReader, FrameWriter), LinkError> {
    let (mut reader, mut writer) = halves(stream)?;
    let greeting = async {
        let mut magic = [0; MAGIC.len()];
        reader.from.read_exact(&mut magic).await?;
        if magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin as a link of this version"));
        }
        reader.next::<proto::Hello>().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    };
    let hello = tokio::time::timeout(HELLO_TIMEOUT, greeting).await.map_err(|_| late())??;
    let purpose = hello.purpose();
    let checked = match purpose {
        proto::Purpose::Unspecified => Err(Unusable::Lacks("purpose")),
        proto::Purpose::Append | proto::Purpose::Forward => identity.check(hello.envelope).await,
    };
    let refusal = checked.as_ref().err().map(ToString::to_string).unwrap_or_default();
    writer.put(&proto::Welcome { disk: identity.log.disk(), refusal });
    writer.flush().await?;
    checked?;
    Ok((purpose, reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (FrameReader<tokio::io::DuplexStream>, FrameWriter<tokio::io::DuplexStream>) {
        let (from, to) = tokio::io::duplex(7);
        (FrameReader { from, buffer: BytesMut::new(), last: 0 }, FrameWriter { to, pieces: GatherBuffer::default() })
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
    async fn a_link_that_ends_inside_a_frame_or_sends_too_large_a_one_is_broken() {
        let (mut reader, mut writer) = pair();
        writer.pieces.buffer().put_slice(&[0, 0, 0, 9, 1]);
        writer.flush().await.unwrap();
        writer.close().await.unwrap();
        let error = reader.next::<proto::ForwardReply>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        let (mut reader, mut writer) = pair();
        writer.pieces.buffer().put_u32(u32::MAX);
        writer.flush().await.unwrap();
        let error = reader.next::<proto::ForwardReply>().await.unwrap_err();
        assert!(error.to_string().contains("67108864 is the most"), "{error}");
    }
}
