//! `raftmq bench`: measures this or any other broker of RocketMQ 5's protocol, and the floors beside it. One file per
//! subcommand, except that send, receive, e2e and null share `load`.
//!
//! Not here: the measurements themselves (`bench/`).

mod command;
mod compare;
mod failover;
mod load;
mod output;
mod picture;
mod raw;

pub use command::{Command, run};
