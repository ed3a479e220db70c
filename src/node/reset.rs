//! Offsets of a group that an operator sets: its classic consumers that run go on there. Others begin there by themselves.

use crate::broker::{Error, Moved, Operator, ResetTo};
use crate::model::{GroupName, TopicName};
use crate::node::{Node, OffsetsReset};

impl Node {
    /// Moves the offsets of a group in a topic, and has its classic consumers follow; `dry` only says what it would do.
    ///
    /// * Errors: as [`crate::broker::Broker::reset_group`].
    pub async fn reset_group(
        &self,
        by: &Operator,
        group: GroupName,
        topic: TopicName,
        wanted: ResetTo,
        dry: bool,
    ) -> Result<Vec<Moved>, Error> {
        let moved = self.broker().reset_group(by, group.clone(), topic.clone(), wanted, dry).await?;
        if !dry {
            let offsets = moved.iter().map(|moved| (moved.queue, moved.to)).collect();
            let reset = OffsetsReset { group, topic, offsets, at: self.broker().now() };
            let (group, topic) = (reset.group.clone(), reset.topic.clone());
            let consumers = self.heartbeat_clients().reset(reset);
            tracing::info!(%group, %topic, consumers, "offsets were reset");
        }
        Ok(moved)
    }
}
