//! Replies back to the threads that wait for them, a batch at a time.
//!
//! Hot path. Waking a task on another thread costs a system call each time. The replies of an entry are
//! therefore put together by thread and handed over at once; a task over there wakes each caller, which
//! on its own thread costs next to nothing (D22).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

/// A reply and who waits for it.
type Reply<T> = (oneshot::Sender<T>, T);

/// Where the callers of one thread are reached.
pub(in crate::raft) struct Mailbox<T> {
    id: u64,
    replies: mpsc::UnboundedSender<Vec<Reply<T>>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, replies: self.replies.clone() }
    }
}

static IDS: AtomicU64 = AtomicU64::new(0);

impl<T: Send + 'static> Mailbox<T> {
    /// A mailbox of the current thread's runtime. It is emptied until its last clone is gone.
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

/// The mailbox of each thread, made at its first request.
pub(in crate::raft) type OfThread<T> = RefCell<Option<Mailbox<T>>>;

/// The current thread's mailbox.
pub(in crate::raft) fn of_thread<T: Send + 'static>(own: &OfThread<T>) -> Mailbox<T> {
    let mut own = own.borrow_mut();
    match &*own {
        // The runtime behind it may have ended, in a test for one.
        Some(mailbox) if !mailbox.replies.is_closed() => mailbox.clone(),
        _ => own.insert(Mailbox::open()).clone(),
    }
}

/// Replies on their way, by mailbox.
pub(in crate::raft) struct ReplyBatch<T>(BTreeMap<u64, (Mailbox<T>, Vec<Reply<T>>)>);

impl<T> Default for ReplyBatch<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ReplyBatch<T> {
    /// Adds a reply.
    pub(in crate::raft) fn add(&mut self, mailbox: Mailbox<T>, caller: oneshot::Sender<T>, reply: T) {
        let (_, replies) = self.0.entry(mailbox.id).or_insert_with(|| (mailbox, Vec::new()));
        replies.push((caller, reply));
    }

    /// Hands all of them over.
    pub(in crate::raft) fn send(self) {
        for (mailbox, replies) in self.0.into_values() {
            // A thread that ended took its callers with it.
            let _ = mailbox.replies.send(replies);
        }
    }
}
