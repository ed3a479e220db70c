//! What a run is to do: what is measured, of whom, with which load.

use std::time::Duration;

use crate::bench::Error;
use crate::client::{Address, Endpoints};
use crate::env::process;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Sends.
    Send,
    /// Receive and ack of what was sent before.
    Receive,
    /// Both at once, and the way from one to the other.
    EndToEnd,
}

/// What is spoken with the measured server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `apache.rocketmq.v2`.
    Grpc,
    /// The classic one; the endpoints are name servers.
    Remoting,
}

/// How a consumer acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// All messages of a poll in one request.
    Together,
    /// Each in its own, as most official clients do.
    Singly,
}

/// A run to be made.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// What is measured.
    pub what: RunKind,
    pub protocol: Protocol,
    /// Who is driven; connections take turns.
    pub endpoints: Endpoints,
    /// Whose processes are watched; those of `endpoints` if empty.
    pub watch: Vec<Address>,
    /// Existing topics for NORMAL messages; connections take turns.
    pub topics: Vec<String>,
    /// The consumer group of the drain.
    pub group: String,
    /// Bytes of a body.
    pub size: usize,
    /// Messages in a send request.
    pub batch: usize,
    /// Send requests in flight.
    pub in_flight: usize,
    pub connections: usize,
    pub threads: usize,
    /// Messages a second on a fixed schedule; as fast as it goes without.
    pub rate: Option<f64>,
    /// How long after sending messages are delivered.
    pub delay: Option<Duration>,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub window: Duration,
    /// Messages sent before a receive run.
    pub count: u64,
    /// Consumers, one poll in flight each.
    pub consumers: usize,
    /// Messages asked for in a poll.
    pub receive_batch: u32,
    /// How they acknowledge.
    pub acks: Acks,
    /// Whether what was sent is drained and checked.
    pub verifies: bool,
}

impl RunPlan {
    /// The processes watched; none if they are on other machines.
    pub(super) fn servers(&self) -> Result<Vec<u32>, Error> {
        let watched = if self.watch.is_empty() { self.endpoints.addresses() } else { &self.watch };
        let found: Option<Vec<u32>> = watched.iter().map(|address| process::listener_of(address.port)).collect();
        let Some(mut found) = found else {
            // Servers elsewhere are not measured; a list of servers asked for must be complete.
            let is_asked_for = !self.watch.is_empty();
            let text = "no process of this machine that we may see listens on one of the watched ports";
            return if is_asked_for { Err(Error::Machine(text.to_owned())) } else { Ok(Vec::new()) };
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
