//! Notes who leads: the leader of each term says so itself, with how long nobody led before. After: `machine/events`.
//!
//! The gap is measured on one node, by its monotonic clock: from the last append or heartbeat that it had of another leader,
//! or the last moment that it led itself, to the first commit in its own term.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Broker, Error};
use crate::machine::Command;
use crate::machine::state::events::NewLeader;
use crate::model::{Millis, Term};

const COMMIT_WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until it is dropped.
pub(super) async fn note_leaders(broker: &Broker) {
    let mut leadership = broker.leadership();
    let mut led_until: Option<Instant> = None;
    loop {
        // Fails only when the replica has stopped; the owner of this task then aborts it.
        let Ok(term) = leadership.wait_for(|now| now.is_self).await.map(|now| now.term) else {
            return std::future::pending().await;
        };
        let sign = broker.replica.leader_sign().max(led_until);
        let leads = || {
            let now = *broker.leadership().borrow();
            now.is_self && now.term == term
        };
        let mut noted = None;
        while leads() {
            match note(broker, term, sign, &mut noted).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(%error, "who leads is not noted yet");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let ended = leadership.wait_for(|now| !now.is_self || now.term != term).await.is_ok();
        if !ended {
            return std::future::pending().await;
        }
        led_until = Some(Instant::now());
    }
}

/// Once there is a commit of this term, says who leads. Said again it changes nothing.
async fn note(
    broker: &Broker,
    term: Term,
    sign: Option<Instant>,
    committed_at: &mut Option<Instant>,
) -> Result<(), Error> {
    let until = Instant::now() + COMMIT_WAIT;
    if committed_at.is_none() {
        // A leader can tell what is committed once something of its own term is.
        broker.reader.read_barrier(until).await?;
        *committed_at = Some(Instant::now());
    }
    let gap = sign.zip(*committed_at).map(|(sign, at)| Millis::from(at.saturating_duration_since(sign)));
    let new = NewLeader { term, leader: broker.replica.node(), gap };
    broker.propose(&Command::NoteLeader(new), until).await.map(|_| ())
}
