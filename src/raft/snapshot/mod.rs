//! Snapshots: how Raft knows them, and how a replica gives one to whoever pulls it.
//!
//! A snapshot is the state as of one applied entry, and the records of the log that it refers to. openraft sees a handle
//! without bytes (`handle`); bytes never go through it. `sources` makes snapshots on this node and serves them: to other
//! replicas (`raft/peer/snapshot_server`) and to backups. `manifest` says what is in one.
//!
//! A replica that needs one pulls it by itself (`catch_up`, `pull`) from another node (`source`) into a generation of log and
//! state beside the one in use (`target`, `staging`), and starts again with that (`install`).

pub(super) mod catch_up;
mod failed_installs;
pub(super) mod handle;
pub(super) mod install;
pub(super) mod manifest;
pub(super) mod progress;
mod pull;
#[cfg(test)]
mod pull_tests;
pub(super) mod rate;
mod room;
pub(super) mod source;
mod source_choice;
pub(super) mod sources;
#[cfg(test)]
mod sources_tests;
mod staging;
pub mod state_check;
pub(super) mod target;
#[cfg(test)]
pub(super) mod test_replica;
