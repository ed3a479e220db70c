//! Links: framed connections between replicas, for appends and forwarded commands (D19). How one is opened.
//!
//! A link carries one stream, so TCP's flow control is all it needs.
//!
//! Shape: the dialling side sends [`MAGIC`], then frames (`frame`); the other side answers with frames. The first frame
//! is a `Hello`, its answer a `Welcome`; what follows depends on the hello's purpose. The port is the one that also
//! serves gRPC, which begins with other bytes.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::proto::peer as proto;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::identity::{PeerIdentity, Unusable};

/// First bytes of a link. The last two are the version and what no text protocol begins with.
pub(in crate::raft) const MAGIC: [u8; 8] = *b"RAFTMQ\x01\n";
const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for the hello and its answer: a peer that takes longer would not answer frames either.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer whose host is gone is noticed after about three of these.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBES: u32 = 2;
/// A link whose other host has acknowledged nothing for this long is broken.
const UNANSWERED_MAX_MS: u32 = 3000;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum LinkError {
    /// Nobody listens, or not in time.
    #[error("{address} cannot be reached: {source}")]
    Unreachable { address: String, source: io::Error },
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

fn halves(stream: TcpStream) -> io::Result<(FrameReader, FrameWriter)> {
    stream.set_nodelay(true)?;
    // Links may be idle for long, and a host that lost its power closes nothing.
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepintvl(&stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(&stream, PROBES)?;
    // The system does not probe while something is unacknowledged.
    sockopt::set_tcp_user_timeout(&stream, UNANSWERED_MAX_MS)?;
    let (from, to) = stream.into_split();
    Ok((FrameReader::new(from), FrameWriter::new(to)))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Opens a link to `target` at `address`. On return the peer has accepted the hello and is who it should be.
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
        writer.put_bytes(&MAGIC);
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

/// Accepts a link whose first byte was seen to be that of [`MAGIC`]; returns what it is for.
pub(in crate::raft) async fn accept(
    identity: &PeerIdentity,
    stream: TcpStream,
) -> Result<(proto::Purpose, FrameReader, FrameWriter), LinkError> {
    let (mut reader, mut writer) = halves(stream)?;
    let greeting = async {
        let mut magic = [0; MAGIC.len()];
        reader.read_bytes(&mut magic).await?;
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
