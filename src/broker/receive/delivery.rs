//! From leases to deliveries: reads the messages that were granted, wherever they are on this node.
//!
//! Hot path. Bodies are shared, not copied.

use crate::broker::Error;
use crate::broker::receive::bodies::BodyReader;
use crate::broker::receive::grant::Poll;
use crate::broker::receive::lease_guard::UndeliveredLeases;
use crate::broker::receive::plan::Planned;
use crate::broker::receive::window;
use crate::machine::Command;
use crate::machine::command::Ack;
use crate::machine::outcome::Granted;
use crate::model::{Message, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicName};

/// One message delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub message: Message,
    /// Proof of the lease.
    pub handle: ReceiptHandle,
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// Deliveries so far including this one; those before it became a dead letter count too.
    pub attempt: u32,
    /// The topic it was in before, if it is a dead letter.
    pub died_in: Option<TopicName>,
    pub stored_at: Timestamp,
    /// Where it was stored: `host:port`.
    pub store_host: String,
}

/// What a poll got. Dropping it gives everything back.
pub struct Received {
    pub deliveries: Vec<Delivery>,
    /// Of the deliveries, until they are delivered.
    pub leases: UndeliveredLeases,
}

impl Poll<'_> {
    /// Reads what was granted, from where the plan saw it, or else from where this node's applied view has it. `None`
    /// if the filter wants none of it.
    ///
    /// Everything granted is given back when this is dropped or fails.
    pub async fn read(&self, planned: &[Planned], granted: &[Granted]) -> Result<Option<Received>, Error> {
        let lease = |granted: &Granted| {
            let Granted { queue, first: offset, lease, .. } = *granted;
            ReceiptHandle { group: self.target.group, topic: self.target.topic, queue, offset, lease }
        };
        let leases = UndeliveredLeases {
            broker: self.broker.clone(),
            leases: granted.iter().map(lease).collect(),
            is_renewed: self.request.renew,
            kept_for: self.kept_for(),
        };
        let mut reader = BodyReader::new(&self.broker.reader);
        let mut deliveries = Vec::new();
        let mut unwanted = Vec::new();
        for granted in granted {
            let looked_up;
            let contents = match planned.iter().find(|planned| planned.has(granted)) {
                Some(planned) => &planned.contents,
                None => {
                    looked_up = window::contents(self.broker.reader.view(), self.target, granted)?;
                    &looked_up
                }
            };
            for distance in granted.messages.iter() {
                let Some(stored) = contents.places.get(&distance) else { continue };
                let offset = QueueOffset(granted.first.0 + distance);
                let handle = ReceiptHandle { offset, ..lease(granted) };
                let message = reader.read(stored.message).await?;
                // Equal tag hashes are no proof of equal tags.
                if !self.request.filter.matches(&message) {
                    unwanted.push(handle);
                    continue;
                }
                let origin = contents.origins.get(&distance);
                // Its first delivery as a dead letter is not another attempt.
                let before = origin.map_or(0, |origin| origin.attempts.saturating_sub(1));
                deliveries.push(Delivery {
                    message,
                    handle,
                    queue: granted.queue,
                    offset,
                    attempt: granted.attempt.saturating_add(before),
                    died_in: origin.map(|origin| origin.name.clone()),
                    stored_at: self.broker.reader.wall_of(stored.stored_at),
                    store_host: self.broker.site.store_host.clone(),
                });
            }
        }
        if !unwanted.is_empty() {
            let ack = Command::Ack(Ack { handles: unwanted });
            self.broker.propose_repeatable(&ack, self.until).await?;
        }
        Ok((!deliveries.is_empty()).then_some(Received { deliveries, leases }))
    }
}
