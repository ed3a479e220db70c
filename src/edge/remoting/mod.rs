//! RocketMQ's classic protocol: what its clients ask, of brokers and of name servers. Every node answers all of it (D186).
//!
//! A connection (`connection`) takes frames and has each answered by the processor of its code (`processors`): one file
//! for each subject. A request that no processor knows is answered so, and one that breaks a rule gets a code of the
//! protocol (`codes`).
//!
//! Source: docs/remoting-contract.md.
//!
//! Not here: bytes (`proto/remoting`), limits and checks (`edge/rules`), what a request does (`broker/`).

mod answer;
mod clients;
mod codes;
mod commits;
mod compressed;
pub(super) mod connection;
mod context;
mod delivered;
mod filter;
mod host;
mod key_values;
mod locks;
mod message;
mod notices;
mod offsets;
mod physical_offset;
mod processors;
mod producers;
mod pull;
mod put_off;
mod queries;
mod reading;
mod recall;
mod reply;
mod report;
mod reporter;
mod route;
mod send;
mod send_back;
mod send_marks;
mod store_host;
mod tools;
mod transaction;
mod unpacking;
mod write_permission;
mod writing;

pub use context::{Remoting, RemotingSettings};
