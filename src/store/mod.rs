//! Bytes on disk: the commit log in segment files (`log/`) and the ordered key-value store under the machine (`kv/`).
//!
//! Synchronous; the log writes on one thread of its own. A failed write or sync poisons the log and ends the process
//! (D18): after it nobody knows what is durable.
//!
//! Which folders both are in says the `generation`.
//!
//! Not here: deciding what of the log may be forgotten, pulling snapshots (`raft/snapshot`), what is in a record's body
//! (`machine/batch`).

mod error;
pub mod folder;
pub mod generation;
pub mod kv;
pub mod log;
mod reserve;
pub mod restoring;
pub mod room;
pub mod state_files;

pub use error::Error;
