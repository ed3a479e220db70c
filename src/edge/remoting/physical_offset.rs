//! The number by which classic clients name a stored message (`commitLogOffset`).

use crate::model::{LogIndex, MessageRef};

/// Each message in an entry has a slot, of which there are fewer than two to this.
const SLOT_BITS: u32 = 20;

/// Its entry, and its slot in it: equal on every node, and in the order of storing.
pub(super) fn physical_offset(message: MessageRef) -> i64 {
    (message.index.0 << SLOT_BITS | u64::from(message.slot)).cast_signed()
}

/// The message of such a number; `None` if it is below what any message has.
pub(super) fn message_at(physical_offset: i64) -> Option<MessageRef> {
    let number = u64::try_from(physical_offset).ok().filter(|number| *number >= 1 << SLOT_BITS)?;
    let slot = u32::try_from(number & ((1 << SLOT_BITS) - 1)).expect("a slot has twenty bits");
    Some(MessageRef { index: LogIndex(number >> SLOT_BITS), slot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_in_the_order_of_the_log() {
        let of = |index, slot| physical_offset(MessageRef { index: LogIndex(index), slot });
        assert_eq!(of(1, 3), 0x10_0003);
        let all = [of(0, 0), of(0, 1), of(1, 0), of(1, 0xF_FFFF), of(2, 0), of((1 << 43) - 1, 0xF_FFFF)];
        assert!(all.is_sorted() && all[0] == 0);
        for (index, slot) in [(1, 0), (7, 0xF_FFFF), ((1 << 43) - 1, 5)] {
            let message = MessageRef { index: LogIndex(index), slot };
            assert_eq!(message_at(physical_offset(message)), Some(message));
        }
        assert_eq!([-1, 0, 0xF_FFFF].map(message_at), [None; 3]);
    }
}
