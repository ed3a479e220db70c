//! Who is on the other side of a link: cluster, `dLegerGroup`, shard, node and disk.
//!
//! A node is known by its disk and by the last start that its peers saw of it. A node that lost its disk, or whose disk was
//! put back to an earlier state, is refused, for its vote or acknowledgement could undo what it once acknowledged (D18,
//! D82).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::machine::CLUSTER_VERSION;
use crate::model::{LogIndex, NodeId, text_hash};
use crate::proto::peer as proto;
use crate::raft::peer::facts::Facts;
use crate::raft::peer::security::PeerSecurity;
use crate::raft::peer::unusable::Unusable;
use crate::store::log::{CommitLog, KnownPeer};

/// The only shard there is.
const SHARD: u64 = 0;
/// One refusal is written down once in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A refusal is shown to operators for this long after it happened last.
const REFUSAL_SHOWN: Duration = Duration::from_secs(30);

/// Who this node is to its peers, and who they are to it. Cheap to clone.
#[derive(Clone)]
pub struct PeerIdentity {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    pub node: u64,
    /// `host:port` of all members by id, this one included.
    pub addresses: Arc<BTreeMap<u64, String>>,
    pub security: PeerSecurity,
    /// Remembers which disks the peers are on.
    pub log: CommitLog,
    /// `ASYNC_FLUSH`: a power loss may take what a peer acknowledged.
    pub may_lose_tail: bool,
    refusals: Arc<Mutex<BTreeMap<(u64, i32), Refused>>>,
    /// When a peer that cannot be reached was last reported.
    unreachable: Arc<Mutex<BTreeMap<u64, Instant>>>,
    /// What the peers surely have of the committed log, as heard since this node's start.
    held: Arc<Mutex<BTreeMap<u64, LogIndex>>>,
    /// What the peers said when they were met last, since this node's start.
    met: Arc<Mutex<BTreeMap<u64, Met>>>,
    /// This node's term, or one of a moment ago.
    term: Arc<AtomicU64>,
    /// The cluster version in this node's state, or one of a moment ago.
    applied_version: Arc<AtomicU32>,
    /// Whether this node knows that no peer refuses it.
    has_started: Arc<AtomicBool>,
}

/// What a peer said when it was met last.
#[derive(Clone, Copy)]
struct Met {
    cluster_version: u32,
    may_lose_tail: bool,
    members: u64,
}

/// When last a peer was refused for one kind of reason.
struct Refused {
    kind: proto::Refusal,
    at: Instant,
    warned: Instant,
}

/// What this node makes of facts that fit what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum Judgement {
    /// Nothing is new.
    Known,
    /// A disk, or a start, not seen before.
    News,
}

impl PeerIdentity {
    pub fn new(
        (cluster, group): (String, String),
        node: u64,
        addresses: BTreeMap<u64, String>,
        security: PeerSecurity,
        log: CommitLog,
        may_lose_tail: bool,
    ) -> Self {
        let addresses = Arc::new(addresses);
        Self {
            cluster,
            group,
            node,
            addresses,
            security,
            log,
            may_lose_tail,
            refusals: Arc::default(),
            unreachable: Arc::default(),
            held: Arc::default(),
            met: Arc::default(),
            term: Arc::default(),
            applied_version: Arc::default(),
            has_started: Arc::default(),
        }
    }

    /// This node's term, or one of a moment ago.
    pub(in crate::raft) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(in crate::raft) fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// The envelope of this node's links.
    pub(in crate::raft) fn envelope(&self, to: u64) -> proto::Envelope {
        let (cluster, group) = (self.cluster.clone(), self.group.clone());
        proto::Envelope { cluster, group, from: self.node, to, shard: SHARD }
    }

    /// What this node says of its disk.
    pub(in crate::raft) fn facts(&self) -> proto::Facts {
        Facts {
            disk: self.log.disk(),
            starts: self.log.starts(),
            last: self.log.last().map_or(LogIndex(0), |last| last.index),
            cluster_version: CLUSTER_VERSION,
            may_lose_tail: self.may_lose_tail,
            members: self.members(),
            is_starting: !self.has_started.load(Ordering::Relaxed),
        }
        .to_wire()
    }

    /// The peers that could be asked do not refuse this node: it takes part from now on.
    pub(in crate::raft) fn set_started(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }

    /// A hash of the members as this node's configuration has them.
    fn members(&self) -> u64 {
        let members: Vec<_> = self.addresses.iter().map(|(id, address)| format!("n{id}-{address}")).collect();
        text_hash(&members.join(";"))
    }

    /// Whether a link is meant for this node and comes from another member; returns which.
    pub(in crate::raft) fn check(&self, envelope: Option<&proto::Envelope>) -> Result<u64, Unusable> {
        let envelope = envelope.ok_or(Unusable::Lacks("envelope"))?;
        let is_mine = envelope.cluster == self.cluster
            && envelope.group == self.group
            && envelope.shard == SHARD
            && envelope.to == self.node;
        if !is_mine {
            return Err(Unusable::Misdirected {
                cluster: envelope.cluster.clone(),
                group: envelope.group.clone(),
                shard: envelope.shard,
                to: envelope.to,
                me: format!("node n{} of group {} in cluster {}", self.node, self.group, self.cluster),
            });
        }
        if !self.addresses.contains_key(&envelope.from) || envelope.from == self.node {
            return Err(Unusable::NoMember { node: envelope.from });
        }
        Ok(envelope.from)
    }

    /// How much of the committed log a peer has acknowledged, as far as is remembered. To be asked before the peer says how
    /// far its log goes: both grow.
    pub(in crate::raft) fn acknowledged_by(&self, node: u64) -> LogIndex {
        self.log.known_peer(NodeId(node)).map_or(LogIndex(0), |known| known.acknowledged)
    }

    /// What a peer says of itself, against what this node knows of it. `acknowledged` is from before it spoke.
    ///
    /// * Errors: nothing of this peer counts.
    pub(in crate::raft) fn judge(
        &self,
        node: u64,
        facts: &Facts,
        acknowledged: LogIndex,
    ) -> Result<Judgement, Unusable> {
        let (theirs, ours) = (facts.cluster_version, self.applied_version());
        if theirs < ours {
            return Err(Unusable::TooOld { node, theirs, ours });
        }
        let Some(known) = self.log.known_peer(NodeId(node)) else { return Ok(Judgement::News) };
        if known.disk != facts.disk {
            return Err(Unusable::Replaced { node });
        }
        if facts.last < acknowledged && !facts.may_lose_tail {
            let why = format!("its log ends at {}, and it has acknowledged {acknowledged}", facts.last);
            return Err(Unusable::RolledBack { node, why });
        }
        let Some(seen) = known.start else { return Ok(Judgement::News) };
        let has_seen = facts.starts.contains(&seen);
        // Its memory of starts is bounded; what was before it nobody can tell.
        let is_forgotten = facts.starts.first().is_some_and(|oldest| oldest.number > seen.number);
        if !has_seen && !is_forgotten {
            let newest = facts.starts.last().map_or(0, |start| start.number);
            let why = format!("it does not know its start {} that this node saw, its last is {newest}", seen.number);
            return Err(Unusable::RolledBack { node, why });
        }
        Ok(if facts.starts.last() == Some(&seen) { Judgement::Known } else { Judgement::News })
    }

    /// As [`Self::judge`], of facts that certainly are this peer's: what is new is remembered durably, once the peer takes
    /// part. Another peer may refuse it before, and then a start that this node remembered would be held against the right
    /// folder.
    pub(in crate::raft) async fn meet(&self, node: u64, facts: Facts, acknowledged: LogIndex) -> Result<(), Unusable> {
        let judgement = self.judge(node, &facts, acknowledged)?;
        if facts.is_starting {
            return Ok(());
        }
        if judgement == Judgement::News {
            let acknowledged = self.acknowledged_by(node);
            let known = KnownPeer { disk: facts.disk, start: facts.starts.last().copied(), acknowledged };
            let log = self.log.clone();
            let knowing = tokio::task::spawn_blocking(move || log.know_peer(NodeId(node), known));
            let known = knowing.await.map_err(|panic| Unusable::Memory(panic.to_string()))?;
            known.map_err(|error| Unusable::Memory(error.to_string()))?;
        }
        let Facts { cluster_version, may_lose_tail, members, .. } = facts;
        let before = self.met.lock().insert(node, Met { cluster_version, may_lose_tail, members });
        if members != self.members() && before.is_none_or(|before| before.members != members) {
            // Hosts may move one after the other, so it is no reason to refuse a peer.
            tracing::warn!(
                peer = format!("n{node}"),
                "dLegerPeers differs from this node's: give all nodes the same members with the same addresses"
            );
        }
        self.refusals.lock().retain(|(refused, _), _| *refused != node);
        Ok(())
    }

    /// The newest cluster version that all peers met so far can take part in. From now on those that cannot take part in
    /// the `applied` one are refused.
    pub(in crate::raft) fn common_version(&self, applied: u32) -> u32 {
        self.applied_version.store(applied, Ordering::Relaxed);
        self.met.lock().values().map(|met| met.cluster_version).fold(CLUSTER_VERSION, u32::min)
    }

    /// Remembers how far peers have acknowledged or applied what is committed: coarsely on the disk, but for those whose disks
    /// may lose it.
    pub(in crate::raft) fn note_acknowledged(&self, marks: &[(NodeId, LogIndex)]) {
        let mut held = self.held.lock();
        for (node, index) in marks {
            let before = held.entry(node.0).or_default();
            *before = (*before).max(*index);
        }
        drop(held);
        let met = self.met.lock().clone();
        let keeps = |node: &NodeId| met.get(&node.0).is_some_and(|met| !met.may_lose_tail);
        let marks: Vec<_> = marks.iter().copied().filter(|(node, _)| keeps(node)).collect();
        self.log.note_acknowledged(&marks);
    }

    /// What each other member surely has of the committed log; 0 for one that nothing is known of.
    pub(in crate::raft) fn held_by_others(&self) -> Vec<(u64, LogIndex)> {
        let held = self.held.lock().clone();
        let others = self.addresses.keys().filter(|node| **node != self.node);
        let has = |node: &u64| held.get(node).copied().unwrap_or_default().max(self.acknowledged_by(*node));
        others.map(|node| (*node, has(node))).collect()
    }

    /// The cluster version in this node's state, or one of a moment ago.
    pub(in crate::raft) fn applied_version(&self) -> u32 {
        self.applied_version.load(Ordering::Relaxed)
    }

    /// Writes down that a member's link was refused, and why, and remembers it for operators.
    pub(in crate::raft) fn note_refusal(&self, node: u64, error: &Unusable) {
        let now = Instant::now();
        let mut refusals = self.refusals.lock();
        let key = (node, error.kind().into());
        let warned = refusals.get(&key).map(|before| before.warned).filter(|warned| now - *warned < WARN_EVERY);
        refusals.insert(key, Refused { kind: error.kind(), at: now, warned: warned.unwrap_or(now) });
        drop(refusals);
        if warned.is_none() {
            tracing::warn!(peer = format!("n{node}"), %error, "peer refused");
        }
    }

    /// Writes down, once in a while, that a member cannot be sent appends.
    pub(in crate::raft) fn note_unreachable(&self, node: u64, error: &dyn std::fmt::Display) {
        let now = Instant::now();
        let mut unreachable = self.unreachable.lock();
        if unreachable.get(&node).is_some_and(|reported| now - *reported < WARN_EVERY) {
            return;
        }
        unreachable.insert(node, now);
        drop(unreachable);
        tracing::warn!(peer = format!("n{node}"), %error, "this leader cannot send a member what it lacks; it goes on trying");
    }

    /// It can again.
    pub(in crate::raft) fn note_reached(&self, node: u64) {
        if self.unreachable.lock().remove(&node).is_some() {
            tracing::info!(peer = format!("n{node}"), "a member that could not be reached is there again");
        }
    }

    /// Why a member was refused lately, as operators are shown it.
    pub(in crate::raft) fn refusal(&self, node: u64) -> Option<&'static str> {
        let refusals = self.refusals.lock();
        let of_node = refusals.iter().filter(|((refused, _), _)| *refused == node).map(|(_, refused)| refused);
        let refused =
            of_node.max_by_key(|refused| refused.at).filter(|refused| refused.at.elapsed() < REFUSAL_SHOWN)?;
        Some(match refused.kind {
            proto::Refusal::Replaced => "other disk",
            proto::Refusal::RolledBack => "rolled back",
            proto::Refusal::Stranger | proto::Refusal::Unspecified => "refused",
        })
    }
}
