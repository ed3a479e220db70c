//! The failover drill: hurts a cluster on purpose while clients use it, records every request and every answer, and
//! checks that the promises were kept.
//!
//! It starts a cluster of its own from this very program: in network namespaces where it may, so that a leader can be cut
//! off from its peers, else on loopback ports. The disks lose what was not synced when a node is killed
//! (`env/fault/power_loss_disk`), so a kill is a power loss. Or it takes a cluster that runs on this machine, as it is.
//!
//! Called by `cli/drill`.
//!
//! Not here: anything that knows how a broker works; the checker sees the history only.

mod audit;
pub mod check;
mod clients;
mod clock;
mod consume;
mod driver;
pub mod history;
mod hostile;
mod members;
mod net;
mod nodes;
mod not_done;
mod own_cluster;
mod plan;
mod produce;
pub mod report;
mod rot;
mod run;
mod transact;

pub use own_cluster::{Build, Builds};
pub use plan::{DrillPlan, Length, RunningCluster, Scenario};
pub use run::{Outcome, run};
