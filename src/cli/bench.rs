//! `raftmq bench`: measures this or any other broker of RocketMQ 5's protocol, and the floors beside it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::bench::compare::{Ratio, ratios};
use crate::bench::failover;
use crate::bench::null::NullServer;
use crate::bench::raw::{self, RawPlan};
use crate::bench::report::{self, Latency, Report};
use crate::bench::{self, Acks, Error, Paused, RunKind, RunPlan};
use crate::client::{Address, Endpoints};
use crate::env::disk;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options;
use crate::cli::options::{Format, Global, byte_count, duration};
use crate::cli::render;
use crate::cli::render::{Column, grouped};

/// A side that stood still finds its peers again.
const AFTER_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send as fast as it goes, or on a schedule
    #[command(after_long_help = "\
Every message that was acknowledged is received again afterwards and checked: count, order, body.
The topic must exist. With --rate, latencies count from the scheduled time.

Examples:
  raftmq bench send --topic bench --in-flight 64 --duration 10s
  raftmq bench send --topic bench --rate 5000 --size 128 --batch 8")]
    Send(LoadArgs),
    /// Receive and ack what was sent before
    #[command(after_long_help = "\
Sends --count messages first, then measures how fast they are received and acknowledged.

Examples:
  raftmq bench receive --topic bench --count 200000
  raftmq bench receive --topic bench --acks singly --consumers 16")]
    Receive(LoadArgs),
    /// Send and receive at once; the way from one to the other
    #[command(
        name = "e2e",
        after_long_help = "\
Examples:
  raftmq bench e2e --topic bench --rate 5000 --size 1KB --duration 30s
  raftmq -o json bench e2e --topic bench --rate 200
  raftmq bench e2e --topic reminders --rate 1000 --delay 10s"
    )]
    EndToEnd(LoadArgs),
    /// The same sends against a server that answers at once and keeps nothing
    #[command(after_long_help = "\
A plain tonic server of the same protocol, in a process of its own: what RPCs alone cost on this machine.

Examples:
  raftmq bench null --in-flight 64
  raftmq bench null --in-flight 1 --duration 5s")]
    Null(NullArgs),
    /// Write and sync, over and over: what the disk alone can do
    #[command(after_long_help = "\
Examples:
  raftmq bench raw --folder /var/lib/raftmq --flush 1KiB
  raftmq bench raw --folder /tmp --flush 256KiB --writers 3")]
    Raw(RawArgs),
    /// Two servers in turn: A B A B ..., and the median ratio with its interval
    #[command(after_long_help = "\
A and B are addresses, or `null` for the server that answers at once.

Examples:
  raftmq bench compare 127.0.0.1:8081 null --topic bench --pairs 9
  raftmq bench compare 127.0.0.1:8081 127.0.0.1:9081 --what receive --topic bench")]
    Compare(CompareArgs),
    /// Kill a node under load: the gap, what is lost, what comes again after its ack
    #[command(after_long_help = "\
Sends --rate messages a second through all addresses in turn and consumes them; kills the process that listens on
the --kill address of this machine with SIGKILL; nothing is tried twice. Name the leader's address for a failover.
The group must exist where the server does not make it.

Examples:
  raftmq -n '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' bench failover --kill 127.0.0.1:8082
  raftmq -n 127.0.0.1:9001 bench failover --kill 127.0.0.1:9001 --after 30s --settle 60s")]
    Failover(FailoverArgs),
    /// Draw reports side by side, as SVG
    #[command(after_long_help = "\
Each FILE is what `raftmq -o json bench send` (or receive, e2e, null) printed.

Examples:
  raftmq bench picture 'raftmq=ours.json' 'RocketMQ 5.3.3=theirs.json' > throughput.svg
  raftmq bench picture '1 in flight=1.json' '64 in flight=64.json' > load.svg")]
    Picture(PictureArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct PictureArgs {
    /// A label and a report
    #[arg(required = true, value_name = "LABEL=FILE")]
    reports: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AcksArg {
    Together,
    Singly,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhatArg {
    Send,
    Receive,
    E2e,
}

/// Options of all loads.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Topics for NORMAL messages, taken in turn by the connections; must exist
    #[arg(long, default_value = "bench", value_name = "NAME[,NAME]", value_delimiter = ',')]
    topic: Vec<String>,
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
    watch: Option<String>,
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

#[derive(Debug, Clone, clap::Args)]
pub struct RawArgs {
    /// Folder on the disk to measure
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Bytes written before each sync
    #[arg(long, default_value = "1KiB", value_name = "BYTES", value_parser = byte_count)]
    flush: usize,
    /// Writers at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// For how long
    #[arg(long, default_value = "3s", value_name = "DUR", value_parser = duration)]
    duration: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// Addresses of the first side
    a: String,
    /// Addresses of the second side
    b: String,
    /// Pairs of slices
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// What is measured
    #[arg(long, value_enum, default_value = "send")]
    what: WhatArg,
    /// Processes to watch on the second side, as --watch on the first
    #[arg(long, value_name = "ADDR[;ADDR]")]
    watch_b: Option<String>,
    /// Stop the watched processes of the second side (SIGSTOP) while the first is measured
    ///
    /// For a server that works while it is idle. Should this end early, `kill -CONT` lets them go on.
    #[arg(long)]
    pause_b: bool,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub struct FailoverArgs {
    /// Whose process is killed
    #[arg(long, value_name = "ADDR")]
    kill: String,
    /// Topic for NORMAL messages; must exist
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Consumer group
    #[arg(long, default_value = "bench-group")]
    group: String,
    /// Messages a second
    #[arg(long, default_value_t = 200, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Bytes of a body
    #[arg(long, default_value = "1KiB", value_name = "BYTES", value_parser = byte_count)]
    size: usize,
    /// Load before the kill
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    before: Duration,
    /// Load after it
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    after: Duration,
    /// How long consumers go on when nothing is sent any more; leases last 10s
    #[arg(long, default_value = "25s", value_name = "DUR", value_parser = duration)]
    settle: Duration,
}

/// Runs a measurement and prints it.
pub fn run(global: &Global, command: Command) -> Exit {
    options::start_log(global);
    match measure(global, command) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.print(),
    }
}

fn measure(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Send(load) => one(global, &plan(global, &load, RunKind::Send)?),
        Command::Receive(load) => one(global, &plan(global, &load, RunKind::Receive)?),
        Command::EndToEnd(load) => one(global, &plan(global, &load, RunKind::EndToEnd)?),
        Command::Null(NullArgs { serve: Some(address), .. }) => bench::null::serve(address).map_err(|e| failure(&e)),
        Command::Null(NullArgs { load, .. }) => {
            let server = NullServer::start().map_err(|error| failure(&error))?;
            let plan = plan(global, &load, RunKind::Send)?;
            one(global, &RunPlan { endpoints: server.endpoints.clone(), watch: Vec::new(), verifies: false, ..plan })
        }
        Command::Raw(args) => raw_disk(global, &args),
        Command::Compare(args) => compare(global, &args),
        Command::Failover(args) => watch_a_death(global, &args),
        Command::Picture(args) => picture(&args),
    }
}

fn picture(args: &PictureArgs) -> Result<(), Failure> {
    let read = |text: &String| {
        let unusable = |why: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("'{text}': {why}"));
        let (label, path) = text.split_once('=').ok_or_else(|| unusable(&"is not LABEL=FILE"))?;
        let json = disk::read_text(path.as_ref()).map_err(|error| unusable(&error))?;
        let report: Report = serde_json::from_str(&json).map_err(|error| unusable(&error))?;
        Ok((label.to_owned(), report))
    };
    print(&bench::picture::svg(&args.reports.iter().map(read).collect::<Result<Vec<_>, Failure>>()?))
}

fn endpoints(text: &str) -> Result<Endpoints, Failure> {
    Endpoints::parse(text).map_err(|error| Failure::new(Exit::Usage, format!("endpoints: {error}")))
}

fn watched(text: Option<&String>) -> Result<Vec<Address>, Failure> {
    text.map_or(Ok(Vec::new()), |text| Ok(endpoints(text)?.addresses().to_vec()))
}

fn watch_a_death(global: &Global, args: &FailoverArgs) -> Result<(), Failure> {
    let victim = endpoints(&args.kill)?;
    let [victim] = victim.addresses() else {
        return Err(Failure::new(Exit::Usage, format!("--kill takes one address, '{}' has several", args.kill)));
    };
    let plan = failover::FailoverPlan {
        endpoints: global.endpoints()?,
        topic: args.topic.clone(),
        group: args.group.clone(),
        rate: args.rate,
        size: args.size,
        victim: victim.clone(),
        before: args.before,
        after: args.after,
        settle: args.settle,
    };
    let report = failover::run(&plan).map_err(|error| failure(&error))?;
    match global.output {
        Format::Table => print(&failover::told(&report)),
        format => document(&report, format),
    }
}

fn plan(global: &Global, load: &LoadArgs, what: RunKind) -> Result<RunPlan, Failure> {
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

fn failure(error: &Error) -> Failure {
    match error {
        Error::Connect { .. } => {
            Failure::new(Exit::CannotConnect, error).remedy("start one:", "scripts/fast-try.sh start")
        }
        Error::Refused { code, .. } if code == "TOPIC_NOT_FOUND" => {
            Failure::new(Exit::NotFoundOrExists, error).remedy("create it:", "raftmq topic create bench")
        }
        Error::Refused { .. } | Error::Failed(_) | Error::Mismatch(_) | Error::Machine(_) => {
            Failure::new(Exit::Failed, error)
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    render::print(text).map_err(|error| Failure::new(Exit::Failed, format!("stdout: {error}")))
}

fn document(value: &impl Serialize, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Jsonl => serde_json::to_string(value).map(|line| line + "\n"),
        Format::Table | Format::Json => serde_json::to_string_pretty(value).map(|text| text + "\n"),
    };
    print(&text.map_err(|error| Failure::new(Exit::Failed, error))?)
}

fn one(global: &Global, plan: &RunPlan) -> Result<(), Failure> {
    let report = bench::run(plan).map_err(|error| failure(&error))?;
    match global.output {
        Format::Table => print(&table(&report)),
        format => document(&report, format),
    }
}

const COLUMNS: [Column; 8] = [
    Column::Text(""),
    Column::Number("count"),
    Column::Number("rate/s"),
    Column::Number("MB/s"),
    Column::Number("p50"),
    Column::Number("p99"),
    Column::Number("p99.9"),
    Column::Number("max"),
];

fn millis(us: u64) -> String {
    format!("{:.2}ms", us as f64 / 1000.0)
}

fn quantiles(latency: Latency) -> [String; 4] {
    [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(millis)
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

fn raw_disk(global: &Global, args: &RawArgs) -> Result<(), Failure> {
    let plan = RawPlan {
        folder: args.folder.clone(),
        flush_bytes: args.flush,
        writers: args.writers.into(),
        length: args.duration,
    };
    let report = raw::run(&plan).map_err(|error| failure(&error))?;
    match global.output {
        Format::Table => {
            let latency = quantiles(report.latency);
            let counts = [
                format!("{} × {}", report.writers, report.flush_bytes),
                String::new(),
                grouped(report.syncs_per_second as u64),
                format!("{:.1}", report.megabytes_per_second),
            ];
            print(&render::table(&COLUMNS, std::iter::once(counts.into_iter().chain(latency).collect())))
        }
        format => document(&report, format),
    }
}

/// What `compare` prints as JSON.
#[derive(Debug, Serialize)]
struct Comparison {
    schema: &'static str,
    a: String,
    b: String,
    pairs: usize,
    ratios: Vec<Ratio>,
    runs: Vec<(Report, Report)>,
}

fn compare(global: &Global, args: &CompareArgs) -> Result<(), Failure> {
    let what = match args.what {
        WhatArg::Send => RunKind::Send,
        WhatArg::Receive => RunKind::Receive,
        WhatArg::E2e => RunKind::EndToEnd,
    };
    let mut null = None;
    let mut side = |text: &str, watch: Option<&String>| -> Result<RunPlan, Failure> {
        let base = plan(global, &args.load, what)?;
        if text != "null" {
            return Ok(RunPlan { endpoints: endpoints(text)?, watch: watched(watch)?, ..base });
        }
        let server = match null.take() {
            Some(server) => server,
            None => NullServer::start().map_err(|error| failure(&error))?,
        };
        let plan = RunPlan { endpoints: server.endpoints.clone(), watch: Vec::new(), verifies: false, ..base };
        null = Some(server);
        Ok(plan)
    };
    let (a, b) = (side(&args.a, args.load.watch.as_ref())?, side(&args.b, args.watch_b.as_ref())?);
    let mut runs = Vec::new();
    for pair in 0..args.pairs {
        let paused = args.pause_b.then(|| Paused::servers(&b)).transpose().map_err(|error| failure(&error))?;
        let first = bench::run(&a).map_err(|error| failure(&error))?;
        if paused.is_some() {
            drop(paused);
            std::thread::sleep(AFTER_PAUSE);
        }
        let reports = (first, bench::run(&b).map_err(|error| failure(&error))?);
        if !global.quiet {
            let (a, b) = (reports.0.messages_per_second, reports.1.messages_per_second);
            eprintln!("pair {}: {} / {} msg/s = {:.3}", pair + 1, grouped(a as u64), grouped(b as u64), a / b);
        }
        runs.push(reports);
    }
    let ratios = ratios(&runs);
    match global.output {
        Format::Table => print(&ratio_table(&ratios)),
        format => document(
            &Comparison {
                schema: "raftmq.bench_compare.v1",
                a: args.a.clone(),
                b: args.b.clone(),
                pairs: runs.len(),
                ratios,
                runs,
            },
            format,
        ),
    }
}

fn ratio_table(ratios: &[Ratio]) -> String {
    let columns = [
        Column::Text("figure"),
        Column::Number("A"),
        Column::Number("B"),
        Column::Number("A/B"),
        Column::Number("95 % interval"),
    ];
    let rows = ratios.iter().map(|ratio| {
        vec![
            ratio.figure.clone(),
            format!("{:.1}", ratio.a),
            format!("{:.1}", ratio.b),
            format!("{:.3}", ratio.ratio),
            format!("{:.3} .. {:.3}", ratio.low, ratio.high),
        ]
    });
    render::table(&columns, rows)
}
