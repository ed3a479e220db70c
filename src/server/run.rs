//! One process, from its configuration to its end.
//!
//! The calling thread is the Raft runtime; the front end has threads of its own on larger machines, operators' requests and the
//! commit log one each.
//! The order of the start: bind every port, open log and state, join the shard, serve clients.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{BrokerConfig, HttpConfig, Loaded};
use crate::edge::budgets::{Bounds, Budgets};
use crate::edge::http::{Access, Http, HttpSettings, Pages, Pulse};
use crate::edge::listener::{self, FrontEnd};
use crate::edge::places::Places;
use crate::env::{host_name, process, runtime};
use crate::model::HostPort;
use crate::node::Node;
use crate::raft::OnFatal;
use crate::server::facts::facts;
use crate::server::operators_thread::OperatorsThread;
use crate::server::security::security;
use crate::server::services::services;
use crate::server::signals::Signals;
use crate::server::{Error, memory};

/// So many cores are no more than Raft and its log need.
const FEW_CORES: usize = 2;
/// How far RocketMQ's second port is below `listenPort`.
const VIP_BELOW: u16 = 2;
/// Open files a node with many connections and a long log may need.
const OPEN_FILES_WANTED: u64 = 16 * 1024;

/// Clients that connect while a node starts wait this long for it.
const QUEUE_FOR: Duration = Duration::from_secs(2);
/// A node that is about to start again looks so long whether it was told to stop.
const LAST_SIGNALS: Duration = Duration::from_millis(20);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server ended that did what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By a signal.
    Stopped,
    /// The process is to start again, with the same arguments: log and state were pulled from another node.
    MustRestart,
}

/// Serves until a signal ends it, or it must start again; a second signal ends it at once. `on_fatal` must end the process.
pub fn run(loaded: &Loaded, on_fatal: OnFatal) -> Result<Ended, Error> {
    prepare_process();
    Places::check(loaded.config.open_files_max, process::open_files_limit())?;
    memory::check(&loaded.config)?;
    let (config, mut ports) = client_ports(&loaded.config)?;
    let config = config.as_ref();
    let peer_port = bind_peers(config)?;
    let http_port = bind_http(config)?;
    let security = security(&config.tls, &config.advertised_host)?;
    let runtime = runtime::of_one_thread().map_err(system)?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut signals = Signals::new().map_err(system)?;
        let pulse = Pulse::default();
        let pages = Arc::new(Pages::new(http_settings(config), pulse.clone()));
        let start_http = |port| Http::start(port, runtime::of_one_thread, pages.clone()).map_err(system);
        // Before the node, which may take long to start: whoever watches sees that it does.
        let has_http = http_port.is_some();
        let http = http_port.map(start_http).transpose()?;
        let node = tokio::select! {
            node = Node::start(config, peer_port, on_fatal) => node?,
            never = turn_away(&ports) => match never {},
        };
        let _beating = AbortOnDropHandle::new(tokio::spawn(pulse.beat()));
        let threads = config.frontend_threads.unwrap_or_else(front_end_threads);
        let facts = facts(loaded);
        ports.extend(bind_vip(config));
        let operators = OperatorsThread::start(runtime::of_one_thread().map_err(system)?).map_err(system)?;
        let protocols = services(config, facts.clone(), &node, &operators);
        let budgets = Budgets::new(config.request_memory_bytes, config.answer_memory_bytes);
        let bounds = Bounds { places: Places::new(config.open_files_max), budgets };
        pages.set_node(node.clone(), protocols.grpc.messaging.call_times().clone(), bounds.clone(), facts);
        let front_end =
            FrontEnd::start(ports, threads, runtime::of_one_thread, bounds, security, protocols).map_err(system)?;
        say_ready(config, &node, has_http);
        let ended = tokio::select! {
            stopped = signals.stop() => stopped.map(|()| Ended::Stopped).map_err(system)?,
            () = node.must_restart().cancelled() => Ended::MustRestart,
        };
        let must_restart = ended == Ended::MustRestart;
        tracing::info!("stopping");
        let stopping = async {
            // Before anything that clients notice (D121).
            node.leave().await;
            node.stopping().cancel();
            front_end.stop(config.shutdown_time).await;
        };
        let mut ended = wind_down(ended, stopping, async || signals.stop().await).await;
        drop(operators);
        if let Some(http) = http {
            http.stop().await;
        }
        node.stop().await;
        if must_restart {
            node.install_pulled();
            // Signals that came meanwhile are seen when this thread waits.
            if tokio::time::timeout(LAST_SIGNALS, signals.stop()).await.is_ok() {
                ended = Ended::Stopped;
            }
        }
        tracing::info!("stopped");
        Ok(ended)
    })
}

/// Waits for what has to end before the node stops. One that is to start again and is told to stop meanwhile does not start
/// again; one that is told to stop once more stops at once.
async fn wind_down(
    mut ended: Ended,
    stopping: impl Future<Output = ()>,
    mut signal: impl AsyncFnMut() -> io::Result<()>,
) -> Ended {
    let mut stopping = pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => return ended,
            _ = signal() => match ended {
                Ended::MustRestart => ended = Ended::Stopped,
                Ended::Stopped => {
                    tracing::warn!("told twice: stopping at once");
                    return ended;
                }
            },
        }
    }
}

/// What one looks for first in a log.
fn say_ready(config: &BrokerConfig, node: &Node, has_http: bool) {
    let at = |port| HostPort { host: config.bind_address.clone(), port };
    let leader = node.broker().leadership().borrow().leader;
    tracing::info!(
        node = %config.self_name,
        cluster = config.cluster,
        group = config.broker_name,
        clients = %at(config.grpc_port),
        listen = %at(config.listen_port),
        told = node.settings().store_host,
        http = has_http.then(|| HostPort { host: config.http.host.clone(), port: config.http.port }.to_string()),
        raft = %HostPort { host: config.peer_bind_address.clone(), port: config.me().address.port },
        peers = node.peers(),
        leader = leader.map(|leader| leader.to_string()),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    if config.creates_topics_classic != config.creates_topics {
        tracing::info!(
            "autoCreateTopicEnable is not set: classic clients make topics by sending to them, as with RocketMQ; gRPC clients \
             do not"
        );
    }
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

/// RocketMQ's second port, two below the first: its dashboard dials it, and clients that are set so. `None` if it cannot be
/// had, which nobody asked for.
fn bind_vip(config: &BrokerConfig) -> Option<TcpListener> {
    let port = config.listen_port.checked_sub(VIP_BELOW).filter(|port| *port > 0)?;
    if port == config.grpc_port {
        return None;
    }
    match listener::bind(&config.bind_address, port) {
        Ok(bound) => Some(bound),
        Err(error) => {
            tracing::warn!(
                "{error}: listenPort - {VIP_BELOW} is not served; clients with vipChannelEnabled, and RocketMQ's dashboard \
                 unless that is switched off there, do not reach this node"
            );
            None
        }
    }
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

/// `None` if the port is in use and nobody chose it: files for many nodes on one host, such as RocketMQ's, need not set it.
fn bind_http(config: &BrokerConfig) -> Result<Option<TcpListener>, Error> {
    let HttpConfig { host, port, port_is_default, admin_open, .. } = &config.http;
    match listener::bind(host, *port) {
        Ok(bound) => {
            let at = HostPort { host: host.clone(), port: *port };
            tracing::info!("http://{at}/ has metrics and health");
            if *admin_open {
                tracing::warn!(
                    "adminOpen=true: whoever reaches http://{at}/ui/ may see and change this cluster; there are no users yet"
                );
            } else {
                tracing::info!("http://localhost:{port}/ui/ has the dashboard, for this machine only");
            }
            Ok(Some(bound))
        }
        Err(error) if *port_is_default && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                "port {port} is in use and metricsPromExporterPort is not set: there are no metrics, no health and no \
                 dashboard over HTTP here; set it to another port to have them"
            );
            Ok(None)
        }
        Err(error) => Err(not_bound(error)),
    }
}

fn http_settings(config: &BrokerConfig) -> HttpSettings {
    let HttpConfig { serves_metrics, labels, admin_open, .. } = &config.http;
    // RocketMQ's own four: all nodes of a group have one broker name, so `peer_id` tells them apart.
    let own = [
        ("cluster", config.cluster.clone()),
        ("node_type", "broker".to_owned()),
        ("node_id", config.broker_name.clone()),
        ("peer_id", config.self_name.to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let names = vec![host_name(), config.advertised_host.clone(), config.http.host.clone()];
    let access = Access { is_open: *admin_open, names };
    HttpSettings { serves_metrics: *serves_metrics, labels: own.into_iter().chain(labels.clone()).collect(), access }
}

/// A node may wait long until it is a member: clients that wait in its ports would not go on to another one.
async fn turn_away(ports: &[TcpListener]) -> Infallible {
    tokio::time::sleep(QUEUE_FOR).await;
    let listener = |port: &TcpListener| tokio::net::TcpListener::from_std(port.try_clone().ok()?).ok();
    join_all(ports.iter().filter_map(listener).map(async |listener| {
        loop {
            if listener.accept().await.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }))
    .await;
    std::future::pending().await
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

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// How a node ends that is told to stop so often before it is done.
    async fn end_of(ended: Ended, signals: usize, is_done_before: bool) -> (Ended, bool) {
        let (sender, mut receiver) = mpsc::channel(4);
        (0..signals).for_each(|_| sender.try_send(()).unwrap());
        let mut is_done = false;
        let stopping = async {
            if !is_done_before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            is_done = true;
        };
        let signal = async || match receiver.recv().await {
            Some(()) => Ok(()),
            None => std::future::pending().await,
        };
        let ended = wind_down(ended, stopping, signal).await;
        (ended, is_done)
    }

    #[tokio::test]
    async fn a_stop_that_comes_while_a_node_is_about_to_start_again_counts() {
        assert_eq!(end_of(Ended::MustRestart, 0, false).await, (Ended::MustRestart, true));
        assert_eq!(end_of(Ended::MustRestart, 1, false).await, (Ended::Stopped, true));
        assert_eq!(end_of(Ended::MustRestart, 2, false).await, (Ended::Stopped, false));
        assert_eq!(end_of(Ended::Stopped, 0, false).await, (Ended::Stopped, true));
        assert_eq!(end_of(Ended::Stopped, 1, false).await, (Ended::Stopped, false));
        assert_eq!(end_of(Ended::Stopped, 0, true).await, (Ended::Stopped, true));
    }
}
