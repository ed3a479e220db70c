//! A small client of a raftmq cluster over gRPC: send, receive, acknowledge, administer.
//!
//! Called by `cli`, `bench` and tests. Speaks `apache.rocketmq.v2` and `raftmq.admin.v1` to any node, and goes on to the
//! next address at once when one fails. Wall clock, random identity and whom to trust come from the caller
//! ([`ClientIdentity`]).
//!
//! Not here: routes and server-side renewal. Any node takes any request, and leases last as long as the caller asked.

mod admin;
mod connection;
mod consumer;
mod error;
mod membership;
pub mod name_server;
mod producer;
mod send_codec;
mod tls;
#[cfg(test)]
mod wire_test;

pub use admin::{Admin, Traced};
pub use connection::{Address, AddressError, ClientIdentity, Connection, Endpoints};
pub use consumer::{Consumer, FilterText, Received};
pub use error::{Error, Unreachable};
pub use producer::{EntryReceipt, Kind, Outgoing, Producer, SendReceipt, wire_time};
pub use tls::{Tls, Trust};
