//! The queue of what waits for the log: callers on any thread put in, the one gathering task takes out.
//!
//! Hot path. Waking the Raft thread costs a system call and a thread switch, more than a message does. The gathering task
//! says how much is worth it, and is notified once, when that much waits (D26).

use std::collections::VecDeque;
use std::iter::Sum;
use std::ops::Add;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How much something carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::raft) struct Load {
    pub commands: usize,
    /// A command without any counts as one.
    pub messages: usize,
}

impl Load {
    /// Whether one of the counts is reached.
    pub fn reaches(self, wanted: Self) -> bool {
        self.commands >= wanted.commands || self.messages >= wanted.messages
    }

    /// What is missing; nothing of a count that is reached.
    pub fn without(self, part: Self) -> Self {
        Self {
            commands: self.commands.saturating_sub(part.commands),
            messages: self.messages.saturating_sub(part.messages),
        }
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { commands: self.commands + other.commands, messages: self.messages + other.messages }
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// Something that carries commands.
pub(in crate::raft) trait Carries {
    fn load(&self) -> Load;
}

/// Why something was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum NotTaken {
    /// Too much waits.
    Full,
    /// Nobody gathers any more.
    Closed,
}

struct Waiting<T> {
    items: VecDeque<T>,
    load: Load,
    /// The gathering task sleeps until so much waits.
    notify_at: Option<Load>,
    is_closed: bool,
}

struct QueueState<T> {
    most: usize,
    waiting: Mutex<Waiting<T>>,
    filled: Notify,
}

/// The end where callers put in. Cheap to clone.
pub(in crate::raft) struct Sender<T>(Arc<QueueState<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The end where the gathering task takes out. Dropping it closes the queue and drops what waits.
pub(in crate::raft) struct Receiver<T>(Arc<QueueState<T>>);

/// A queue of `most` items.
pub(in crate::raft) fn channel<T: Carries>(most: usize) -> (Sender<T>, Receiver<T>) {
    let waiting = Waiting { items: VecDeque::new(), load: Load::default(), notify_at: None, is_closed: false };
    let shared = Arc::new(QueueState { most, waiting: Mutex::new(waiting), filled: Notify::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T: Carries> Sender<T> {
    /// Puts an item at the end; never waits.
    pub fn put(&self, item: T) -> Result<(), NotTaken> {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_closed {
            return Err(NotTaken::Closed);
        }
        if waiting.items.len() >= self.0.most {
            return Err(NotTaken::Full);
        }
        waiting.load = waiting.load + item.load();
        waiting.items.push_back(item);
        let is_filled = waiting.notify_at.is_some_and(|wanted| waiting.load.reaches(wanted));
        if is_filled {
            waiting.notify_at = None;
        }
        drop(waiting);
        if is_filled {
            self.0.filled.notify_one();
        }
        Ok(())
    }
}

impl<T: Carries> Receiver<T> {
    /// Waits until there is as much as `wanted`, and at least one item. Cancel safe.
    pub async fn filled(&self, wanted: Load) {
        loop {
            {
                let mut waiting = self.0.waiting.lock();
                if !waiting.items.is_empty() && waiting.load.reaches(wanted) {
                    waiting.notify_at = None;
                    return;
                }
                waiting.notify_at = Some(wanted);
            }
            // A notification that nobody waited for is kept; then the check above is repeated.
            self.0.filled.notified().await;
        }
    }

    /// Waits until there is an item. Cancel safe.
    pub async fn any(&self) {
        self.filled(Load::default()).await;
    }

    /// Of all items.
    pub fn load(&self) -> Load {
        self.0.waiting.lock().load
    }

    /// Takes out the first item.
    pub fn take(&self) -> Option<T> {
        let mut waiting = self.0.waiting.lock();
        let item = waiting.items.pop_front()?;
        waiting.load = waiting.load.without(item.load());
        Some(item)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let items = {
            let mut waiting = self.0.waiting.lock();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.items)
        };
        // Outside the lock: an item may have something to say when it ends.
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    /// Commands of one message each.
    impl Carries for usize {
        fn load(&self) -> Load {
            commands(*self)
        }
    }

    fn commands(count: usize) -> Load {
        Load { commands: count, messages: count }
    }

    #[tokio::test]
    async fn it_notifies_once_and_only_for_as_many_as_are_wanted() {
        let (sender, receiver) = channel(8);
        assert!(receiver.filled(commands(3)).now_or_never().is_none());
        sender.put(1).unwrap();
        assert!(receiver.filled(commands(3)).now_or_never().is_none(), "one command is not three");
        sender.put(2).unwrap();
        tokio::time::timeout(Duration::from_secs(5), receiver.filled(commands(3))).await.unwrap();
        assert_eq!((receiver.take(), receiver.take(), receiver.take()), (Some(1), Some(2), None));
        assert!(
            receiver.filled(commands(1)).now_or_never().is_none(),
            "an old notification is not taken for a new item"
        );
    }

    #[tokio::test]
    async fn a_sleeping_gatherer_is_woken_from_another_thread() {
        let (sender, receiver) = channel(1000);
        let putting = std::thread::spawn(move || (0..1000).for_each(|_| sender.put(1).unwrap()));
        let mut taken = 0;
        while taken < 1000 {
            tokio::time::timeout(Duration::from_secs(5), receiver.filled(commands(10.min(1000 - taken))))
                .await
                .unwrap();
            while receiver.take().is_some() {
                taken += 1;
            }
        }
        putting.join().unwrap();
    }

    #[test]
    fn it_is_bounded_and_ends_with_the_gatherer() {
        let (sender, receiver) = channel(2);
        sender.put(1).unwrap();
        // Weightless items count as items.
        sender.put(0).unwrap();
        assert_eq!(sender.put(1), Err(NotTaken::Full));
        drop(receiver);
        assert_eq!(sender.put(1), Err(NotTaken::Closed));
    }
}
