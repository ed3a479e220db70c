//! The locks of queues as stored: which client of a group that pulls in order may consume a queue, and until when.
//!
//! * Shape: a version byte, the client's id, the machine time u64 at which the lock ends.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{GroupId, QueueId, Timestamp, TopicId};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// One lock. It is there until it is given up, or another client has it: it may have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLock {
    pub client: String,
    pub until: Timestamp,
}

impl QueueLock {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.client.len() + 12);
        out.put_u8(VERSION);
        out.put_text(&self.client);
        out.put_u64(self.until.0);
        out.freeze()
    }

    pub(in crate::machine) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(bytes, "lock of a queue", VERSION)?;
        Ok(Self { client: reader.text()?, until: Timestamp(reader.u64()?) })
    }
}

pub(in crate::machine) fn get(
    stage: &Stage<'_>,
    topic: TopicId,
    group: GroupId,
    queue: QueueId,
) -> Result<Option<QueueLock>, Failure> {
    Ok(stage.get(Space::Cursor, &keys::queue_lock(topic, group, queue))?.map(QueueLock::decode).transpose()?)
}

pub(in crate::machine) fn put(stage: &mut Stage<'_>, topic: TopicId, group: GroupId, queue: QueueId, lock: &QueueLock) {
    stage.put(Space::Cursor, keys::queue_lock(topic, group, queue), lock.encode());
}

pub(in crate::machine) fn delete(stage: &mut Stage<'_>, topic: TopicId, group: GroupId, queue: QueueId) {
    stage.delete(Space::Cursor, keys::queue_lock(topic, group, queue));
}
