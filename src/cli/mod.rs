//! The commands of `raftmq`: what is typed, what is printed, and the exit code. One file per noun.
//!
//! Data goes to stdout, everything else to stderr. JSON has stable snake_case keys; a document (`-o json`) names its
//! `schema`, a line of `-o jsonl` is one row of the table.
//!
//! Not here: anything about the wire (`client`) or about running a node (`edge` and below).

mod backup;
mod bench;
mod broker;
mod check;
mod client;
mod cluster;
mod cluster_status;
mod commands;
mod config;
mod confirm;
mod consume;
mod debug;
mod dlq;
mod drill;
mod events;
mod exit;
mod failure;
mod group;
mod members;
mod message;
mod moment;
mod namesrv;
mod options;
mod produce;
mod render;
mod stats;
mod tls_options;
mod top;
mod topic;
mod topic_table;
mod trace;
mod trim;

pub use commands::main;
