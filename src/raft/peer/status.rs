//! Short calls to other replicas beside the log: their status, their read index, questions of the front end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{DiskRoom, LogIndex, NodeId, RoomState, Term, Timestamp};
use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::batch_reader::SegmentExtent;
use crate::raft::clock::samples::ClockSamples;
use crate::raft::digests::{DigestMark, Digests};
use crate::raft::error::{DiskFault, Disowned};
use crate::raft::peer::control::CallError;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::peers::Peers;
use crate::raft::peer::sight::{DayCounts, Sight, put_sight, read_sight};
use crate::raft::snapshot::progress::{CatchingUp, PullProgress};
use crate::store::log::record::RecordId;

/// A peer that does not answer in this time is unreachable.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// More members than there can be are not believed.
const MEMBERS_MAX: usize = 64;

/// Marks of one replica, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaStatus {
    pub node: NodeId,
    pub term: Term,
    /// Who leads, as it knows.
    pub leader: Option<NodeId>,
    /// Last entry in its log.
    pub last_log: LogIndex,
    /// Which entry that is; `None` from an older build.
    pub last_id: Option<RecordId>,
    /// What of its log or state was damaged, and what became of it.
    pub damage: Damage,
    /// Of the last entry applied; `None` before there is one, and from an older build.
    pub digest: Option<DigestMark>,
    /// Whose digests differ from its own at the same entry.
    pub differs_from: BTreeSet<NodeId>,
    /// Those that vote, by its log or by what it knows to be committed; none if it knows of none, and from an older build.
    pub voters: BTreeSet<NodeId>,
    /// Last entry it knows to be committed.
    pub committed: LogIndex,
    /// Last entry it applied.
    pub applied: LogIndex,
    pub process_id: u32,
    /// Where it serves clients.
    pub client_address: String,
    /// The port of the same host that classic clients are given; `None` from an older build.
    pub listen_port: Option<u16>,
    pub version: String,
    /// Messages that its front end receives from producers per second.
    pub in_per_second: f64,
    /// Messages that its front end delivers to consumers per second.
    pub out_per_second: f64,
    /// Its time of day; an older build does not say it.
    pub wall: Option<Timestamp>,
    /// What its clock is ahead of what most nodes agree on, as it knows.
    pub clock_offset_ms: Option<i64>,
    /// If it leads: how far each follower has acknowledged what is committed.
    pub acknowledged: Vec<(NodeId, LogIndex)>,
    /// On its disk; an older build does not say it.
    pub room: Option<DiskRoom>,
    /// Its disk takes more than a second for what it is to sync, or did a moment ago.
    pub slow_disk: bool,
    /// What it has of the log; `None` before its first file, and from an older build.
    pub log: Option<LogExtent>,
    /// It is about to stop.
    pub leaving: bool,
    /// While it catches up by a snapshot.
    pub catching_up: Option<CatchingUp>,
    /// `None` from an older build.
    pub sight: Option<Sight>,
}

/// What a leader answers that is asked to pass leadership on.
#[derive(Debug, Default)]
pub(in crate::raft) struct PassAnswer {
    /// Why it did not; empty if it did.
    pub refusal: String,
    /// Whether there was an election instead.
    pub elected: bool,
}

/// What a node has of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogExtent {
    /// Its first entry.
    pub first: LogIndex,
    /// What its files take on the disk.
    pub bytes: u64,
}

impl LogExtent {
    /// Of a log of these files.
    pub(in crate::raft) fn of(segments: &[SegmentExtent]) -> Option<Self> {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        segments.first().map(|segment| Self { first: segment.first, bytes })
    }
}

/// What of a node's log and state was damaged, and what became of it since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// Segments with something in them that cannot be read and is not repaired yet.
    pub damaged_segments: u64,
    /// It lost the end of its log, and does not vote until it has that again.
    pub lacks_tail: bool,
    /// Entries, and whole segments, that were replaced by what peers have.
    pub repaired_entries: u64,
    pub rebuilt_segments: u64,
}

/// What a replica says of itself beside its Raft marks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnFacts {
    /// Where it serves clients.
    pub client_address: String,
    /// The port of the same host that classic clients are given.
    pub listen_port: Option<u16>,
    /// Messages received from producers per second.
    pub in_per_second: f64,
    /// Messages delivered to consumers per second.
    pub out_per_second: f64,
    /// What it counted.
    pub days: Option<DayCounts>,
}

/// What a peer answers.
pub(in crate::raft) enum StatusReply {
    Status(Box<ReplicaStatus>),
    /// It refuses this node for good.
    Disowned(Disowned),
    /// It is of another shard or cluster, or has another id; its words.
    Stranger(String),
    /// Nothing, in time.
    Silent,
}

/// What a peer says to a node that starts.
pub(in crate::raft) enum Greeted {
    /// It knows this node as what it is.
    Friend,
    /// It refuses this node for good.
    Disowned(Disowned),
    /// As [`StatusReply::Stranger`].
    Stranger(String),
    /// Nothing, in time.
    Silent,
}

/// Called with what a peer says of the room on its disk.
pub(in crate::raft) type OnRoom = Arc<dyn Fn(NodeId, Option<DiskRoom>) + Send + Sync>;

/// Short calls beside the log, to all peers. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct StatusClients {
    identity: PeerIdentity,
    clock_samples: Arc<ClockSamples>,
    on_room: OnRoom,
    digests: Digests,
    peers: Peers,
}

impl StatusClients {
    pub(in crate::raft) fn new(
        peers: &Peers,
        clock_samples: Arc<ClockSamples>,
        on_room: OnRoom,
        digests: Digests,
    ) -> Self {
        // These calls come every second and keep the link of heartbeats and votes open.
        Self { identity: peers.identity().clone(), clock_samples, on_room, digests, peers: peers.clone() }
    }

    /// This node.
    pub(in crate::raft) fn own_id(&self) -> NodeId {
        NodeId(self.identity.node)
    }

    /// Asks a peer for its marks, and notes what its clock and its disk say.
    pub(in crate::raft) async fn ask(&self, node: NodeId) -> StatusReply {
        let Some(client) = self.peers.control(node) else { return StatusReply::Silent };
        let asked = self.clock_samples.mono();
        match client.call(Call::Status(proto::StatusCall {}), STATUS_TIMEOUT).await {
            Ok(Answer::Status(answer)) => {
                let status = read_status(answer);
                if let Some(wall) = status.wall {
                    self.clock_samples.note(node, wall, asked);
                }
                (self.on_room)(node, status.room);
                self.digests.note_peer(node, status.digest, status.differs_from.clone(), Instant::now());
                if status.leader == Some(status.node) {
                    self.identity.note_acknowledged(&status.acknowledged);
                }
                // What it has applied is durable in its log (D5).
                self.identity.note_acknowledged(&[(node, status.applied)]);
                let pulled = status.catching_up.as_ref().map(|catching_up| catching_up.progress);
                self.identity.note_pulled(node, pulled);
                StatusReply::Status(Box::new(status))
            }
            Err(CallError::Link(error)) => match &*error {
                LinkError::Refused { kind, reason } => self.refused(node, *kind, reason.clone()),
                _ => StatusReply::Silent,
            },
            Ok(_) | Err(_) => StatusReply::Silent,
        }
    }

    fn refused(&self, by: NodeId, kind: proto::Refusal, reason: String) -> StatusReply {
        let fault = match kind {
            proto::Refusal::Replaced => DiskFault::Other,
            proto::Refusal::RolledBack => DiskFault::Older,
            proto::Refusal::Stranger => return StatusReply::Stranger(reason),
            // Whoever is there in a member's place is as good as nobody.
            proto::Refusal::OtherLineage | proto::Refusal::Unspecified => return StatusReply::Silent,
        };
        StatusReply::Disowned(Disowned { node: NodeId(self.identity.node), by, fault, reason })
    }

    /// The read index of a peer; `None` if it does not lead or does not answer.
    pub(in crate::raft) async fn read_index(&self, leader: NodeId) -> Option<LogIndex> {
        let client = self.peers.control(leader)?;
        match client.call(Call::ReadIndex(proto::ReadIndexCall {}), STATUS_TIMEOUT).await {
            Ok(Answer::ReadIndex(answer)) => Some(LogIndex(answer.index)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Asks the leader to make another node the leader; `None` if it does not answer.
    pub(in crate::raft) async fn pass_leadership(
        &self,
        leader: NodeId,
        to: NodeId,
        within: Duration,
    ) -> Option<PassAnswer> {
        let client = self.peers.control(leader)?;
        match client.call(Call::PassLeadership(proto::PassLeadershipCall { to: to.0 }), within).await {
            Ok(Answer::PassLeadership(proto::PassLeadershipAnswer { refusal, elected })) => {
                Some(PassAnswer { refusal, elected })
            }
            Err(CallError::Refused(refusal)) => Some(PassAnswer { refusal, elected: false }),
            Ok(_) | Err(_) => None,
        }
    }

    /// A question of the front end.
    pub(in crate::raft) async fn question(&self, node: NodeId, question: Bytes) -> Option<Bytes> {
        let client = self.peers.control(node)?;
        match client.call(Call::Ask(proto::AskCall { question }), STATUS_TIMEOUT).await {
            Ok(Answer::Ask(answer)) => Some(answer.answer),
            Ok(_) | Err(_) => None,
        }
    }

    /// Why this node refuses a peer's links, as operators are shown it.
    pub(in crate::raft) fn refusal(&self, node: NodeId) -> Option<&'static str> {
        self.identity.refusal(node.0)
    }

    /// See [`PeerIdentity::all_sync`].
    pub(in crate::raft) fn all_sync(&self) -> bool {
        self.identity.all_sync()
    }

    /// See [`PeerIdentity::common_version`].
    pub(in crate::raft) fn common_version(&self, applied: u32) -> u32 {
        self.identity.common_version(applied)
    }

    /// Asks all peers at once.
    pub(in crate::raft) async fn ask_all(&self) -> Vec<StatusReply> {
        futures_util::future::join_all(self.others().iter().map(async |node| self.ask(*node).await)).await
    }

    /// Greets all peers at once, without more: whether they would have this node take part.
    pub(in crate::raft) async fn greet_all(&self) -> Vec<Greeted> {
        let greeting = self.others().into_iter().map(async |node| {
            let Some(address) = self.identity.members.address_of(node) else { return Greeted::Silent };
            let dialled = link::dial(&self.identity, node.0, &address, proto::Purpose::Probe);
            match tokio::time::timeout(STATUS_TIMEOUT, dialled).await {
                Ok(Ok(_)) => Greeted::Friend,
                Ok(Err(LinkError::Refused { kind, reason })) => match self.refused(node, kind, reason) {
                    StatusReply::Disowned(disowned) => Greeted::Disowned(disowned),
                    StatusReply::Stranger(reason) => Greeted::Stranger(reason),
                    StatusReply::Status(_) | StatusReply::Silent => Greeted::Silent,
                },
                Ok(Err(_)) | Err(_) => Greeted::Silent,
            }
        });
        futures_util::future::join_all(greeting).await
    }

    /// The other members.
    fn others(&self) -> Vec<NodeId> {
        let members = self.identity.members.now();
        members.all().map(|member| member.node).filter(|node| node.0 != self.identity.node).collect()
    }

    /// From now on this node takes part.
    pub(in crate::raft) fn set_started(&self) {
        self.identity.set_started();
    }
}

pub(in crate::raft) fn put_status(status: ReplicaStatus) -> proto::StatusAnswer {
    proto::StatusAnswer {
        node: status.node.0,
        term: status.term.0,
        leader: status.leader.map(|leader| leader.0),
        last_log: status.last_log.0,
        committed: status.committed.0,
        applied: status.applied.0,
        process_id: status.process_id,
        client_address: status.client_address,
        listen_port: status.listen_port.map(u32::from),
        version: status.version,
        in_per_second: status.in_per_second,
        out_per_second: status.out_per_second,
        acknowledged: status
            .acknowledged
            .iter()
            .map(|(node, index)| proto::Acknowledged { node: node.0, index: index.0 })
            .collect(),
        wall_ms: status.wall.map(|wall| wall.0),
        clock_offset_ms: status.clock_offset_ms,
        room: status.room.map(put_room),
        slow_disk: status.slow_disk,
        log: status.log.map(|log| proto::LogExtent { first: log.first.0, bytes: log.bytes }),
        leaving: status.leaving,
        catching_up: status.catching_up.map(|CatchingUp { progress, waits_for }| proto::SnapshotPull {
            applied: progress.applied.0,
            done_bytes: progress.done,
            total_bytes: progress.total,
            waits_for: waits_for.unwrap_or_default(),
        }),
        last_id: status.last_id.map(|id| proto::LogId { term: id.term.0, node: id.node.0, index: id.index.0 }),
        damage: Some(put_damage(status.damage)),
        digest: status.digest.map(|mark| proto::DigestMark { applied: mark.applied.0, digest: mark.digest }),
        differs_from: status.differs_from.iter().map(|node| node.0).collect(),
        voters: status.voters.iter().map(|node| node.0).collect(),
        sight: status.sight.map(put_sight),
    }
}

fn put_damage(damage: Damage) -> proto::Damage {
    let Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments } = damage;
    proto::Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments }
}

fn read_damage(damage: proto::Damage) -> Damage {
    let proto::Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments } = damage;
    Damage { damaged_segments, lacks_tail, repaired_entries, rebuilt_segments }
}

fn put_room(room: DiskRoom) -> proto::DiskRoom {
    let DiskRoom { total, free, reserve, soft, hard, state, .. } = room;
    proto::DiskRoom { total, free, reserve, soft, hard, state: state as i32 }
}

fn read_room(room: proto::DiskRoom) -> DiskRoom {
    let proto::DiskRoom { total, free, reserve, soft, hard, state } = room;
    let known = usize::try_from(state).ok().and_then(|number| RoomState::ALL.get(number).copied());
    // A newer build may know of worse.
    DiskRoom { total, free, usable: free, reserve, soft, hard, state: known.unwrap_or(RoomState::Full) }
}

fn read_status(answer: proto::StatusAnswer) -> ReplicaStatus {
    ReplicaStatus {
        node: NodeId(answer.node),
        term: Term(answer.term),
        leader: answer.leader.map(NodeId),
        last_log: LogIndex(answer.last_log),
        committed: LogIndex(answer.committed),
        applied: LogIndex(answer.applied),
        process_id: answer.process_id,
        client_address: answer.client_address,
        listen_port: answer.listen_port.and_then(|port| u16::try_from(port).ok()),
        version: answer.version,
        in_per_second: answer.in_per_second,
        out_per_second: answer.out_per_second,
        acknowledged: answer.acknowledged.iter().map(|it| (NodeId(it.node), LogIndex(it.index))).collect(),
        wall: answer.wall_ms.map(Timestamp),
        clock_offset_ms: answer.clock_offset_ms,
        room: answer.room.map(read_room),
        slow_disk: answer.slow_disk,
        log: answer.log.map(|log| LogExtent { first: LogIndex(log.first), bytes: log.bytes }),
        leaving: answer.leaving,
        catching_up: answer.catching_up.map(|pull| CatchingUp {
            progress: PullProgress { applied: LogIndex(pull.applied), done: pull.done_bytes, total: pull.total_bytes },
            waits_for: Some(pull.waits_for).filter(|why| !why.is_empty()),
        }),
        last_id: answer.last_id.map(|id| RecordId {
            term: Term(id.term),
            node: NodeId(id.node),
            index: LogIndex(id.index),
        }),
        damage: answer.damage.map(read_damage).unwrap_or_default(),
        digest: answer.digest.map(|mark| DigestMark { applied: LogIndex(mark.applied), digest: mark.digest }),
        differs_from: answer.differs_from.into_iter().take(MEMBERS_MAX).map(NodeId).collect(),
        voters: answer.voters.into_iter().take(MEMBERS_MAX).map(NodeId).collect(),
        sight: answer.sight.map(read_sight),
    }
}
