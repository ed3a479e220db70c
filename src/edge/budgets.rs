//! What clients may hold of this node's memory: requests from their first byte to their answers, answers until their
//! clients took them (D237), and what they say of themselves in heartbeats (D250).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio_util::sync::CancellationToken;

use crate::broker::{Budget, Held, NoBytes, Share};
use crate::edge::places::{self, Places};

/// What a request over gRPC takes beside its bytes: its stream, its task, the poll that waits.
pub(in crate::edge) const GRPC_COST: u64 = 16 * 1024;
/// The same over the classic protocol.
pub(in crate::edge) const CLASSIC_COST: u64 = 4 * 1024;
/// What classic clients may say in heartbeats, in bytes: some thirty thousand consumers of a topic.
const HEARTBEAT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// What a part of an answer takes beside its bytes.
const PART_COST: u64 = 256;
/// So often it is looked whether a client takes its answers, and so many times nothing may have moved.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const STILL_LOOKS_MAX: u32 = 3;
/// A client that takes nothing, and is refused this often meanwhile, is given up at once.
const REFUSED_MAX: u64 = 256;

/// What bounds the clients of a node: how many connections they have, and what they hold of its memory. Cheap to clone.
#[derive(Clone)]
pub struct Bounds {
    pub places: Places,
    pub budgets: Budgets,
}

/// The budgets of a node. Cheap to clone.
#[derive(Clone)]
pub struct Budgets {
    pub requests: Budget,
    pub answers: Budget,
    /// For what clients say of themselves in heartbeats, as long as it holds.
    pub heartbeats: Budget,
}

/// How much of a budget is held, in bytes, and how often somebody was refused since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetCounts {
    pub held: u64,
    pub most: u64,
    pub refused: u64,
}

impl Budgets {
    /// `requestMemoryMax`: for requests of all clients, while they are read and at work. `answerMemoryMax`: for answers, from
    /// when their messages are read until their clients took them.
    pub fn new(requests: u64, answers: u64) -> Self {
        Self {
            requests: Budget::new("requests (requestMemoryMax)", requests),
            answers: Budget::new("answers that their clients did not take yet (answerMemoryMax)", answers),
            heartbeats: Budget::new("what classic clients say in heartbeats", HEARTBEAT_BYTES_MAX),
        }
    }

    /// What is held of each, by what for.
    pub fn counts(&self) -> [(&'static str, BudgetCounts); 3] {
        let of = |budget: &Budget| BudgetCounts { held: budget.held(), most: budget.most(), refused: budget.refused() };
        [("requests", of(&self.requests)), ("answers", of(&self.answers)), ("heartbeats", of(&self.heartbeats))]
    }

    /// The client at the other end of a new connection. `peer` is what TCP says: everything else can be made up.
    pub fn client(&self, peer: SocketAddr) -> Client {
        let host = places::host_of(peer);
        let of = |budget: &Budget| budget.share(host);
        let (requests, answers, heartbeats) = (of(&self.requests), of(&self.answers), of(&self.heartbeats));
        Client(Arc::new(State { requests, answers, heartbeats, untaken: Untaken::default() }))
    }
}

/// One connection's client: what it may hold, and what it did not take yet. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<State>);

struct State {
    requests: Share,
    answers: Share,
    heartbeats: Share,
    untaken: Untaken,
}

/// Parts of answers that the client did not take yet.
#[derive(Default)]
struct Untaken {
    parts: AtomicU64,
    /// Grows whenever some of it goes.
    moves: AtomicU64,
    /// Requests refused, and at which of the moves, since that many began to be counted.
    refused: AtomicU64,
    refused_at: AtomicU64,
    given_up: CancellationToken,
}

impl Client {
    /// Takes what a request takes beside its bytes; who is refused here is to be told so, and nothing is to be read.
    pub fn begin(&self, cost: u64) -> Result<Held, NoBytes> {
        let begun = self.0.answers.check().and_then(|()| self.0.requests.take(cost));
        if begun.is_err() {
            self.0.untaken.note_refused();
        }
        begun
    }

    /// For what a request's answer will hold.
    pub fn answers(&self) -> &Share {
        &self.0.answers
    }

    pub fn requests(&self) -> &Share {
        &self.0.requests
    }

    /// For what it says in heartbeats.
    pub fn heartbeats(&self) -> &Share {
        &self.0.heartbeats
    }

    /// A part of an answer on its way.
    pub fn part(&self, bytes: Bytes) -> Part {
        self.0.untaken.parts.fetch_add(1, Ordering::Relaxed);
        let held = self.0.answers.take_anyway(bytes.len() as u64 + PART_COST);
        Part { bytes, client: self.clone(), _held: held }
    }

    /// Ends when the client is to be given up: it took nothing of what waits for it for half a minute.
    pub async fn takes_nothing(&self) {
        let mut looks = Looks::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => if looks.find_still(&self.0.untaken) { return },
                () = self.0.untaken.given_up.cancelled() => return,
            }
        }
    }
}

impl Untaken {
    fn note_refused(&self) {
        let moves = self.moves.load(Ordering::Relaxed);
        if self.refused_at.swap(moves, Ordering::Relaxed) != moves || self.parts.load(Ordering::Relaxed) == 0 {
            self.refused.store(0, Ordering::Relaxed);
        }
        if self.refused.fetch_add(1, Ordering::Relaxed) >= REFUSED_MAX {
            self.given_up.cancel();
        }
    }
}

/// What was seen at the last looks.
#[derive(Default)]
struct Looks {
    moves: u64,
    still: u32,
}

impl Looks {
    /// Looks once more; true if something waited all the time and nothing moved.
    fn find_still(&mut self, untaken: &Untaken) -> bool {
        let moves = untaken.moves.load(Ordering::Relaxed);
        let is_still = untaken.parts.load(Ordering::Relaxed) > 0 && moves == self.moves;
        self.still = if is_still { self.still + 1 } else { 0 };
        self.moves = moves;
        self.still >= STILL_LOOKS_MAX
    }
}

/// Bytes of an answer, until the connection has written them.
pub struct Part {
    bytes: Bytes,
    client: Client,
    _held: Held,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if count > 0 {
            self.client.0.untaken.moves.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.client.0.untaken.parts.fetch_sub(1, Ordering::Relaxed);
        self.client.0.untaken.moves.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS_BYTES: u64 = 1024 * 1024;
    const ANSWERS_BYTES: u64 = 8192;

    fn budgets() -> Budgets {
        Budgets::new(REQUESTS_BYTES, ANSWERS_BYTES)
    }

    fn client(budgets: &Budgets) -> Client {
        budgets.client(SocketAddr::from(([10, 0, 0, 1], 1)))
    }

    #[test]
    fn p20_a_client_is_given_up_if_nothing_moves_of_what_waits_for_it() {
        let budgets = budgets();
        let client = client(&budgets);
        let (untaken, mut looks) = (&client.0.untaken, Looks::default());
        let mut look = || looks.find_still(untaken);
        assert!((0..10).all(|_| !look()), "nothing waits for it");
        let mut part = client.part(Bytes::from(vec![0; 1024]));
        for _ in 0..10 {
            assert!(!look());
            part.advance(1);
        }
        assert_eq!([look(), look(), look(), look()], [false, false, false, true], "the first saw the last byte move");
        drop(part);
        assert!(!look());
        assert_eq!(budgets.answers.held(), 0);
    }

    #[tokio::test]
    async fn p20_who_takes_no_answers_and_asks_on_is_refused_and_then_given_up() {
        let budgets = budgets();
        let client = client(&budgets);
        let part = client.part(Bytes::from(vec![0; usize::try_from(ANSWERS_BYTES / 4).unwrap()]));
        assert!(
            client.begin(CLASSIC_COST).err().unwrap().to_string().contains("answers that their clients did not take")
        );
        for _ in 0..REFUSED_MAX {
            assert!(client.begin(CLASSIC_COST).is_err());
        }
        client.takes_nothing().await;
        drop(part);
        assert!(client.begin(CLASSIC_COST).is_ok());
    }

    #[tokio::test]
    async fn p20_who_has_too_many_requests_at_work_and_takes_its_answers_is_refused_and_kept() {
        let budgets = budgets();
        let client = client(&budgets);
        let begun: Vec<Held> = std::iter::from_fn(|| client.begin(CLASSIC_COST).ok()).collect();
        assert_eq!(begun.len() as u64, REQUESTS_BYTES / 4 / CLASSIC_COST);
        for _ in 0..2 * REFUSED_MAX {
            assert!(client.begin(CLASSIC_COST).is_err());
        }
        assert!(!client.0.untaken.given_up.is_cancelled());
        drop(begun);
        assert_eq!(budgets.requests.held(), 0);
    }
}
