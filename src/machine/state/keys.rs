//! The key layout of the replicated state. Numbers are big endian, so keys sort like their numbers; within a space and a
//! tag, all keys of a topic have one prefix, by which those of a deleted topic are removed.
//!
//! | space | key | value |
//! |---|---|---|
//! | Meta | `clock` | [`crate::machine::state::clock::MachineClock`] |
//! | Meta | `digest`, `cluster version`, `topic ids`, `group ids`, `due from` | u64 |
//! | Meta | `clearings` | groups in topics whose leases are being cleared away, u64 |
//! | Meta | `member` node | `host:port` for clients |
//! | Meta | `changes of members` | [`crate::machine::state::member_changes::MemberChanges`] |
//! | Meta | `event` number | [`crate::machine::state::events::ClusterEvent`] |
//! | Meta | `events`, `noted leader` | how many there were, u64; a version byte, term u64, node u64 |
//! | Meta | `key value` namespace with its length in a byte, key | a version byte and a text |
//! | Meta | `key values` | how many there are, u64 |
//! | Meta | `unwritable` | [`crate::model::Unwritable`] |
//! | Meta | `handle key` | a version byte and the [`crate::model::HandleKey`] |
//! | Catalog | `n` topic name | topic id |
//! | Catalog | `t` topic | [`crate::machine::state::catalog::TopicRecord`] |
//! | Catalog | `m` group name | group id |
//! | Catalog | `g` group | [`crate::machine::state::catalog::GroupRecord`] |
//! | Catalog | `s` topic, group | nothing, or queues that are being cleared (`state::clearing`): the group is subscribed to the topic |
//! | Queue | `h` topic, queue | [`crate::machine::state::queue::QueueHead`] |
//! | Queue | `r` topic, queue, first offset | [`crate::machine::state::queue::Run`] |
//! | Queue | `x` topic | queue of the next message |
//! | Queue | `f` topic, queue, message group, offset | nothing: the message is of that message group |
//! | Queue | `p` topic, entry, slot | [`crate::machine::state::half::Half`] |
//! | Queue | `v` topic of dead letters, offset | when it was redriven |
//! | Queue | `u` entry | the message ids of its sends: [`crate::machine::state::recent_sends`] |
//! | Recent send | `y` slice, range, lot | the message ids of older sends: `state::recent_slices` |
//! | Meta | `recent slices` | what there is of those |
//! | Cursor | `c` topic, group, queue | group offset: the first offset never leased |
//! | Cursor | `z` topic, group, queue | messages that retention took before the group had consumed them |
//! | Cursor | `q` topic, group, queue | [`crate::machine::state::queue_lock::QueueLock`] |
//! | Lease | `l` topic, group, queue, lease | [`crate::machine::state::lease::Lease`] |
//! | Lease | `b` topic, group, queue, lease | nothing: the lease has messages for redelivery |
//! | Lease | `o` topic, group, queue, message group | [`crate::machine::state::fifo_line::FifoLine`] |
//! | Lease | `d` topic, group, queue, message group | first offset that can be delivered next |
//! | Lease | `a` topic, group, attempt id, queue, lease | nothing: the lease is of a poll with that attempt id, by its hash |
//! | Reference | | what refers to which entries: [`crate::machine::state::references`] |
//! | Due | time, kind, rest: [`crate::machine::state::due::Due`] | nothing, or where to go on; of a delayed message, a version byte and its [`crate::machine::state::queue::RunItem`] |

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader};
use crate::model::{
    GroupId, GroupName, LeaseId, LogIndex, MessageGroupHash, MessageRef, NodeId, QueueId, QueueOffset, TopicId,
    TopicName,
};
use crate::store::kv::Space;

/// Meta: the machine's time.
pub const CLOCK: &[u8] = b"clock";
/// Meta: running hash over every write.
pub const DIGEST: &[u8] = b"digest";
/// Meta: which commands and formats all nodes can apply.
pub const CLUSTER_VERSION: &[u8] = b"cluster version";
/// Meta: the last topic id.
pub const TOPIC_IDS: &[u8] = b"topic ids";
/// Meta: the last group id.
pub const GROUP_IDS: &[u8] = b"group ids";

/// Meta: nothing is due before this time. A scan from the start would pass over all that was due and is deleted.
pub const DUE_FROM: &[u8] = b"due from";
/// Meta: how many groups in topics have leases that are being cleared away.
pub const CLEARINGS: &[u8] = b"clearings";
/// Meta: where each node serves clients.
pub const MEMBERS: &[u8] = b"member";

/// Meta: one event.
pub const EVENT: &[u8] = b"event ";
/// Meta: how many events there were; the number of the last one.
pub const EVENT_COUNT: &[u8] = b"events";
/// Meta: the leader that was noted last.
pub const NOTED_LEADER: &[u8] = b"noted leader";

/// Meta: one key-value.
pub const KEY_VALUE: &[u8] = b"key value ";
/// Meta: how many key-values there are.
pub const KEY_VALUE_COUNT: &[u8] = b"key values";
/// Meta: which broker names producers are not to use.
pub const UNWRITABLE: &[u8] = b"unwritable";

/// Meta: the change of members that is under way.
pub const MEMBER_CHANGES: &[u8] = b"changes of members";
/// Meta: the key of the cluster's handles.
pub const HANDLE_KEY: &[u8] = b"handle key";
/// Of its value.
pub const HANDLE_KEY_VERSION: u8 = 1;

/// Meta: what there is of older sends.
pub const RECENT_SLICES: &[u8] = b"recent slices";

/// The key of a lease after the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseKey {
    pub topic: TopicId,
    pub group: GroupId,
    pub queue: QueueId,
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

/// Meta: the event of that number.
pub fn event(number: u64) -> Bytes {
    [EVENT, &number.to_be_bytes()].concat().into()
}

/// Meta: the key-value of a namespace and a key.
pub fn key_value(namespace: &str, key: &str) -> Bytes {
    [&key_values(namespace)[..], key.as_bytes()].concat().into()
}

/// Meta: all key-values of a namespace.
pub fn key_values(namespace: &str) -> Bytes {
    let length = u8::try_from(namespace.len()).expect("namespaces have at most 255 bytes");
    [KEY_VALUE, &[length], namespace.as_bytes()].concat().into()
}

/// Catalog: id of the topic of that name.
pub fn topic_name(name: &TopicName) -> Bytes {
    [b"n", name.as_str().as_bytes()].concat().into()
}

/// What keys of the catalog begin with: of topics, of groups, of subscriptions.
pub const TOPICS: u8 = b't';
/// See [`TOPICS`].
pub const GROUPS: u8 = b'g';
/// See [`TOPICS`].
pub const SUBSCRIPTIONS: u8 = b's';

/// Catalog: the topic.
pub fn topic(topic: TopicId) -> Bytes {
    key(TOPICS, &[topic.0]).freeze()
}

/// Catalog: all topics.
pub fn all_topics() -> Bytes {
    key(TOPICS, &[]).freeze()
}

/// Catalog: id of the group of that name.
pub fn group_name(name: &GroupName) -> Bytes {
    [b"m", name.as_str().as_bytes()].concat().into()
}

/// Catalog: the group.
pub fn group(group: GroupId) -> Bytes {
    key(GROUPS, &[group.0]).freeze()
}

/// Catalog: that the group is subscribed to the topic.
pub fn subscription(topic: TopicId, group: GroupId) -> Bytes {
    key(SUBSCRIPTIONS, &[topic.0, group.0]).freeze()
}

/// Catalog: all subscriptions of a topic.
pub fn subscriptions(topic: TopicId) -> Bytes {
    key(SUBSCRIPTIONS, &[topic.0]).freeze()
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

/// Queue: the messages of all message groups of a topic.
pub fn messages_of_groups(topic: TopicId) -> Bytes {
    key(b'f', &[topic.0]).freeze()
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

/// The half message of a key.
pub fn half_message(key: &Bytes) -> Result<MessageRef, Malformed> {
    MessageRef::decode(&mut Reader::new(key.slice(5..), "key of a half message"))
}

/// Queue: all half messages of all topics.
pub fn all_halves() -> Bytes {
    key(b'p', &[]).freeze()
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

/// Queue: the message ids of all entries that are remembered.
pub fn all_recent() -> Bytes {
    key(b'u', &[]).freeze()
}

/// Recent send: what a lot of older sends in a slice of time has of a range of hashes.
pub fn recent_lot(slice: u64, range: u32, lot: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_slice(&recent_range(slice, range));
    out.put_u32(lot);
    out.freeze()
}

/// Recent send: all that a slice of time has of a range of hashes.
pub fn recent_range(slice: u64, range: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(13);
    out.put_u8(b'y');
    out.put_u64(slice);
    out.put_u32(range);
    out.freeze()
}

/// Cursor: the group offset.
pub fn group_offset(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'c', &[topic.0, group.0, queue.0]).freeze()
}

/// Cursor: all group offsets in a topic.
pub fn group_offsets(topic: TopicId, group: GroupId) -> Bytes {
    key(b'c', &[topic.0, group.0]).freeze()
}

/// Cursor: what the group lost to retention.
pub fn lost(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'z', &[topic.0, group.0, queue.0]).freeze()
}

/// Cursor: the lock of a queue.
pub fn queue_lock(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'q', &[topic.0, group.0, queue.0]).freeze()
}

/// Cursor: all locks of a group in a topic.
pub fn queue_locks(topic: TopicId, group: GroupId) -> Bytes {
    key(b'q', &[topic.0, group.0]).freeze()
}

/// Lease: the lease.
pub fn lease(at: LeaseKey) -> Bytes {
    lease_key(b'l', at)
}

/// Lease: that the lease has messages for redelivery.
pub fn returned(at: LeaseKey) -> Bytes {
    lease_key(b'b', at)
}

/// Which lease the key of the Lease space is for; `None` if it is for something else.
pub fn lease_of(key: &Bytes) -> Result<Option<LeaseKey>, Malformed> {
    if key.first() != Some(&b'l') {
        return Ok(None);
    }
    let mut reader = Reader::new(key.slice(1..), "lease key");
    let (topic, group) = (TopicId(reader.u32()?), GroupId(reader.u32()?));
    Ok(Some(LeaseKey { topic, group, queue: QueueId(reader.u32()?), lease: LeaseId(reader.u64()?) }))
}

fn lease_key(tag: u8, at: LeaseKey) -> Bytes {
    let mut out = key(tag, &[at.topic.0, at.group.0, at.queue.0]);
    out.put_u64(at.lease.0);
    out.freeze()
}

/// The key of a FIFO line after the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    pub topic: TopicId,
    /// The consumer group.
    pub group: GroupId,
    pub queue: QueueId,
    pub message_group: MessageGroupHash,
}

/// Lease: the FIFO line.
pub fn line(at: LineKey) -> Bytes {
    line_key(b'o', at)
}

/// Lease: that the FIFO line has messages to deliver next.
pub fn ready(at: LineKey) -> Bytes {
    line_key(b'd', at)
}

/// Lease: all FIFO lines of a group in a queue.
pub fn lines(topic: TopicId, group: GroupId, queue: QueueId) -> Bytes {
    key(b'o', &[topic.0, group.0, queue.0]).freeze()
}

fn line_key(tag: u8, at: LineKey) -> Bytes {
    let mut out = key(tag, &[at.topic.0, at.group.0, at.queue.0]);
    out.put_u64(at.message_group.0);
    out.freeze()
}

/// Lease: all FIFO lines of a group in a topic that have messages to deliver next.
pub fn all_ready(topic: TopicId, group: GroupId) -> Bytes {
    key(b'd', &[topic.0, group.0]).freeze()
}

/// Lease: the leases and FIFO lines of a group in a queue, with their marks.
pub fn all_at_work(topic: TopicId, group: GroupId, queue: QueueId) -> [Bytes; 4] {
    [b'l', b'b', b'o', b'd'].map(|tag| key(tag, &[topic.0, group.0, queue.0]).freeze())
}

/// Lease: all leases of a group in a topic, and all its FIFO lines there.
pub fn leases_and_lines(topic: TopicId, group: GroupId) -> [Bytes; 2] {
    [b'l', b'o'].map(|tag| key(tag, &[topic.0, group.0]).freeze())
}

/// Lease: that the lease is of a poll with that attempt id.
pub fn of_attempt(at: LeaseKey, attempt_of: u64) -> Bytes {
    let mut out = BytesMut::from(&all_of_attempt(at.topic, at.group, attempt_of)[..]);
    out.put_u32(at.queue.0);
    out.put_u64(at.lease.0);
    out.freeze()
}

/// Lease: all leases of polls with that attempt id.
pub fn all_of_attempt(topic: TopicId, group: GroupId, attempt_of: u64) -> Bytes {
    let mut out = key(b'a', &[topic.0, group.0]);
    out.put_u64(attempt_of);
    out.freeze()
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

/// Every prefix of what is stored for a topic, except its catalog entry.
pub fn topic_prefixes(topic: TopicId) -> [(Space, Bytes); 15] {
    let of = |space, tag| (space, key(tag, &[topic.0]).freeze());
    [
        of(Space::Catalog, b's'),
        of(Space::Queue, b'h'),
        of(Space::Queue, b'r'),
        of(Space::Queue, b'x'),
        of(Space::Queue, b'p'),
        of(Space::Queue, b'f'),
        of(Space::Queue, b'v'),
        of(Space::Cursor, b'c'),
        of(Space::Cursor, b'z'),
        of(Space::Cursor, b'q'),
        of(Space::Lease, b'l'),
        of(Space::Lease, b'b'),
        of(Space::Lease, b'o'),
        of(Space::Lease, b'd'),
        of(Space::Lease, b'a'),
    ]
}

/// Every prefix of what is stored for a group in a topic, except its catalog entry.
pub fn group_prefixes(topic: TopicId, group: GroupId) -> [(Space, Bytes); 8] {
    let of = |space, tag| (space, key(tag, &[topic.0, group.0]).freeze());
    [
        of(Space::Cursor, b'c'),
        of(Space::Cursor, b'z'),
        of(Space::Cursor, b'q'),
        of(Space::Lease, b'l'),
        of(Space::Lease, b'b'),
        of(Space::Lease, b'o'),
        of(Space::Lease, b'd'),
        of(Space::Lease, b'a'),
    ]
}

/// The key directly after this one.
pub fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// The first key after all keys with this prefix.
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
