//! The commands of the log: what requests become above it. A setting that influences a result is part of the command,
//! because the machine knows no configuration.
//!
//! Not here: the bytes of a command (`machine/command_codec`), what it does (the file of its verb).

use crate::machine::state::events::{Act, NewLeader};
use crate::machine::state::member_changes::{ChangeEnd, MemberChangeKind};
use crate::model::{
    Backoff, ConsumeFrom, GroupId, GroupName, GroupSettings, HandleKey, LeaseId, LogIndex, MemberName,
    MessageGroupHash, MessageRef, MessageType, Millis, NodeId, OffsetSet, Permission, QueueId, QueueOffset,
    ReceiptHandle, Timestamp, TopicId, TopicName, TopicType, TransactionChecks,
};

/// The cluster version from which on events may be noted.
pub const NEEDS_EVENTS: u32 = 4;
/// The cluster version from which on [`Command::ReturnUnread`] may be in the log.
pub const RETURN_UNREAD_SINCE: u32 = 5;

/// A topic of more queues than this takes many keys.
const FEW_QUEUES: u32 = 16;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    CreateTopic(CreateTopic),
    /// Deletes a topic and everything stored for it.
    DeleteTopic {
        topic: TopicName,
    },
    UpdateTopic(UpdateTopic),
    CreateGroup(CreateGroup),
    UpdateGroup(UpdateGroup),
    /// Deletes a consumer group with its group offsets and leases.
    DeleteGroup {
        group: GroupName,
    },
    /// Subscribes a group to topics, and creates the group if that is allowed.
    Subscribe(Subscribe),
    /// Stores messages, which follow in the batch.
    Send(Send),
    /// The same, in the queue that their producer chose.
    SendToQueue(SendToQueue),
    /// Stores a message that a consumer which pulls could not consume, for its group to retry or among its dead letters.
    SendBack(SendBack),
    /// Locks queues for a client of a group that pulls in order, those that no other has.
    LockQueues(LockQueues),
    /// Gives up locks of a client.
    UnlockQueues(UnlockQueues),
    /// Sets a key-value that tools of RocketMQ keep, or removes it.
    SetKeyValue(SetKeyValue),
    /// Has routes offer a broker name of this group to producers, or not.
    SetWritePermission(SetWritePermission),
    /// Leases messages to a consumer.
    Grant(Grant),
    /// Settles leased messages.
    Ack(Ack),
    /// Replaces the lease of one message by a new lease of another length.
    Change(Change),
    /// Moves the end of whole leases; their handles stay valid.
    Prolong(Prolong),
    /// Makes due things happen.
    Tick,
    /// Ends leases soon whose messages never reached a consumer.
    GiveBack(GiveBack),
    /// Returns a leased message at once that never left its node, as that cannot read it: it counts no attempt.
    ReturnUnread {
        handle: ReceiptHandle,
    },
    /// Says where a node serves clients.
    Announce(Announce),
    /// The key of the cluster's handles, if it has none yet.
    SetHandleKey(HandleKey),
    /// Takes a delayed message back before its delivery time.
    Recall(Recall),
    /// Gives a delayed message another delivery time.
    Reschedule(Reschedule),
    /// Delivers dead letters to their group again, from the queues where they died.
    Redrive(Redrive),
    /// Makes a leased message a dead letter of its group.
    DeadLetter {
        handle: ReceiptHandle,
    },
    /// Commits a half message or rolls it back.
    Decide(Decide),
    /// Sets group offsets of a group in a topic.
    SetGroupOffsets(SetGroupOffsets),
    /// Leases to a repeated poll what it was given before.
    Repeat(Repeat),
    /// Says that all nodes can apply the commands of this cluster version: from then on they may be proposed, and older
    /// builds are refused.
    RaiseClusterVersion {
        to: u32,
    },
    /// Lets the machine's time follow the stamp of this entry however far ahead that is, bounds what later entries do,
    /// and shifts machine time against the time of day by at least `shift` (`machine/state/clock`). Only a leader
    /// makes it.
    Clock {
        shift: Millis,
    },
    /// Removes the oldest messages of a queue.
    Trim(Trim),
    /// Logs the bytes of messages again, which follow in the batch, for what refers to them and lives longer than the
    /// entries that they are in.
    Carry(Carry),
    /// Begins a change of members, unless one is under way.
    BeginMemberChange(MemberChangeKind),
    /// Has the change of this number undone, if it has not come too far.
    CancelMemberChange {
        number: u64,
    },
    /// The change of this number is over. Only the leader, who sees it through, says so.
    EndMemberChange {
        number: u64,
        end: ChangeEnd,
    },
    /// A command that an operator asked for ([`Command::may_be_of_operator`]): runs it, and notes it with its outcome, which
    /// is the outcome of both.
    OfOperator {
        act: Act,
        command: Box<Command>,
    },
    /// Notes what an operator did without a command of the log, or with many.
    NoteAct {
        act: Act,
        said: String,
    },
    /// Notes who leads.
    NoteLeader(NewLeader),
}

impl Command {
    /// Whether it writes hundreds of keys however short it is: an entry does not do many of these.
    pub(in crate::machine) fn writes_much(&self) -> bool {
        match self {
            Self::CreateTopic(create) => create.queues > FEW_QUEUES,
            Self::UpdateTopic(update) => update.queues.is_some(),
            Self::DeleteGroup { .. } | Self::Redrive(_) => true,
            // They take bytes for what they write, or stop by themselves once the entry has done enough.
            Self::DeleteTopic { .. }
            | Self::CreateGroup(_)
            | Self::UpdateGroup(_)
            | Self::Subscribe(_)
            | Self::Send(_)
            | Self::SendToQueue(_)
            | Self::SendBack(_)
            | Self::SetKeyValue(_)
            | Self::SetWritePermission(_)
            | Self::LockQueues(_)
            | Self::UnlockQueues(_)
            | Self::Grant(_)
            | Self::Ack(_)
            | Self::Change(_)
            | Self::Prolong(_)
            | Self::Tick
            | Self::GiveBack(_)
            | Self::ReturnUnread { .. }
            | Self::Announce(_)
            | Self::SetHandleKey(_)
            | Self::Recall(_)
            | Self::Reschedule(_)
            | Self::DeadLetter { .. }
            | Self::Decide(_)
            | Self::SetGroupOffsets(_)
            | Self::Repeat(_)
            | Self::RaiseClusterVersion { .. }
            | Self::Clock { .. }
            | Self::Trim(_)
            | Self::Carry(_)
            | Self::BeginMemberChange(_)
            | Self::CancelMemberChange { .. }
            | Self::EndMemberChange { .. }
            | Self::NoteAct { .. }
            | Self::NoteLeader(_) => false,
            Self::OfOperator { command, .. } => command.writes_much(),
        }
    }

    /// How many messages the batch has for it.
    pub fn messages(&self) -> usize {
        match self {
            Self::Send(send) => send.tag_hashes.len(),
            Self::SendToQueue(send) => send.tag_hashes.len(),
            Self::SendBack(_) => 1,
            Self::Carry(carry) => carry.references.iter().map(CarriedReference::messages).sum(),
            _ => 0,
        }
    }

    /// Whether it is one that operators ask for.
    pub fn may_be_of_operator(&self) -> bool {
        match self {
            Self::CreateTopic(_)
            | Self::DeleteTopic { .. }
            | Self::UpdateTopic(_)
            | Self::CreateGroup(_)
            | Self::UpdateGroup(_)
            | Self::DeleteGroup { .. }
            | Self::Recall(_)
            | Self::Reschedule(_)
            | Self::Redrive(_)
            | Self::SetGroupOffsets(_)
            | Self::BeginMemberChange(_)
            | Self::SetKeyValue(_)
            | Self::SetWritePermission(_)
            | Self::CancelMemberChange { .. } => true,
            Self::Subscribe(_)
            | Self::Send(_)
            | Self::SendToQueue(_)
            | Self::SendBack(_)
            | Self::LockQueues(_)
            | Self::UnlockQueues(_)
            | Self::Grant(_)
            | Self::Ack(_)
            | Self::Change(_)
            | Self::Prolong(_)
            | Self::Tick
            | Self::GiveBack(_)
            | Self::ReturnUnread { .. }
            | Self::Announce(_)
            | Self::SetHandleKey(_)
            | Self::DeadLetter { .. }
            | Self::Decide(_)
            | Self::Repeat(_)
            | Self::RaiseClusterVersion { .. }
            | Self::Clock { .. }
            | Self::Trim(_)
            | Self::Carry(_)
            | Self::EndMemberChange { .. }
            | Self::OfOperator { .. }
            | Self::NoteAct { .. }
            | Self::NoteLeader(_) => false,
        }
    }
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// An unused name.
    pub topic: TopicName,
    pub topic_type: TopicType,
    /// Number of queues, at least 1.
    pub queues: u32,
    pub permission: Permission,
    /// How long its messages are kept; `None` for as long as the log.
    pub retention: Option<Millis>,
}

/// See [`Command::CreateGroup`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroup {
    /// An unused name.
    pub group: GroupName,
    /// Whether it consumes each message group in order.
    pub orderly: bool,
    pub settings: GroupSettings,
}

/// See [`Command::UpdateTopic`]: what is `Some` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateTopic {
    pub topic: TopicName,
    pub topic_type: Option<TopicType>,
    /// Number of queues.
    pub queues: Option<u32>,
    pub permission: Option<Permission>,
    /// How long its messages are kept; 0 for as long as the log again.
    pub retention: Option<Millis>,
    /// Whether queues are added only to topics without message groups. Entries of older builds do not say so and added
    /// them to all but FIFO topics.
    pub keeps_message_groups: bool,
}

/// See [`Command::UpdateGroup`]: what is `Some` changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateGroup {
    pub group: GroupName,
    pub retries_max: Option<u32>,
    pub backoff: Option<Backoff>,
    pub consume_from: Option<ConsumeFrom>,
    /// An empty text removes the filter.
    pub filter: Option<String>,
}

/// See [`Command::Reschedule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reschedule {
    pub topic: TopicId,
    /// The delivery time so far.
    pub at: Timestamp,
    pub message: MessageRef,
    /// The new delivery time.
    pub to: Timestamp,
}

/// See [`Command::Redrive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    pub group: GroupId,
    /// Offsets in the topic of the group's dead letters.
    pub offsets: Vec<QueueOffset>,
}

/// See [`Command::Subscribe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    pub group: GroupName,
    /// Unknown ones are passed over.
    pub topics: Vec<TopicName>,
    /// `autoCreateSubscriptionGroup`: the retries of a group that is created now; `None` refuses an unknown group.
    pub create: Option<u32>,
}

/// See [`Command::Send`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The topic's id: a topic created again under the same name is another one.
    pub topic: TopicId,
    /// Type of all the messages.
    pub message_type: MessageType,
    /// Hash of each message's tag, 0 for none. The batch holds as many messages for this command.
    pub tag_hashes: Vec<u64>,
    pub placement: Placement,
}

/// See [`Command::SendToQueue`]. What is sent again is stored again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendToQueue {
    /// As in [`Send`].
    pub topic: TopicId,
    pub queue: QueueId,
    /// As in [`Send`].
    pub tag_hashes: Vec<u64>,
    pub placement: QueuePlacement,
}

/// When messages enter the queue that their producer chose; a list has one value for each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueuePlacement {
    Now,
    /// Now, in order inside their message groups.
    Fifo(Vec<MessageGroupHash>),
    /// At their delivery times.
    DeliverAt(Vec<Timestamp>),
    /// When their transactions are committed.
    OnCommit(TransactionChecks),
}

impl QueuePlacement {
    /// The type of messages that it is for.
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Now => MessageType::Normal,
            Self::Fifo(_) => MessageType::Fifo,
            Self::DeliverAt(_) => MessageType::Delay,
            Self::OnCommit(_) => MessageType::Transaction,
        }
    }
}

/// See [`Command::SendBack`]. The message follows in the batch, as the group will see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendBack {
    pub group: GroupId,
    /// As in [`Send`].
    pub tag_hash: u64,
    pub to: BackTo,
}

/// Where a message goes that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackTo {
    /// The topic of the group's retries, which exists, at this time of day.
    Retry(Timestamp),
    /// The topic of its dead letters.
    DeadLetter,
    /// The topic of its retries, now, as the dead letter at this offset; not if that was redriven before.
    Redriven(QueueOffset),
}

/// See [`Command::LockQueues`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockQueues {
    pub group: GroupId,
    pub client: String,
    pub queues: Vec<(TopicId, QueueId)>,
    /// From now on.
    pub locked_for: Millis,
}

/// See [`Command::UnlockQueues`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlockQueues {
    pub group: GroupId,
    pub client: String,
    pub queues: Vec<(TopicId, QueueId)>,
}

/// See [`Command::SetKeyValue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetKeyValue {
    pub namespace: String,
    pub key: String,
    /// `None` removes it.
    pub value: Option<String>,
}

/// See [`Command::SetWritePermission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetWritePermission {
    /// The member under whatever name it has in routes; `None` for the group under all its names.
    pub of: Option<MemberName>,
    pub may_write: bool,
}

/// What decides when and into which queue messages go; a list has one value for each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    Now,
    /// At their delivery times.
    DeliverAt(Vec<Timestamp>),
    /// When their transactions are committed.
    OnCommit(TransactionChecks),
    /// Now, in the queues of their message groups.
    Fifo(Vec<MessageGroupHash>),
    /// Now, in the queues of their priorities.
    Priority(Vec<u32>),
}

/// See [`Command::Recall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    pub topic: TopicId,
    /// The delivery time.
    pub at: Timestamp,
    pub message: MessageRef,
}

/// See [`Command::Decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decide {
    pub topic: TopicId,
    pub message: MessageRef,
    /// Commit or roll back.
    pub commit: bool,
}

/// See [`Command::Grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub group: GroupId,
    pub topic: TopicId,
    /// Most messages.
    pub limit: u32,
    pub invisible_for: Millis,
    pub client: String,
    /// Whether the broker prolongs the leases while the client lives.
    pub renew: bool,
    /// Names this grant, so that its leases can be found when the answer was lost with a leader.
    pub token: u64,
    /// Hash of the poll's attempt id, 0 for none. Kept in leases of messages in FIFO order.
    pub attempt_of: u64,
    /// What the plan found, in order of preference.
    pub candidates: Vec<Candidate>,
}

/// Messages of one queue that a plan found. Sets and `length` count from `first`, or from the first offset of the
/// lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// Messages of an ended lease that wait for redelivery.
    Returned {
        queue: QueueId,
        lease: LeaseId,
        wanted: OffsetSet,
        /// To be settled without delivery: the filter does not want them.
        skipped: OffsetSet,
    },
    /// Messages never leased to the group.
    Fresh {
        queue: QueueId,
        first: QueueOffset,
        /// How many offsets the plan looked at, at most 64.
        length: u8,
        /// To be leased; the others within `length` are settled without delivery.
        wanted: OffsetSet,
    },
    /// For a group that wants every message, in no order: the next messages of the queue, wherever the group offset
    /// is by then.
    Any {
        queue: QueueId,
        /// The group offset when the plan was made.
        first: QueueOffset,
        /// How many, 1 to 64.
        count: u8,
        /// Bytes of the messages that the plan saw. If other messages are leased, they take no more, except a single
        /// one.
        bytes: u64,
    },
    /// Messages never leased to the group, none of which it wants.
    Skip { queue: QueueId, first: QueueOffset, length: u32 },
    /// Messages of one message group that waited until those before them were settled.
    Next {
        queue: QueueId,
        message_group: MessageGroupHash,
        /// The first of them.
        first: QueueOffset,
        /// How many offsets the plan looked at, at most 64.
        length: u8,
        /// To be leased; the others of the message group within `length` are settled without delivery.
        wanted: OffsetSet,
    },
}

/// See [`Command::Ack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub handles: Vec<ReceiptHandle>,
}

/// See [`Command::Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub handle: ReceiptHandle,
    /// Length of the new lease from now; 0 returns the message at once.
    pub invisible_for: Millis,
}

/// See [`Command::Prolong`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prolong {
    /// One handle of each lease.
    pub leases: Vec<ReceiptHandle>,
    /// The leases end this long from now.
    pub invisible_for: Millis,
}

/// See [`Command::GiveBack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    /// One handle of each lease.
    pub leases: Vec<ReceiptHandle>,
    /// The leases end this long from now, unless they end before.
    pub after: Millis,
}

/// See [`Command::Announce`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    pub node: NodeId,
    /// `host:port` for clients.
    pub address: String,
}

/// See [`Command::Repeat`]. The fields are those of the poll's first [`Grant`], but for the lost leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    pub group: GroupId,
    pub topic: TopicId,
    pub attempt_of: u64,
    pub invisible_for: Millis,
    pub client: String,
    pub renew: bool,
    pub token: u64,
    /// The leases that the poll was given, as far as the caller knows.
    pub leases: Vec<(QueueId, LeaseId)>,
}

/// See [`Command::Trim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    pub topic: TopicId,
    pub queue: QueueId,
    /// What was stored before this machine time goes; a bounded part of it with one command.
    pub before: Timestamp,
}

/// See [`Command::Carry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    pub references: Vec<CarriedReference>,
}

/// A reference to bytes, with the entry that they are in so far. One that changed since is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriedReference {
    /// A delayed message, with the machine time at which it is due.
    Delayed {
        topic: TopicId,
        due_at: Timestamp,
        message: MessageRef,
        index: LogIndex,
    },
    Half {
        topic: TopicId,
        message: MessageRef,
        index: LogIndex,
    },
    /// All messages of the run that begins at an offset.
    Run {
        topic: TopicId,
        queue: QueueId,
        first: QueueOffset,
        count: u32,
        index: LogIndex,
    },
}

impl CarriedReference {
    /// How many messages follow for it.
    pub fn messages(&self) -> usize {
        match self {
            Self::Delayed { .. } | Self::Half { .. } => 1,
            Self::Run { count, .. } => *count as usize,
        }
    }
}

/// See [`Command::SetGroupOffsets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetGroupOffsets {
    pub topic: TopicId,
    /// A group that is subscribed to the topic, or is by this command ([`OffsetMove::Advance`]).
    pub group: GroupId,
    /// The new group offsets. An offset outside a queue becomes the end next to it.
    pub offsets: Vec<(QueueId, QueueOffset)>,
    pub how: OffsetMove,
}

/// How group offsets move, and what becomes of the group's leases and FIFO lines there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetMove {
    /// By an operator: to what is given, forward or back; leases and FIFO lines are removed.
    Reset,
    /// By a client: forward only, and leases stay (P13). The first offset of a group in a topic is what is given.
    Advance,
    /// By a client, in entries of older builds: to what is given; leases and FIFO lines are removed where that is back.
    Set,
}

impl Candidate {
    /// The queue that its messages are in.
    pub fn queue(&self) -> QueueId {
        match *self {
            Self::Returned { queue, .. }
            | Self::Fresh { queue, .. }
            | Self::Any { queue, .. }
            | Self::Skip { queue, .. }
            | Self::Next { queue, .. } => queue,
        }
    }

    /// Whether it makes one lease at most; a window of an orderly group makes one for each message group.
    pub fn makes_one(&self) -> bool {
        match self {
            Self::Returned { wanted, .. } | Self::Next { wanted, .. } => !wanted.is_empty(),
            Self::Any { .. } => true,
            Self::Fresh { .. } | Self::Skip { .. } => false,
        }
    }
}
