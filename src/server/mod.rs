//! Puts a process together: ports, TLS, the node, the services over it, health, and its start and stop.
//!
//! Not here: reading the configuration and choosing exit codes (`cli/broker`), what one node consists of (`node/start`).

mod error;
mod facts;
mod health;
mod memory;
mod name_server;
mod operators_thread;
mod run;
mod security;
mod services;
mod signals;

pub use error::Error;
pub use name_server::run_name_server;
pub use run::{Ended, run};

pub use crate::node::{StartError, discard};
pub use crate::raft::{Fatal, OnFatal, StartAgain};
