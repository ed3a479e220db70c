//! Agreement: one shard, a Raft group over the commit log. The only folder that names openraft.
//!
//! Above it is `broker/`, which proposes commands and reads the applied state; below it `machine/` and `store/`.
//! [`Replica`] is the front. `propose/` gathers commands into entries, `peer/` connects the replicas, `clock/` keeps the cluster's time. `log_storage`,
//! `state_machine` and `snapshot` are the seams that implement openraft's traits, on `types` and `marks`; no type of
//! openraft's leaves this folder. `purge` flushes the state and forgets the log behind it.
//!
//! Everything here runs on one current-thread runtime of its own (D22; on one or two cores clients are served on it too,
//! D43), so that no front-end load delays a heartbeat; the commit log writes on a thread of its own.
//!
//! Not here: membership changes, transfer of leadership by command, sending and installing snapshots.

mod acknowledged;
mod batch_reader;
mod clock;
mod error;
mod flush;
mod foreign_state;
mod leadership;
mod log_storage;
mod marks;
mod member_needs;
mod peer;
#[cfg(debug_assertions)]
mod planted;
mod propose;
mod purge;
#[cfg(test)]
mod purge_tests;
mod read_index;
mod replica;
mod room;
mod slow_disk;
mod snapshot;
mod start;
mod state_digest;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod whole_state;

pub use batch_reader::{BatchReader, SegmentExtent};
pub use clock::cluster_clock::ClusterClock;
pub use error::{DiskFault, Disowned, Failed, Fatal, OnFatal, StartError};
pub use leadership::Leadership;
pub use peer::security::{PeerSecurity, PeerTlsFiles, UnusableTls};
pub use peer::service::OnQuestion;
pub use peer::status::{LogExtent, OwnFacts, ReplicaStatus};
pub use replica::Replica;
pub use room::Rooms;
pub use start::{ReplicaConfig, ReplicaParts};
pub use state_digest::StateDigest;
pub use state_machine::OnEffects;
