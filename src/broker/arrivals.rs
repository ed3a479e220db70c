//! Wakes the polls of a topic when something may have become deliverable there.
//!
//! Hot path. Told by `raft/apply` after every entry; waited on by `broker/receive`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::machine::Effects;
use crate::model::TopicId;

/// See the module.
#[derive(Default)]
pub struct Arrivals {
    /// One bell per topic that was ever polled.
    topics: Mutex<BTreeMap<TopicId, Arc<Notify>>>,
    /// Rung when something falls due earlier than was known.
    due: Notify,
}

impl Arrivals {
    /// Tells what an applied entry did.
    pub fn tell(&self, effects: &Effects) {
        if effects.due_at.is_some() {
            self.due.notify_one();
        }
        if effects.grown.is_empty() && effects.returned.is_empty() {
            return;
        }
        let topics = self.topics.lock();
        for topic in effects.grown.iter().chain(effects.returned.iter().map(|(topic, _)| topic)) {
            if let Some(bell) = topics.get(topic) {
                bell.notify_waiters();
            }
        }
    }

    /// The topic's bell. A waiter must be enabled before it looks for messages, or it may sleep through
    /// an arrival.
    pub(super) fn bell(&self, topic: TopicId) -> Arc<Notify> {
        self.topics.lock().entry(topic).or_default().clone()
    }

    /// Wakes the topic's polls: messages planned for one of them were not taken after all.
    pub(super) fn ring(&self, topic: TopicId) {
        if let Some(bell) = self.topics.lock().get(&topic) {
            bell.notify_waiters();
        }
    }

    /// Waits until something new falls due.
    pub(super) async fn due_changed(&self) {
        self.due.notified().await;
    }
}
