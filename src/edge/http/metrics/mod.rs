//! `/metrics`: what a scrape shows. A snapshot is taken first, then put into families of metrics by subject; nothing is kept
//! between two scrapes but what would cost too much to find each time.
//!
//! Names, units and labels are RocketMQ 5's where it has such a metric, else they begin with `raftmq_` (D126). Only the leader
//! shows what would be counted twice.

mod calls;
mod client_kinds;
mod exposition;
mod families;
mod host;
mod messages;
mod raft;
mod snapshot;
mod store;

pub(super) use exposition::{Format, encode};
pub(super) use snapshot::{NodeSnapshot, Snapshot};
