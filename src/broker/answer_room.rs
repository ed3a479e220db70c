//! Room for what pulls read, until their clients took it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::broker::{Error, Held, Share};

/// A pull that found something waits so long for bytes to read it into.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Gives room to what a connection's pulls read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerRoom {
    /// As many pulls as there are places read at once; all others wait with nothing in their hands.
    pub places: Option<Arc<Semaphore>>,
    /// Gives the bytes.
    pub share: Share,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub struct InRoom {
    _place: Option<OwnedSemaphorePermit>,
    held: Held,
}

impl AnswerRoom {
    /// A place; its bytes are to be taken as messages are read.
    pub async fn enter(&self) -> InRoom {
        let place = match &self.places {
            // It is never closed.
            Some(places) => places.clone().acquire_owned().await.ok(),
            None => None,
        };
        InRoom { _place: place, held: self.share.take_anyway(0) }
    }
}

impl InRoom {
    /// Room for one more message; false if there is none now.
    pub fn try_take(&mut self, bytes: u64) -> bool {
        self.held.try_grow(bytes)
    }

    /// As [`Self::try_take`], waiting for it.
    pub async fn take(&mut self, bytes: u64) -> Result<(), Error> {
        self.held.grow_until(bytes, Instant::now() + WAIT_MAX).await.map_err(Error::NoBytes)
    }

    /// A message that was read is not wanted.
    pub fn give_back(&mut self, bytes: u64) {
        self.held.give_back(bytes);
    }
}
