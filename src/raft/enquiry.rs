//! Asking the peers where this node stands, at the start and whenever it hears of no leader, and acting on what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::BasicNode;
use openraft::errors::{InitializeError, RaftError};
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::{MemberName, NodeId};
use crate::raft::error::{DiskFault, Disowned, Fatal, OnFatal, StartAgain, StartError};
use crate::raft::members::MemberTable;
use crate::raft::peer::enquire::{DIALS_WITHIN, ask_names};
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::replica::Replica;
use crate::raft::standing::{Answer, OwnFolder, Standing, agreed, believed, judge};
use crate::raft::state_machine::ShardRaft;

/// A node without a group asks this often.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A member asks once it has heard of no leader for this long, and that often from then on.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Whoever takes this node for a member dials it within this, unless its machine is busy.
const HAILED_WITHIN: Duration = Duration::from_millis(300);
/// The same for a node that would found a group alone: no other node is there to object.
const HAILED_WITHIN_ALONE: Duration = Duration::from_secs(1);
const _: () = assert!(HAILED_WITHIN.as_millis() > DIALS_WITHIN.as_millis());
const _: () = assert!(HAILED_WITHIN_ALONE.as_millis() >= 4 * DIALS_WITHIN.as_millis());
/// A node that waits to become a member asks this often, and says so this often.
const WAIT_STEP: Duration = Duration::from_millis(250);
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Others need a moment to hear what is committed: after so many steps it is said that they do not agree.
const UNSURE_MAX: u32 = 8;
/// First those are asked of whom this node knows, then those of whom these know.
const ROUNDS: usize = 2;
/// More places than this are not asked in a round.
const PLACES_MAX: usize = 64;

/// Asks where this node stands. Cheap to clone.
#[derive(Clone)]
pub(super) struct Enquiry {
    pub identity: PeerIdentity,
    pub members: MemberTable,
    /// Where members were once, as far as this host remembers.
    pub remembered: Arc<BTreeMap<MemberName, String>>,
}

impl Enquiry {
    fn own(&self) -> OwnFolder {
        let log = &self.identity.log;
        let node = log.node();
        OwnFolder {
            node,
            disk: log.disk(),
            lineage: log.lineage(),
            is_unused: log.is_unused(),
            members: self.members.own(),
            successor: self.members.successor_of(node),
            last: log.last(),
        }
    }

    fn founders(&self) -> BTreeSet<MemberName> {
        self.members.configured().keys().copied().collect()
    }

    /// Where the log, the configuration or this host has somebody else.
    fn places(&self) -> BTreeSet<(MemberName, String)> {
        let members = self.members.now();
        let known = members.all().map(|member| (member.node.name(), &member.address));
        let others = self.members.configured().iter().chain(&*self.remembered).map(|(name, address)| (*name, address));
        known.chain(others).map(|(name, address)| (name, address.clone())).collect()
    }

    /// Asks everybody at once. What they agree on is known from then on.
    async fn ask(&self) -> Standing {
        let own = self.own();
        let (mut places, mut asked, mut answers) = (self.places(), BTreeSet::new(), Vec::new());
        for _ in 0..ROUNDS {
            places.retain(|(name, _)| *name != own.node.name());
            let next: Vec<_> = places.difference(&asked).take(PLACES_MAX).cloned().collect();
            let asking = next.iter().map(async |(name, address)| ask_names(&self.identity, *name, address).await);
            answers.extend(join_all(asking).await.into_iter().flatten());
            asked.extend(next);
            let named = answers.iter().flat_map(|answer: &Answer| answer.members.all());
            places = named.map(|member| (member.node.name(), member.address.clone())).collect();
        }
        let known = |node| self.identity.log.known_peer(node).map(|known| known.disk);
        let answers = believed(&own, known, answers);
        if let Some(newest) = agreed(&own, &answers) {
            self.members.note_committed(newest.clone());
        }
        judge(&own, &self.founders(), &answers)
    }

    /// Before Raft: returns once this node may start as what its folder says. A node that is no member waits here until it
    /// is one.
    ///
    /// * Errors: [`StartError::Again`], [`StartError::Disowned`].
    pub async fn before_start(&self) -> Result<(), StartError> {
        let mut said: Option<Instant> = None;
        let mut is_due = || {
            let is_due = said.is_none_or(|at| at.elapsed() >= SAY_EVERY);
            if is_due {
                said = Some(Instant::now());
            }
            is_due
        };
        let mut unsure_for = 0;
        loop {
            let standing = self.ask().await;
            match standing {
                Standing::Member | Standing::Founder { .. } => return Ok(()),
                // What one voter has committed the others hear of in a moment.
                Standing::Unsure => {
                    unsure_for += 1;
                    if unsure_for >= UNSURE_MAX && is_due() {
                        self.say_unsure();
                    }
                    tokio::time::sleep(WAIT_STEP).await;
                }
                Standing::NoMember { has_left } => {
                    if is_due() {
                        self.say_no_member(has_left);
                    }
                    tokio::time::sleep(WAIT_STEP).await;
                }
                Standing::OtherDisk { node, by } => {
                    let reason = format!("{by} knows another disk under {node}");
                    let by = NodeId::first_of(by);
                    return Err(StartError::Disowned(Disowned { node, by, fault: DiskFault::Other, reason }));
                }
                Standing::Becomes { .. } => return Err(StartError::Again(self.start_as(standing).await?)),
                // Here alone a folder is dropped: nothing of it is in use, and a majority has what is in it (D156).
                Standing::Replaced(node) => {
                    let why = format!("{} was replaced by {node}: what is in its folder is dropped", self.own().node);
                    return Err(StartError::Again(StartAgain { discards: true, why }));
                }
            }
        }
    }

    /// Ends what runs, and keeps the folder: the next start looks what it is to be.
    async fn start_as(&self, standing: Standing) -> std::io::Result<StartAgain> {
        let own = self.own().node;
        match standing {
            Standing::Becomes { node, lineage } => {
                let log = self.identity.log.clone();
                let becoming = Pool::Upkeep.run(move || log.become_node(node, lineage));
                becoming.await.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?;
                let why = format!("the group has {node} for the name {}", own.name());
                Ok(StartAgain { discards: false, why })
            }
            Standing::Replaced(node) => {
                let why = format!("{own} was replaced by {node}, and takes part no more");
                Ok(StartAgain { discards: false, why })
            }
            _ => Ok(StartAgain { discards: false, why: format!("{own} is no member of the group any more") }),
        }
    }

    fn say_no_member(&self, has_left: bool) {
        let name = self.own().node.name();
        if let Some(older) = self.members.committed().of_name(name) {
            tracing::warn!(
                "this folder is of {}, whose change was cancelled, and the group has {} for {name} again, whose folder was \
                 dropped: this node waits, and nothing is served. To take it in, run on any machine: raftmq cluster \
                 replace {name}",
                self.own().node,
                older.node
            );
            return;
        }
        let address = self.members.configured().get(&name).cloned().unwrap_or_default();
        let what = if has_left { "was removed from the group" } else { "is no member of the group" };
        tracing::warn!(
            "{name} {what} and waits; nothing is served. To take it in, run on any machine: raftmq cluster add {name} \
             --peer {address}. If it is not wanted, stop this process"
        );
    }

    fn say_unsure(&self) {
        let own = self.own();
        tracing::warn!(
            "{} waits, and nothing is served: others say that it was replaced or has left, and too few of them agree, or have all \
             that is in its folder. Start the other nodes of the group; raftmq cluster status shows who is behind. If voters that \
             its log knows are gone for good, and the group has all it needs, empty this folder",
            own.node
        );
    }

    /// While Raft runs: founds the group with the others of the very first start, and starts this process again once the
    /// group has another replica of this name, or none. Runs until it is dropped.
    pub async fn while_running(self, replica: Replica) {
        let (raft, leadership, on_fatal) = (&replica.raft, &replica.leadership, &replica.on_fatal);
        let started = Instant::now();
        let mut without_leader: Option<Instant> = None;
        let mut is_said = false;
        loop {
            let is_founded = raft.is_initialized().await.unwrap_or(true);
            // What others say is heard below, and counts only if a majority says it.
            if let Some(node) = self.members.successor_of(self.identity.log.node()) {
                replica.give_leadership_away().await;
                return self.end(Standing::Replaced(node), on_fatal).await;
            }
            if leadership.borrow().leader.is_some() {
                without_leader = None;
            }
            let since = *without_leader.get_or_insert_with(Instant::now);
            if is_founded && since.elapsed() < LOST_AFTER {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            match self.ask().await {
                Standing::Founder { together } if !is_founded => {
                    let founders = self.founders().len();
                    let hailed_by = self.identity.hailed_by();
                    let may_found = together > founders / 2 && hailed_by.is_none();
                    let wait = if founders > 1 { HAILED_WITHIN } else { HAILED_WITHIN_ALONE };
                    if may_found && started.elapsed() >= wait {
                        self.found(raft).await;
                    } else if !may_found && !std::mem::replace(&mut is_said, true) {
                        say_why_not(together, founders, hailed_by);
                    }
                }
                standing @ (Standing::Becomes { .. } | Standing::Replaced(_) | Standing::NoMember { .. }) => {
                    return self.end(standing, on_fatal).await;
                }
                Standing::OtherDisk { node, by } => {
                    let reason = format!("{by} knows another disk under {node}");
                    let disowned = Disowned { node, by: NodeId::first_of(by), fault: DiskFault::Other, reason };
                    return on_fatal(Fatal::Disowned(disowned));
                }
                Standing::Founder { .. } | Standing::Member | Standing::Unsure => {}
            }
            tokio::time::sleep(if is_founded { LOST_AFTER / 2 } else { ASK_EVERY }).await;
        }
    }

    async fn end(&self, standing: Standing, on_fatal: &OnFatal) {
        match self.start_as(standing).await {
            Ok(again) => on_fatal(Fatal::Again(again)),
            Err(error) => on_fatal(Fatal::Failed(format!("the folder cannot be given to its new replica: {error}"))),
        }
    }

    /// Each founder writes the same first entry.
    async fn found(&self, raft: &ShardRaft) {
        let configured = self.members.configured().iter();
        let members: BTreeMap<u64, BasicNode> =
            configured.map(|(name, address)| (name.0.into(), BasicNode::new(address))).collect();
        match raft.initialize(members).await {
            // A peer was faster and its entry is here already: that is as good.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => tracing::warn!(%error, "the group is not founded yet"),
        }
    }
}

fn say_why_not(together: usize, founders: usize, hailed_by: Option<NodeId>) {
    match hailed_by {
        Some(by) => tracing::error!(
            "this folder is empty, and {by}, whom dLegerPeers does not name, takes this node for a member: so there is a \
             group, and no other one is founded. Put all its members into dLegerPeers (raftmq cluster members, at any of \
             them, shows them) and start this node again"
        ),
        None => tracing::info!(together, founders, "waits for a majority of dLegerPeers to found the group with"),
    }
}
