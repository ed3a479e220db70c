//! The replicated state: its records, the keys under which they are stored, and how one entry's writes are staged.
//!
//! * Layout: `keys` names every key of the state and what is stored there.
//! * Records with their encodings, each with the functions that read and write it: `catalog` (topics, groups,
//!   subscriptions), `queue` (heads and runs), `queue_lock`, `lease`, `fifo_line`, `half`, `due`, `recent_sends` with
//!   `recent_id`, `recent_newest` and its table `recent_table`, `recent_slices` and their `recent_filter`; `stored` is where a message was stored, as kept for repeated sends.
//! * `clock`: the machine's time, and how it relates to the time of day.
//! * `clearing`: queues whose leases a group lost and that are not all removed yet.
//! * `references`: what refers to the bytes of which entries; `lost`: what retention took from groups.
//! * `member_changes`: the change of members that is under way; `events`: what operators did and what befell the group.
//! * `key_values`: what tools of RocketMQ keep; `write_permission`: what producers are not to use.
//! * `enqueue`: how messages enter queues, whatever command brings them.
//! * `entry_counts`: what an entry did, in numbers; `run_sizes` is for those of deliveries.
//! * `stage`: reads and writes of one entry; `view`: reads for those above the log; `failure`: why either fails.
//!
//! Imports no file of `machine/` outside this folder: commands read and change the state, the state knows no command.
//!
//! Not here: what a command does (the files of `machine/`).

pub mod catalog;
pub(super) mod clearing;
pub mod clock;
pub mod due;
pub(super) mod enqueue;
pub mod entry_counts;
pub mod events;
pub mod failure;
pub mod fifo_line;
pub mod half;
pub mod key_values;
pub mod keys;
pub mod lease;
pub(super) mod lost;
pub mod member_changes;
pub mod queue;
pub mod queue_lock;
mod recent_filter;
pub(super) mod recent_id;
mod recent_newest;
pub mod recent_sends;
#[cfg(test)]
mod recent_sends_tests;
mod recent_slices;
mod recent_table;
pub mod references;
mod run_sizes;
pub mod stage;
pub mod stored;
pub mod view;
pub mod write_permission;
