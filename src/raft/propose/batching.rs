//! When the next batch is worth its cost.
//!
//! Hot path. A batch through the log costs about a millisecond of CPU over three nodes, whether it carries one command
//! or a hundred, so batches with few commands are what costs (D24).
//!
//! - While batches are in flight, another one begins only if it carries as many commands as they do and three quarters
//!   of the recent callers wait in it; otherwise when a batch in flight ends.
//! - With none in flight, it waits up to a millisecond for three quarters of the recent callers.
//! - If the recent callers are fewer than four, none of them is waited for: a lone command goes at once.
//! - Enough messages for a batch go at once: while one batch waits for the disk, the next is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::raft::propose::queue::{Carries, Load, Receiver};

/// So many messages are worth a batch whatever is in flight.
const MESSAGES_ENOUGH: usize = 128;
/// Fewer callers than these are not waited for.
const CALLERS_MIN: usize = 4;
/// How long a batch waits for callers to come back; the shortest time the runtime's timer knows.
const CALLERS_WAIT: Duration = Duration::from_millis(1);

#[derive(Default)]
struct InFlight {
    commands: AtomicUsize,
    ended: Notify,
}

/// Decides when a batch begins; one for each gathering task.
#[derive(Default)]
pub(in crate::raft) struct Batching {
    in_flight: Arc<InFlight>,
    /// Commands that were in flight or waiting at the same time recently.
    callers: usize,
}

/// A batch in flight; dropped when it ends.
pub(in crate::raft) struct BatchInFlight {
    commands: usize,
    in_flight: Arc<InFlight>,
}

impl Batching {
    /// Waits until a batch of `held` and what waits is worth its cost.
    pub(in crate::raft) async fn until_worth_it<T: Carries>(&self, waiting: &Receiver<T>, held: Load) {
        let most = if self.callers < CALLERS_MIN { 0 } else { self.callers * 3 / 4 };
        loop {
            let in_flight = self.in_flight.commands.load(Ordering::Acquire);
            let wanted = Load { commands: in_flight.max(most), messages: MESSAGES_ENOUGH };
            if held.reaches(wanted) {
                return;
            }
            let missing = wanted.without(held);
            if in_flight == 0 {
                // Reached or not: what is there goes.
                let _ = tokio::time::timeout(CALLERS_WAIT, waiting.filled(missing)).await;
                return;
            }
            tokio::select! {
                () = waiting.filled(missing) => return,
                // A notification from before this check at most repeats it.
                () = self.in_flight.ended.notified() => {}
            }
        }
    }

    /// Counts a batch of so many commands as in flight; `left` wait for the next one.
    pub(in crate::raft) fn begin(&mut self, commands: usize, left: usize) -> BatchInFlight {
        let before = self.in_flight.commands.fetch_add(commands, Ordering::AcqRel);
        // Callers that stay away are forgotten batch by batch.
        self.callers = (before + commands + left).max(self.callers * 7 / 8);
        BatchInFlight { commands, in_flight: self.in_flight.clone() }
    }
}

impl Drop for BatchInFlight {
    fn drop(&mut self) {
        self.in_flight.commands.fetch_sub(self.commands, Ordering::AcqRel);
        self.in_flight.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::raft::propose::queue::{Sender, channel};

    /// Whether a batch begins at once with what waits; takes it out, as the gatherer does.
    fn begins(batching: &Batching, waiting: &Receiver<usize>) -> bool {
        let begins = batching.until_worth_it(waiting, Load::default()).now_or_never().is_some();
        while begins && waiting.take().is_some() {}
        begins
    }

    fn put(sender: &Sender<usize>, commands: usize) {
        sender.put(commands).unwrap();
    }

    #[tokio::test]
    async fn a_batch_beside_others_carries_as_much_as_they_do() {
        let (sender, waiting) = channel(64);
        let mut batching = Batching::default();
        put(&sender, 1);
        assert!(begins(&batching, &waiting), "a lone command waits for nobody");
        let _first = batching.begin(1, 0);
        put(&sender, 1);
        assert!(begins(&batching, &waiting), "a second one is worth as much");
        let _second = batching.begin(1, 0);
        put(&sender, 1);
        assert!(!begins(&batching, &waiting), "a third one is not worth as much as two");
        put(&sender, 1);
        assert!(begins(&batching, &waiting));
        let _third = batching.begin(MESSAGES_ENOUGH * 3, 0);
        put(&sender, MESSAGES_ENOUGH);
        assert!(begins(&batching, &waiting), "enough is enough");
    }

    /// A command of several messages.
    struct Several(usize);

    impl Carries for Several {
        fn load(&self) -> Load {
            Load { commands: 1, messages: self.0 }
        }
    }

    #[tokio::test]
    async fn enough_messages_wait_for_nobody() {
        let (sender, waiting) = channel(64);
        let mut batching = Batching::default();
        let _first = batching.begin(16, 16);
        let begins = |held| batching.until_worth_it(&waiting, held).now_or_never().is_some();
        sender.put(Several(MESSAGES_ENOUGH / 4)).map_err(|_| ()).unwrap();
        assert!(!begins(Load::default()));
        assert!(begins(Load { commands: 3, messages: MESSAGES_ENOUGH * 3 / 4 }), "what is held counts");
        for _ in 0..3 {
            assert!(!begins(Load::default()));
            sender.put(Several(MESSAGES_ENOUGH / 4)).map_err(|_| ()).unwrap();
        }
        assert!(begins(Load::default()));
    }

    #[tokio::test]
    async fn what_waits_goes_when_a_batch_ends() {
        let (sender, waiting) = channel(64);
        let mut batching = Batching::default();
        let (first, _second) = (batching.begin(2, 0), batching.begin(1, 0));
        put(&sender, 2);
        assert!(!begins(&batching, &waiting));
        drop(first);
        assert!(begins(&batching, &waiting), "two are worth more than the one that is left");
    }

    #[tokio::test]
    async fn callers_that_are_many_are_waited_for_but_not_for_long() {
        let (sender, waiting) = channel(64);
        let mut batching = Batching::default();
        drop(batching.begin(CALLERS_MIN - 1, 0));
        put(&sender, 1);
        assert!(begins(&batching, &waiting), "a few callers are not waited for");
        drop(batching.begin(30, 10));
        put(&sender, 29);
        assert!(!begins(&batching, &waiting));
        put(&sender, 1);
        assert!(begins(&batching, &waiting), "three quarters are back");
        drop(batching.begin(30, 10));
        put(&sender, 1);
        tokio::time::timeout(Duration::from_secs(5), batching.until_worth_it(&waiting, Load::default())).await.unwrap();
        for _ in 0..100 {
            drop(batching.begin(1, 0));
        }
        assert!(begins(&batching, &waiting), "those that stay away are forgotten");
    }
}
