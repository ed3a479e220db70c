//! `raftmq bench raw`: what the disk alone can do.

use std::path::PathBuf;
use std::time::Duration;

use crate::bench::raw;
use crate::bench::raw::RawPlan;
use crate::cli::bench::output::{COLUMNS, document, failure, print, quantiles};
use crate::cli::failure::Failure;
use crate::cli::options::{Format, Global, byte_count, duration};
use crate::cli::render;
use crate::cli::render::grouped;

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

pub(super) fn run(global: &Global, args: &RawArgs) -> Result<(), Failure> {
    let plan = RawPlan {
        folder: args.folder.clone(),
        flush_bytes: args.flush,
        writers: args.writers.into(),
        length: args.duration,
    };
    let report = raw::run(&plan).map_err(|error| failure(&error))?;
    match global.output {
        Format::Table | Format::Wide => {
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
