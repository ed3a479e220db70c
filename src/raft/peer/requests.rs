//! Many requests in flight over one link: each has a number, and its answer the same one.
//!
//! A request without an answer when its link ends was perhaps received; one that was never sent certainly was not. The two
//! are never mixed up (D17).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::raft::peer::frame::{FrameReader, FrameWriter};

/// Requests handed to a link and not yet sent.
const REQUESTS_MAX: usize = 64;

/// What travels over such a link.
pub(super) trait Request: Send + 'static {
    type Answer: Message + Default + Send + 'static;

    /// Puts it as one frame with this number.
    fn put(self, id: u64, writer: &mut FrameWriter);

    /// The number of an answer.
    fn id_of(answer: &Self::Answer) -> u64;
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It was never sent.
    NotSent,
    /// The link ended; nobody can know whether it was received.
    Lost,
}

/// The requests without an answer; `None` once the link has ended.
type Pending<A> = Arc<Mutex<Option<Waiting<A>>>>;

struct Waiting<A> {
    callers: BTreeMap<u64, oneshot::Sender<A>>,
    /// When the last answer came, or the first request without one was put: the later of the two.
    since: Option<Instant>,
}

/// One link. Dropping it ends it.
pub(super) struct RequestLink<Q: Request> {
    outgoing: mpsc::Sender<(u64, Q)>,
    pending: Pending<Q::Answer>,
    ids: AtomicU64,
    _reader: AbortOnDropHandle<()>,
    _writer: AbortOnDropHandle<()>,
}

/// A request that was sent, or is about to be. Dropping it forgets it.
pub(super) struct InFlight<A> {
    id: u64,
    pending: Pending<A>,
    answered: oneshot::Receiver<A>,
}

impl<Q: Request> RequestLink<Q> {
    /// Over an open link.
    pub fn new(reader: FrameReader, writer: FrameWriter) -> Self {
        let (outgoing, requests) = mpsc::channel(REQUESTS_MAX);
        let pending = Pending::new(Mutex::new(Some(Waiting { callers: BTreeMap::new(), since: None })));
        let reader = tokio::spawn(read::<Q>(reader, pending.clone(), outgoing.clone()));
        let writer = tokio::spawn(write(writer, requests));
        let (reader, writer) = (AbortOnDropHandle::new(reader), AbortOnDropHandle::new(writer));
        Self { outgoing, pending, ids: AtomicU64::new(0), _reader: reader, _writer: writer }
    }

    pub fn is_open(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// Whether it owes answers and has given none for this long.
    pub fn is_silent_for(&self, limit: Duration) -> bool {
        let pending = self.pending.lock();
        pending.as_ref().and_then(|waiting| waiting.since).is_some_and(|since| since.elapsed() > limit)
    }

    /// Hands a request to the link. Cancel safe: if dropped before it returns, nothing was sent.
    pub async fn put(&self, request: Q) -> Result<InFlight<Q::Answer>, Unanswered> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.pending.lock() {
            Some(waiting) => {
                waiting.since.get_or_insert_with(Instant::now);
                waiting.callers.insert(id, answer);
            }
            None => return Err(Unanswered::NotSent),
        }
        let in_flight = InFlight { id, pending: self.pending.clone(), answered };
        match self.outgoing.send((id, request)).await {
            Ok(()) => Ok(in_flight),
            // The link ended before it took the request. Whoever removes the entry decides its outcome.
            Err(_) if in_flight.forget() => Err(Unanswered::NotSent),
            Err(_) => Err(Unanswered::Lost),
        }
    }
}

impl<A> InFlight<A> {
    /// Waits for the answer; `None` once the link has ended without.
    pub async fn answer(&mut self) -> Option<A> {
        (&mut self.answered).await.ok()
    }

    /// Whether it was still waited for.
    fn forget(&self) -> bool {
        self.pending.lock().as_mut().is_some_and(|waiting| waiting.callers.remove(&self.id).is_some())
    }
}

impl<A> Drop for InFlight<A> {
    fn drop(&mut self) {
        self.forget();
    }
}

async fn write<Q: Request>(mut link: FrameWriter, mut requests: mpsc::Receiver<(u64, Q)>) {
    while let Some((id, request)) = requests.recv().await {
        request.put(id, &mut link);
        while let Ok((id, request)) = requests.try_recv() {
            request.put(id, &mut link);
        }
        // The reading side notices a broken link too.
        if link.flush().await.is_err() {
            return;
        }
    }
}

async fn read<Q: Request>(mut link: FrameReader, pending: Pending<Q::Answer>, outgoing: mpsc::Sender<(u64, Q)>) {
    while let Ok(Some(answer)) = link.next::<Q::Answer>().await {
        let caller = {
            let mut pending = pending.lock();
            let Some(waiting) = pending.as_mut() else { break };
            let caller = waiting.callers.remove(&Q::id_of(&answer));
            waiting.since = (!waiting.callers.is_empty()).then(Instant::now);
            caller
        };
        // A caller that is gone does not care.
        let _ = caller.map(|caller| caller.send(answer));
    }
    // Requests still in the queue may yet be sent by the ending link, so their outcome is unknown as well.
    drop(outgoing);
    pending.lock().take();
}
