//! From leases to deliveries: reads the messages that were granted, wherever they are on this node.
//!
//! Hot path. Bodies are shared, not copied, unless they wait for the client. What turns out to be damaged on this node, and is
//! not repaired in a moment, is left to other nodes: the rest is delivered.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::receive::grant::Poll;
use crate::broker::receive::lease_guard::UndeliveredLeases;
use crate::broker::receive::plan::Planned;
use crate::broker::receive::window;
use crate::broker::receive::window::Contents;
use crate::broker::{Error, Held};
use crate::machine::Command;
use crate::machine::command::{Ack, Change, RETURN_UNREAD_SINCE};
use crate::machine::outcome::Granted;
use crate::model::{Message, MessageRef, Millis, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicName};

/// How long a poll waits in all for the repair of what it was granted.
const REPAIRED_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One message delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub message: Message,
    /// Bytes that its body keeps in memory: it shares them with what was read at once with it.
    pub shared_bytes: usize,
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
    /// What the deliveries hold of the client's share.
    pub held: Option<Held>,
}

impl Delivery {
    /// Gives the body bytes of its own if it keeps far more in memory than it is.
    pub fn keep_no_more_than_its_own(&mut self) {
        let body = &mut self.message.body;
        if body.len() * 2 < self.shared_bytes {
            *body = Bytes::copy_from_slice(body);
            self.shared_bytes = body.len();
        }
    }
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
        let mut read = ReadLeases::of(self);
        for granted in granted {
            match planned.iter().find(|planned| planned.has(granted)) {
                Some(planned) => read.lease(granted, &planned.contents, lease(granted)).await?,
                None => {
                    let contents = window::contents(self.broker.reader.view(), self.target, granted)?;
                    read.lease(granted, &contents, lease(granted)).await?;
                }
            }
        }
        let ReadLeases { deliveries, unwanted, unread, reader, .. } = read;
        drop(reader);
        if !unwanted.is_empty() {
            let ack = Command::Ack(Ack { handles: unwanted });
            self.broker.propose_repeatable(&ack, self.until).await?;
        }
        // Without others it would be planned here again at once.
        if !deliveries.is_empty() || self.target.leaves_unreadable {
            self.leave_to_others(&unread).await;
        }
        if deliveries.is_empty() {
            return Ok(None);
        }
        Ok(Some(Received { deliveries, leases, held: None }))
    }

    /// Gives back what this node cannot read, without an attempt, and no more: what was read with it is delivered. Whatever of
    /// it fails ends with its lease.
    async fn leave_to_others(&self, unread: &[ReceiptHandle]) {
        // Older nodes know only what counts an attempt.
        let version = self.broker.reader.view().cluster_version();
        let may_count_none = version.is_ok_and(|version| version >= RETURN_UNREAD_SINCE);
        let returns = unread.iter().map(|handle| async {
            let back = if may_count_none {
                Command::ReturnUnread { handle: *handle }
            } else {
                Command::Change(Change { handle: *handle, invisible_for: Millis(0) })
            };
            if let Err(error) = self.broker.propose(&back, self.until).await {
                tracing::debug!(%error, "a message that cannot be read on this node is left to others once its lease ends");
            }
        });
        futures_util::future::join_all(returns).await;
    }
}

/// What becomes of the messages that were granted.
struct ReadLeases<'a> {
    poll: &'a Poll<'a>,
    reader: PatientReader<'a>,
    deliveries: Vec<Delivery>,
    /// The filter does not want them, by their whole tags.
    unwanted: Vec<ReceiptHandle>,
    /// They cannot be read here for now, or come after one that cannot.
    unread: Vec<ReceiptHandle>,
}

impl<'a> ReadLeases<'a> {
    fn of(poll: &'a Poll<'a>) -> Self {
        let (reader, deliveries) = (PatientReader::new(poll), Vec::new());
        Self { poll, reader, deliveries, unwanted: Vec::new(), unread: Vec::new() }
    }

    async fn lease(&mut self, granted: &Granted, contents: &Contents, lease: ReceiptHandle) -> Result<(), Error> {
        let target = self.poll.target;
        let mut is_held_up = false;
        for distance in granted.messages.iter() {
            let Some(stored) = contents.places.get(&distance) else { continue };
            let offset = QueueOffset(granted.first.0 + distance);
            let handle = ReceiptHandle { offset, ..lease };
            // In order, nothing of a lease is delivered after what cannot be.
            let read = if is_held_up { None } else { self.reader.read(stored.message).await? };
            let Some(message) = read else {
                is_held_up = target.orderly;
                self.unread.push(handle);
                continue;
            };
            // Equal tag hashes are no proof of equal tags.
            if !self.poll.request.filter.matches(&message) {
                self.unwanted.push(handle);
                continue;
            }
            let origin = contents.origins.get(&distance);
            // Its first delivery as a dead letter is not another attempt.
            let before = origin.map_or(0, |origin| origin.attempts.saturating_sub(1));
            self.deliveries.push(Delivery {
                message,
                shared_bytes: self.reader.reader.kept_bytes(),
                handle,
                queue: granted.queue,
                offset,
                attempt: granted.attempt.saturating_add(before),
                died_in: origin.map(|origin| origin.name.clone()),
                stored_at: self.poll.broker.reader.wall_of(stored.stored_at),
                store_host: self.poll.broker.site.store_host.clone(),
            });
        }
        Ok(())
    }
}

/// Reads what was granted. What turns out to be damaged here is mostly repaired within a moment.
struct PatientReader<'a> {
    poll: &'a Poll<'a>,
    reader: BodyReader<'a>,
    /// Until when it waits for repairs.
    patience: Option<Instant>,
}

impl<'a> PatientReader<'a> {
    fn new(poll: &'a Poll<'a>) -> Self {
        Self { poll, reader: BodyReader::new(&poll.broker.reader), patience: None }
    }

    /// `None` if it cannot be read here for now.
    async fn read(&mut self, at: MessageRef) -> Result<Option<Message>, Error> {
        loop {
            let error = match self.reader.read(at).await {
                Err(error @ Error::Unreadable(_)) => error,
                read => return read.map(Some),
            };
            let until = *self.patience.get_or_insert_with(|| self.poll.until.min(Instant::now() + REPAIRED_WITHIN));
            if Instant::now() + LOOK_AGAIN > until || !self.poll.target.leaves_unreadable {
                tracing::warn!(%error, "a message that was leased is not delivered by this node");
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
