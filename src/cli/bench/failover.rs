//! `raftmq bench failover`: a node is killed under load.

use std::time::Duration;

use crate::bench::failover;
use crate::bench::failover::FailoverPlan;
use crate::cli::bench::output::{document, endpoints, failure, print};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options::{Format, Global, byte_count, duration};

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

pub(super) fn run(global: &Global, args: &FailoverArgs) -> Result<(), Failure> {
    let victim = endpoints(&args.kill)?;
    let [victim] = victim.addresses() else {
        return Err(Failure::new(Exit::Usage, format!("--kill takes one address, '{}' has several", args.kill)));
    };
    let plan = FailoverPlan {
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
        Format::Table | Format::Wide => print(&failover::text(&report)),
        format => document(&report, format),
    }
}
