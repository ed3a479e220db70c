//! What clients are promised on the wire, through real clusters: one file for each verb or subject.
//!
//! Names give what they guard: `p7` a promise, `c24` and `c25` the two lists at the end of the wire contract, which are what
//! RocketMQ's end-to-end tests assert further (contract §24) and the fifteen mistakes a new server would make (contract §25), by item. Not here:
//! what contract §24 says of wrong access keys, as there is no authentication yet.

mod ack;
mod answers;
mod budgets;
mod connection;
mod dead_letter;
mod delay;
mod every_node;
mod fifo;
mod filter;
mod invisible;
mod namespace;
mod offset;
mod poll;
mod priority;
mod receive;
mod route;
mod send;
mod settings;
mod tls;
mod topics;
mod transaction;
mod trim;
