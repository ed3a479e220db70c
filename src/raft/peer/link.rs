//! Links: framed connections between replicas (D19), and how one is opened.
//!
//! A link carries one kind of traffic, so TCP's flow control is all it needs.
//!
//! Shape: the dialling side sends [`MAGIC`] and a `Hello`; then come `Challenge`, `Proof` and `Welcome`, by turns. Whom
//! they name holds for all frames that follow. Under TLS all of it is inside.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::env::rng::random_u64;
use crate::model::{LogIndex, MemberName, NodeId};
use crate::proto::peer as proto;
use crate::raft::peer::facts::Facts;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::identity::{Judgement, PeerIdentity};
use crate::raft::peer::security;
use crate::raft::peer::security::Side;
use crate::raft::peer::unusable::Unusable;

/// Version of what peers say to each other: greeting and frames.
pub(in crate::raft) const PROTOCOL: u8 = 2;
/// First bytes of a link. The last is what no text protocol goes on with.
pub(in crate::raft) const MAGIC: [u8; 8] = *b"RAFTMQ\x02\n";
/// Where the version is in it.
const PROTOCOL_AT: usize = 6;
/// First byte of TLS.
const TLS_BEGIN: u8 = 0x16;
/// First byte of HTTP/2, by which peers of protocol 1 made their short calls.
const HTTP_BEGIN: u8 = b'P';
/// Time to connect.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for the greeting: a peer that takes longer would not answer frames either.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to find out who is at a member's address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer whose host is gone is noticed after about three of these.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBES: u32 = 2;
/// A link whose other host has acknowledged nothing for this long is broken.
const UNANSWERED_MAX_MS: u32 = 3000;
const NONCE_BYTES: usize = 16;

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
    #[error("the peer refused: {reason}")]
    Refused { kind: proto::Refusal, reason: String },
    /// The peer speaks another version.
    #[error("the other side does not speak peer protocol {PROTOCOL}: {0}")]
    OtherProtocol(String),
    /// The peer did not prove who it is.
    #[error("{} did not prove that it knows this node's peerSecret: set the same one on all nodes", NodeId(*.0))]
    Unproven(u64),
    /// The peer is not who it should be.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// A link that was accepted.
pub(in crate::raft) struct Accepted {
    pub from: u64,
    pub purpose: proto::Purpose,
    pub reader: FrameReader,
    pub writer: FrameWriter,
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Links may be idle for long, and a host that lost its power closes nothing.
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    // The system does not probe while something is unacknowledged.
    Ok(sockopt::set_tcp_user_timeout(stream, UNANSWERED_MAX_MS)?)
}

fn plain(stream: TcpStream) -> (FrameReader, FrameWriter) {
    let (from, to) = stream.into_split();
    (FrameReader::new(Box::new(from)), FrameWriter::new(Box::new(to)))
}

fn encrypted<S>(stream: S) -> (FrameReader, FrameWriter)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let (from, to) = tokio::io::split(stream);
    (FrameReader::new(Box::new(from)), FrameWriter::new(Box::new(to)))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn nonce() -> Bytes {
    let halves = [random_u64().to_be_bytes(), random_u64().to_be_bytes()];
    let nonce: [u8; NONCE_BYTES] = halves.concat().try_into().expect("two halves");
    Bytes::copy_from_slice(&nonce)
}

/// Opens a link to `target` at its address. On return the peer has accepted it and is who it should be.
pub(in crate::raft) async fn dial(
    identity: &PeerIdentity,
    target: u64,
    address: &str,
    purpose: proto::Purpose,
) -> Result<(FrameReader, FrameWriter), LinkError> {
    let (_, mut reader, writer) = dial_and_greet(identity, target, address, purpose).await?;
    reader.trust();
    Ok((reader, writer))
}

/// Asks whoever has this name what it knows of the group; what it says of its disk comes with that.
pub(in crate::raft) async fn enquire(
    identity: &PeerIdentity,
    name: MemberName,
    address: &str,
) -> Result<(Facts, proto::Group), LinkError> {
    let target = NodeId::first_of(name).0;
    let (welcome, _, _) = dial_and_greet(identity, target, address, proto::Purpose::Enquire).await?;
    Ok((Facts::from_wire(welcome.facts)?, welcome.group.ok_or(Unusable::Lacks("group"))?))
}

async fn dial_and_greet(
    identity: &PeerIdentity,
    target: u64,
    address: &str,
    purpose: proto::Purpose,
) -> Result<(proto::Welcome, FrameReader, FrameWriter), LinkError> {
    let unreachable = |source| LinkError::Unreachable { address: address.to_owned(), source };
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await;
    let stream = dialled.map_err(|_| unreachable(late()))?.map_err(unreachable)?;
    prepare(&stream)?;
    let greeting = async {
        let (mut reader, mut writer) = match identity.security.connector() {
            Some(connector) => encrypted(connector.connect(security::name_of(target), stream).await?),
            None => plain(stream),
        };
        let welcome = greet(identity, target, purpose, &mut reader, &mut writer).await?;
        Ok::<_, LinkError>((welcome, reader, writer))
    };
    let greeted = tokio::time::timeout(GREETING_TIMEOUT, greeting).await.map_err(|_| late())?;
    if let Err(LinkError::Unusable(error)) = &greeted {
        identity.note_refusal(target, error);
    }
    greeted
}

/// The dialling side's part of the greeting.
async fn greet(
    identity: &PeerIdentity,
    target: u64,
    purpose: proto::Purpose,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<proto::Welcome, LinkError> {
    let hello = proto::Hello { envelope: Some(identity.envelope(target)), purpose: purpose.into(), nonce: nonce() };
    writer.put_bytes(&MAGIC);
    writer.put(&hello);
    writer.flush().await?;
    let Some(challenge) = reader.next::<proto::Challenge>().await.map_err(not_a_challenge)? else {
        return Err(LinkError::OtherProtocol("it closed the link, as builds of peer protocol 1 do".to_owned()));
    };
    if !challenge.refusal.is_empty() {
        // Nobody has proven anything yet: no word of a stranger may end this node.
        let kind = match challenge.kind() {
            kind @ (proto::Refusal::OtherLineage | proto::Refusal::Unspecified) => kind,
            _ => proto::Refusal::Stranger,
        };
        return Err(LinkError::Refused { kind, reason: challenge.refusal });
    }
    let hello = hello.encode_to_vec();
    if !identity.security.holds(Side::Dialled, &[&hello, &challenge.nonce], &challenge.proof) {
        return Err(LinkError::Unproven(target));
    }
    let acknowledged = identity.acknowledged_by(target);
    let facts = identity.facts();
    let said: &[&[u8]] = &[&hello, &challenge.nonce, &facts.encode_to_vec()];
    let proof = identity.security.prove(Side::Dialling, said).into();
    writer.put(&proto::Proof { proof, facts: Some(facts) });
    writer.flush().await?;
    let welcome = reader.next::<proto::Welcome>().await?.ok_or_else(ended)?;
    if !welcome.refusal.is_empty() {
        return Err(LinkError::Refused { kind: welcome.kind(), reason: welcome.refusal });
    }
    // Who enquires does not know yet which replica of that name it is.
    if purpose != proto::Purpose::Enquire {
        // What is learned at a member's address is remembered.
        identity.meet(target, Facts::from_wire(welcome.facts.clone())?, acknowledged).await?;
    }
    Ok(welcome)
}

fn not_a_challenge(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::InvalidData => LinkError::OtherProtocol(error.to_string()),
        _ => LinkError::Broken(error),
    }
}

/// Accepts a link from a connection. `on_name` is told once who it is from and what for, as soon as that is proven; where
/// nobody proves it, at the end.
pub(in crate::raft) async fn accept(
    identity: &PeerIdentity,
    stream: TcpStream,
    on_name: impl FnOnce(u64, proto::Purpose),
) -> Result<Accepted, LinkError> {
    tokio::time::timeout(GREETING_TIMEOUT, answer(identity, stream, on_name)).await.map_err(|_| late())?
}

/// The dialled side's part of the greeting.
async fn answer(
    identity: &PeerIdentity,
    stream: TcpStream,
    on_name: impl FnOnce(u64, proto::Purpose),
) -> Result<Accepted, LinkError> {
    prepare(&stream)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(ended().into());
    }
    let mut certificate = None;
    let (mut reader, mut writer) = match (identity.security.acceptor(), first[0]) {
        (Some(acceptor), TLS_BEGIN) => {
            let stream = acceptor.accept(stream).await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            certificate = shown.map(|shown| shown.clone().into_owned());
            encrypted(stream)
        }
        (Some(_), _) => return Err(other("it does not begin as TLS, which peerTlsCertPath asks for")),
        (None, TLS_BEGIN) => return Err(other("it begins as TLS, and this node has no peerTlsCertPath")),
        (None, HTTP_BEGIN) => return Err(other("it begins as HTTP/2, as builds of peer protocol 1 do")),
        (None, _) => plain(stream),
    };
    let mut magic = [0; MAGIC.len()];
    reader.read_bytes(&mut magic).await?;
    if magic != MAGIC {
        return Err(refuse_other_protocol(magic, &mut writer).await);
    }
    let hello = reader.next::<proto::Hello>().await?.ok_or_else(ended)?;
    let purpose = hello.purpose();
    let named = match purpose {
        proto::Purpose::Enquire => identity.check_names(hello.envelope.as_ref()),
        _ => identity.check(hello.envelope.as_ref()),
    };
    let checked = named.and_then(|from| match purpose {
        proto::Purpose::Unspecified => Err(Unusable::Lacks("purpose")),
        _ if hello.nonce.len() != NONCE_BYTES => Err(Unusable::Lacks("nonce")),
        _ => Ok(from),
    });
    let is_stranger =
        matches!(&checked, Err(Unusable::Misdirected { .. } | Unusable::NotYet { .. } | Unusable::NoMember { .. }));
    let may_hail = is_stranger && purpose != proto::Purpose::Enquire;
    let hails = identity.hails(hello.envelope.as_ref()).filter(|_| may_hail);
    let hello = hello.encode_to_vec();
    let nonce = nonce();
    let proof = identity.security.prove(Side::Dialled, &[&hello, &nonce]).into();
    // Who hails is refused at the end: what it proves and says of itself counts.
    let refused = checked.as_ref().err().filter(|_| hails.is_none());
    let (refusal, kind) = refused.map(|error| (error.to_peer(), error.kind())).unwrap_or_default();
    let acknowledged = checked.as_ref().map_or(LogIndex(0), |from| identity.acknowledged_by(*from));
    writer.put(&proto::Challenge { nonce: nonce.clone(), proof, refusal, kind: kind.into() });
    writer.flush().await?;
    let (from, refused) = match (checked, hails) {
        (Ok(from), _) => (from, None),
        (Err(error), Some(from)) => (from.0, Some(error)),
        (Err(error), None) => return Err(error.into()),
    };
    let Some(answer) = reader.next::<proto::Proof>().await? else {
        // It did not believe this side's proof, or is a stranger.
        let error = refused.unwrap_or(Unusable::Unproven { node: from });
        if identity.security.is_on() {
            identity.note_refusal(from, &error);
        }
        return Err(error.into());
    };
    let facts = answer.facts.unwrap_or_default();
    let said: &[&[u8]] = &[&hello, &nonce, &facts.encode_to_vec()];
    let is_proven = identity.security.holds(Side::Dialling, said, &answer.proof)
        && certificate.is_none_or(|certificate| security::is_of(&certificate, from));
    // An enquiry is over at once, and its sender may be nobody's member.
    let mut on_name = Some(on_name).filter(|_| purpose != proto::Purpose::Enquire);
    if is_proven && identity.security.is_on() && refused.is_none() {
        on_name.take().into_iter().for_each(|on_name| on_name(from, purpose));
    }
    let is_stranger = refused.is_some();
    let checked = match (Facts::from_wire(Some(facts)), refused) {
        _ if !is_proven => Err(Unusable::Unproven { node: from }),
        (Err(error), _) => Err(error),
        (Ok(facts), Some(error)) => {
            identity.note_hail(NodeId(from), &facts);
            Err(error)
        }
        // It asks what would be thought of it.
        (Ok(facts), None) if purpose == proto::Purpose::Enquire => identity.check_enquirer(from, &facts),
        (Ok(facts), None) if purpose == proto::Purpose::Probe => identity.judge(from, &facts, acknowledged).map(|_| ()),
        (Ok(facts), None) => know(identity, from, facts, acknowledged).await,
    };
    let (refusal, kind) = match &checked {
        Ok(()) => (String::new(), proto::Refusal::Unspecified),
        Err(error) => (error.to_peer(), error.kind()),
    };
    let facts = (is_proven && !is_stranger).then(|| identity.facts());
    let group = (checked.is_ok() && purpose == proto::Purpose::Enquire).then(|| identity.group());
    writer.put(&proto::Welcome { facts, refusal, kind: kind.into(), group });
    writer.flush().await?;
    if let Err(error) = checked {
        identity.note_refusal(from, &error);
        return Err(error.into());
    }
    reader.trust();
    on_name.into_iter().for_each(|on_name| on_name(from, purpose));
    Ok(Accepted { from, purpose, reader, writer })
}

/// Whether a peer that dialled is who this node knows. What is new about it is believed only if it proved itself;
/// otherwise what counts is who answers at its configured address.
async fn know(identity: &PeerIdentity, from: u64, facts: Facts, acknowledged: LogIndex) -> Result<(), Unusable> {
    match identity.judge(from, &facts, acknowledged)? {
        Judgement::Known => return Ok(()),
        Judgement::News if identity.security.is_on() => return identity.meet(from, facts, acknowledged).await,
        Judgement::News => {}
    }
    let address = identity.members.address_of(NodeId(from)).ok_or(Unusable::NoMember { node: from })?;
    let probing = Box::pin(dial(identity, from, &address, proto::Purpose::Probe));
    if let Ok(Err(LinkError::Unusable(error))) = tokio::time::timeout(PROBE_TIMEOUT, probing).await {
        return Err(error);
    }
    match identity.judge(from, &facts, acknowledged)? {
        Judgement::Known => Ok(()),
        Judgement::News => Err(Unusable::Unconfirmed { node: from }),
    }
}

fn other(reason: &str) -> LinkError {
    LinkError::OtherProtocol(reason.to_owned())
}

/// Says by name which versions do not fit, in a way that the dialling side understands.
async fn refuse_other_protocol(magic: [u8; MAGIC.len()], writer: &mut FrameWriter) -> LinkError {
    let version = magic[PROTOCOL_AT];
    let is_link = magic[..PROTOCOL_AT] == MAGIC[..PROTOCOL_AT] && magic[PROTOCOL_AT + 1..] == MAGIC[PROTOCOL_AT + 1..];
    if !is_link {
        return other("it does not begin as a link");
    }
    let words = format!("it speaks peer protocol {version}; run the same build of raftmq on all nodes");
    if version == 1 {
        // A Welcome of protocol 1: field 2 was the refusal, and frames had no checksum.
        let words = format!("this node speaks peer protocol {PROTOCOL} and refuses 1: run one build on all nodes");
        let mut frame = vec![0x12, u8::try_from(words.len()).expect("a short sentence")];
        frame.extend_from_slice(words.as_bytes());
        writer.put_bytes(&u32::try_from(frame.len()).expect("a short frame").to_be_bytes());
        writer.put_bytes(&frame);
        // The peer may be gone; it is refused either way.
        let _ = writer.flush().await;
    }
    LinkError::OtherProtocol(words)
}
