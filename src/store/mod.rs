//! Bytes on disk: the commit log in segment files and the ordered key-value store under the machine.
//!
//! Synchronous; the log writes on one thread of its own. A failed write or sync poisons the log and
//! ends the process (D18): after it nobody knows what is durable.
//!
//! Not here: deleting old segments (no retention yet), snapshots (`raft/snapshot`).

pub mod error;
pub mod kv;
pub mod log;

pub use error::Error;
