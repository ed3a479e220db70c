//! `raftmq bench compare`: two servers in turn.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::bench;
use crate::bench::compare::{Ratio, ratios};
use crate::bench::null::NullServer;
use crate::bench::report::Report;
use crate::bench::{Paused, RunKind, RunPlan};
use crate::cli::bench::load::{LoadArgs, plan, watched};
use crate::cli::bench::output::{document, endpoints, failure, print};
use crate::cli::failure::Failure;
use crate::cli::options::{Format, Global};
use crate::cli::render;
use crate::cli::render::{Column, grouped};

/// A side that stood still finds its peers again in this time.
const AFTER_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhatArg {
    Send,
    Receive,
    E2e,
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

pub(super) fn run(global: &Global, args: &CompareArgs) -> Result<(), Failure> {
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
        Format::Table | Format::Wide => print(&ratio_table(&ratios)),
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
