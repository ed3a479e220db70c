//! Below the log: the deterministic state machine. Every node applies the same entries in the same order and arrives
//! at the same state, byte for byte (P15).
//!
//! Synchronous and pure: no clock, randomness, locks, floats or hash-map order. Time is the stamp that the leader put
//! into the batch, bounded (`state/clock`). The state is in an ordered key-value store ([`crate::store::kv`]); [`Stage`] collects the writes of
//! one entry, which become one batch together with the entry's id.
//!
//! * What comes in and goes out: `batch` (the body of an entry), `command` with
//!   `command_codec`, `outcome`; `apply` runs a batch.
//! * One file for each verb, with the name it has at every layer: `send`, `receive`, `ack`, `invisible`, `delay`,
//!   `transaction`, `dead_letter`, `offset`, `topics` and `groups`, `member`, `handle_key`, `tick`, `trim`, `carry`, `clock`,
//!   `cluster_version`, `events`, `key_values`, `write_permission`.
//! * For tests of upgrades, in debug builds: `planted`.
//! * What may come in from another node: `admissible`.
//! * What several verbs do: `lease_life_cycle`, `lease_ids`, `fifo_advance`, `dead_letter_topic`, `sweep`.
//! * The state that they read and change: [`state`]. It imports none of the files above.
//!
//! Called by `raft/state_machine`; read by `broker/` through [`state::view`].
//!
//! Not here: choosing what to deliver and filtering (`broker/receive`), reading bodies (`store/log`), waking those who
//! wait (`broker/arrivals`).

mod ack;
pub mod admissible;
mod apply;
pub mod batch;
mod carry;
mod clock;
mod cluster_version;
pub mod command;
mod command_codec;
mod dead_letter;
mod dead_letter_topic;
mod delay;
mod events;
mod fifo_advance;
mod groups;
mod handle_key;
mod invisible;
mod key_values;
pub mod lease_ids;
mod lease_life_cycle;
mod member;
mod offset;
pub mod outcome;
#[cfg(debug_assertions)]
pub mod planted;
mod queue_lock;
mod receive;
mod send;
mod send_back;
pub mod state;
mod sweep;
mod tick;
mod topics;
mod transaction;
mod trim;
mod write_permission;

pub use admissible::Inadmissible;
pub use apply::{Error, apply};
pub use batch::{Batch, Proposal};
pub use cluster_version::newest_version;
pub use command::Command;
pub use outcome::{Outcome, Rejected};
pub use state::failure::Failure;
pub use state::recent_sends::Recent;
pub use state::stage::{CatalogSize, Effects, Stage};
pub use state::stored::Stored;
