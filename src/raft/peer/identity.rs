//! Who is on the other side of a link: cluster, `dLegerGroup`, shard, node and disk.
//!
//! A node is known by its disk and by the last start that its peers saw of it. A node that lost its disk, or whose disk was
//! put back to an earlier state, is refused, for its vote or acknowledgement could undo what it once acknowledged (D18,
//! D82).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::env::pool::Pool;
use crate::machine::newest_version;
use crate::model::{LogIndex, MemberName, NodeId, text_hash};
use crate::proto::peer as proto;
use crate::raft::members::{Member, MemberTable};
use crate::raft::peer::facts::Facts;
use crate::raft::peer::security::PeerSecurity;
use crate::raft::peer::unusable::Unusable;
use crate::raft::snapshot::progress::PullProgress;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::{CommitLog, KnownPeer};

/// The only shard there is.
const SHARD: u64 = 0;
/// One refusal is written down once in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A peer that runs is met in this time: each is asked for its status every second.
const MET_WITHIN: Duration = Duration::from_secs(5);
/// Who takes this node for a member of its group dials it again and again: one that does not any more does not count.
const HAIL_COUNTS: Duration = Duration::from_secs(2);
/// A node that pulled a snapshot and starts again with it is silent for some seconds.
const PULLED_COUNTS: Duration = Duration::from_secs(60);
/// A pull that got no further for this long does not get on.
const PULL_MOVES_WITHIN: Duration = Duration::from_secs(10);
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
    /// All of them, this one included.
    pub members: MemberTable,
    pub security: PeerSecurity,
    /// Remembers which disks the peers are on.
    pub log: CommitLog,
    /// `ASYNC_FLUSH`: a power loss may take what a peer acknowledged.
    pub may_lose_tail: bool,
    refusals: Arc<Mutex<BTreeMap<(u64, i32), Refused>>>,
    /// When a peer that cannot be reached was last reported.
    unreachable: Arc<Mutex<BTreeMap<u64, Instant>>>,
    /// When it was last reported that a peer does not answer an enquiry, though somebody is there.
    unanswered: Arc<Mutex<BTreeMap<MemberName, Instant>>>,
    /// What the peers surely have of the committed log, as heard since this node's start.
    held: Arc<Mutex<BTreeMap<u64, LogIndex>>>,
    /// Those that pull a snapshot.
    pulled: Arc<Mutex<BTreeMap<u64, Pulled>>>,
    /// What the peers said when they were met last, since this node's start.
    met: Arc<Mutex<BTreeMap<u64, Met>>>,
    /// A peer that was met may lose what it acknowledged.
    is_peer_lossy: Arc<AtomicBool>,
    /// This node's term, or one of a moment ago.
    term: Arc<AtomicU64>,
    /// The cluster version in this node's state, or one of a moment ago.
    applied_version: Arc<watch::Sender<u32>>,
    /// Since when this node knows that no peer refuses it.
    started: Arc<OnceLock<Instant>>,
    /// A stranger that took this node for a member of its group, and when.
    hailed_by: Arc<Mutex<Option<(NodeId, Instant)>>>,
}

/// What a peer said when it was met last.
#[derive(Clone, Copy)]
struct Met {
    cluster_version: u32,
    may_lose_tail: bool,
    members: u64,
}

/// A peer that pulls a snapshot.
#[derive(Clone, Copy)]
struct Pulled {
    progress: PullProgress,
    heard_at: Instant,
    /// When it last had got further.
    moved_at: Instant,
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
        members: MemberTable,
        security: PeerSecurity,
        log: CommitLog,
        may_lose_tail: bool,
    ) -> Self {
        Self {
            cluster,
            group,
            node,
            members,
            security,
            log,
            may_lose_tail,
            refusals: Arc::default(),
            unreachable: Arc::default(),
            unanswered: Arc::default(),
            held: Arc::default(),
            pulled: Arc::default(),
            met: Arc::default(),
            is_peer_lossy: Arc::default(),
            term: Arc::default(),
            applied_version: Arc::default(),
            started: Arc::default(),
            hailed_by: Arc::default(),
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
        proto::Envelope { cluster, group, from: self.node, to, shard: SHARD, lineage: self.log.lineage() }
    }

    /// What this node says of its disk.
    pub(in crate::raft) fn facts(&self) -> proto::Facts {
        Facts {
            disk: self.log.disk(),
            starts: self.log.starts(),
            last: self.log.last().map_or(LogIndex(0), |last| last.index),
            cluster_version: newest_version(),
            may_lose_tail: self.may_lose_tail,
            members: self.configured(),
            is_starting: self.started.get().is_none(),
            lacks_tail: self.log.lost_from().is_some(),
            lineage: self.log.lineage(),
        }
        .to_wire()
    }

    /// The peers that could be asked do not refuse this node: it takes part from now on.
    pub(in crate::raft) fn set_started(&self) {
        self.started.get_or_init(Instant::now);
    }

    /// A hash of the members as this node's configuration has them.
    fn configured(&self) -> u64 {
        let members: Vec<_> =
            self.members.configured().iter().map(|(name, address)| format!("{name}-{address}")).collect();
        text_hash(&members.join(";"))
    }

    /// Whether a link is meant for this node and comes from another member; returns which.
    pub(in crate::raft) fn check(&self, envelope: Option<&proto::Envelope>) -> Result<u64, Unusable> {
        let envelope = envelope.ok_or(Unusable::Lacks("envelope"))?;
        // Who has nothing yet may become a member of any.
        if self.is_named(envelope) && !self.log.is_unused() {
            self.check_lineage(envelope.from, envelope.lineage)?;
        }
        if !self.is_named(envelope) {
            return Err(self.misdirected(envelope));
        }
        if envelope.to != self.node {
            // What is not known here says nothing of whoever dials.
            let not_yet = Unusable::NotYet { me: self.node, to: envelope.to };
            return Err(if self.log.is_unused() { not_yet } else { self.misdirected(envelope) });
        }
        if !self.members.is_member(NodeId(envelope.from)) || envelope.from == self.node {
            return Err(Unusable::NoMember { node: envelope.from });
        }
        Ok(envelope.from)
    }

    /// As [`Self::check`] of one that enquires: it knows names only.
    pub(in crate::raft) fn check_names(&self, envelope: Option<&proto::Envelope>) -> Result<u64, Unusable> {
        let envelope = envelope.ok_or(Unusable::Lacks("envelope"))?;
        if !self.is_named(envelope) {
            return Err(self.misdirected(envelope));
        }
        if NodeId(envelope.from).name() == NodeId(self.node).name() {
            return Err(Unusable::NoMember { node: envelope.from });
        }
        Ok(envelope.from)
    }

    /// Whether it is of this node's group, and not of another one of its name that was made from a backup, or from which the
    /// backup was (D155).
    fn check_lineage(&self, node: u64, theirs: u64) -> Result<(), Unusable> {
        let ours = self.log.lineage();
        if theirs == ours { Ok(()) } else { Err(Unusable::OtherLineage { node, theirs, ours }) }
    }

    /// Whether one that enquires may be told of this group: a folder that was used stays in its own. Builds from before
    /// lineages take what they are told for theirs.
    pub(in crate::raft) fn check_enquirer(&self, node: u64, facts: &Facts) -> Result<(), Unusable> {
        let is_bound = facts.last > LogIndex(0) && !self.log.is_unused();
        if is_bound { self.check_lineage(node, facts.lineage) } else { Ok(()) }
    }

    /// Whether it is meant for whatever replica has this node's name.
    fn is_named(&self, envelope: &proto::Envelope) -> bool {
        envelope.cluster == self.cluster
            && envelope.group == self.group
            && envelope.shard == SHARD
            && NodeId(envelope.to).name() == NodeId(self.node).name()
    }

    /// The stranger that takes this node for a member of its group by a greeting that [`Self::check`] refuses.
    pub(in crate::raft) fn hails(&self, envelope: Option<&proto::Envelope>) -> Option<NodeId> {
        let envelope = envelope.filter(|envelope| self.is_named(envelope))?;
        let from = NodeId(envelope.from);
        (!self.members.is_member(from) && from.name() != NodeId(self.node).name()).then_some(from)
    }

    /// A stranger that hails this node has proved that it knows the cluster's secret. It may be a member of a group that this
    /// node's folder and configuration know nothing of, if there is something in its log.
    pub(in crate::raft) fn note_hail(&self, from: NodeId, facts: &Facts) {
        if !facts.is_starting && facts.last > LogIndex(0) {
            *self.hailed_by.lock() = Some((from, Instant::now()));
        }
    }

    /// A stranger that took this node for a member of its group a moment ago.
    pub(in crate::raft) fn hailed_by(&self) -> Option<NodeId> {
        let hailed_by = *self.hailed_by.lock();
        hailed_by.filter(|(_, at)| at.elapsed() < HAIL_COUNTS).map(|(from, _)| from)
    }

    fn misdirected(&self, envelope: &proto::Envelope) -> Unusable {
        Unusable::Misdirected {
            cluster: envelope.cluster.clone(),
            group: envelope.group.clone(),
            shard: envelope.shard,
            to: envelope.to,
            me: format!("node {} of group {} in cluster {}", NodeId(self.node), self.group, self.cluster),
        }
    }

    /// What this node knows of its group.
    pub(in crate::raft) fn group(&self) -> proto::Group {
        let committed = self.members.committed();
        let disk = |node| self.log.known_peer(node).map_or(0, |known| known.disk);
        let member = |member: &Member| proto::GroupMember {
            node: member.node.0,
            address: member.address.clone(),
            is_voter: member.is_voter,
            disk: if member.node.0 == self.node { self.log.disk() } else { disk(member.node) },
        };
        proto::Group {
            founders: self.members.configured().keys().map(|name| name.0).collect(),
            at: committed.at.0,
            members: committed.all().map(member).collect(),
            term: committed.by.0.0,
            leader: committed.by.1.0,
            node: Some(self.node),
            last: self.last_durable().map(|id| proto::LogId { term: id.term.0, node: id.node.0, index: id.index.0 }),
        }
    }

    /// The last entry that is sure to be in this node's log; `None` if it has none, or it cannot be read.
    fn last_durable(&self) -> Option<RecordId> {
        let (durable, last) = (self.log.durable(), self.log.last()?);
        if last.index <= durable {
            return Some(last);
        }
        // One of a moment ago, in memory.
        let read = self.log.reader().read(durable, durable.next(), 1);
        read.ok()?.first().map(Record::id)
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
        self.check_lineage(node, facts.lineage)?;
        self.can_read(node, facts.cluster_version)?;
        let Some(known) = self.log.known_peer(NodeId(node)) else { return Ok(Judgement::News) };
        if known.disk != facts.disk {
            if planted_bug::is(PlantedBug::WipedDiskVotes) {
                return Ok(Judgement::Known);
            }
            return Err(Unusable::Replaced { node });
        }
        if facts.last < acknowledged && !facts.may_lose_tail && !facts.lacks_tail {
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
            let knowing = Pool::Upkeep.run(move || log.know_peer(NodeId(node), known));
            let known = knowing.await.map_err(|panic| Unusable::Memory(panic.to_string()))?;
            known.map_err(|error| Unusable::Memory(error.to_string()))?;
        }
        let Facts { cluster_version, may_lose_tail, members, .. } = facts;
        if may_lose_tail {
            self.is_peer_lossy.store(true, Ordering::Relaxed);
        }
        let before = self.met.lock().insert(node, Met { cluster_version, may_lose_tail, members });
        let is_other = members != self.configured() && before.is_none_or(|before| before.members != members);
        // Once members came or went the lists differ, and that is well.
        if is_other && self.members.are_first() {
            // Hosts may move one after the other, so it is no reason to refuse a peer.
            tracing::warn!(
                peer = NodeId(node).to_string(),
                "dLegerPeers differs from this node's: give all nodes the same members with the same addresses"
            );
        }
        self.refusals.lock().retain(|(refused, _), _| *refused != node);
        Ok(())
    }

    fn can_read(&self, node: u64, theirs: u32) -> Result<(), Unusable> {
        let ours = self.applied_version();
        if theirs < ours { Err(Unusable::TooOld { node, theirs, ours }) } else { Ok(()) }
    }

    /// Whether the build of a peer that was met can read what the log may have by now: the version may have risen since.
    pub(in crate::raft) fn check_version(&self, node: u64) -> Result<(), Unusable> {
        let met = self.met.lock().get(&node).map(|met| met.cluster_version);
        met.map_or(Ok(()), |theirs| self.can_read(node, theirs))
    }

    /// The newest cluster version that all peers can take part in: those that run are met within moments of this node's
    /// start, and until then it is the `applied` one. From now on those that cannot take part in that are refused.
    pub(in crate::raft) fn common_version(&self, applied: u32) -> u32 {
        self.applied_version.send_if_modified(|known| std::mem::replace(known, applied) != applied);
        let met = self.met.lock();
        let members = self.members.now();
        let is_unmet = |member: &Member| member.node.0 != self.node && !met.contains_key(&member.node.0);
        let has_just_started = self.started.get().is_none_or(|at| at.elapsed() < MET_WITHIN);
        if has_just_started && members.all().any(is_unmet) {
            return applied;
        }
        let of_members = met.iter().filter(|(node, _)| members.get(NodeId(**node)).is_some());
        of_members.map(|(_, met)| met.cluster_version).fold(newest_version(), u32::min)
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
        let members = self.members.now();
        // One that is no member any more, or that syncs now, counts no longer.
        let is_lossy = |(node, met): (&u64, &Met)| met.may_lose_tail && members.get(NodeId(*node)).is_some();
        self.is_peer_lossy.store(met.iter().any(is_lossy), Ordering::Relaxed);
        let keeps = |node: &NodeId| met.get(&node.0).is_some_and(|met| !met.may_lose_tail);
        let marks: Vec<_> = marks.iter().copied().filter(|(node, _)| keeps(node)).collect();
        self.log.note_acknowledged(&marks);
    }

    /// Whether all members that were met sync what they acknowledge, this node too.
    pub(in crate::raft) fn all_sync(&self) -> bool {
        !self.may_lose_tail && !self.is_peer_lossy.load(Ordering::Relaxed)
    }

    /// A peer pulls a snapshot, or does not: once it has it, it needs the log from there on.
    pub(in crate::raft) fn note_pulled(&self, node: NodeId, progress: Option<PullProgress>) {
        let (now, mut pulled) = (Instant::now(), self.pulled.lock());
        let Some(progress) = progress.filter(|progress| progress.applied > LogIndex(0)) else {
            pulled.remove(&node.0);
            return;
        };
        let before = pulled.get(&node.0).filter(|before| before.progress == progress);
        let moved_at = before.map_or(now, |before| before.moved_at);
        pulled.insert(node.0, Pulled { progress, heard_at: now, moved_at });
    }

    /// Those whose pull of a snapshot gets on.
    pub(in crate::raft) fn pulling(&self) -> Vec<u64> {
        let pulled = self.pulled.lock();
        let gets_on = pulled.iter().filter(|(_, pulled)| pulled.moved_at.elapsed() < PULL_MOVES_WITHIN);
        gets_on.map(|(node, _)| *node).collect()
    }

    /// What each other member surely has of the committed log, or will have when it has pulled a snapshot; 0 for one that
    /// nothing is known of.
    pub(in crate::raft) fn held_by_others(&self) -> Vec<(u64, LogIndex)> {
        let mut held = self.held.lock().clone();
        for (node, pulled) in self.pulled.lock().iter().filter(|(_, pulled)| pulled.heard_at.elapsed() < PULLED_COUNTS)
        {
            let has = held.entry(*node).or_default();
            *has = (*has).max(pulled.progress.applied);
        }
        let members = self.members.now();
        let others = members.all().filter(|member| member.node.0 != self.node);
        let has = |node: u64| held.get(&node).copied().unwrap_or_default().max(self.acknowledged_by(node));
        others.map(|member| (member.node.0, has(member.node.0))).collect()
    }

    /// The cluster version in this node's state, or one of a moment ago.
    pub(in crate::raft) fn applied_version(&self) -> u32 {
        *self.applied_version.borrow()
    }

    /// The same, whenever it changes.
    pub(in crate::raft) fn watch_version(&self) -> watch::Receiver<u32> {
        self.applied_version.subscribe()
    }

    /// Writes down that a member's link was refused, and why, and remembers it for operators.
    pub(in crate::raft) fn note_refusal(&self, node: u64, error: &Unusable) {
        // Strangers may call themselves anything.
        if !self.members.is_member(NodeId(node)) {
            return;
        }
        let now = Instant::now();
        let mut refusals = self.refusals.lock();
        let key = (node, error.kind().into());
        let warned = refusals.get(&key).map(|before| before.warned).filter(|warned| now - *warned < WARN_EVERY);
        refusals.insert(key, Refused { kind: error.kind(), at: now, warned: warned.unwrap_or(now) });
        drop(refusals);
        if warned.is_none() {
            tracing::warn!(peer = NodeId(node).to_string(), %error, "peer refused");
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
        let peer = NodeId(node).to_string();
        tracing::warn!(peer, %error, "this leader cannot send a member what it lacks; it goes on trying");
    }

    /// Writes down, once in a while, that somebody is where a peer should be and does not answer an enquiry.
    pub(in crate::raft) fn note_unanswered(&self, name: MemberName, error: &dyn std::fmt::Display) {
        let now = Instant::now();
        let mut unanswered = self.unanswered.lock();
        if unanswered.get(&name).is_some_and(|reported| now - *reported < WARN_EVERY) {
            return;
        }
        unanswered.insert(name, now);
        drop(unanswered);
        tracing::warn!(peer = name.to_string(), %error, "this node asks about its group and is not answered");
    }

    /// It can again.
    pub(in crate::raft) fn note_reached(&self, node: u64) {
        if self.unreachable.lock().remove(&node).is_some() {
            tracing::info!(peer = NodeId(node).to_string(), "a member that could not be reached is there again");
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
            proto::Refusal::OtherLineage => "other group",
            proto::Refusal::Stranger | proto::Refusal::Unspecified => "refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::raft::peer::link::{self, LinkError};
    use crate::raft::snapshot::test_replica::TestReplica;

    const SECRET: Option<&str> = Some("s");

    /// A node whose configuration names so many members, this one among them.
    fn identity(node: u64, members: u32, entries: u64, secret: Option<&str>) -> PeerIdentity {
        let replica = TestReplica::new(node);
        if entries > 0 {
            replica.write_upto(entries);
        }
        let members = (0..members).map(|name| (MemberName(name), format!("127.0.0.1:{}", name + 1))).collect();
        let names = ("c".to_owned(), "g".to_owned());
        let security = PeerSecurity::new(None, secret).unwrap();
        PeerIdentity::new(names, node, MemberTable::new(members), security, replica.log, false)
    }

    /// Who is taken for a member of another group by this node, once that one has dialled it; it is refused.
    async fn hail(from: &PeerIdentity) -> Option<NodeId> {
        let new = identity(0, 3, 0, SECRET);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dialling = async {
            let dialled = link::dial(from, 0, &address, proto::Purpose::Append).await;
            assert!(dialled.is_err(), "a stranger is refused");
        };
        let accepting = async {
            let (stream, _) = listener.accept().await.unwrap();
            let named = |from, _| panic!("{from} has a link");
            assert!(link::accept(&new, stream, named).await.is_err());
        };
        tokio::join!(dialling, accepting);
        new.hailed_by()
    }

    #[tokio::test]
    async fn p18_who_keeps_a_group_from_being_founded_proves_that_there_is_another_one() {
        let member = identity(3, 4, 5, SECRET);
        assert_eq!(hail(&member).await, None, "it does not take part yet");
        member.set_started();
        assert_eq!(hail(&member).await, Some(NodeId(3)));
        let fresh = identity(3, 4, 0, SECRET);
        fresh.set_started();
        assert_eq!(hail(&fresh).await, None, "its log is empty: it knows of no group either");
        for other_secret in [Some("t"), None] {
            let stranger = identity(3, 4, 5, other_secret);
            stranger.set_started();
            assert_eq!(hail(&stranger).await, None, "it proves nothing");
        }
    }

    /// Or a member that starts while nobody else answers would take itself for misplaced, and end.
    #[tokio::test]
    async fn p18_an_empty_folder_says_nothing_of_who_its_peers_are() {
        let member = identity(1, 3, 5, SECRET);
        let replaced = NodeId::later_of(MemberName(0), 1).0;
        for (entries, expected) in [(0, proto::Refusal::Unspecified), (5, proto::Refusal::Stranger)] {
            let there = identity(0, 3, entries, SECRET);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let accepting = async {
                let (stream, _) = listener.accept().await.unwrap();
                assert!(link::accept(&there, stream, |_, _| ()).await.is_err());
            };
            let dialling = link::dial(&member, replaced, &address, proto::Purpose::Append);
            let (dialled, ()) = tokio::join!(dialling, accepting);
            let Err(LinkError::Refused { kind, .. }) = dialled else { panic!("{entries} entries: it is not refused") };
            assert_eq!(kind, expected, "{entries} entries");
        }
    }

    #[test]
    fn p18_a_hail_lapses() {
        let (new, member) = (identity(0, 3, 0, SECRET), identity(3, 4, 5, SECRET));
        member.set_started();
        new.note_hail(NodeId(3), &Facts::from_wire(Some(member.facts())).unwrap());
        assert_eq!(new.hailed_by(), Some(NodeId(3)));
        let before = Instant::now().checked_sub(HAIL_COUNTS).unwrap();
        *new.hailed_by.lock() = Some((NodeId(3), before));
        assert_eq!(new.hailed_by(), None);
    }

    #[test]
    fn p22_the_time_to_meet_all_peers_begins_when_this_node_takes_part() {
        let node = identity(0, 3, 5, None);
        let applied = newest_version() - 1;
        assert_eq!(node.common_version(applied), applied, "it waits for members to found a group with, for instance");
        node.set_started();
        assert_eq!(node.common_version(applied), applied, "nobody is met yet");
        let node = identity(0, 3, 5, None);
        node.started.set(Instant::now().checked_sub(MET_WITHIN).unwrap()).unwrap();
        assert_eq!(node.common_version(applied), newest_version(), "who was not met by now is down");
    }
}
