//! The port of `dLegerPeers`: gRPC calls and links come in at the same port and are told apart by their first byte.
//!
//! Hot path. A link names sender and receiver in its hello; what is meant for another node is refused before it reaches
//! Raft.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::machine::{Outcome, Proposal};
use crate::model::limits::LEADER_WAIT;
use crate::proto::peer as proto;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::proto::peer::peer_server::PeerServer;
use crate::raft::error::Failed;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::link;
use crate::raft::peer::link::MAGIC;
use crate::raft::peer::service::{PeerService, warn};
use crate::raft::peer::wire;
use crate::raft::types::Applied;

/// Frames of one follower in flight at once.
const FRAMES_IN_FLIGHT: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(2);
/// Connections accepted and not yet served as gRPC.
const ACCEPTED_MAX: usize = 64;
/// Links and connections of undecided kind at once; a shard needs a few per peer.
const LINKS_MAX: usize = 256;
/// Time for the first byte of a connection.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answers put into one write.
const ANSWERS_AT_ONCE: usize = 64;

/// Serves the peers on a bound port, until dropped.
pub(in crate::raft) fn serve(
    service: PeerService,
    listener: std::net::TcpListener,
) -> io::Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (calls, incoming) = mpsc::channel(ACCEPTED_MAX);
    let accepting = accept(service.clone(), listener, calls);
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_EVERY))
        .add_service(PeerServer::new(service))
        .serve_with_incoming(ReceiverStream::new(incoming));
    Ok(async move {
        tokio::select! {
            served = serving => served,
            never = accepting => match never {},
        }
    })
}

/// Accepts connections for as long as it is run; links end with it.
async fn accept(service: PeerService, listener: TcpListener, calls: mpsc::Sender<io::Result<TcpStream>>) -> Infallible {
    let mut links = JoinSet::new();
    loop {
        while links.try_join_next().is_some() {}
        if links.len() >= LINKS_MAX {
            links.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(links.spawn(take(service.clone(), stream, calls.clone()))),
            Err(error) => {
                tracing::warn!(%error, "a peer's connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection as a link, or passes it on to gRPC.
async fn take(service: PeerService, stream: TcpStream, calls: mpsc::Sender<io::Result<TcpStream>>) {
    let mut first = [0];
    match tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        Ok(_) | Err(_) => return,
    }
    if first[0] != MAGIC[0] {
        // tonic's own setting is for sockets it accepts itself. Without this every answer waits 40 ms for the peer's
        // delayed acknowledgement.
        let stream = stream.set_nodelay(true).map(|()| stream);
        // Fails only when the server ends.
        let _ = calls.send(stream).await;
        return;
    }
    let ended = match link::accept(&service.identity, stream).await {
        Ok((proto::Purpose::Append, reader, writer)) => take_appends(service, reader, writer).await,
        Ok((_, reader, writer)) => take_forwards(service, reader, writer).await,
        Err(error) => return tracing::warn!(%error, "a peer's link is not taken"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a peer's link ended");
    }
}

/// Appends of the leader, until its link ends.
async fn take_appends(service: PeerService, reader: FrameReader, mut writer: FrameWriter) -> io::Result<()> {
    let _ended = StreamEnded(service.stream_ended.clone());
    // The first frame that cannot be used ends the link: skipping it would leave a hole.
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next::<proto::AppendFrame>().await.ok()??;
        Some((wire::append(frame).inspect_err(warn).ok()?, reader))
    });
    let mut acks = std::pin::pin!(service.raft.stream_append(Box::pin(frames)).fuse());
    while let Some(ack) = acks.next().await {
        writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?, 0));
        for _ in 1..ANSWERS_AT_ONCE {
            let Some(Some(ack)) = acks.next().now_or_never() else { break };
            writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?, 0));
        }
        writer.flush().await?;
    }
    writer.close().await
}

/// Commands of a follower, until its link ends or takes no more replies.
async fn take_forwards(service: PeerService, mut reader: FrameReader, mut writer: FrameWriter) -> io::Result<()> {
    let (replies, mut outgoing) = mpsc::channel::<proto::ForwardReply>(FRAMES_IN_FLIGHT);
    let writing = async {
        while let Some(reply) = outgoing.recv().await {
            writer.put(&reply);
            while let Ok(reply) = outgoing.try_recv() {
                writer.put(&reply);
            }
            writer.flush().await?;
        }
        Ok(())
    };
    let reading = async move {
        let room = Arc::new(Semaphore::new(FRAMES_IN_FLIGHT));
        while let Some(frame) = reader.next::<proto::ForwardFrame>().await? {
            let proposals = frame.proposals.into_iter().map(Proposal::decode).collect::<Result<Vec<_>, _>>();
            let proposals = proposals.map_err(io::Error::other)?;
            let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
            let (proposer, replies) = (service.proposer.clone(), replies.clone());
            tokio::spawn(async move {
                let result = reply(proposer.propose_forwarded(proposals, LEADER_WAIT.into()).await);
                // A follower that is gone counts the frame as ambiguous.
                let _ = replies.send(proto::ForwardReply { id: frame.id, result: Some(result) }).await;
                drop(permit);
            });
        }
        Ok(())
    };
    // When the follower has closed, what it still waits for is answered first.
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Notifies when the stream of appends ends that it was made for.
struct StreamEnded(Arc<Notify>);

impl Drop for StreamEnded {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The fate of a follower's commands, as its frame is answered.
fn reply(fate: Result<Applied, Failed>) -> Reply {
    match fate {
        Ok(applied) => Reply::Outcomes(proto::Outcomes {
            index: applied.index.0,
            outcomes: applied.outcomes.iter().map(Outcome::encode).collect(),
        }),
        Err(Failed::NotLeader | Failed::NoLeader) => Reply::NotLeader(proto::NotLeader { leader: None }),
        Err(Failed::Busy) => Reply::Busy(proto::Busy {}),
        Err(Failed::Ambiguous) => Reply::Ambiguous(proto::Ambiguous {}),
    }
}
