//! What applied entries did, for those who wait for it: wakes the polls of a group in a topic when something may have
//! become deliverable to them, and the leader's timer when something falls due earlier than it knew; passes on which
//! producers are to be asked.
//!
//! Hot path. `raft/state_machine` notifies it after every entry; `broker/receive/poll` and `broker/background/timer` wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::machine::Effects;
use crate::model::{GroupId, MessageRef, Timestamp, TopicId};

/// Transaction checks that wait for their turn. What does not fit is due again later.
const CHECKS_MAX: usize = 16 * 1024;

/// A half message whose producer is to be asked.
type DueCheck = (TopicId, MessageRef);

/// Notifiers of polls and of the timer, and due transaction checks.
pub struct Arrivals {
    /// One per group and topic that was ever polled; as many as there are subscriptions at most.
    notifiers: Mutex<BTreeMap<(TopicId, GroupId), Arc<Notify>>>,
    /// Until when the timer sleeps.
    sleeps_until: AtomicU64,
    due: Notify,
    due_checks: mpsc::Sender<DueCheck>,
}

impl Arrivals {
    /// With the transaction checks that applied entries make due.
    pub fn new() -> (Self, mpsc::Receiver<DueCheck>) {
        let (due_checks, checks) = mpsc::channel(CHECKS_MAX);
        (Self { notifiers: Mutex::default(), sleeps_until: AtomicU64::new(0), due: Notify::new(), due_checks }, checks)
    }

    /// Notifies those who wait for what an applied entry did.
    pub fn notify(&self, effects: &Effects) {
        if effects.due_at.is_some_and(|due| due.0 < self.sleeps_until.load(Ordering::Acquire)) {
            self.due.notify_one();
        }
        for check in &effects.questions {
            // A full queue, or a node that stops: the check is due again later.
            let _ = self.due_checks.try_send(*check);
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
        for subscription in &effects.returned {
            if let Some(notifier) = notifiers.get(subscription) {
                notifier.notify_waiters();
            }
        }
    }

    /// The notifier of a group in a topic. A waiter must be enabled before it plans, or it may miss an arrival.
    pub(super) fn notifier(&self, topic: TopicId, group: GroupId) -> Arc<Notify> {
        self.notifiers.lock().entry((topic, group)).or_default().clone()
    }

    /// The timer sleeps until then, unless something falls due before.
    pub(super) fn sleeps_until(&self, until: Timestamp) {
        self.sleeps_until.store(until.0, Ordering::Release);
    }

    /// Waits until something falls due earlier than [`Self::sleeps_until`] said.
    pub(super) async fn due_changed(&self) {
        self.due.notified().await;
    }
}
