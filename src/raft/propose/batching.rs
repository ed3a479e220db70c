//! When the next round is worth its cost.
//!
//! Hot path. A round through the log costs about a millisecond of CPU over three nodes, whether it carries one command
//! or a hundred: rounds with few commands are what costs. So the callers that are at work together are kept together.
//! A round begins beside others only if it carries as much as they do and most of the callers wait, and else when one
//! of them has ended; with none under way it waits a moment for most of them to come back. A lone command waits for
//! nobody. Messages enough for a round go whatever there is beside: while one waits for the disk, the next is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::raft::propose::queue::{Carries, Load, Receiver};

/// So many messages are worth a round whatever is under way.
const WORTH_A_ROUND: usize = 128;
/// Fewer callers than these are not waited for.
const MANY: usize = 4;
/// How long a round waits for callers to come back; the shortest time the runtime's timer knows.
const COME_BACK_WITHIN: Duration = Duration::from_millis(1);

#[derive(Default)]
struct UnderWay {
    commands: AtomicUsize,
    ended: Notify,
}

/// See the module. One for each who gathers.
#[derive(Default)]
pub(in crate::raft) struct Pace {
    under_way: Arc<UnderWay>,
    /// Commands that were under way or waited at once, of late.
    callers: usize,
}

/// A round under way; dropped when it ends.
pub(in crate::raft) struct Round {
    commands: usize,
    under_way: Arc<UnderWay>,
}

impl Pace {
    /// Waits until a round is worth it, with `held` beside what waits.
    pub(in crate::raft) async fn until_worth_it<T: Carries>(&self, waiting: &Receiver<T>, held: Load) {
        let most = if self.callers < MANY { 0 } else { self.callers * 3 / 4 };
        loop {
            let under_way = self.under_way.commands.load(Ordering::Acquire);
            let wanted = Load { commands: under_way.max(most), messages: WORTH_A_ROUND };
            if held.reaches(wanted) {
                return;
            }
            let missing = wanted.without(held);
            if under_way == 0 {
                // Late or not: what is there goes.
                let _ = tokio::time::timeout(COME_BACK_WITHIN, waiting.filled(missing)).await;
                return;
            }
            tokio::select! {
                () = waiting.filled(missing) => return,
                // A ring from before this look at most repeats it.
                () = self.under_way.ended.notified() => {}
            }
        }
    }

    /// A round of so many commands begins, and `left` wait for the next one.
    pub(in crate::raft) fn begin(&mut self, commands: usize, left: usize) -> Round {
        let before = self.under_way.commands.fetch_add(commands, Ordering::AcqRel);
        // Those that stay away are forgotten round by round.
        self.callers = (before + commands + left).max(self.callers * 7 / 8);
        Round { commands, under_way: self.under_way.clone() }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.under_way.commands.fetch_sub(self.commands, Ordering::AcqRel);
        self.under_way.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::raft::propose::queue::{Sender, channel};

    /// Whether a round begins at once with what waits; takes it out, as the gatherer does.
    fn begins(pace: &Pace, waiting: &Receiver<usize>) -> bool {
        let begins = pace.until_worth_it(waiting, Load::default()).now_or_never().is_some();
        while begins && waiting.take().is_some() {}
        begins
    }

    fn put(sender: &Sender<usize>, commands: usize) {
        sender.put(commands).unwrap();
    }

    #[tokio::test]
    async fn a_round_beside_others_carries_as_much_as_they_do() {
        let (sender, waiting) = channel(64);
        let mut pace = Pace::default();
        put(&sender, 1);
        assert!(begins(&pace, &waiting), "a lone command waits for nobody");
        let _first = pace.begin(1, 0);
        put(&sender, 1);
        assert!(begins(&pace, &waiting), "a second one is worth as much");
        let _second = pace.begin(1, 0);
        put(&sender, 1);
        assert!(!begins(&pace, &waiting), "a third one is not worth as much as two");
        put(&sender, 1);
        assert!(begins(&pace, &waiting));
        let _third = pace.begin(WORTH_A_ROUND * 3, 0);
        put(&sender, WORTH_A_ROUND);
        assert!(begins(&pace, &waiting), "enough is enough");
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
        let mut pace = Pace::default();
        let _first = pace.begin(16, 16);
        let begins = |held| pace.until_worth_it(&waiting, held).now_or_never().is_some();
        sender.put(Several(WORTH_A_ROUND / 4)).map_err(|_| ()).unwrap();
        assert!(!begins(Load::default()));
        assert!(begins(Load { commands: 3, messages: WORTH_A_ROUND * 3 / 4 }), "what is held counts");
        for _ in 0..3 {
            assert!(!begins(Load::default()));
            sender.put(Several(WORTH_A_ROUND / 4)).map_err(|_| ()).unwrap();
        }
        assert!(begins(Load::default()));
    }

    #[tokio::test]
    async fn what_waits_goes_when_a_round_ends() {
        let (sender, waiting) = channel(64);
        let mut pace = Pace::default();
        let (first, _second) = (pace.begin(2, 0), pace.begin(1, 0));
        put(&sender, 2);
        assert!(!begins(&pace, &waiting));
        drop(first);
        assert!(begins(&pace, &waiting), "two are worth more than the one that is left");
    }

    #[tokio::test]
    async fn callers_that_are_many_are_waited_for_but_not_for_long() {
        let (sender, waiting) = channel(64);
        let mut pace = Pace::default();
        drop(pace.begin(MANY - 1, 0));
        put(&sender, 1);
        assert!(begins(&pace, &waiting), "a few callers are not waited for");
        drop(pace.begin(30, 10));
        put(&sender, 29);
        assert!(!begins(&pace, &waiting));
        put(&sender, 1);
        assert!(begins(&pace, &waiting), "three quarters are back");
        drop(pace.begin(30, 10));
        put(&sender, 1);
        tokio::time::timeout(Duration::from_secs(5), pace.until_worth_it(&waiting, Load::default())).await.unwrap();
        for _ in 0..100 {
            drop(pace.begin(1, 0));
        }
        assert!(begins(&pace, &waiting), "those that stay away are forgotten");
    }
}
