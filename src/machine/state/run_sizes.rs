//! The sizes of the messages of the run that was read last, for counting what is delivered: the leases of one poll, and of
//! the polls in one entry, are mostly of messages that came together.

use crate::model::{QueueId, QueueOffset, TopicId};

/// Of one run.
#[derive(Debug)]
pub(in crate::machine) struct RunSizes {
    pub topic: TopicId,
    pub queue: QueueId,
    pub first: QueueOffset,
    pub bytes: Vec<u32>,
}

impl RunSizes {
    /// The size of a message, if it is in this run.
    pub fn of(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Option<u64> {
        let position = usize::try_from(offset.0.checked_sub(self.first.0)?).ok()?;
        let is_there = (self.topic, self.queue) == (topic, queue);
        self.bytes.get(position).filter(|_| is_there).map(|bytes| u64::from(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_of_its_own_queue_and_offset_only() {
        let sizes = RunSizes { topic: TopicId(1), queue: QueueId(2), first: QueueOffset(10), bytes: vec![7, 8] };
        let of = |topic, queue, offset| sizes.of(TopicId(topic), QueueId(queue), QueueOffset(offset));
        assert_eq!([9, 10, 11, 12].map(|offset| of(1, 2, offset)), [None, Some(7), Some(8), None]);
        assert_eq!((of(2, 2, 10), of(1, 1, 10)), (None, None));
    }
}
