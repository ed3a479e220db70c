//! What listens for clients. Wire values become model types here, and a request that breaks a rule ends here with a code
//! of its protocol; nothing below checks them again.
//!
//! Every node serves every request (D15). Connections are spread over current-thread runtimes, one per core that the
//! front end may use (D22), or are served by Raft's thread (D43).
//!
//! Not here: what a request does (`broker/`), authentication.

pub mod admin;
pub mod budgets;
mod door;
pub mod grpc;
pub mod http;
pub mod listener;
mod peer;
pub mod places;
mod proxy_header;
mod read_through;
mod recall_handle;
pub mod remoting;
pub mod rules;
pub mod tls;
mod turns;
