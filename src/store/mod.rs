//! Bytes on disk: the commit log in segment files and the ordered key-value store under the machine.
//!
//! Synchronous; the log writes on one thread of its own. A failed write or sync poisons the log and
//! ends the process (D18): after it nobody knows what is durable.
//!
//! Not here: deleting old segments (no retention yet), snapshots (`raft/snapshot`).

pub mod catalog_memory;
pub mod commit_log;
pub mod error;
pub mod hot;
pub mod kv;
pub mod memory;
mod meta;
pub mod pieces;
pub mod record;
mod recover;
pub mod rocks;
mod segment;
mod tail_cache;

#[cfg(test)]
mod kv_conformance;
#[cfg(test)]
mod log_tests;

pub use error::Error;
