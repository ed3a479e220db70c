//! Raises the cluster version once all nodes can take part in a newer one. Below the log: `machine/cluster_version`.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
#[cfg(debug_assertions)]
use crate::broker::planted;
use crate::machine::Command;

/// Commands of a new version wait for this after an upgrade.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WAIT: Duration = Duration::from_secs(1);

/// Runs until it is dropped. Every node looks, so that it refuses peers that are too old; the leader raises.
pub(super) async fn raise(broker: &Broker) {
    loop {
        match broker.reader.view().cluster_version() {
            Ok(version) => {
                let to = broker.replica.common_cluster_version(version);
                if version < to && broker.leadership().borrow().is_self {
                    match broker.propose(&Command::RaiseClusterVersion { to }, Instant::now() + WAIT).await {
                        Ok(_) => tracing::info!(from = version, to, "cluster version raised"),
                        Err(error) => tracing::debug!(%error, "the cluster version is not raised yet"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the cluster version cannot be read"),
        }
        #[cfg(debug_assertions)]
        planted::propose_new_command(broker).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
