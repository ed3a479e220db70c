//! The topic that classic clients write their traces to, made by the leader if `traceTopicEnable` asks for it: with one queue, as
//! RocketMQ makes it.

use std::time::Duration;

use crate::broker::{Broker, Deadline};

/// Pause after a try that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes the topic once this node leads, if it is not there. One that is deleted afterwards stays so until another node leads.
pub(super) async fn make_on_leader(broker: &Broker) {
    let Some(topic) = &broker.settings.trace_topic else { return };
    let mut leadership = broker.leadership();
    let mut is_said = false;
    loop {
        // Fails only when the replica has stopped; the owner of this task then aborts it.
        if leadership.wait_for(|now| now.is_self).await.is_err() {
            return std::future::pending().await;
        }
        match broker.find_or_make_topic_with(topic, 1, Deadline::NONE).await {
            Ok(_) => return,
            Err(error) if !std::mem::replace(&mut is_said, true) => {
                tracing::warn!(%topic, %error, "the topic of traces (traceTopicEnable) is not made yet");
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
