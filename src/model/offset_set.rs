//! A set of up to 64 consecutive queue offsets, as bits of one number.

use std::ops::{BitAnd, BitOr, BitOrAssign, Sub, SubAssign};

use crate::model::ids::QueueOffset;

/// Which of the offsets from a first one on are meant. The first offset is not part of the set; it stands beside it.
///
/// `|` is the union, `&` the intersection, `-` what is in the left set only.
///
/// * Shape: bit n stands for the first offset plus n, its *distance*; stored as a `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OffsetSet(pub u64);

impl OffsetSet {
    /// The set without members.
    pub const EMPTY: Self = Self(0);
    /// Offsets that a set can hold.
    pub const SPAN: u64 = 64;

    /// The `count` smallest distances; all if `count` is [`Self::SPAN`] or more.
    pub fn first(count: u64) -> Self {
        if count >= Self::SPAN { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// The set of one distance; `None` if the span ends before it.
    pub fn one(distance: u64) -> Option<Self> {
        (distance < Self::SPAN).then(|| Self(1 << distance))
    }

    /// How many members.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is no member.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the distance is a member.
    pub fn contains(self, distance: u64) -> bool {
        distance < Self::SPAN && self.0 >> distance & 1 == 1
    }

    /// Adds a distance.
    pub fn insert(&mut self, distance: u64) {
        assert!(distance < Self::SPAN, "distance {distance} is outside the span of an offset set");
        self.0 |= 1 << distance;
    }

    /// The smallest member.
    pub fn first_distance(self) -> Option<u64> {
        (!self.is_empty()).then(|| self.0.trailing_zeros().into())
    }

    /// The distance after the largest member; 0 if there is none.
    pub fn end(self) -> u64 {
        Self::SPAN - u64::from(self.0.leading_zeros())
    }

    /// The `count` smallest members.
    pub fn lowest(self, count: u32) -> Self {
        let (mut kept, mut rest) = (0, self.0);
        for _ in 0..count {
            let bit = rest & rest.wrapping_neg();
            kept |= bit;
            rest &= !bit;
        }
        Self(kept)
    }

    /// All distances before the smallest member; all there are if there is no member.
    pub fn below(self) -> Self {
        Self((self.0 & self.0.wrapping_neg()).wrapping_sub(1))
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..Self::SPAN).filter(move |distance| self.contains(*distance))
    }

    /// The members as offsets of a queue, ascending.
    pub fn offsets(self, first: QueueOffset) -> impl Iterator<Item = QueueOffset> {
        self.iter().map(move |distance| QueueOffset(first.0 + distance))
    }
}

impl BitOr for OffsetSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for OffsetSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAnd for OffsetSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for OffsetSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl SubAssign for OffsetSet {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_members_are_kept() {
        let lowest = |bits, count| OffsetSet(bits).lowest(count).0;
        assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
        assert_eq!(lowest(0b1, 5), 0b1);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
        assert_eq!(lowest(0b11, 0), 0);
    }

    #[test]
    fn the_ends_of_the_span_are_no_exception() {
        assert_eq!([0, 1, 63, 64, 65].map(|count| OffsetSet::first(count).len()), [0, 1, 63, 64, 64]);
        assert_eq!(OffsetSet::one(63), Some(OffsetSet(1 << 63)));
        assert_eq!(OffsetSet::one(64), None);
        let ends = OffsetSet(1 | 1 << 63);
        assert_eq!([0, 1, 63, 64].map(|distance| ends.contains(distance)), [true, false, true, false]);
        assert_eq!((ends.first_distance(), ends.end()), (Some(0), 64));
        assert_eq!((OffsetSet::EMPTY.first_distance(), OffsetSet::EMPTY.end()), (None, 0));
        assert_eq!(ends.offsets(QueueOffset(10)).collect::<Vec<_>>(), [QueueOffset(10), QueueOffset(73)]);
        assert_eq!(OffsetSet(0b1000).below(), OffsetSet(0b0111));
        assert_eq!(ends - OffsetSet(1), OffsetSet(1 << 63));
    }
}
