//! The commit log: segment files that hold every entry of the Raft log, one writer thread, and recovery at a start.
//!
//! A message body is stored here once on each node and is found by the index of its entry and its slot in it.
//! [`CommitLog`] is the front, [`LogReader`] reads, `writer` writes, `log_state` is what they share.
//!
//! Not here: the applied state (`store/kv`), deciding what may be forgotten (no retention yet).

mod commit_log;
mod full_disk;
#[cfg(test)]
mod full_disk_tests;
pub mod gather_buffer;
mod log_state;
mod meta;
mod reader;
pub mod record;
mod recover;
mod segment;
mod tail_cache;
#[cfg(test)]
mod tests;
mod writer;

pub use commit_log::CommitLog;
pub use log_state::{Done, OnDurable, OnFatal, OnFull};
pub use meta::{KnownPeer, LogOwner, StartMark, VoteRecord};
pub use reader::{LogReader, SegmentExtent};
pub use writer::{FlushMode, Options};
