//! `raftmq broker`: one node, from its configuration to its end.
//!
//! The main thread is the Raft runtime; the front end has threads of its own on larger machines, the commit log one. The
//! order of the start: read the configuration, bind every port, open log and state, join the group,
//! serve clients. What fails ends the start with one line and a named exit code.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;

use crate::broker::{Broker, Fatal, Node, StartError};
use crate::cli::config::{key_value, load};
use crate::cli::exit::Exit;
use crate::config::{BrokerConfig, Loaded, LogFormat, TlsMode};
use crate::edge::admin::AdminService;
use crate::edge::grpc::messaging::{EdgeSettings, Messaging};
use crate::edge::grpc::unary::Services;
use crate::edge::listener::{self, FrontEnd, Security};
use crate::edge::tls;
use crate::env::{disk, process, runtime};
use crate::logging;
use crate::model::limits::REQUEST_BYTES_MAX;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin::admin_server::AdminServer;
use crate::proto::v2::messaging_service_server::MessagingServiceServer;

/// So many cores are no more than Raft and its log need.
const FEW_CORES: usize = 2;
/// Open files a node with many connections and a long log may need.
const OPEN_FILES_WANTED: u64 = 16 * 1024;

/// Start a broker node.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  raftmq broker -c conf/dledger/broker-n0.conf\n  raftmq broker -c broker.conf -D storePathRootDir=/var/lib/raftmq -D logFormat=json"
)]
pub struct BrokerArgs {
    /// Property file, as RocketMQ's broker.conf; without one: a node of its own with the defaults
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Set a key, over file and environment (RAFTMQ_CONF_<key>)
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = key_value)]
    define: Vec<(String, String)>,
}

/// Why a node does not start.
struct Refusal(Exit, String);

fn refusal(exit: Exit) -> impl Fn(&dyn std::fmt::Display) -> Refusal {
    move |reason| Refusal(exit, reason.to_string())
}

/// Runs the node until it is told to stop.
pub fn run(args: &BrokerArgs) -> Exit {
    let loaded = match load(args.config.as_deref(), &args.define, disk::read_text) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("error: {errors}");
            return Exit::Usage;
        }
    };
    let format = match loaded.config.log_format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(&loaded.config.log_level, format);
    announce(&loaded);
    if let Err(error) = process::use_small_pages() {
        tracing::debug!(%error, "the kernel chooses the size of pages");
    }
    if let Some(count) = process::raise_open_files().filter(|count| *count < OPEN_FILES_WANTED) {
        tracing::warn!("this process may open {count} files only; raise the limit (ulimit -n) to {OPEN_FILES_WANTED}");
    }
    match start_and_serve(&loaded.config) {
        Ok(()) => Exit::Ok,
        Err(Refusal(exit, reason)) => {
            tracing::error!("{reason}");
            exit
        }
    }
}

fn announce(loaded: &Loaded) {
    for value in &loaded.effective {
        tracing::info!(target: logging::ANNOUNCEMENTS, key = value.key, value = value.value, origin = %value.origin, "config");
    }
    for warning in &loaded.warnings {
        tracing::warn!(target: logging::ANNOUNCEMENTS, "{warning}");
    }
    let is_asked_for = |level: &str| loaded.config.log_level == level;
    if tracing::level_filters::STATIC_MAX_LEVEL < tracing::Level::DEBUG
        && (is_asked_for("debug") || is_asked_for("trace"))
    {
        let level = &loaded.config.log_level;
        tracing::warn!(target: logging::ANNOUNCEMENTS, "logLevel={level}: a release build logs info and above only");
    }
}

fn start_and_serve(config: &BrokerConfig) -> Result<(), Refusal> {
    let in_use = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Refusal(Exit::PortInUse, format!("{error}; stop what holds the port or configure another one"))
        }
        _ => Refusal(Exit::Failed, error.to_string()),
    };
    let bind = |port| listener::bind(&config.bind_address, port).map_err(in_use);
    let ports = vec![bind(config.grpc_port)?, bind(config.listen_port)?];
    let peer_port = bind(config.me().port)?;
    let security = security(config)?;
    let failed = refusal(Exit::Failed);
    let runtime = runtime::of_one_thread().map_err(|error| failed(&error))?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let node = Node::start(config, peer_port, Arc::new(die)).await.map_err(|error| {
            let exit = match &error {
                StartError::FolderTaken(_) => Exit::FolderTaken,
                StartError::Damaged(_) => Exit::Damaged,
                StartError::Contradiction(_) => Exit::Usage,
                StartError::Raft(_) => Exit::Failed,
            };
            Refusal(exit, error.to_string())
        })?;
        let threads = config.frontend_threads.unwrap_or_else(front_end_threads);
        let services = services(config, node.broker().clone());
        let front_end = FrontEnd::start(ports, threads, runtime::of_one_thread, security, services)
            .map_err(|error| failed(&error))?;
        tracing::info!(grpc = config.grpc_port, listen = config.listen_port, raft = config.me().port, "ready");
        until_told_to_stop().await.map_err(|error| failed(&error))?;
        tracing::info!("stopping");
        node.broker().stopping().cancel();
        let limit = config.shutdown_time;
        tokio::select! {
            () = front_end.stop(limit) => {}
            _ = until_told_to_stop() => tracing::warn!("told twice: stopping at once"),
        }
        node.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// One per core; on a machine of one or two, where threads cost more than they bring, Raft's thread serves clients too.
fn front_end_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(FEW_CORES, usize::from);
    if cores <= FEW_CORES { 0 } else { cores }
}

fn services(config: &BrokerConfig, broker: Arc<Broker>) -> Services {
    let messaging = Messaging::new(
        broker.clone(),
        EdgeSettings { body_bytes_max: config.body_bytes_max, delay_max: config.delay_max },
    );
    let service = MessagingServiceServer::new(messaging.clone())
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptor is made with the code");
    let mut routes = Routes::builder();
    routes
        .add_service(service)
        .add_service(AdminServer::new(AdminService::new(broker.clone())))
        .add_service(health)
        .add_service(reflection);
    tokio::spawn(report_health(broker, reporter));
    Services { messaging, request_bytes_max: REQUEST_BYTES_MAX, routes: routes.routes() }
}

/// Healthy means that a leader is known, not merely that a port is open. Ends with the runtime.
async fn report_health(broker: Arc<Broker>, reporter: tonic_health::server::HealthReporter) {
    use tonic_health::ServingStatus;
    let mut leadership = broker.leadership();
    loop {
        let is_led = leadership.borrow_and_update().leader.is_some();
        let status = if is_led { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "apache.rocketmq.v2.MessagingService"] {
            reporter.set_service_status(service, status).await;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

fn security(config: &BrokerConfig) -> Result<Security, Refusal> {
    let usage = refusal(Exit::Usage);
    let allows_plaintext = config.tls.mode != TlsMode::Enforcing;
    if config.tls.mode == TlsMode::Disabled {
        return Ok(Security { tls: None, allows_plaintext });
    }
    let made = match &config.tls.files {
        Some((chain, key)) => {
            let read =
                |path: &PathBuf| disk::read_text(path).map_err(|error| usage(&format!("{}: {error}", path.display())));
            tls::from_pem(&read(chain)?, &read(key)?)
        }
        None => {
            let names = ["localhost", "127.0.0.1", "::1", &config.advertised_host];
            tls::self_signed(names.map(str::to_owned).to_vec())
        }
    };
    Ok(Security { tls: Some(made.map_err(|error| usage(&error))?), allows_plaintext })
}

async fn until_told_to_stop() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// After a failed write or sync nothing may be acknowledged any more, and a node that the group does not
/// know has nothing to say: the process ends at once (D18).
fn die(reason: Fatal) {
    tracing::error!("this node cannot go on: {reason}");
    let exit = match reason {
        Fatal::Failed(_) => Exit::Damaged,
        Fatal::Replaced(_) => Exit::FolderTaken,
    };
    std::process::exit(i32::from(exit as u8));
}
