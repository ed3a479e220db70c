//! One process, from its configuration to its end.
//!
//! The calling thread is the Raft runtime; the front end has threads of its own on larger machines, the commit log one.
//! The order of the start: bind every port, open log and state, join the shard, serve clients.

use std::borrow::Cow;
use std::io;
use std::net::TcpListener;

use crate::config::BrokerConfig;
use crate::edge::listener::{self, FrontEnd};
use crate::env::{process, runtime};
use crate::node::Node;
use crate::raft::OnFatal;
use crate::server::Error;
use crate::server::security::security;
use crate::server::services::services;
use crate::server::signals::Signals;

/// So many cores are no more than Raft and its log need.
const FEW_CORES: usize = 2;
/// Open files a node with many connections and a long log may need.
const OPEN_FILES_WANTED: u64 = 16 * 1024;

/// Serves until a signal ends it; a second one ends it at once. `on_fatal` must end the process.
pub fn run(config: &BrokerConfig, on_fatal: OnFatal) -> Result<(), Error> {
    prepare_process();
    let (config, ports) = client_ports(config)?;
    let config = config.as_ref();
    let peer_port = bind_peers(config)?;
    let security = security(config)?;
    let runtime = runtime::of_one_thread().map_err(system)?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut signals = Signals::new().map_err(system)?;
        let node = Node::start(config, peer_port, on_fatal).await?;
        let threads = config.frontend_threads.unwrap_or_else(front_end_threads);
        let services = services(config, &node);
        let front_end = FrontEnd::start(ports, threads, runtime::of_one_thread, security, services).map_err(system)?;
        tracing::info!(grpc = config.grpc_port, listen = config.listen_port, raft = config.me().address.port, "ready");
        signals.stop().await.map_err(system)?;
        tracing::info!("stopping");
        node.stopping().cancel();
        tokio::select! {
            () = front_end.stop(config.shutdown_time) => {}
            _ = signals.stop() => tracing::warn!("told twice: stopping at once"),
        }
        node.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// The bound ports for clients, with the configuration that is then true: RocketMQ's samples for one host do not set
/// `grpcServerPort`, so all but the first node of a host find its default in use.
fn client_ports(config: &BrokerConfig) -> Result<(Cow<'_, BrokerConfig>, Vec<TcpListener>), Error> {
    let listen = bind(config, config.listen_port)?;
    match bind(config, config.grpc_port) {
        Ok(grpc) => Ok((Cow::Borrowed(config), vec![grpc, listen])),
        Err(Error::PortInUse(_)) if config.grpc_port_is_default => {
            let (taken, port) = (config.grpc_port, config.listen_port);
            tracing::warn!(
                "port {taken} is in use and grpcServerPort is not set: listenPort {port} alone serves gRPC clients; \
                 set grpcServerPort for another port beside it"
            );
            Ok((Cow::Owned(BrokerConfig { grpc_port: port, ..config.clone() }), vec![listen]))
        }
        Err(error) => Err(error),
    }
}

fn bind(config: &BrokerConfig, port: u16) -> Result<TcpListener, Error> {
    listener::bind(&config.bind_address, port).map_err(not_bound)
}

/// Without proof of who peers are, the port listens where they dial it and nowhere else, if that is one of this host's
/// addresses.
fn bind_peers(config: &BrokerConfig) -> Result<TcpListener, Error> {
    let (address, port) = (&config.peer_bind_address, config.me().address.port);
    match listener::bind(address, port) {
        Err(error) if *address != config.bind_address && error.kind() != io::ErrorKind::AddrInUse => {
            tracing::warn!(%error, "the port for peers listens on {} as well", config.bind_address);
            bind(config, port)
        }
        bound => bound.map_err(not_bound),
    }
}

fn prepare_process() {
    if let Err(error) = process::use_small_pages() {
        tracing::debug!(%error, "the kernel chooses the size of pages");
    }
    if let Some(count) = process::raise_open_files().filter(|count| *count < OPEN_FILES_WANTED) {
        tracing::warn!("this process may open {count} files only; raise the limit (ulimit -n) to {OPEN_FILES_WANTED}");
    }
}

fn not_bound(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse(error),
        _ => system(error),
    }
}

fn system(error: io::Error) -> Error {
    Error::System(error.to_string())
}

/// One per core; on a machine of one or two, where threads cost more than they bring, Raft's thread serves clients too.
fn front_end_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(FEW_CORES, usize::from);
    if cores <= FEW_CORES { 0 } else { cores }
}
