//! The floor of the disk: each writer appends to reserved space in a file of its own and syncs, over and over, as a log
//! does. Overwriting would measure something else: the pages are in memory, and the file system records nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bench::Error;
use crate::bench::report::Latency;
use crate::bench::tally::micros;
use crate::env::disk::{Disk, RealDisk};

/// Reserved at once; then a new file takes the place of the full one.
const FILE_BYTES: u64 = 1024 * 1024 * 1024;

/// What the disk is asked to do.
#[derive(Debug, Clone)]
pub struct RawPlan {
    /// On which disk.
    pub folder: PathBuf,
    /// Bytes written before each sync.
    pub flush_bytes: usize,
    /// Writers at once.
    pub writers: usize,
    /// For how long.
    pub length: Duration,
}

/// What the disk does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawReport {
    /// Bytes per sync.
    pub flush_bytes: usize,
    /// Writers at once.
    pub writers: usize,
    /// Syncs per second of all writers.
    pub syncs_per_second: f64,
    /// 10^6 bytes per second of all writers.
    pub megabytes_per_second: f64,
    /// Of a write with its sync.
    pub latency: Latency,
}

/// Writes and syncs; blocks.
pub fn run(plan: &RawPlan) -> Result<RawReport, Error> {
    let started = Instant::now();
    let results: Vec<Result<Histogram<u64>, Error>> = std::thread::scope(|scope| {
        let spawn = |writer| scope.spawn(move || write(plan, writer, started));
        let writers: Vec<_> = (0..plan.writers).map(spawn).collect();
        let join = |writer: std::thread::ScopedJoinHandle<'_, _>| {
            writer.join().unwrap_or_else(|_| Err(Error::Machine("a writer panicked".to_owned())))
        };
        writers.into_iter().map(join).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut all = Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
    for result in results {
        all += result?;
    }
    let syncs_per_second = all.len() as f64 / seconds;
    Ok(RawReport {
        flush_bytes: plan.flush_bytes,
        writers: plan.writers,
        syncs_per_second,
        megabytes_per_second: syncs_per_second * plan.flush_bytes as f64 / 1e6,
        latency: Latency::of(&all),
    })
}

fn write(plan: &RawPlan, writer: usize, started: Instant) -> Result<Histogram<u64>, Error> {
    let path = plan.folder.join(format!("raftmq-bench-raw-{}-{writer}", std::process::id()));
    let result = write_into(&path, plan, started);
    if result.is_err() {
        // Only scratch; what cannot be removed does no harm.
        let _ = RealDisk.remove(&path);
    }
    result.map_err(|error| Error::Machine(format!("{}: {error}", path.display())))
}

fn write_into(path: &Path, plan: &RawPlan, started: Instant) -> std::io::Result<Histogram<u64>> {
    let bytes = vec![0xA5; plan.flush_bytes];
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
    while started.elapsed() < plan.length {
        let file = RealDisk.create(path)?;
        file.allocate(FILE_BYTES)?;
        let mut at = 0;
        while started.elapsed() < plan.length && (at == 0 || at + bytes.len() as u64 <= FILE_BYTES) {
            let asked = Instant::now();
            file.write_at(&bytes, at)?;
            file.sync_data()?;
            histogram.saturating_record(micros(asked.elapsed()));
            at += bytes.len() as u64;
        }
        RealDisk.remove(path)?;
    }
    Ok(histogram)
}
