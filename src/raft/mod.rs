//! Agreement: one shard, a Raft group over the commit log. The only folder that names openraft.
//!
//! Above it is `broker/`, which proposes commands and reads the applied state; below it `machine/` and `store/`.
//! [`Replica`] is the front. `propose/` gathers commands into entries, `peer/` connects the replicas, `clock/` keeps the cluster's time. `log_storage`,
//! `state_machine` and `snapshot/handle` are the seams that implement openraft's traits, on `types` and `marks`; no type of
//! openraft's leaves this folder. `purge` flushes the state and forgets the log behind it.
//!
//! Everything here runs on one current-thread runtime of its own (D22; on one or two cores clients are served on it too,
//! D43), so that no front-end load delays a heartbeat; the commit log writes on a thread of its own.
//!
//! `members` is the table of members that everything follows; `standing` and `enquiry` find out what this node is to its
//! group, `change_members` changes the membership on the leader.
//!
//! Not here: which changes are allowed and what is next (`broker/member_rules`, `broker/background/members`).

mod acknowledged;
mod batch_reader;
mod change_members;
mod clock;
mod digest_exchange;
mod digests;
mod enquiry;
mod error;
mod flush;
mod follow_members;
mod foreign_state;
mod leadership;
mod log_storage;
mod lost_entries;
mod lost_tail;
mod make_whole;
mod marks;
mod measures;
mod member_needs;
mod members;
mod members_in_log;
mod peer;
mod peer_records;
#[cfg(debug_assertions)]
mod planted;
mod preferred_leader;
mod propose;
mod purge;
#[cfg(test)]
mod purge_tests;
mod read_index;
mod repair;
mod replica;
mod room;
mod scrub;
mod slow_disk;
mod snapshot;
mod sole_member;
mod standing;
mod start;
mod state_digest;
mod state_from_peer;
mod state_machine;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
mod whole_state;

pub use batch_reader::{BatchReader, EntryPlace, ReadBatches, SegmentExtent};
pub use change_members::{MemberProgress, Membership, NotChanged};
pub use clock::cluster_clock::ClusterClock;
pub use error::{DiskFault, Disowned, Failed, Fatal, OnFatal, StartAgain, StartError};
pub use leadership::Leadership;
pub use measures::ReplicaMeasures;
pub use members::{Member, Members};
pub use peer::security::{PeerSecurity, PeerTlsFiles, UnusableTls};
pub use peer::service::OnQuestion;
pub use peer::sight::{DayCounts, FollowerMark, Sight, VoteMark};
pub use peer::status::{Damage, LogExtent, OwnFacts, ReplicaStatus};
pub use replica::Replica;
pub use room::Rooms;
pub use snapshot::catch_up::OnRestart;
pub use snapshot::manifest::Manifest;
pub use snapshot::progress::{CatchingUp, PullProgress};
pub use snapshot::sources::{NotServed, SnapshotSources};
pub use sole_member::sole_member;
pub use start::{ReplicaConfig, ReplicaParts};
pub use state_digest::StateDigest;
pub use state_machine::OnEffects;
pub use transfer::NotTransferred;
pub use types::CommandPlace;
