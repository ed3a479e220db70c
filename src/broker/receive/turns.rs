//! How much polls look at between two turns of Raft. Where its thread serves clients too (D43), sixty-one tasks of them have their
//! turn before one of Raft's has, and each of those may plan over a thousand queues.
//!
//! Hot path. Plans over few queues never wait here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use tokio::sync::Notify;

/// Keys that plans look at in one turn; the last of them may go over it.
const KEYS_MAX: usize = 4096;

/// Counts what is looked at on Raft's thread.
pub(in crate::broker) struct Turns {
    raft_thread: ThreadId,
    /// In this turn.
    keys: AtomicUsize,
    /// Something is counted, so that a turn must end it.
    is_begun: Notify,
    /// Another turn began.
    is_over: Notify,
}

impl Turns {
    /// Of the current thread, which must be Raft's.
    pub fn here() -> Self {
        let raft_thread = std::thread::current().id();
        Self { raft_thread, keys: AtomicUsize::new(0), is_begun: Notify::new(), is_over: Notify::new() }
    }

    /// Runs until it is dropped: a task of Raft's runtime, which has its turn with those of Raft.
    pub async fn end_turns(&self) {
        loop {
            self.is_begun.notified().await;
            self.keys.store(0, Ordering::Relaxed);
            self.is_over.notify_waiters();
        }
    }

    /// Waits until a plan may look at so many keys, on Raft's thread.
    pub async fn take(&self, keys: usize) {
        if !self.is_raft_thread() {
            return;
        }
        loop {
            let mut is_over = std::pin::pin!(self.is_over.notified());
            is_over.as_mut().enable();
            if self.keys.load(Ordering::Relaxed) < KEYS_MAX {
                return self.add(keys);
            }
            is_over.await;
        }
    }

    /// Counts what a plan looked at beside that.
    pub fn add(&self, keys: usize) {
        if self.is_raft_thread() && self.keys.fetch_add(keys, Ordering::Relaxed) == 0 {
            self.is_begun.notify_one();
        }
    }

    fn is_raft_thread(&self) -> bool {
        std::thread::current().id() == self.raft_thread
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    /// What is looked at before Raft's thread has its next turn, when polls of one plan each begin at once.
    fn looked_at_in_turns(polls: usize, keys: usize) -> Vec<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let turns = std::sync::Arc::new(Turns::here());
            let ending = turns.clone();
            tokio::spawn(async move { ending.end_turns().await });
            // A task of Raft's.
            let beats = std::sync::Arc::new(AtomicUsize::new(0));
            let beating = beats.clone();
            tokio::spawn(async move {
                loop {
                    beating.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            let (seen, last) = (Rc::new(RefCell::new(vec![0])), Rc::new(Cell::new(0)));
            let plans: Vec<_> = (0..polls)
                .map(|_| {
                    let (turns, beats, seen, last) = (turns.clone(), beats.clone(), seen.clone(), last.clone());
                    tokio::task::spawn_local(async move {
                        turns.take(keys).await;
                        if last.replace(beats.load(Ordering::Relaxed)) != beats.load(Ordering::Relaxed) {
                            seen.borrow_mut().push(0);
                        }
                        *seen.borrow_mut().last_mut().unwrap() += keys;
                    })
                })
                .collect();
            for plan in plans {
                plan.await.unwrap();
            }
            seen.take()
        })
    }

    #[test]
    fn between_two_turns_of_raft_polls_look_at_a_bounded_number_of_keys() {
        let seen = looked_at_in_turns(300, 2048);
        assert_eq!(seen.iter().sum::<usize>(), 300 * 2048, "all have their turn");
        assert!(seen.iter().all(|keys| *keys < KEYS_MAX + 2048), "{seen:?}");
        // Plans over few queues do not wait for each other.
        assert!(looked_at_in_turns(60, 16).len() <= 2);
    }
}
