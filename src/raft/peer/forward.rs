//! Frames of commands from a follower to the leader (D15): one link per leader, many frames in flight.
//!
//! Hot path. A frame without an answer when its link ends has an unknown outcome; the commands of a frame that was never
//! sent are certainly not in the log. The two are never mixed up (D17).

use std::time::Duration;

use bytes::Bytes;

use crate::machine::Outcome;
use crate::model::{LogIndex, NoRoom, NodeId, Term};
use crate::proto::peer as proto;
use crate::proto::peer::forward_reply::Result as Reply;
use crate::raft::peer::by_member::ByMember;
use crate::raft::peer::frame::FrameWriter;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::requests::{Request, Unanswered};
use crate::raft::peer::shared_link::SharedLink;
use crate::raft::types::{Applied, Times};

/// A link that does not come up in this time is not there.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
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
    /// Too few nodes have room; nothing of it will be in the log.
    NoRoom(NoRoom),
    /// The leader takes no such command; nothing of it will be in the log.
    Unusable(String),
    Ambiguous,
}

/// Encoded proposals.
pub(in crate::raft) struct Frame(Vec<Bytes>);

impl Request for Frame {
    type Answer = proto::ForwardReply;

    fn put(self, id: u64, writer: &mut FrameWriter) {
        writer.put_forward(id, self.0);
    }

    fn id_of(reply: &proto::ForwardReply) -> u64 {
        reply.id
    }
}

/// Sends frames to whoever leads, over one link to each peer.
pub(in crate::raft) struct Forwarder {
    identity: PeerIdentity,
    links: ByMember<SharedLink<Frame>>,
}

impl Forwarder {
    pub(in crate::raft) fn new(identity: &PeerIdentity) -> Self {
        Self { identity: identity.clone(), links: ByMember::new(identity.members.clone()) }
    }

    fn link(&self, to: NodeId) -> Option<SharedLink<Frame>> {
        let purpose = proto::Purpose::Forward;
        self.links.of(to, |address| SharedLink::new(self.identity.clone(), to.0, address.to_owned(), purpose))
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
        let Some(shared) = self.link(leader) else { return Forwarded::NotSent };
        let opened = tokio::select! {
            opened = tokio::time::timeout(DIAL_TIMEOUT, shared.open()) => opened.ok(),
            () = deposed.as_mut() => None,
        };
        let Some(Ok(link)) = opened else { return Forwarded::NotSent };
        let put = tokio::select! {
            put = link.put(Frame(proposals)) => put,
            // What is dropped while it waits for room has sent nothing.
            () = deposed.as_mut() => Err(Unanswered::NotSent),
        };
        let mut in_flight = match put {
            Ok(in_flight) => in_flight,
            Err(Unanswered::NotSent) => return Forwarded::NotSent,
            Err(Unanswered::Lost) => return Forwarded::Ambiguous,
        };
        let reply = tokio::select! {
            reply = tokio::time::timeout(ANSWER_TIMEOUT, in_flight.answer()) => reply.ok().flatten(),
            () = deposed => None,
        };
        if let Some(reply) = reply {
            return outcome(reply.result);
        }
        // A link that owes an answer for this long is not worth keeping, and one to a peer that was deposed is dialled
        // anew should that peer lead again.
        shared.forget(&link);
        Forwarded::Ambiguous
    }
}

fn outcome(result: Option<Reply>) -> Forwarded {
    match result {
        Some(Reply::Outcomes(outcomes)) => {
            let (index, term) = (LogIndex(outcomes.index), Term(outcomes.term));
            match outcomes.outcomes.into_iter().map(Outcome::decode).collect() {
                Ok(outcomes) => Forwarded::Applied(Applied { index, term, outcomes, times: Times::default() }),
                // From a newer leader, in a format that this node cannot read.
                Err(_) => Forwarded::Ambiguous,
            }
        }
        Some(Reply::NotLeader(_)) => Forwarded::NotLeader,
        Some(Reply::Busy(_)) => Forwarded::Busy,
        Some(Reply::NoRoom(no_room)) => Forwarded::NoRoom(read_no_room(&no_room)),
        Some(Reply::Unusable(unusable)) => Forwarded::Unusable(unusable.reason),
        Some(Reply::Ambiguous(_)) | None => Forwarded::Ambiguous,
    }
}

pub(in crate::raft) fn put_no_room(no_room: NoRoom) -> proto::NoRoom {
    let NoRoom { with_room, voters, fullest, free, mark } = no_room;
    proto::NoRoom { with_room, voters, fullest: fullest.0, free, mark }
}

fn read_no_room(no_room: &proto::NoRoom) -> NoRoom {
    let proto::NoRoom { with_room, voters, fullest, free, mark } = *no_room;
    NoRoom { with_room, voters, fullest: NodeId(fullest), free, mark }
}
