//! The key layout of the replicated state. Numbers are big endian, so keys sort like their numbers;
//! everything of a topic shares a prefix, so a deleted topic is swept by prefix.
//!
//! | space | key | value |
//! |---|---|---|
//! | Meta | `clock`, `digest`, `topic ids`, `group ids`, `due from` | u64 |
//! | Meta | `member` node | `host:port` for clients |
//! | Catalog | `n` topic name | topic id |
//! | Catalog | `t` topic | [`crate::machine::topics::TopicRecord`] |
//! | Catalog | `m` group name | group id |
//! | Catalog | `g` group | [`crate::machine::topics::GroupRecord`] |
//! | Catalog | `s` topic, group | nothing: the group has a position in the topic |
//! | Queue | `h` topic, queue | [`crate::machine::state::queue::QueueHead`] |
//! | Queue | `r` topic, queue, first offset | [`crate::machine::state::queue::Run`] |
//! | Queue | `x` topic | queue of the next message |
//! | Queue | `f` topic, queue, message group, offset | nothing: the message is of that message group |
//! | Queue | `p` topic, entry, slot | [`crate::machine::transaction::Half`] |
//! | Queue | `v` topic of dead letters, offset | when it was redriven |
//! | Queue | `u` entry | the message ids of its sends: [`crate::machine::state::recent_sends`] |
//! | Cursor | topic, group, queue | first offset never leased |
//! | Lease | `l` topic, group, queue, lease | [`crate::machine::state::lease::Lease`] |
//! | Lease | `b` topic, group, queue, lease | nothing: the lease has messages to deliver again |
//! | Lease | `o` topic, group, queue, message group | [`crate::machine::state::fifo_line::FifoLine`] |
//! | Lease | `d` topic, group, queue, message group | first offset that can be delivered next |
//! | Due | time, kind, rest | nothing; of a message that waits for its time, [`crate::machine::delay::Waiting`] |

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{
    GroupId, GroupName, LeaseId, LogIndex, MessageGroupHash, MessageRef, NodeId, QueueId, QueueOffset, Timestamp,
    TopicId, TopicName,
};

/// Meta: the machine's time.
pub const CLOCK: &[u8] = b"clock";
/// Meta: running hash over every write so far.
pub const DIGEST: &[u8] = b"digest";
/// Meta: last topic id given.
pub const TOPIC_IDS: &[u8] = b"topic ids";
/// Meta: last group id given.
pub const GROUP_IDS: &[u8] = b"group ids";

/// Meta: nothing is due before this time; deletions without end lie there.
pub const DUE_FROM: &[u8] = b"due from";
/// Meta: where each node serves clients.
pub const MEMBERS: &[u8] = b"member";

/// Due: a lease ends.
pub const DUE_LEASE: u8 = 1;
/// Due: the leftovers of a deleted topic are to be removed.
pub const DUE_SWEEP: u8 = 2;
/// Due: a message enters its queue.
pub const DUE_MESSAGE: u8 = 3;
/// Due: the producer of a half message is asked, or the memory of a decided one ends.
pub const DUE_HALF: u8 = 4;
/// Due: the leftovers of a deleted group in a topic are to be removed.
pub const DUE_SWEEP_GROUP: u8 = 5;

/// Where a lease is: its key after the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseKey {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Queue.
    pub queue: QueueId,
    /// Lease.
    pub lease: LeaseId,
}

fn key(tag: u8, numbers: &[u32]) -> BytesMut {
    let mut out = BytesMut::with_capacity(1 + numbers.len() * 4 + 16);
    out.put_u8(tag);
    for number in numbers {
        out.put_u32(*number);
    }
    out
}

/// Meta: where the node serves clients.
pub fn member(node: NodeId) -> Bytes {
    [MEMBERS, &node.0.to_be_bytes()].concat().into()
}

/// Catalog: id of the topic of that name.
pub fn topic_name(name: &TopicName) -> Bytes {
    [b"n", name.as_str().as_bytes()].concat().into()
}

/// Catalog: the topic.
pub fn topic(topic: TopicId) -> Bytes {
    key(b't', &[topic.0]).freeze()
}

/// Catalog: all topics.
pub fn all_topics() -> Bytes {
    key(b't', &[]).freeze()
}

/// Catalog: id of the group of that name.
pub fn group_name(name: &GroupName) -> Bytes {
    [b"m", name.as_str().as_bytes()].concat().into()
}

/// Catalog: the group.
pub fn group(group: GroupId) -> Bytes {
    key(b'g', &[group.0]).freeze()
}

/// Catalog: that the group has a position in the topic.
pub fn subscription(topic: TopicId, group: GroupId) -> Bytes {
    key(b's', &[topic.0, group.0]).freeze()
}

/// Catalog: all subscriptions of a topic.
pub fn subscriptions(topic: TopicId) -> Bytes {
    key(b's', &[topic.0]).freeze()
}

/// Queue: head of the queue.
pub fn queue_head(topic: TopicId, queue: QueueId) -> Bytes {
    key(b'h', &[topic.0, queue.0]).freeze()
}

/// Queue: the run that starts at `first`.
pub fn run(topic: TopicId, queue: QueueId, first: QueueOffset) -> Bytes {
    let mut out = key(b'r', &[topic.0, queue.0]);
    out.put_u64(first.0);
    out.freeze()
}

/// Queue: the queue that takes the topic's next message.
pub fn next_queue(topic: TopicId) -> Bytes {
    key(b'x', &[topic.0]).freeze()
}

/// Queue: that the message at the offset is of the message group.
pub fn message_of_group(topic: TopicId, queue: QueueId, message_group: MessageGroupHash, offset: QueueOffset) -> Bytes {
    let mut out = key(b'f', &[topic.0, queue.0]);
    out.put_u64(message_group.0);
    out.put_u64(offset.0);
    out.freeze()
}

/// Queue: the half message.
pub fn half(topic: TopicId, message: MessageRef) -> Bytes {
    let mut out = key(b'p', &[topic.0]);
    message.encode(&mut out);
    out.freeze()
}

/// Queue: all half messages of a topic.
pub fn halves(topic: TopicId) -> Bytes {
    key(b'p', &[topic.0]).freeze()
}

/// Queue: that a dead letter was redriven.
pub fn redriven(topic: TopicId, offset: QueueOffset) -> Bytes {
    let mut out = key(b'v', &[topic.0]);
    out.put_u64(offset.0);
    out.freeze()
}

/// Queue: all dead letters of a topic that were redriven.
pub fn all_redriven(topic: TopicId) -> Bytes {
    key(b'v', &[topic.0]).freeze()
}

/// Queue: the message ids of an entry's sends.
pub fn recent(entry: LogIndex) -> Bytes {
    let mut out = key(b'u', &[]);
    out.put_u64(entry.0);
    out.freeze()
}

/// Queue: those of all entries that are remembered.
pub fn all_recent() -> Bytes {
    key(b'u', &[]).freeze()
}

/// Cursor: the group's position in the queue.
pub fn cursor(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'c', &[topic.0, group.0, queue.0]).freeze()
}

/// Lease: the lease.
pub fn lease(at: LeaseKey) -> Bytes {
    lease_key(b'l', at)
}

/// Lease: that the lease has messages to deliver again.
pub fn returned(at: LeaseKey) -> Bytes {
    lease_key(b'b', at)
}

fn lease_key(tag: u8, at: LeaseKey) -> Bytes {
    let mut out = key(tag, &[at.topic.0, at.group.0, at.queue.0]);
    out.put_u64(at.lease.0);
    out.freeze()
}

/// Where the line of a message group is, for one consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// Topic.
    pub topic: TopicId,
    /// Consumer group.
    pub group: GroupId,
    /// Queue.
    pub queue: QueueId,
    pub message_group: MessageGroupHash,
}

/// Lease: the line.
pub fn line(at: LineKey) -> Bytes {
    line_key(b'o', at)
}

/// Lease: that the line has messages to deliver next.
pub fn ready(at: LineKey) -> Bytes {
    line_key(b'd', at)
}

/// Lease: all lines of a group in a queue.
pub fn lines(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'o', &[topic.0, group.0, queue.0]).freeze()
}

fn line_key(tag: u8, at: LineKey) -> Bytes {
    let mut out = key(tag, &[at.topic.0, at.group.0, at.queue.0]);
    out.put_u64(at.message_group.0);
    out.freeze()
}

/// Lease: all lines of a group in a topic that have messages to deliver next.
pub fn all_ready(topic: TopicId, group: GroupId) -> Bytes {
    key(b'd', &[topic.0, group.0]).freeze()
}

/// Lease: everything a group has at work in a queue.
pub fn all_at_work(topic: TopicId, group: GroupId, queue: QueueId) -> [Bytes; 4] {
    [b'l', b'b', b'o', b'd'].map(|tag| key(tag, &[topic.0, group.0, queue.0]).freeze())
}

/// Lease: all leases of a group in a queue.
pub fn leases(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'l', &[topic.0, group.0, queue.0]).freeze()
}

/// Lease: all returned leases of a group in a topic.
pub fn all_returned(topic: TopicId, group: GroupId) -> Bytes {
    key(b'b', &[topic.0, group.0]).freeze()
}

/// Lease: all returned leases of a group in a queue.
pub fn returned_in(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'b', &[topic.0, group.0, queue.0]).freeze()
}

/// Every prefix under which something of a topic lies, except its catalog entry.
pub fn topic_prefixes(topic: TopicId) -> [(crate::store::kv::Space, Bytes); 12] {
    use crate::store::kv::Space;
    [
        (Space::Catalog, key(b's', &[topic.0]).freeze()),
        (Space::Queue, key(b'h', &[topic.0]).freeze()),
        (Space::Queue, key(b'r', &[topic.0]).freeze()),
        (Space::Queue, key(b'x', &[topic.0]).freeze()),
        (Space::Queue, key(b'p', &[topic.0]).freeze()),
        (Space::Queue, key(b'f', &[topic.0]).freeze()),
        (Space::Queue, key(b'v', &[topic.0]).freeze()),
        (Space::Cursor, key(b'c', &[topic.0]).freeze()),
        (Space::Lease, key(b'l', &[topic.0]).freeze()),
        (Space::Lease, key(b'b', &[topic.0]).freeze()),
        (Space::Lease, key(b'o', &[topic.0]).freeze()),
        (Space::Lease, key(b'd', &[topic.0]).freeze()),
    ]
}

/// Every prefix under which something of a group in a topic lies, except its catalog entry.
pub fn group_prefixes(topic: TopicId, group: GroupId) -> [(crate::store::kv::Space, Bytes); 5] {
    use crate::store::kv::Space;
    let of = |space, tag| (space, key(tag, &[topic.0, group.0]).freeze());
    [
        of(Space::Cursor, b'c'),
        of(Space::Lease, b'l'),
        of(Space::Lease, b'b'),
        of(Space::Lease, b'o'),
        of(Space::Lease, b'd'),
    ]
}

/// Due: the lease ends at `until`.
pub fn due_lease(until: Timestamp, at: LeaseKey) -> Bytes {
    let mut out = due(until, DUE_LEASE);
    for number in [at.topic.0, at.group.0, at.queue.0] {
        out.put_u32(number);
    }
    out.put_u64(at.lease.0);
    out.freeze()
}

/// Due: the topic's leftovers are to be swept.
pub fn due_sweep(at: Timestamp, topic: TopicId) -> Bytes {
    let mut out = due(at, DUE_SWEEP);
    out.put_u32(topic.0);
    out.freeze()
}

/// Due: what a deleted group left in a topic is to be swept.
pub fn due_sweep_group(at: Timestamp, topic: TopicId, group: GroupId) -> Bytes {
    let mut out = due(at, DUE_SWEEP_GROUP);
    out.put_u32(topic.0);
    out.put_u32(group.0);
    out.freeze()
}

/// Due: the message enters its queue at `at`.
pub fn due_message(at: Timestamp, topic: TopicId, message: MessageRef) -> Bytes {
    due_of_message(at, DUE_MESSAGE, topic, message)
}

/// Due: something is to be done about the half message at `at`.
pub fn due_half(at: Timestamp, topic: TopicId, message: MessageRef) -> Bytes {
    due_of_message(at, DUE_HALF, topic, message)
}

fn due_of_message(at: Timestamp, kind: u8, topic: TopicId, message: MessageRef) -> Bytes {
    let mut out = due(at, kind);
    out.put_u32(topic.0);
    message.encode(&mut out);
    out.freeze()
}

fn due(at: Timestamp, kind: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(8 + 1 + 20);
    out.put_u64(at.0);
    out.put_u8(kind);
    out
}

/// Due: everything that is due at `from` or later lies at this key or above.
pub fn due_start(from: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&from.0.to_be_bytes())
}

/// Due: everything that is due at `now` or before lies below this key.
pub fn due_end(now: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&now.0.saturating_add(1).to_be_bytes())
}

/// The first key behind all keys with this prefix.
pub fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    unreachable!("every prefix starts with a tag below 255")
}
