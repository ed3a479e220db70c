//! Up to 64 consecutive messages of a queue, as a poll's filter sees them in the applied view.
//!
//! Hot path. Bit `n` of a set stands for the `n`-th offset of the window.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::broker::Error;
use crate::broker::receive::filter_check::Unchecked;
use crate::broker::receive::target::PollTarget;
use crate::machine::outcome::Granted;
use crate::machine::state::fifo_line::NO_GROUP;
use crate::machine::state::keys::LineKey;
use crate::machine::state::queue::Origin;
use crate::machine::state::view::View;
use crate::model::{MessageRef, QueueId, QueueOffset, Timestamp};

/// A message of a queue: where its bytes are, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredAt {
    pub message: MessageRef,
    pub stored_at: Timestamp,
    pub bytes: u32,
}

/// Consecutive messages of a queue, by bit.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Those that the filter wants.
    pub places: BTreeMap<u32, StoredAt>,
    /// Where those of them that are dead letters were before.
    pub origins: BTreeMap<u32, Origin>,
}

/// Up to 64 offsets of a queue as the filter sees them.
pub(super) struct PlanWindow {
    pub length: u64,
    pub wanted: u64,
    pub contents: Contents,
    /// The message groups of those that have one, by bit.
    pub orders: BTreeMap<u32, u64>,
}

impl PlanWindow {
    /// The messages whose FIFO lines are at work already. One without a message group that is at work ends the window:
    /// no group offset passes over it.
    pub fn at_work(&mut self, view: View<'_>, target: PollTarget<'_>, queue: QueueId) -> Result<u64, Unchecked> {
        let mut lines = BTreeMap::new();
        let mut bits = 0;
        for bit in 0..u32::try_from(self.length).unwrap_or(64) {
            if self.wanted >> bit & 1 == 0 {
                continue;
            }
            let order = self.orders.get(&bit).copied().unwrap_or(NO_GROUP);
            let is_at_work = match lines.entry(order) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    let at = LineKey { topic: target.topic, group: target.group, queue, order };
                    *free.insert(view.line(at)?.is_some())
                }
            };
            if is_at_work && order == NO_GROUP {
                self.length = bit.into();
                self.wanted &= (1 << bit) - 1;
                break;
            }
            bits |= u64::from(is_at_work) << bit;
        }
        Ok(bits)
    }

    /// How many offsets a plan that takes some of the wanted has used: up to the last it takes, or the whole window.
    pub fn seen(&self, taken: u64, wanted: u64) -> u8 {
        let length = if taken == wanted { self.length } else { 64 - u64::from(taken.leading_zeros()) };
        u8::try_from(length).expect("a window is at most 64 long")
    }

    pub fn read(
        view: View<'_>,
        target: PollTarget<'_>,
        queue: QueueId,
        first: QueueOffset,
        to: QueueOffset,
    ) -> Result<Self, Unchecked> {
        let length = to.0.saturating_sub(first.0);
        let mut window = Self { length, wanted: 0, contents: Contents::default(), orders: BTreeMap::new() };
        for (run_first, run) in view.runs(target.topic, queue, first, to)? {
            for ((position, item), offset) in run.items.iter().enumerate().zip(run_first.0..to.0) {
                if offset < first.0 {
                    continue;
                }
                let bit = u32::try_from(offset - first.0).expect("a window is at most 64 long");
                window.orders.extend(run.orders.get(position).map(|order| (bit, *order)));
                if !target.filter.may_match(item.tag_hash) {
                    continue;
                }
                let message = MessageRef { index: run.index, slot: item.slot };
                if let Some(check) = target.check
                    && !check.is_wanted(message)?
                {
                    continue;
                }
                window.wanted |= 1 << bit;
                window.contents.places.insert(bit, StoredAt { message, stored_at: run.stored_at, bytes: item.bytes });
                if let Some(origin) = &run.origin {
                    window.contents.origins.insert(bit, origin.clone());
                }
            }
        }
        Ok(window)
    }
}

/// Those messages of a granted lease that the filter wants.
pub(super) fn contents(view: View<'_>, target: PollTarget<'_>, granted: &Granted) -> Result<Contents, Error> {
    let to = end_of(granted.first, granted.messages);
    let window = PlanWindow::read(view, PollTarget { check: None, ..target }, granted.queue, granted.first, to);
    Ok(window.map_err(Unchecked::failed)?.contents)
}

/// The offset after the last of `bits`.
pub(super) fn end_of(first: QueueOffset, bits: u64) -> QueueOffset {
    QueueOffset(first.0 + u64::from(64 - bits.leading_zeros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_after_a_set_is_that_of_its_last_and_one() {
        assert_eq!(end_of(QueueOffset(10), 0b101), QueueOffset(13));
    }
}
