//! Why a request is not done. Who must act: the caller (bad value, refusal), the caller later (busy, no
//! leader), or nobody knows whether it happened.

use crate::broker::NoBytes;
use crate::machine::{Failure, Rejected};
use crate::model::{GroupName, MessageType, NoRoom, NotAHandle, QueueOffset, TopicName, TopicType};
use crate::raft::Failed;

/// Why a request is not done. `edge/grpc/codes` gives each its code.
///
/// Definite, except [`Error::TimedOut`]: nothing was done and nothing will be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No such topic.
    #[error("topic '{0}' does not exist; create it: raftmq topic create {0}")]
    TopicNotFound(TopicName),
    /// The name is taken.
    #[error("topic '{0}' exists")]
    TopicExists(TopicName),
    /// No such group; or the request would make it, and the node's configuration forbids that. The text fits both.
    #[error(
        "consumer group '{0}' does not exist; create it: raftmq group create {0} (its first receive does so only with \
         autoCreateSubscriptionGroup=true)"
    )]
    GroupNotFound(GroupName),
    /// The name is taken.
    #[error("consumer group '{0}' exists")]
    GroupExists(GroupName),
    /// This node's configuration forbids it: what it does not do, and the key that says so.
    #[error("this node {0}")]
    ForbiddenHere(&'static str),
    /// The topic's permission forbids it.
    #[error("topic '{0}' may not be used that way: its permission forbids it")]
    Forbidden(TopicName),
    /// The topic takes another type.
    #[error("topic '{topic}' does not take such messages: expected type is {}, but actual type is {}", .accepts.name(), .got.name())]
    TypeMismatch {
        topic: TopicName,
        /// What it takes.
        accepts: TopicType,
        /// What was sent.
        got: MessageType,
    },
    /// The lease that a handle names has ended.
    #[error("the lease behind this receipt handle has ended")]
    LeaseEnded,
    /// A text that no delivery came with, or one that is not taken any more.
    #[error(transparent)]
    NotAReceiptHandle(#[from] NotAHandle),
    /// A receipt handle that was used with another topic or group than its own; its lease may run.
    #[error(
        "this receipt handle belongs to another topic or consumer group (one that was deleted and created again is \
         another one)"
    )]
    ForeignReceiptHandle,
    /// A pull outside of what the queue has.
    #[error("offset {offset} is outside of what the queue has: {}", held(*.min, *.max))]
    IllegalOffset {
        /// As asked for.
        offset: QueueOffset,
        /// The first that can be read.
        min: QueueOffset,
        /// That of the next message.
        max: QueueOffset,
    },
    /// A recalled message does not wait for the time that its handle says.
    #[error(
        "the message does not wait for the delivery time that this recall handle names: it was delivered or recalled, or an \
         operator gave it another time, for which there is another handle (raftmq message delayed)"
    )]
    NotWaiting,
    /// A transaction that began is not known any more.
    #[error(
        "this topic does not know the transaction any more: it was decided more than ten minutes ago, and that decision \
         holds, or the topic was deleted"
    )]
    TransactionNotFound,
    /// The transaction was decided the other way before.
    #[error("the transaction was decided otherwise before, by its producer or after too many checks; that is final")]
    DecidedOtherwise,
    /// Nothing was done; come back later.
    #[error("too much is waiting on this node; nothing was done, try again later")]
    Busy,
    /// Nothing was done; its client, or all of them, hold as much memory as they may.
    #[error("{0}")]
    NoBytes(NoBytes),
    /// Nothing was done; there are as many as may be. Names the value, the limit and its key.
    #[error("{0}")]
    Capped(String),
    /// Nothing was done; too few nodes have room on their disks for messages.
    #[error(
        "no room: {} of {} nodes have room on their disks for messages; the fullest, {}, has {} free and needs {} \
         (diskHardMark). Nothing was done; try again later. Room comes from retention (fileReservedTime), from deleted \
         topics (raftmq topic delete), or from other files on that disk", .0.with_room, .0.voters, .0.fullest,
        size(.0.free), size(.0.mark)
    )]
    NoRoom(NoRoom),
    /// Nothing was done; there was no leader as long as the request could be held.
    #[error("no leader was found in time; nothing was done, try again")]
    NoLeader,
    /// Nothing was done; this node looked at a topic or group that was another one by then.
    #[error("this node was behind: what the request names was deleted and created again; nothing was done, try again")]
    Behind,
    /// It may or may not have happened.
    #[error("the outcome is unknown: the request may or may not have taken effect")]
    TimedOut,
    /// A bad value; names it, the limit and the remedy.
    #[error("{0}")]
    Invalid(String),
    /// Nothing was done; a message is damaged or missing on this node's disk. Says which.
    #[error(
        "{0}. What is damaged on this node is repaired with what the other nodes have (raftmq cluster status): nothing was \
         done, try again or ask another node. What no node has is lost: raftmq group reset-offset takes a group past it"
    )]
    Unreadable(String),
    /// This node is going down.
    #[error("this node is stopping: {0}")]
    Stopped(String),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            // Definite all of them, and worth another try: an upgrade ends.
            Failed::NoLeader | Failed::NotLeader | Failed::Unusable => Self::NoLeader,
            Failed::Busy => Self::Busy,
            Failed::NoRoom(no_room) => Self::NoRoom(no_room),
            Failed::Ambiguous => Self::TimedOut,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Stopped(format!("its state cannot be read: {failure}"))
    }
}

impl Error {
    /// A refusal of the machine, in the words of a request about this topic.
    pub(super) fn of_topic(rejected: Rejected, topic: &TopicName, got: MessageType) -> Self {
        match rejected {
            Rejected::TopicNotFound => Self::TopicNotFound(topic.clone()),
            Rejected::TopicExists => Self::TopicExists(topic.clone()),
            Rejected::TypeMismatch(accepts) => Self::TypeMismatch { topic: topic.clone(), accepts, got },
            Rejected::Forbidden => Self::Forbidden(topic.clone()),
            Rejected::LeaseEnded => Self::LeaseEnded,
            Rejected::NotWaiting => Self::NotWaiting,
            Rejected::TransactionNotFound => Self::TransactionNotFound,
            Rejected::DecidedOtherwise => Self::DecidedOtherwise,
            // Tried again before (`Broker::propose`).
            Rejected::EntryIsFull => Self::Busy,
            Rejected::GroupNotFound
            | Rejected::GroupExists
            | Rejected::TypeIsFixed
            | Rejected::QueuesAreFixed
            | Rejected::KeyValuesFull => Self::Invalid(rejected.to_string()),
        }
    }

    /// An answer that does not belong to the command: the leader runs another version.
    pub(super) fn unexpected(outcome: &crate::machine::Outcome) -> Self {
        tracing::error!(?outcome, "the leader answered something else than was asked");
        Self::TimedOut
    }
}

/// What a queue has; a pull may begin at the end too.
fn held(min: QueueOffset, max: QueueOffset) -> String {
    match max.0.checked_sub(1) {
        Some(last) if max > min => format!("{min} to {last}; the next message gets {max}"),
        _ => format!("it is empty, and the next message gets {max}"),
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes {
        0..MIB => format!("{} KiB", bytes >> 10),
        MIB..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    #[test]
    fn an_offset_outside_of_a_queue_is_refused_with_what_there_is() {
        let text = |min, max| {
            let [min, max] = [min, max].map(QueueOffset);
            Error::IllegalOffset { offset: QueueOffset(9), min, max }.to_string()
        };
        assert_eq!(text(2, 5), "offset 9 is outside of what the queue has: 2 to 4; the next message gets 5");
        for (min, max) in [(0, 0), (5, 5)] {
            let what =
                format!("offset 9 is outside of what the queue has: it is empty, and the next message gets {max}");
            assert_eq!(text(min, max), what);
        }
    }

    #[test]
    fn p20_a_refusal_for_lack_of_room_names_values_mark_and_remedy() {
        let no_room = NoRoom { with_room: 1, voters: 3, fullest: NodeId(2), free: 5 << 20, mark: 9 << 20 };
        let text = Error::from(Failed::NoRoom(no_room)).to_string();
        for part in ["1 of 3 nodes", "n2, has 5 MiB free and needs 9 MiB", "diskHardMark", "retention", "topic delete"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!([size(2048), size(20 << 30)], ["2 KiB", "20 GiB"]);
    }
}
