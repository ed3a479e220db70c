//! The commit log: segment files that hold every entry of the Raft log, one writer thread, and what a start reads again.
//!
//! A message body lies here once on each node and is found again by the index of its entry and its slot in it.
//!
//! Not here: the applied state (`store/kv`), deciding what may be forgotten (no retention yet).

pub mod commit_log;
pub mod gather_buffer;
pub(super) mod meta;
pub mod record;
pub(super) mod recover;
pub(super) mod segment;
pub(super) mod tail_cache;
#[cfg(test)]
pub(super) mod tests;
