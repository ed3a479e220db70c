//! What is counted while the node works, to be shown by `edge/http/metrics`: histograms and counters that cost an addition,
//! and know nothing of names and labels.
//!
//! Counted above the machine, or beside it: what is applied again after a crash must change nothing that is replicated.

mod counter;
mod histogram;

pub use counter::Counter;
pub use histogram::{Histogram, HistogramCounts};
