//! Unpacks what classic clients do not read, before it is written for them.
//!
//! A body of a few kilobytes may become sixteen mebibytes: it is unpacked away from the client's thread, few at once, and has
//! room before others are.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::broker::{InRoom, OrphanedTransaction, PulledMessage, StoredMessage};
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::compressed::{gunzip, is_gzip};
use crate::env::panic::contain;
use crate::env::pool::Pool;
use crate::model::Message;
use crate::proto::remoting::ResponseCode;

/// Answers that are unpacked, or that wait for room for what was, at once.
const AT_ONCE: usize = 2;

/// What has a message.
pub(super) trait HasMessage {
    fn message(&mut self) -> &mut Message;
}

impl HasMessage for PulledMessage {
    fn message(&mut self) -> &mut Message {
        &mut self.message
    }
}

impl HasMessage for StoredMessage {
    fn message(&mut self) -> &mut Message {
        &mut self.message
    }
}

impl HasMessage for OrphanedTransaction {
    fn message(&mut self) -> &mut Message {
        &mut self.message
    }
}

/// A node's. Cheap to clone.
#[derive(Clone)]
pub(super) struct Unpacking {
    places: Arc<Semaphore>,
}

impl Default for Unpacking {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Unpacking {
    /// Unpacks the bodies of messages that classic clients would not read, in order, until there are `enough` bytes of bodies:
    /// the messages up to there. `room` is that of the answer.
    ///
    /// * Errors: there is no room for them.
    pub async fn unpack<T: HasMessage + Send + 'static>(
        &self,
        mut messages: Vec<T>,
        enough: usize,
        room: &mut InRoom,
    ) -> Result<Vec<T>, Refused> {
        if !messages.iter_mut().any(|one| is_gzip(one.message())) {
            return Ok(messages);
        }
        let lost = |()| Refused::new(ResponseCode::SystemError, "the messages could not be unpacked");
        // It is never closed.
        let _place = self.places.acquire().await.map_err(drop).map_err(lost)?;
        let work = move || {
            let (count, grown) = gunzip(messages.iter_mut().map(T::message), enough);
            let left_out: usize = messages[count..].iter_mut().map(|one| one.message().body.len()).sum();
            messages.truncate(count);
            (messages, grown, left_out as u64)
        };
        let unpacked = Pool::Bodies.run(|| contain(work)).await.map_err(drop).map_err(lost)?;
        let (messages, grown, left_out) = unpacked.map_err(drop).map_err(lost)?;
        room.give_back(left_out);
        if !room.try_take(grown) {
            room.take(grown).await?;
        }
        Ok(messages)
    }
}
