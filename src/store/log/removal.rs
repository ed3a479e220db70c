//! Forgotten segments on their way off the disk: one file at a time, so that appends do not wait for many.
//!
//! They are already forgotten in memory and in `meta`; a crash leaves the rest of them to the next start.

use std::collections::VecDeque;

use crate::store::Error;
use crate::store::log::log_state::OpReply;
use crate::store::log::segments::{Sealed, Segments};

/// What is left to do, in order.
#[derive(Default)]
pub(in crate::store) struct Removal {
    steps: VecDeque<Step>,
    is_unsynced: bool,
}

enum Step {
    Remove(Sealed),
    /// All before is removed: makes it durable and says how many bytes it had.
    Answer(OpReply<u64>, u64),
}

impl Removal {
    /// Of what an earlier process did not get to.
    pub fn of_leftovers(leftovers: Vec<Sealed>) -> Self {
        Self { steps: leftovers.into_iter().map(Step::Remove).collect(), is_unsynced: false }
    }

    /// Removes these too, then answers.
    pub fn push(&mut self, segments: Vec<Sealed>, reply: OpReply<u64>) {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        self.steps.extend(segments.into_iter().map(Step::Remove));
        self.steps.push_back(Step::Answer(reply, bytes));
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.steps.is_empty() && !self.is_unsynced
    }

    /// Removes one file, or answers. A file that cannot be removed is left to the next start.
    pub fn step(&mut self, segments: &Segments) {
        match self.steps.pop_front() {
            Some(Step::Remove(segment)) => match segments.files().remove(segment.first) {
                Ok(()) => self.is_unsynced = true,
                Err(error) => {
                    tracing::warn!(%error, "a forgotten segment cannot be removed; the next start tries again");
                    self.fail(error);
                }
            },
            Some(Step::Answer(reply, bytes)) => {
                let result = self.sync(segments).map(|()| bytes);
                // A caller that is gone does not care.
                let _ = reply.send(result);
            }
            None => {
                if let Err(error) = self.sync(segments) {
                    tracing::warn!(%error, "forgotten segments may come back after a power loss, and are then removed again");
                }
            }
        }
    }

    fn sync(&mut self, segments: &Segments) -> Result<(), Error> {
        match std::mem::take(&mut self.is_unsynced) {
            true => segments.files().sync_folder(),
            false => Ok(()),
        }
    }

    /// Gives up what the next answer is waiting for.
    fn fail(&mut self, error: Error) {
        while let Some(step) = self.steps.pop_front() {
            if let Step::Answer(reply, _) = step {
                let _ = reply.send(Err(error));
                return;
            }
        }
    }
}
