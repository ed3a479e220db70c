//! What is counted of a topic, and of a group in it.

use std::ops::AddAssign;

/// Of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicCounts {
    /// Stored: those that enter a queue at once, delayed ones and half messages. A message that is sent again, because
    /// the answer was lost, is none.
    pub messages: u64,
    /// Their encoded size.
    pub bytes: u64,
    /// Of the messages, those that wait for a delivery time.
    pub delayed: u64,
    /// Delayed messages whose delivery time came: they entered a queue.
    pub delays_ended: u64,
    /// Of the messages, half messages.
    pub halves: u64,
    pub commits: u64,
    pub rollbacks: u64,
}

/// Of a group in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupCounts {
    /// Deliveries: messages leased to consumers, each as often as it was.
    pub deliveries: u64,
    /// Their encoded size.
    pub bytes: u64,
    /// Of the deliveries, those after a message's first.
    pub redeliveries: u64,
    /// Messages settled, by acks and by consumers that pull; not those of a reset or a filter.
    pub acked: u64,
    pub dead_letters: u64,
}

impl TopicCounts {
    /// In the order of the fields.
    pub fn to_fields(self) -> [u64; 7] {
        let Self { messages, bytes, delayed, delays_ended, halves, commits, rollbacks } = self;
        [messages, bytes, delayed, delays_ended, halves, commits, rollbacks]
    }

    /// From [`Self::to_fields`], also of builds that have more or fewer.
    pub fn from_fields(fields: &[u64]) -> Self {
        let [messages, bytes, delayed, delays_ended, halves, commits, rollbacks] = first_of(fields);
        Self { messages, bytes, delayed, delays_ended, halves, commits, rollbacks }
    }
}

impl GroupCounts {
    /// In the order of the fields.
    pub fn to_fields(self) -> [u64; 5] {
        let Self { deliveries, bytes, redeliveries, acked, dead_letters } = self;
        [deliveries, bytes, redeliveries, acked, dead_letters]
    }

    /// From [`Self::to_fields`], also of builds that have more or fewer.
    pub fn from_fields(fields: &[u64]) -> Self {
        let [deliveries, bytes, redeliveries, acked, dead_letters] = first_of(fields);
        Self { deliveries, bytes, redeliveries, acked, dead_letters }
    }
}

fn first_of<const N: usize>(fields: &[u64]) -> [u64; N] {
    std::array::from_fn(|at| fields.get(at).copied().unwrap_or(0))
}

impl AddAssign<&TopicCounts> for TopicCounts {
    fn add_assign(&mut self, more: &TopicCounts) {
        let TopicCounts { messages, bytes, delayed, delays_ended, halves, commits, rollbacks } = *more;
        self.messages += messages;
        self.bytes += bytes;
        self.delayed += delayed;
        self.delays_ended += delays_ended;
        self.halves += halves;
        self.commits += commits;
        self.rollbacks += rollbacks;
    }
}

impl AddAssign<&GroupCounts> for GroupCounts {
    fn add_assign(&mut self, more: &GroupCounts) {
        let GroupCounts { deliveries, bytes, redeliveries, acked, dead_letters } = *more;
        self.deliveries += deliveries;
        self.bytes += bytes;
        self.redeliveries += redeliveries;
        self.acked += acked;
        self.dead_letters += dead_letters;
    }
}
