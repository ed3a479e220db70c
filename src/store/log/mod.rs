//! The commit log: segment files that hold every entry of the Raft log, one writer thread, and recovery at a start.
//!
//! A message body is stored here once on each node and is found by the index of its entry and its slot in it.
//! [`CommitLog`] is the front, [`LogReader`] reads, `writer` writes, `log_state` is what they share. A segment is written
//! (`last_segment`), sealed with a `footer`, and in the end forgotten (`removal`). A log that is pulled from another replica is a
//! `copy`.
//!
//! Not here: the applied state (`store/kv`), deciding what may be forgotten.

mod commit_log;
pub mod copy;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod damage_tests;
pub mod examine;
mod footer;
#[cfg(test)]
mod forget_tests;
mod full_disk;
#[cfg(test)]
mod full_disk_tests;
pub mod gather_buffer;
mod in_place;
mod last_segment;
mod log_state;
mod lru;
mod measures;
mod meta;
mod meta_content;
#[cfg(test)]
mod old_format_tests;
mod older_end;
#[cfg(test)]
mod older_tests;
mod options;
mod places;
mod quarantine;
mod reader;
mod rebuild;
pub mod record;
mod recover;
mod removal;
mod repair;
mod scan;
mod sealed_files;
mod segment;
mod segments;
#[cfg(test)]
mod segments_tests;
#[cfg(test)]
mod sweep_tests;
mod tail_cache;
mod tail_rule;
#[cfg(test)]
mod tail_tests;
#[cfg(test)]
mod tests;
mod unreadable;
#[cfg(test)]
mod unreadable_tests;
mod upgrade;
mod writer;

pub use commit_log::CommitLog;
pub use log_state::{Done, OnDurable, OnFatal, OnFull};
pub use measures::LogMeasures;
pub use meta_content::{KnownPeer, LogIdentity, LogOwner, StartMark, VoteRecord};
pub use options::{FlushMode, Options};
pub use reader::LogReader;
pub use repair::Rebuild;
pub use segments::{LogMemory, SegmentExtent};
