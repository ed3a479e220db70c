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
use crate::model::{GroupId, MessageRef, QueueId, Timestamp, TopicId};

/// Transaction checks that wait for their turn. What does not fit is due again later.
const CHECKS_MAX: usize = 16 * 1024;

/// A half message whose producer is to be asked.
type DueCheck = (TopicId, MessageRef);

/// Notifiers of polls and of the timer, and due transaction checks.
pub struct Arrivals {
    /// One per group and topic that is polled, or was a short time ago.
    notifiers: Mutex<BTreeMap<(TopicId, GroupId), Arc<Notify>>>,
    /// One per queue that pulls wait for, and wait for no longer than until its next message.
    pulls: Mutex<BTreeMap<(TopicId, QueueId), Arc<Notify>>>,
    /// Until when the timer sleeps.
    sleeps_until: AtomicU64,
    due: Notify,
    due_checks: mpsc::Sender<DueCheck>,
}

impl Arrivals {
    /// With the transaction checks that applied entries make due.
    pub fn new() -> (Self, mpsc::Receiver<DueCheck>) {
        let (due_checks, checks) = mpsc::channel(CHECKS_MAX);
        let arrivals = Self {
            notifiers: Mutex::default(),
            pulls: Mutex::default(),
            sleeps_until: AtomicU64::new(0),
            due: Notify::new(),
            due_checks,
        };
        (arrivals, checks)
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
        self.notify_pulls(effects);
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

    fn notify_pulls(&self, effects: &Effects) {
        let mut pulls = self.pulls.lock();
        for queue in &effects.grown_queues {
            let Some(notifier) = pulls.get(queue) else { continue };
            notifier.notify_waiters();
            if Arc::strong_count(notifier) == 1 {
                pulls.remove(queue);
            }
        }
    }

    /// The notifier of a queue, for pulls. As with [`Self::notifier`].
    pub(super) fn pull_notifier(&self, topic: TopicId, queue: QueueId) -> Arc<Notify> {
        self.pulls.lock().entry((topic, queue)).or_default().clone()
    }

    /// The notifier of a group in a topic. A waiter must be enabled before it plans, or it may miss an arrival.
    pub(super) fn notifier(&self, topic: TopicId, group: GroupId) -> Arc<Notify> {
        self.notifiers.lock().entry((topic, group)).or_default().clone()
    }

    /// Lets go of notifiers that nobody waits for.
    pub(super) fn forget_idle(&self) {
        self.notifiers.lock().retain(|_, notifier| Arc::strong_count(notifier) > 1);
        self.pulls.lock().retain(|_, notifier| Arc::strong_count(notifier) > 1);
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn an_arrival_wakes_the_pulls_of_its_queue_and_no_others() {
        let (arrivals, _checks) = Arrivals::new();
        let (topic, other) = (TopicId(1), TopicId(2));
        let wanted = arrivals.pull_notifier(topic, QueueId(0));
        let others =
            [(topic, QueueId(1)), (other, QueueId(0))].map(|(topic, queue)| arrivals.pull_notifier(topic, queue));
        let mut waits = Box::pin(wanted.clone().notified_owned());
        let mut sleeps = others.iter().map(|other| Box::pin(other.notified())).collect::<Vec<_>>();
        waits.as_mut().enable();
        for sleep in &mut sleeps {
            sleep.as_mut().enable();
        }
        let mut effects = Effects::default();
        effects.grown.insert(topic);
        effects.grown_queues.insert((topic, QueueId(0)));
        arrivals.notify(&effects);
        assert!(waits.now_or_never().is_some());
        assert!(sleeps.into_iter().all(|sleep| sleep.now_or_never().is_none()));
        // Nobody waits for it any more: the next arrival lets go of its notifier.
        drop(wanted);
        arrivals.notify(&effects);
        assert_eq!(arrivals.pulls.lock().len(), 2);
    }

    #[test]
    fn p20_notifiers_of_polls_and_pulls_that_are_gone_are_let_go_of() {
        let (arrivals, _checks) = Arrivals::new();
        let count = |arrivals: &Arrivals| (arrivals.notifiers.lock().len(), arrivals.pulls.lock().len());
        let waits = arrivals.notifier(TopicId(1), GroupId(1));
        for number in 0..1000 {
            arrivals.notifier(TopicId(1), GroupId(number));
            arrivals.pull_notifier(TopicId(number), QueueId(0));
        }
        assert_eq!(count(&arrivals), (1000, 1000));
        arrivals.forget_idle();
        assert_eq!(count(&arrivals), (1, 0));
        assert!(Arc::ptr_eq(&waits, &arrivals.notifier(TopicId(1), GroupId(1))), "who waits is still woken");
    }
}
