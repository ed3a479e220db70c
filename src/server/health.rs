//! `grpc.health.v1`: healthy means that a leader is known, not merely that a port is open.

use std::sync::Arc;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::node::Node;

/// Reports until the shard has no leadership to watch any more, or the runtime ends.
pub(super) async fn report(node: Arc<Node>, reporter: HealthReporter) {
    let mut leadership = node.broker().leadership();
    loop {
        let is_led = leadership.borrow_and_update().leader.is_some();
        let status = if is_led { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "apache.rocketmq.v2.MessagingService"] {
            reporter.set_service_status(service, status).await;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
