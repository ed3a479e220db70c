//! Frames of commands from a follower to the leader (D15): one link per leader, many frames in flight.
//!
//! Hot path. A frame without an answer when its link ends has an unknown outcome; the commands of a frame that was never
//! sent are certainly not in the log. The two are never mixed up (D17).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::machine::Outcome;
use crate::model::{LogIndex, NodeId};
use crate::proto::peer as proto;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::link;
use crate::raft::peer::peers::Peers;
use crate::raft::types::Applied;

/// Frames handed to a link and not yet sent.
const FRAMES_MAX: usize = 64;
/// A link that does not come up in this time is not there.
const DIAL_TIMEOUT: Duration = Duration::from_millis(300);
/// A frame without an answer after this long has an unknown outcome.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of a frame.
#[derive(Debug)]
pub(in crate::raft) enum Forwarded {
    /// Applied: an outcome per proposal.
    Applied(Applied),
    /// The peer does not lead; nothing of it will be in the log.
    NotLeader,
    /// It was never sent; nothing of it will be in the log.
    NotSent,
    /// The leader had no room; nothing of it will be in the log.
    Busy,
    Ambiguous,
}

/// The frames without an answer; `None` once the link has ended.
type Pending = Arc<Mutex<Option<BTreeMap<u64, oneshot::Sender<Forwarded>>>>>;

struct Link {
    frames: mpsc::Sender<proto::ForwardFrame>,
    pending: Pending,
    /// Ends with the link, and answers what is still pending.
    _reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

/// Sends frames to whoever leads; keeps one link to each peer that did.
pub(in crate::raft) struct Forwarder {
    peers: Peers,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    ids: AtomicU64,
}

impl Forwarder {
    pub(in crate::raft) fn new(peers: Peers) -> Self {
        Self { peers, links: Mutex::default(), ids: AtomicU64::new(0) }
    }

    /// Sends encoded proposals to the leader and waits for their outcome, until the leader is `deposed`: what was sent
    /// by then has an unknown outcome.
    pub(in crate::raft) async fn forward(
        &self,
        leader: NodeId,
        proposals: Vec<Bytes>,
        deposed: impl Future<Output = ()>,
    ) -> Forwarded {
        let mut deposed = std::pin::pin!(deposed);
        let link = tokio::select! {
            link = self.link(leader.0) => link,
            () = deposed.as_mut() => None,
        };
        let Some(link) = link else { return Forwarded::NotSent };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *link.pending.lock() {
            Some(pending) => drop(pending.insert(id, answer)),
            None => return Forwarded::NotSent,
        }
        let frame = proto::ForwardFrame { id, proposals };
        let sent = tokio::select! {
            sent = link.frames.send(frame) => sent.is_ok(),
            // A send that is dropped while it waits for room has sent nothing.
            () = deposed.as_mut() => false,
        };
        if !sent {
            // The link ended before it took the frame. Whoever removes the entry decides its outcome.
            return match take(&link.pending, id) {
                Some(_) => Forwarded::NotSent,
                None => Forwarded::Ambiguous,
            };
        }
        let fate = tokio::select! {
            fate = tokio::time::timeout(ANSWER_TIMEOUT, answered) => fate,
            () = deposed => {
                take(&link.pending, id);
                // Should that peer lead again, it is dialled anew.
                let mut links = self.links.lock();
                if links.get(&leader.0).is_some_and(|kept| Arc::ptr_eq(kept, &link)) {
                    links.remove(&leader.0);
                }
                return Forwarded::Ambiguous;
            }
        };
        match fate {
            Ok(Ok(fate)) => fate,
            Ok(Err(_)) | Err(_) => {
                take(&link.pending, id);
                // A link that owes an answer for this long is not worth keeping.
                self.links.lock().remove(&leader.0);
                Forwarded::Ambiguous
            }
        }
    }

    async fn link(&self, to: u64) -> Option<Arc<Link>> {
        if let Some(link) = self.links.lock().get(&to).filter(|link| link.pending.lock().is_some()) {
            return Some(link.clone());
        }
        let address = self.peers.addresses().get(&to)?;
        let dialling = link::dial(self.peers.identity(), to, address, proto::Purpose::Forward);
        let (reader, writer) = tokio::time::timeout(DIAL_TIMEOUT, dialling).await.ok()?.ok()?;
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let pending = Pending::new(Mutex::new(Some(BTreeMap::new())));
        let reader = tokio::spawn(read(reader, pending.clone(), frames.clone()));
        let writer = tokio::spawn(write(writer, outgoing));
        let (reader, writer) = (AbortOnDropHandle::new(reader), AbortOnDropHandle::new(writer));
        let link = Arc::new(Link { frames, pending, _reader: reader, _writer: writer });
        // Two openers may race; the loser's link serves its own frames and goes with them.
        self.links.lock().insert(to, link.clone());
        Some(link)
    }
}

async fn write(mut link: FrameWriter, mut frames: mpsc::Receiver<proto::ForwardFrame>) {
    while let Some(frame) = frames.recv().await {
        link.put_forward(frame.id, frame.proposals);
        while let Ok(frame) = frames.try_recv() {
            link.put_forward(frame.id, frame.proposals);
        }
        // The reading side notices a broken link too.
        if link.flush().await.is_err() {
            return;
        }
    }
}

async fn read(mut link: FrameReader, pending: Pending, frames: mpsc::Sender<proto::ForwardFrame>) {
    while let Ok(Some(reply)) = link.next::<proto::ForwardReply>().await {
        let Some(answer) = take(&pending, reply.id) else { continue };
        // A caller that is gone does not care.
        let _ = answer.send(fate(reply.result));
    }
    // Frames still in the queue may yet be sent by the ending link, so their outcome is unknown as well.
    drop(frames);
    for (_, answer) in pending.lock().take().into_iter().flatten() {
        let _ = answer.send(Forwarded::Ambiguous);
    }
}

fn take(pending: &Pending, id: u64) -> Option<oneshot::Sender<Forwarded>> {
    pending.lock().as_mut()?.remove(&id)
}

fn fate(result: Option<Reply>) -> Forwarded {
    match result {
        Some(Reply::Outcomes(outcomes)) => {
            let index = LogIndex(outcomes.index);
            match outcomes.outcomes.into_iter().map(Outcome::decode).collect() {
                Ok(outcomes) => Forwarded::Applied(Applied { index, outcomes }),
                // From a newer leader, in a format that this node cannot read.
                Err(_) => Forwarded::Ambiguous,
            }
        }
        Some(Reply::NotLeader(_)) => Forwarded::NotLeader,
        Some(Reply::Busy(_)) => Forwarded::Busy,
        Some(Reply::Ambiguous(_)) | None => Forwarded::Ambiguous,
    }
}
