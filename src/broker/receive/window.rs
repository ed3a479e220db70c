//! Up to 64 consecutive messages of a queue, as a poll's filter sees them in the applied view.
//!
//! Hot path. Sets and maps are over distances from the first offset of the window.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::broker::Error;
use crate::broker::receive::filter_check::{Unchecked, Verdict};
use crate::broker::receive::target::PollTarget;
use crate::machine::outcome::Granted;
use crate::machine::state::keys::LineKey;
use crate::machine::state::queue::Origin;
use crate::machine::state::view::View;
use crate::model::{MessageGroupHash, MessageRef, OffsetSet, QueueId, QueueOffset, Timestamp};

/// A message of a queue: where its bytes are, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredAt {
    pub message: MessageRef,
    pub stored_at: Timestamp,
    pub bytes: u32,
}

/// Consecutive messages of a queue, by distance.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Those that the filter wants or that cannot be read.
    pub places: BTreeMap<u64, StoredAt>,
    /// Where those of them that are dead letters were before.
    pub origins: BTreeMap<u64, Origin>,
}

/// Up to 64 offsets of a queue as the filter sees them.
pub(super) struct PlanWindow {
    pub length: u64,
    pub wanted: OffsetSet,
    /// Those that the filter may want, and that cannot be read on this node.
    pub unreadable: OffsetSet,
    pub contents: Contents,
    /// Of those that have one.
    pub message_groups: BTreeMap<u64, MessageGroupHash>,
}

impl PlanWindow {
    /// Ends the window before a message that cannot be read: what is behind it waits for it, or for another node. If
    /// `leases_it`, the window is that message alone once it is the first.
    pub fn end_before_unreadable(&mut self, among: OffsetSet, leases_it: bool) {
        let Some(distance) = (self.unreadable & among).first_distance() else { return };
        let leases_it = leases_it && distance == 0;
        self.length = if leases_it { 1 } else { distance };
        self.wanted = if leases_it { OffsetSet::first(1) } else { self.wanted & OffsetSet::first(distance) };
    }

    /// The messages whose FIFO lines are at work already. One without a message group that is at work ends the window:
    /// no group offset passes over it.
    pub fn at_work(&mut self, view: View<'_>, target: PollTarget<'_>, queue: QueueId) -> Result<OffsetSet, Unchecked> {
        let mut lines = BTreeMap::new();
        let mut at_work = OffsetSet::EMPTY;
        for distance in self.wanted.iter() {
            let message_group = self.message_groups.get(&distance).copied().unwrap_or(MessageGroupHash::NONE);
            let is_at_work = match lines.entry(message_group) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    let at = LineKey { topic: target.topic, group: target.group, queue, message_group };
                    *free.insert(view.line(at)?.is_some())
                }
            };
            if is_at_work && message_group == MessageGroupHash::NONE {
                self.length = distance;
                self.wanted = self.wanted & OffsetSet::first(distance);
                break;
            }
            if is_at_work {
                at_work.insert(distance);
            }
        }
        Ok(at_work)
    }

    /// How many offsets a plan that takes some of the wanted has used: up to the last it takes, or the whole window.
    pub fn seen(&self, taken: OffsetSet, wanted: OffsetSet) -> u8 {
        let length = if taken == wanted { self.length } else { taken.end() };
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
        let mut window = Self {
            length,
            wanted: OffsetSet::EMPTY,
            unreadable: OffsetSet::EMPTY,
            contents: Contents::default(),
            message_groups: BTreeMap::new(),
        };
        for (run_first, run) in view.runs(target.topic, queue, first, to)? {
            for ((position, item), offset) in run.items.iter().enumerate().zip(run_first.0..to.0) {
                if offset < first.0 {
                    continue;
                }
                let distance = offset - first.0;
                window.message_groups.extend(run.message_groups.get(position).map(|hash| (distance, *hash)));
                if !target.filter.may_match(item.tag_hash) {
                    continue;
                }
                let message = MessageRef { index: run.index, slot: item.slot };
                match target.check.map_or(Ok(Verdict::Wanted), |check| check.verdict(message))? {
                    Verdict::Wanted => window.wanted.insert(distance),
                    Verdict::Unwanted => continue,
                    Verdict::Unreadable => window.unreadable.insert(distance),
                }
                window
                    .contents
                    .places
                    .insert(distance, StoredAt { message, stored_at: run.stored_at, bytes: item.bytes });
                if let Some(origin) = &run.origin {
                    window.contents.origins.insert(distance, origin.clone());
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

/// The offset after the last of a set.
pub(super) fn end_of(first: QueueOffset, set: OffsetSet) -> QueueOffset {
    QueueOffset(first.0 + set.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_after_a_set_is_that_of_its_last_and_one() {
        assert_eq!(end_of(QueueOffset(10), OffsetSet(0b101)), QueueOffset(13));
    }
}
