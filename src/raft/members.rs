//! The members as this node knows them: who they are, where their peers reach them, and who votes.
//!
//! Members are what the newest membership in the log says. A node that was away for long may not even be able to hear of
//! it from the log, because whoever leads now is no member that it knows; so what a majority of the others has committed
//! counts too, if it is newer (`raft/standing`). Before there is any membership they are those of `dLegerPeers`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::{LogIndex, MemberName, NodeId, Term};

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    /// `host:port` for peers.
    pub address: String,
    /// Otherwise it only follows.
    pub is_voter: bool,
}

/// All members at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The entry that made them members; 0 for `dLegerPeers`.
    pub at: LogIndex,
    /// Term and leader of that entry; of term 0 if whoever told of it did not say.
    pub by: (Term, NodeId),
    /// Halfway from some voters to others: a majority of both is needed.
    pub is_joint: bool,
    by_node: BTreeMap<NodeId, Member>,
}

impl Members {
    pub fn new(at: LogIndex, members: impl IntoIterator<Item = Member>) -> Self {
        let by = (Term(0), NodeId(0));
        Self { at, by, is_joint: false, by_node: members.into_iter().map(|member| (member.node, member)).collect() }
    }

    /// All, by name and then by age.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        let mut all: Vec<_> = self.by_node.values().collect();
        all.sort_by_key(|member| (member.node.name(), member.node));
        all.into_iter()
    }

    /// Those that vote, by name.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.all().filter(|member| member.is_voter)
    }

    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.by_node.get(&node)
    }

    /// The newest replica of this name.
    pub fn of_name(&self, name: MemberName) -> Option<&Member> {
        self.by_node.values().filter(|member| member.node.name() == name).max_by_key(|member| member.node)
    }

    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// Whether its entry comes after the other's as Raft orders them: a leader that was deposed may have logged one with a
    /// higher index in an earlier term, which was never committed.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let are_known = self.by.0 > Term(0) && other.by.0 > Term(0);
        if are_known { (self.by, self.at) > (other.by, other.at) } else { self.at > other.at }
    }
}

/// The members, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct MemberTable {
    /// Addresses in `dLegerPeers`, by name.
    configured: Arc<BTreeMap<MemberName, String>>,
    known: Arc<Mutex<Known>>,
    shown: Arc<watch::Sender<Arc<Members>>>,
}

/// Where the members are known from.
#[derive(Default)]
struct Known {
    /// This node's own log.
    own: Members,
    /// What of it is committed.
    committed: Members,
    /// What others have committed.
    others: Members,
}

impl MemberTable {
    /// Of a node whose log says nothing of members.
    pub fn new(configured: BTreeMap<MemberName, String>) -> Self {
        let first = |(name, address): (&MemberName, &String)| Member {
            node: NodeId::first_of(*name),
            address: address.clone(),
            is_voter: true,
        };
        let members = Members::new(LogIndex(0), configured.iter().map(first));
        let shown = Arc::new(watch::Sender::new(Arc::new(members)));
        Self { configured: Arc::new(configured), known: Arc::default(), shown }
    }

    /// `dLegerPeers`.
    pub fn configured(&self) -> &BTreeMap<MemberName, String> {
        &self.configured
    }

    pub fn now(&self) -> Arc<Members> {
        self.shown.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.shown.subscribe()
    }

    /// Where a member's peers reach it.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        self.shown.borrow().get(node).map(|member| member.address.clone())
    }

    pub fn is_member(&self, node: NodeId) -> bool {
        self.shown.borrow().get(node).is_some()
    }

    pub fn is_voter(&self, node: NodeId) -> bool {
        self.shown.borrow().get(node).is_some_and(|member| member.is_voter)
    }

    /// How many vote; never 0.
    pub fn voters(&self) -> usize {
        self.shown.borrow().voters().count().max(1)
    }

    /// This node's log says this now: the newest membership, which may be taken back, and the newest one that is committed.
    pub fn set_own(&self, newest: Members, committed: Members) {
        let mut known = self.known.lock();
        (known.own, known.committed) = (newest, committed);
        self.show(&known);
    }

    /// The newest membership that is known to be committed; empty if none is.
    pub fn committed(&self) -> Members {
        let known = self.known.lock();
        let newest = if known.others.is_newer_than(&known.committed) { &known.others } else { &known.committed };
        newest.clone()
    }

    /// The newest membership in this node's own log, which may be taken back.
    pub fn own(&self) -> Members {
        self.known.lock().own.clone()
    }

    /// The later replica by which this one was replaced, as its own log has it committed; what others say does not do. `None`
    /// also if they took that back.
    pub fn successor_of(&self, node: NodeId) -> Option<NodeId> {
        let later = |members: &Members| members.of_name(node.name()).map(|member| member.node).filter(|of| *of > node);
        let own = later(&self.known.lock().committed)?;
        later(&self.committed()).is_some().then_some(own)
    }

    /// Others have committed this.
    pub fn note_committed(&self, members: Members) {
        let mut known = self.known.lock();
        if members.is_newer_than(&known.others) {
            known.others = members;
            self.show(&known);
        }
    }

    fn show(&self, known: &Known) {
        let newest = if known.others.is_newer_than(&known.own) { &known.others } else { &known.own };
        if newest.is_empty() {
            return;
        }
        let mut newest = newest.clone();
        for member in newest.by_node.values_mut() {
            if let Some(address) = self.moved_to(member.node) {
                member.address.clone_from(address);
            }
        }
        self.shown.send_if_modified(|shown| {
            let is_news = **shown != newest;
            if is_news {
                *shown = Arc::new(newest);
            }
            is_news
        });
    }

    /// Hosts may move: for members of the very first start the configured address counts (D30). That of a later one was
    /// given by an operator who may not have changed any configuration (D111).
    fn moved_to(&self, node: NodeId) -> Option<&String> {
        self.configured.get(&node.name()).filter(|_| node.number() == 0)
    }

    /// Whether the members are still those of the very first start, and `dLegerPeers` names them.
    pub fn are_first(&self) -> bool {
        let members = self.now();
        members.all().all(|member| member.node.number() == 0) && members.all().count() == self.configured.len()
    }

    /// What `dLegerPeers` says otherwise than the log, for people; `None` if they agree.
    pub fn difference(&self) -> Option<String> {
        let members = self.now();
        let names: BTreeSet<_> = members.all().map(|member| member.node.name()).collect();
        let list = |all: Vec<String>| (!all.is_empty()).then(|| all.join(", "));
        let missing =
            list(names.iter().filter(|name| !self.configured.contains_key(name)).map(ToString::to_string).collect());
        let gone = list(self.configured.keys().filter(|name| !names.contains(name)).map(ToString::to_string).collect());
        let moved = list(
            members
                .all()
                .filter_map(|member| {
                    let configured = self.configured.get(&member.node.name())?;
                    (*configured != member.address).then(|| format!("{} is at {}", member.node.name(), member.address))
                })
                .collect(),
        );
        let parts = [
            missing.map(|names| format!("it does not name {names}")),
            gone.map(|names| format!("{names} is no member")),
            moved,
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[u32]) -> MemberTable {
        MemberTable::new(names.iter().map(|name| (MemberName(*name), format!("configured-{name}:1"))).collect())
    }

    fn members(at: u64, nodes: &[NodeId]) -> Members {
        let member = |node: &NodeId| Member { node: *node, address: format!("stored-{node}:1"), is_voter: true };
        Members::new(LogIndex(at), nodes.iter().map(member))
    }

    const N0: NodeId = NodeId(0);
    const N1: NodeId = NodeId(1);

    fn later(name: u32, number: u32) -> NodeId {
        NodeId::later_of(MemberName(name), number)
    }

    #[test]
    fn before_there_is_a_log_the_members_are_those_of_the_configuration() {
        let table = table(&[0, 1, 2]);
        assert_eq!(table.voters(), 3);
        assert_eq!(table.address_of(N1).unwrap(), "configured-1:1");
        assert_eq!(table.difference(), None);
        table.set_own(Members::default(), Members::default());
        assert_eq!(table.voters(), 3);
    }

    #[test]
    fn a_configured_address_counts_for_a_first_replica_and_the_stored_one_for_a_later_one() {
        let table = table(&[0, 1]);
        table.set_own(members(1, &[N0, later(1, 4)]), Members::default());
        assert_eq!(table.address_of(N0).unwrap(), "configured-0:1");
        assert_eq!(table.address_of(later(1, 4)).unwrap(), "stored-n1.4:1");
        assert!(!table.is_member(N1));
        assert_eq!(table.difference().unwrap(), "n1 is at stored-n1.4:1");
    }

    #[test]
    fn the_newest_membership_counts_also_if_only_others_have_it() {
        let table = table(&[0, 1, 2]);
        table.set_own(members(1, &[N0, N1]), members(1, &[N0, N1]));
        table.note_committed(members(9, &[N0, later(3, 1)]));
        assert!(table.is_member(later(3, 1)) && !table.is_member(N1));
        assert_eq!(table.difference().unwrap(), "it does not name n3; n1, n2 is no member");
        table.note_committed(members(5, &[N0, N1]));
        assert!(table.is_member(later(3, 1)), "what is older is no news");
        table.set_own(members(12, &[N0, N1]), members(1, &[N0, N1]));
        assert!(table.is_member(N1));
        assert_eq!(table.committed().at, LogIndex(9));
        table.set_own(members(1, &[N0]), members(1, &[N0, N1]));
        assert!(table.is_member(later(3, 1)), "an entry that was not committed is taken back");
    }

    #[test]
    fn p18_a_replica_is_replaced_by_its_own_log_and_not_by_what_others_say() {
        let (table, n2) = (table(&[0, 1, 2]), NodeId(2));
        let replacing = |at| members(at, &[N0, N1, n2, later(2, 1)]);
        table.set_own(members(1, &[N0, N1, n2]), members(1, &[N0, N1, n2]));
        table.note_committed(replacing(9));
        assert_eq!(table.successor_of(n2), None);
        table.set_own(replacing(9), members(1, &[N0, N1, n2]));
        assert_eq!(table.successor_of(n2), None, "not committed");
        table.set_own(replacing(9), replacing(9));
        assert_eq!(table.successor_of(n2), Some(later(2, 1)));
        assert_eq!(table.successor_of(later(2, 1)), None);
        table.note_committed(members(12, &[N0, N1, n2]));
        assert_eq!(table.successor_of(n2), None, "the change was cancelled");
    }

    #[test]
    fn p18_what_a_deposed_leader_logged_is_older_than_what_a_later_term_committed() {
        let table = table(&[0, 1, 2]);
        let by = |term, members| Members { by: (Term(term), N0), ..members };
        table.set_own(by(1, members(151, &[N0, N1])), members(1, &[N0, N1]));
        table.note_committed(by(2, members(111, &[N0, later(3, 1)])));
        assert!(table.is_member(later(3, 1)) && !table.is_member(N1));
        table.set_own(by(3, members(112, &[N0, N1])), members(1, &[N0, N1]));
        assert!(table.is_member(N1));
        // A build that does not say the term: the index counts.
        table.note_committed(members(140, &[N0, later(3, 1)]));
        assert!(table.is_member(later(3, 1)));
    }
}
