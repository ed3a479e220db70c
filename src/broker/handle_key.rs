//! The key of the cluster's handles above the log: drawn once for the whole cluster, by the first leader of a build that
//! knows of it. After: `machine/handle_key`.
//!
//! Hot path, but for the first use on each node.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Broker, Deadline, Error};
use crate::env::rng::random_u64;
use crate::machine::Command;
use crate::model::HandleKey;

/// Time for one try to draw the key, and the pause after one that failed.
const DRAW_WAIT: Duration = Duration::from_secs(1);
const DRAW_PAUSE: Duration = Duration::from_millis(100);

impl Broker {
    /// The key that seals and opens handles; waits for it in the first moments of a cluster.
    ///
    /// * Errors: [`Error::NoLeader`], only as long as no key is known to this node; nothing was done for the caller.
    pub async fn handle_key(&self, deadline: Deadline) -> Result<HandleKey, Error> {
        match self.handle_key.get() {
            Some(key) => Ok(*key),
            // Boxed: it is rare, and would make the future of every request larger.
            None => Box::pin(self.wait_for_handle_key(deadline)).await,
        }
    }

    async fn wait_for_handle_key(&self, deadline: Deadline) -> Result<HandleKey, Error> {
        let until = self.held_until(deadline);
        let mut applied = self.replica.applied();
        loop {
            if let Some(key) = self.reader.view().handle_key()? {
                return Ok(*self.handle_key.get_or_init(|| key));
            }
            let Ok(Ok(())) = tokio::time::timeout_at(until, applied.changed()).await else {
                return Err(Error::NoLeader);
            };
        }
    }
}

/// Draws the key if this node leads a cluster without one; runs until the key is there.
///
/// A follower never does: a leader of an earlier build could not read the command.
pub(super) async fn draw_on_leader(broker: &Broker) {
    let mut leadership = broker.leadership();
    loop {
        // Fails only when the replica has stopped; the owner of this task then aborts it.
        if leadership.wait_for(|now| now.is_self).await.is_err() {
            return std::future::pending().await;
        }
        match draw(broker).await {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(%error, "the key of handles was not drawn yet");
                tokio::time::sleep(DRAW_PAUSE).await;
            }
        }
    }
}

async fn draw(broker: &Broker) -> Result<(), Error> {
    let until = Instant::now() + DRAW_WAIT;
    broker.reader.read_barrier(until).await?;
    if broker.reader.view().handle_key()?.is_some() {
        return Ok(());
    }
    let mut drawn = [0; 16];
    for half in drawn.as_chunks_mut::<8>().0 {
        *half = random_u64().to_be_bytes();
    }
    // The first key in the log stays, so an unknown outcome is no harm: the next try looks again.
    broker.propose(&Command::SetHandleKey(HandleKey::new(drawn)), until).await.map(|_| ())
}
