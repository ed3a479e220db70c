//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::bench::Error;
use crate::bench::plan::{Acks, Protocol, RunKind, RunPlan};
use crate::bench::tally::Tally;
use crate::env::process;

/// Schema of the JSON document.
pub const SCHEMA: &str = "raftmq.bench.v1";

/// How a run was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `send`, `receive` or `e2e`.
    pub what: String,
    /// `grpc` or `remoting`.
    #[serde(default)]
    pub protocol: String,
    /// Who was driven.
    pub endpoints: String,
    /// Bytes of a body.
    pub size: usize,
    /// Messages in a send request.
    pub batch: usize,
    /// Send requests in flight.
    pub in_flight: usize,
    pub connections: usize,
    pub threads: usize,
    /// Messages a second asked for; none for as fast as it goes.
    pub rate: Option<f64>,
    pub consumers: usize,
    /// Messages asked for in a poll.
    pub receive_batch: u32,
    /// `together` or `singly`.
    pub acks: String,
}

/// Quantiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_us: u64,
    /// 99 of 100 are not above it.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// What processes used in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// CPU, microseconds.
    pub cpu_us: u64,
    /// Written to disk.
    pub written_bytes: u64,
    /// Held in RAM at the end.
    pub resident_bytes: u64,
    /// Context switches.
    pub context_switches: u64,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    pub version: String,
    pub machine: String,
    pub settings: Settings,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Messages acknowledged (send, e2e), or received and acked (receive), in the window.
    pub messages: u64,
    /// The same per second.
    pub messages_per_second: f64,
    /// Payload per second, 10^6 bytes.
    pub megabytes_per_second: f64,
    /// Of a send request; of a poll in a receive run.
    pub latency: Latency,
    /// From send to arrival.
    pub end_to_end: Option<Latency>,
    /// Of an ack, or of all acks of one poll.
    pub ack: Option<Latency>,
    /// Refused or failed requests by reason, warm-up included.
    pub failures: BTreeMap<String, u64>,
    /// Messages that came back and were checked; none if the run was not drained.
    pub checked: Option<u64>,
    /// Processes of the server that were watched.
    pub server_processes: usize,
    /// CPU of all of them per message, microseconds.
    pub server_cpu_us: f64,
    /// CPU of this driver per message, microseconds.
    pub client_cpu_us: f64,
    /// Context switches of the servers per message.
    pub server_switches: f64,
    /// Bytes written per payload byte and server process.
    pub write_amplification: f64,
    /// RAM of all server processes, MiB.
    pub server_mib: f64,
}

impl Settings {
    pub(super) fn of(plan: &RunPlan) -> Self {
        let what = match plan.what {
            RunKind::Send => "send",
            RunKind::Receive => "receive",
            RunKind::EndToEnd => "e2e",
        };
        let protocol = match plan.protocol {
            Protocol::Grpc => "grpc",
            Protocol::Remoting => "remoting",
        };
        let acks = match plan.acks {
            Acks::Together => "together",
            Acks::Singly => "singly",
        };
        Self {
            what: what.to_owned(),
            protocol: protocol.to_owned(),
            endpoints: plan.endpoints.to_string(),
            size: plan.size,
            batch: plan.batch,
            in_flight: plan.in_flight,
            connections: plan.connections,
            threads: plan.threads,
            rate: plan.rate,
            consumers: plan.consumers,
            receive_batch: plan.receive_batch,
            acks: acks.to_owned(),
        }
    }
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }

    fn some(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self::of(histogram))
    }
}

impl Used {
    /// The sum over processes.
    pub(super) fn of(processes: &[u32]) -> Result<Self, Error> {
        let mut sum = Self::default();
        for process_id in processes {
            let one = process::usage(*process_id)
                .map_err(|error| Error::Machine(format!("process {process_id} cannot be watched: {error}")))?;
            sum.cpu_us += one.cpu_us;
            sum.written_bytes += one.written_bytes;
            sum.resident_bytes += one.resident_bytes;
            sum.context_switches += one.context_switches;
        }
        Ok(sum)
    }

    /// This process.
    pub(super) fn of_self() -> Result<Self, Error> {
        Self::of(&[std::process::id()])
    }

    /// What was used since; memory as it is now.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
            resident_bytes: self.resident_bytes,
            context_switches: self.context_switches.saturating_sub(before.context_switches),
        }
    }
}

impl Report {
    pub(super) fn new(
        settings: Settings,
        length: Duration,
        tally: Tally,
        checked: Option<u64>,
        servers: Used,
        client: Used,
        server_processes: usize,
    ) -> Result<Self, Error> {
        if tally.messages == 0 {
            let why =
                if tally.failures.is_empty() { "nothing was answered".to_owned() } else { failures(&tally.failures) };
            return Err(Error::Machine(format!("no message was acknowledged in the window: {why}")));
        }
        let seconds = length.as_secs_f64();
        let per_message = |number: u64| number as f64 / tally.messages as f64;
        let payload = tally.messages as f64 * settings.size as f64;
        Ok(Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: process::machine(),
            seconds,
            messages: tally.messages,
            messages_per_second: tally.messages as f64 / seconds,
            megabytes_per_second: payload / seconds / 1e6,
            latency: Latency::of(&tally.latency_us),
            end_to_end: Latency::some(&tally.end_to_end_us),
            ack: Latency::some(&tally.ack_us),
            failures: tally.failures,
            checked,
            server_processes,
            server_cpu_us: per_message(servers.cpu_us),
            client_cpu_us: per_message(client.cpu_us),
            server_switches: per_message(servers.context_switches),
            write_amplification: servers.written_bytes as f64 / payload / (server_processes.max(1) as f64),
            server_mib: servers.resident_bytes as f64 / f64::from(1024 * 1024),
            settings,
        })
    }
}

/// The reasons of failed requests in one line.
pub fn failures(failures: &BTreeMap<String, u64>) -> String {
    failures.iter().map(|(what, count)| format!("{count} × {what}")).collect::<Vec<_>>().join(", ")
}
