//! Wakes the polls of a group in a topic when something may have become deliverable to it, and the leader's
//! timer when something falls due earlier than it knew; hands on questions to producers.
//!
//! Hot path. Told by `raft/state_machine` after every entry; waited on by `broker/receive/poll` and `broker/background/timer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::machine::Effects;
use crate::model::{GroupId, MessageRef, Timestamp, TopicId};

/// Questions to producers that wait to be asked. What does not fit is asked next time.
const QUESTIONS_MAX: usize = 16 * 1024;

/// A half message whose producer is to be asked.
type DueQuestion = (TopicId, MessageRef);

/// See the module.
pub struct Arrivals {
    /// One per group and topic that was ever polled; as many as there are subscriptions at most.
    notifiers: Mutex<BTreeMap<(TopicId, GroupId), Arc<Notify>>>,
    /// Until when the timer sleeps.
    sleeps_until: AtomicU64,
    due: Notify,
    questions: mpsc::Sender<DueQuestion>,
}

impl Arrivals {
    /// With the questions to producers that applied entries ask.
    pub fn new() -> (Self, mpsc::Receiver<DueQuestion>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        (Self { notifiers: Mutex::default(), sleeps_until: AtomicU64::new(0), due: Notify::new(), questions }, asked)
    }

    /// Tells what an applied entry did.
    pub fn notify(&self, effects: &Effects) {
        if effects.due_at.is_some_and(|due| due.0 < self.sleeps_until.load(Ordering::Acquire)) {
            self.due.notify_one();
        }
        for question in &effects.questions {
            // A full queue, or a node that stops: the log asks again.
            let _ = self.questions.try_send(*question);
        }
        if effects.grown.is_empty() && effects.returned.is_empty() {
            return;
        }
        let notifiers = self.notifiers.lock();
        for topic in &effects.grown {
            for (_, notifier) in notifiers.range((*topic, GroupId(0))..=(*topic, GroupId(u32::MAX))) {
                notifier.notify_waiters();
            }
        }
        for line in &effects.returned {
            if let Some(notifier) = notifiers.get(line) {
                notifier.notify_waiters();
            }
        }
    }

    /// The notifier of a group in a topic. A waiter must be enabled before it looks for messages, or it may
    /// sleep through an arrival.
    pub(super) fn notifier(&self, topic: TopicId, group: GroupId) -> Arc<Notify> {
        self.notifiers.lock().entry((topic, group)).or_default().clone()
    }

    /// The timer is woken by anything that falls due before this.
    pub(super) fn sleeps_until(&self, until: Timestamp) {
        self.sleeps_until.store(until.0, Ordering::Release);
    }

    /// Waits until something falls due earlier than [`Self::sleeps_until`] said.
    pub(super) async fn due_changed(&self) {
        self.due.notified().await;
    }
}
