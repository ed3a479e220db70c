//! The replicated state: records, the keys they lie under, and how one entry's writes are staged.
//!
//! Imports no command file: commands read and change the state, never the other way round.
//!
//! Not here: deciding what a command does (the files of `machine/`).

pub mod fifo_line;
pub mod keys;
pub mod lease;
pub mod lease_ids;
pub mod queue;
pub mod recent_sends;
pub(super) mod recent_table;
pub mod stage;
pub mod view;
