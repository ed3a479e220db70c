//! HTTP, for operators and what watches for them: metrics, health and the dashboard, on a port and a thread of their own, so
//! that whoever reads them never delays Raft or clients (D125).
//!
//! Metrics and health only read, and only this node; they answer anyone who reaches the port. The dashboard answers this
//! machine (D171). All of it is plaintext.
//!
//! Not here: gRPC's own health service (`server/health`), what operators ask with commands (`edge/admin`).

mod dashboard;
mod health;
mod listener;
mod metrics;
mod page;
mod pages;
mod patience;
mod pulse;
mod tables;

pub use dashboard::Access;
pub use listener::Http;
pub use pages::{HttpSettings, Pages};
pub use pulse::Pulse;
