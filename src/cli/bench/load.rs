//! `raftmq bench send`, `receive`, `e2e` and `null`: a load and its report.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use crate::bench;
use crate::bench::null::NullServer;
use crate::bench::report::{self, Latency, Report};
use crate::bench::{Acks, Protocol, RunKind, RunPlan};
use crate::cli::bench::output::{COLUMNS, document, endpoints, failure, print, quantiles};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options::{Format, Global, byte_count, duration};
use crate::cli::render;
use crate::cli::render::grouped;
use crate::client::Address;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolArg {
    Grpc,
    Remoting,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AcksArg {
    Together,
    Singly,
}

/// Options of all loads.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Topics for NORMAL messages, taken in turn by the connections; must exist
    #[arg(long, default_value = "bench", value_name = "NAME[,NAME]", value_delimiter = ',')]
    topic: Vec<String>,
    /// What is spoken with the server; over remoting the endpoints are name servers
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: ProtocolArg,
    /// Consumer group that drains
    #[arg(long, default_value = "bench-group")]
    group: String,
    /// Bytes of a body
    #[arg(long, default_value = "1KiB", value_name = "BYTES", value_parser = byte_count)]
    size: usize,
    /// Messages in a send request
    #[arg(long, default_value_t = 1, value_name = "B", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Send requests in flight
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
    /// Connections, taking turns over the addresses
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Threads of this driver
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Messages a second, on a fixed schedule
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Deliver so long after sending and measure how late; e2e on a topic of type DELAY
    #[arg(long, value_name = "DUR", value_parser = duration)]
    delay: Option<Duration>,
    /// Time before the window that is measured
    #[arg(long, default_value = "2s", value_name = "DUR", value_parser = duration)]
    warm_up: Duration,
    /// Length of the window
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    duration: Duration,
    /// Messages sent before a receive run
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Polls in flight
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    consumers: u16,
    /// Messages asked for in a poll
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=32))]
    receive_batch: u16,
    /// How deliveries are acknowledged
    #[arg(long, value_enum, default_value = "together")]
    acks: AcksArg,
    /// Processes to watch by the ports they listen on [default: those of the endpoints]
    #[arg(long, value_name = "ADDR[;ADDR]")]
    pub watch: Option<String>,
    /// Do not receive and check what was sent
    #[arg(long)]
    no_check: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct NullArgs {
    /// Only serve, on this address
    #[arg(long, hide = true, value_name = "ADDR")]
    serve: Option<SocketAddr>,
    #[command(flatten)]
    load: LoadArgs,
}

/// Measures one load.
pub(super) fn run(global: &Global, load: &LoadArgs, what: RunKind) -> Result<(), Failure> {
    one(global, &plan(global, load, what)?)
}

/// Measures the server that answers at once, or is that server.
pub(super) fn null(global: &Global, args: &NullArgs) -> Result<(), Failure> {
    if let Some(address) = args.serve {
        return bench::null::serve(address).map_err(|error| failure(&error));
    }
    if args.load.protocol == ProtocolArg::Remoting {
        return Err(Failure::new(
            Exit::Usage,
            "the server that answers at once speaks gRPC only: leave --protocol out",
        ));
    }
    let server = NullServer::start().map_err(|error| failure(&error))?;
    let plan = plan(global, &args.load, RunKind::Send)?;
    one(global, &RunPlan { endpoints: server.endpoints.clone(), watch: Vec::new(), verifies: false, ..plan })
}

pub(super) fn plan(global: &Global, load: &LoadArgs, what: RunKind) -> Result<RunPlan, Failure> {
    if load.delay.is_some() && what != RunKind::EndToEnd {
        return Err(Failure::new(Exit::Usage, "--delay measures how late messages arrive: use bench e2e"));
    }
    // What no connection takes would be sent to by nobody.
    if load.topic.len() > usize::from(load.connections.min(load.consumers)) {
        let text = format!(
            "{} topics are more than {} connections or {} consumers; raise --connections and --consumers",
            load.topic.len(),
            load.connections,
            load.consumers
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(RunPlan {
        what,
        protocol: match load.protocol {
            ProtocolArg::Grpc => Protocol::Grpc,
            ProtocolArg::Remoting => Protocol::Remoting,
        },
        endpoints: global.endpoints()?,
        watch: watched(load.watch.as_ref())?,
        topics: load.topic.clone(),
        group: load.group.clone(),
        size: load.size,
        batch: load.batch.into(),
        in_flight: load.in_flight.into(),
        connections: load.connections.into(),
        threads: load.threads.into(),
        rate: load.rate.map(f64::from),
        delay: load.delay,
        warm_up: load.warm_up,
        window: load.duration,
        count: load.count,
        consumers: load.consumers.into(),
        receive_batch: load.receive_batch.into(),
        acks: match load.acks {
            AcksArg::Together => Acks::Together,
            AcksArg::Singly => Acks::Singly,
        },
        verifies: !load.no_check,
    })
}

pub(super) fn watched(text: Option<&String>) -> Result<Vec<Address>, Failure> {
    text.map_or(Ok(Vec::new()), |text| Ok(endpoints(text)?.addresses().to_vec()))
}

fn one(global: &Global, plan: &RunPlan) -> Result<(), Failure> {
    let report = bench::run(plan).map_err(|error| failure(&error))?;
    match global.output {
        Format::Table | Format::Wide => print(&table(&report)),
        format => document(&report, format),
    }
}

fn table(report: &Report) -> String {
    let row = |name: &str, counts: [String; 3], latency: Latency| {
        std::iter::once(name.to_owned()).chain(counts).chain(quantiles(latency)).collect::<Vec<_>>()
    };
    let counts = [
        grouped(report.messages),
        grouped(report.messages_per_second as u64),
        format!("{:.1}", report.megabytes_per_second),
    ];
    let mut rows = vec![row(&report.settings.what, counts, report.latency)];
    let parts = [("arrival", report.end_to_end), ("ack", report.ack)];
    rows.extend(
        parts.into_iter().filter_map(|(name, latency)| latency.map(|latency| row(name, Default::default(), latency))),
    );
    let mut text = render::table(&COLUMNS, rows.into_iter());
    if report.server_processes > 0 {
        text.push_str(&format!(
            "servers: {} processes, {:.1} µs CPU and {:.2} switches per message, {:.2} bytes written per payload byte \
             each, {:.0} MiB\n",
            report.server_processes,
            report.server_cpu_us,
            report.server_switches,
            report.write_amplification,
            report.server_mib
        ));
    }
    text.push_str(&format!("driver: {:.1} µs CPU per message\n", report.client_cpu_us));
    match report.checked {
        Some(count) => {
            text.push_str(&format!("checked: {} messages came back once, in order, intact\n", grouped(count)))
        }
        None => text.push_str("checked: nothing was received again\n"),
    }
    if !report.failures.is_empty() {
        text.push_str(&format!("failed: {}\n", report::failures(&report.failures)));
    }
    text
}
