//! Offsets that classic clients committed and that are not in the log yet (D190).
//!
//! Each client commits each of its queues every five seconds, one request for each. They are gathered here and become one command
//! for each group in a topic, twice a second at most. What a node that dies had gathered is lost, which the protocol allows: the
//! next commit comes in five seconds, and what was consumed since the last one is consumed again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, Deadline, Error};
use crate::edge::remoting::codes::Refused;
use crate::model::{GroupName, QueueId, QueueOffset, TopicName};
use crate::proto::remoting::ResponseCode;

/// Queues whose offsets wait.
const QUEUES_MAX: usize = 100_000;
const EVERY: Duration = Duration::from_millis(500);
/// Commands at once.
const TOGETHER: usize = 64;

type Key = (GroupName, TopicName);
type Offsets = BTreeMap<QueueId, QueueOffset>;

/// What waits.
pub(super) struct Commits {
    waiting: Mutex<Waiting>,
    /// Of those who put what waits into the log: one at a time.
    turn: Semaphore,
}

impl Default for Commits {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Semaphore::new(1) }
    }
}

#[derive(Default)]
struct Waiting {
    fresh: BTreeMap<Key, Offsets>,
    /// Queues of `fresh`.
    count: usize,
    /// On its way into the log.
    proposed: BTreeMap<Key, Offsets>,
}

impl Waiting {
    /// Adds offsets for which there are no newer ones.
    fn put_back(&mut self, key: Key, offsets: Offsets) {
        let fresh = self.fresh.entry(key).or_default();
        let before = fresh.len();
        for (queue, offset) in offsets {
            fresh.entry(queue).or_insert(offset);
        }
        self.count += fresh.len() - before;
    }
}

impl Commits {
    /// Notes an offset; a later one of the same queue replaces it, also a lower one.
    pub fn put(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(), Refused> {
        let mut waiting = self.waiting.lock();
        let key = (group.clone(), topic.clone());
        let is_known = waiting.fresh.get(&key).is_some_and(|offsets| offsets.contains_key(&queue));
        if !is_known && waiting.count >= QUEUES_MAX {
            let text = format!("offsets of {QUEUES_MAX} queues wait for the log on this node; commit again later");
            return Err(Refused::new(ResponseCode::SystemBusy, text));
        }
        waiting.fresh.entry(key).or_default().insert(queue, offset);
        waiting.count += usize::from(!is_known);
        Ok(())
    }

    /// Whether an offset waits for a queue.
    pub fn has(&self, group: &GroupName, topic: &TopicName, queue: QueueId) -> bool {
        let waiting = self.waiting.lock();
        let key = (group.clone(), topic.clone());
        let of = |all: &BTreeMap<Key, Offsets>| all.get(&key).is_some_and(|offsets| offsets.contains_key(&queue));
        of(&waiting.fresh) || of(&waiting.proposed)
    }

    /// Has what waits put into the log, until the node stops; then once more.
    pub async fn keep(self: Arc<Self>, broker: Arc<Broker>, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.settle(&broker).await;
        }
        self.settle(&broker).await;
    }

    /// Has what waits now put into the log.
    pub async fn settle(&self, broker: &Broker) {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        self.propose(broker).await;
    }

    async fn propose(&self, broker: &Broker) {
        let proposed = {
            let mut waiting = self.waiting.lock();
            waiting.count = 0;
            waiting.proposed = std::mem::take(&mut waiting.fresh);
            waiting.proposed.clone()
        };
        let commands = stream::iter(proposed).map(async |((group, topic), offsets)| {
            let all = offsets.iter().map(|(queue, offset)| (*queue, *offset)).collect();
            let done = broker.commit_offsets(&group, &topic, all, Deadline::NONE).await;
            if let Err(Error::NoLeader | Error::Busy | Error::Behind | Error::TimedOut) = done {
                self.waiting.lock().put_back((group, topic), offsets);
            } else if let Err(error) = done {
                // Of a topic or group that is gone, say. Nobody waits for it.
                tracing::debug!(%group, %topic, %error, "offsets of a classic client are not kept");
            }
        });
        commands.buffer_unordered(TOGETHER).for_each(async |()| {}).await;
        self.waiting.lock().proposed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_a_queue_counts_and_there_are_bounds() {
        let commits = Commits::default();
        let (group, topic) = (GroupName::parse("g").unwrap(), TopicName::parse("t").unwrap());
        let put = |queue, offset| commits.put(&group, &topic, QueueId(queue), QueueOffset(offset));
        let has = |queue| commits.has(&group, &topic, QueueId(queue));
        let get = |queue| {
            let waiting = commits.waiting.lock();
            waiting.fresh.get(&(group.clone(), topic.clone()))?.get(&QueueId(queue)).map(|offset| offset.0)
        };
        put(0, 7).unwrap();
        put(0, 5).unwrap();
        assert_eq!((get(0), has(0), get(1), has(1)), (Some(5), true, None, false));
        // While the log takes them, what comes meanwhile is newer; what the log did not take comes back behind it.
        let proposed = std::mem::take(&mut commits.waiting.lock().fresh);
        commits.waiting.lock().proposed = proposed.clone();
        commits.waiting.lock().count = 0;
        assert!(has(0));
        put(0, 9).unwrap();
        put(1, 1).unwrap();
        for (key, offsets) in proposed {
            commits.waiting.lock().put_back(key, offsets);
        }
        assert_eq!((get(0), get(1), commits.waiting.lock().count), (Some(9), Some(1), 2));
        for queue in 2..u32::try_from(QUEUES_MAX).unwrap() {
            put(queue, 0).unwrap();
        }
        assert_eq!(put(u32::MAX, 0).unwrap_err().code, ResponseCode::SystemBusy);
        put(0, 10).unwrap();
    }
}
