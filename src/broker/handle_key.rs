//! The key of the cluster's handles above the log: drawn once for the whole cluster, by the first node that needs it. After:
//! `machine/handle_key`.
//!
//! Hot path, but for the first use on each node.

use crate::broker::{Broker, Deadline, Error};
use crate::env::rng::random_u64;
use crate::machine::Command;
use crate::model::HandleKey;

impl Broker {
    /// The key that seals and opens handles.
    ///
    /// * Errors: [`Error::NoLeader`] and [`Error::Busy`], only as long as the cluster has no key that this node knows;
    ///   nothing was done for the caller.
    pub async fn handle_key(&self, deadline: Deadline) -> Result<HandleKey, Error> {
        match self.handle_key.get() {
            Some(key) => Ok(*key),
            // Boxed: it is rare, and would make the future of every request larger.
            None => Box::pin(self.find_or_draw(deadline)).await,
        }
    }

    async fn find_or_draw(&self, deadline: Deadline) -> Result<HandleKey, Error> {
        let until = self.held_until(deadline);
        if let Some(key) = self.reader.view().handle_key()? {
            return Ok(*self.handle_key.get_or_init(|| key));
        }
        let mut drawn = [0; 16];
        for half in drawn.as_chunks_mut::<8>().0 {
            *half = random_u64().to_be_bytes();
        }
        // The first key in the log stays, whichever node drew it, so any number of nodes may try, any number of times.
        let set = Command::SetHandleKey(HandleKey::new(drawn));
        let index = match self.propose_repeatable(&set, until).await {
            Ok((index, _)) => index,
            Err(Error::TimedOut) => return Err(Error::NoLeader),
            Err(error) => return Err(error),
        };
        if !self.reader.caught_up(index, until).await {
            return Err(Error::NoLeader);
        }
        let key = self.reader.view().handle_key()?.ok_or(Error::NoLeader)?;
        Ok(*self.handle_key.get_or_init(|| key))
    }
}
