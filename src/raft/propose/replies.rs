//! Replies on their way back to the threads of the callers, a batch at a time.
//!
//! Hot path. Waking a task on another thread costs a system call each time. The replies of an entry are therefore put
//! together by thread and handed over at once; a task over there wakes each caller, which on its own thread costs next
//! to nothing (D22).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

/// A reply and who waits for it.
type Reply<T> = (oneshot::Sender<T>, T);

/// Sends to the callers of one thread.
pub(in crate::raft) struct ReplySender<T> {
    id: u64,
    replies: mpsc::UnboundedSender<Vec<Reply<T>>>,
}

impl<T> Clone for ReplySender<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, replies: self.replies.clone() }
    }
}

static IDS: AtomicU64 = AtomicU64::new(0);

impl<T: Send + 'static> ReplySender<T> {
    /// A sender to the current thread's runtime, on which a task serves it until its last clone is gone.
    ///
    /// Unbounded, because each reply answers a request that holds its room until then.
    fn open() -> Self {
        let (replies, mut received) = mpsc::unbounded_channel::<Vec<Reply<T>>>();
        tokio::spawn(async move {
            while let Some(replies) = received.recv().await {
                for (caller, reply) in replies {
                    // A caller that is gone does not care.
                    let _ = caller.send(reply);
                }
            }
        });
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), replies }
    }
}

/// The sender to each thread, made at its first request.
pub(in crate::raft) type PerThread<T> = RefCell<Option<ReplySender<T>>>;

/// The sender to the current thread.
pub(in crate::raft) fn of_thread<T: Send + 'static>(own: &PerThread<T>) -> ReplySender<T> {
    let mut own = own.borrow_mut();
    match &*own {
        // Its runtime may have ended, in a test for one.
        Some(sender) if !sender.replies.is_closed() => sender.clone(),
        _ => own.insert(ReplySender::open()).clone(),
    }
}

/// Replies of one entry, by sender.
pub(in crate::raft) struct ReplyBatch<T>(BTreeMap<u64, (ReplySender<T>, Vec<Reply<T>>)>);

impl<T> Default for ReplyBatch<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ReplyBatch<T> {
    pub(in crate::raft) fn add(&mut self, sender: ReplySender<T>, caller: oneshot::Sender<T>, reply: T) {
        let (_, replies) = self.0.entry(sender.id).or_insert_with(|| (sender, Vec::new()));
        replies.push((caller, reply));
    }

    /// Hands over all of them, one system call per thread.
    pub(in crate::raft) fn send(self) {
        for (sender, replies) in self.0.into_values() {
            // A thread that ended took its callers with it.
            let _ = sender.replies.send(replies);
        }
    }
}
