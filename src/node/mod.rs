//! What a process has once, whatever it serves: the sessions of its clients, the routes to all nodes, its settings, and
//! its start and stop. It holds its shard and implements what the shard needs of it (`broker::Clients`).
//!
//! Not here: what a request means (`broker/`), ports and protocols (`edge/`), what makes a process of it (`server/`).

mod clients;
mod connections;
mod consumers;
mod error;
mod open;
mod peer_security;
mod retention_notice;
mod routes;
mod sessions;
mod settings;
mod start;
mod status;

pub use error::StartError;
pub use routes::Routes;
pub use sessions::{ClientHeader, SessionSettings, Sessions};
pub use settings::{NodeAddress, NodeSettings};
pub use start::Node;
pub use status::NodeSummary;

pub use crate::raft::ReplicaStatus;
