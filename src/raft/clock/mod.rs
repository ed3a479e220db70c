//! Time above the log: the cluster's clock, which every node keeps, and the comparison of the nodes' own clocks that
//! keeps it right (D68).
//!
//! * `cluster_clock`: the clock itself. Monotonic, slewed, never read from this node's time of day.
//! * `samples`: what the nodes' clocks say, and what most of them agree on.
//! * `watch`: compares every second, warns, shifts machine time, gives leadership away.
//!
//! Not here: the bound below the log (`machine/state/clock`).

pub(super) mod cluster_clock;
pub(super) mod samples;
pub(super) mod watch;
