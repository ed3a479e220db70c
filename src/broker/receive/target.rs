//! What a poll asks for: as the caller says it, and as plans need it.

use crate::broker::Share;
use crate::broker::receive::filter_check::MessageCheck;
use crate::model::{Filter, GroupId, GroupName, Millis, TagFilter, TopicId, TopicName};

/// One poll, as the caller asks for it.
#[derive(Debug, Clone)]
pub struct Receive {
    pub group: GroupName,
    pub topic: TopicName,
    pub filter: Filter,
    /// Most messages.
    pub batch: u32,
    /// Length of the lease.
    pub invisible: Millis,
    /// Whether the broker prolongs it while the client lives.
    pub renew: bool,
    /// How long to wait for the first message.
    pub wait: Millis,
    pub client_id: String,
    /// Names the poll, so that an orderly group's consumer that lost an answer gets it again.
    pub attempt_id: Option<String>,
    /// Gives the bytes that the messages take until the client took them.
    pub share: Option<Share>,
}

/// From where a poll gets messages, and which ones.
#[derive(Clone, Copy)]
pub(in crate::broker) struct PollTarget<'a> {
    pub topic: TopicId,
    pub queues: u32,
    pub group: GroupId,
    /// Whether the group consumes each message group in order.
    pub orderly: bool,
    /// Whether messages of a higher queue come first.
    pub by_priority: bool,
    pub filter: &'a Filter,
    /// Set if only the whole message tells whether the filter wants it, or whether it can be read at all.
    pub check: Option<&'a dyn MessageCheck>,
    /// Whether a message that cannot be read here is left to other nodes. If there are none, it is leased when nothing is
    /// before it, so that it holds up nothing but itself.
    pub leaves_unreadable: bool,
    pub limit: u32,
}

impl PollTarget<'_> {
    /// Whether every message will do, in no order, and can be read as far as this node knows.
    pub fn is_any(&self) -> bool {
        !self.orderly && self.check.is_none() && *self.filter == Filter::Tags(TagFilter::All)
    }
}
