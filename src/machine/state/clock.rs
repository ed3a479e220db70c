//! The machine's time, and how it relates to the time of day (D69).
//!
//! Machine time is what leases, delays and windows are counted in. It never goes back. In a cluster whose clocks were
//! always right it is the time of day. Where an older build let it run ahead, it stays ahead by a *shift*, and goes on
//! at the right pace: what users name and see is converted.
//!
//! * Shape of the stored value: `now u64`, then for each era `since u64, shift u64`. No era: older builds wrote the
//!   state, and stamps are not bounded yet.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader};
use crate::model::{Millis, Timestamp};

/// An entry moves bounded time on by this at most, unless a clock command in it says that more is meant.
pub const STEP_MAX: Millis = Millis::from_secs(600);
/// Eras that are kept; beyond it the second oldest is forgotten.
const ERAS_MAX: usize = 16;

/// Machine times from `since` on are ahead of the time of day by `shift`, until the next era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Era {
    since: Timestamp,
    shift: Millis,
}

/// The machine's time as one applied entry left it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineClock {
    now: Timestamp,
    /// Ascending, in `since` and in `shift`.
    eras: Vec<Era>,
}

impl MachineClock {
    /// From what is stored; `None` before the first entry.
    pub fn decode(value: Option<Bytes>) -> Result<Self, Malformed> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut reader = Reader::new(value, "machine clock");
        let now = Timestamp(reader.u64()?);
        let mut eras = Vec::with_capacity(reader.remaining() / 16);
        while reader.remaining() > 0 {
            eras.push(Era { since: Timestamp(reader.u64()?), shift: Millis(reader.u64()?) });
        }
        Ok(Self { now, eras })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + self.eras.len() * 16);
        out.put_u64(self.now.0);
        for era in &self.eras {
            out.put_u64(era.since.0);
            out.put_u64(era.shift.0);
        }
        out.freeze()
    }

    /// Becomes equal to `other`; cheap if only the time differs.
    pub fn follow(&mut self, other: &Self) {
        self.now = other.now;
        if self.eras != other.eras {
            self.eras.clone_from(&other.eras);
        }
    }

    /// Machine time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether entries are bounded in how far they move the time.
    pub fn is_bounded(&self) -> bool {
        !self.eras.is_empty()
    }

    /// What machine time is ahead of the time of day.
    pub fn shift(&self) -> Millis {
        self.eras.last().map_or(Millis(0), |era| era.shift)
    }

    /// All shifts there were, the present one first.
    pub fn shifts(&self) -> impl Iterator<Item = Millis> + use<> {
        let mut shifts: Vec<Millis> = self.eras.iter().rev().map(|era| era.shift).collect();
        if shifts.last() != Some(&Millis(0)) {
            shifts.push(Millis(0));
        }
        shifts.into_iter()
    }

    /// The time of day at a machine time, past or present.
    pub fn wall_of(&self, at: Timestamp) -> Timestamp {
        let era = self.eras.iter().rev().find(|era| era.since <= at);
        Timestamp(at.0.saturating_sub(era.map_or(0, |era| era.shift.0)))
    }

    /// The machine time at a time of day, by the present shift.
    pub fn machine_of(&self, wall: Timestamp) -> Timestamp {
        wall.plus(self.shift())
    }

    /// The earliest machine time that may be that time of day. It is [`Self::machine_of`] unless the time was shifted
    /// since.
    pub fn earliest_of(&self, wall: Timestamp) -> Timestamp {
        let ends = self.eras.iter().skip(1).map(|next| next.since);
        let eras = self.eras.iter().zip(ends);
        let was_reached = |(era, end): &(&Era, Timestamp)| wall.plus(era.shift) < *end;
        let shift = eras.into_iter().find(was_reached).map_or(self.shift(), |(era, _)| era.shift);
        wall.plus(shift)
    }

    /// An entry with this stamp begins. Whether the time moves.
    pub(super) fn begin(&mut self, stamp: Timestamp) -> bool {
        let bound = if self.is_bounded() { self.now.plus(STEP_MAX) } else { Timestamp(u64::MAX) };
        let before = self.now;
        self.now = self.now.max(stamp.min(bound));
        self.now != before
    }

    /// A clock command in an entry with this stamp: the time follows the stamp however far that is, and the shift is at
    /// least this one.
    pub(super) fn set(&mut self, stamp: Timestamp, shift: Millis) {
        self.now = self.now.max(stamp);
        if self.is_bounded() && shift <= self.shift() {
            return;
        }
        if self.eras.is_empty() {
            self.eras.push(Era { since: Timestamp(0), shift: Millis(0) });
        }
        if shift > self.shift() {
            if self.eras.len() == ERAS_MAX {
                self.eras.remove(1);
            }
            self.eras.push(Era { since: self.now, shift });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn what_an_older_build_stored_is_a_clock_without_bounds() {
        let mut clock = MachineClock::decode(Some(Bytes::copy_from_slice(&7u64.to_be_bytes()))).unwrap();
        assert_eq!((clock.now(), clock.is_bounded(), clock.shift()), (Timestamp(7), false, Millis(0)));
        assert!(clock.begin(Timestamp(HOUR)), "as the older build would have it");
        assert_eq!(clock.now(), Timestamp(HOUR));
        assert_eq!(clock.encode().len(), 8, "an older build can read it");
        assert_eq!(MachineClock::decode(None).unwrap().now(), Timestamp(0));
    }

    #[test]
    fn p21_a_stamp_far_ahead_moves_bounded_time_by_the_bound_only() {
        let mut clock = MachineClock::default();
        clock.set(Timestamp(1000), Millis(0));
        assert!(clock.is_bounded());
        assert!(clock.begin(Timestamp(u64::MAX)));
        assert_eq!(clock.now(), Timestamp(1000).plus(STEP_MAX));
        assert!(!clock.begin(Timestamp(5)), "time never goes back");
        clock.set(Timestamp(9 * HOUR), Millis(0));
        assert_eq!(clock.now(), Timestamp(9 * HOUR), "a clock command says that it is meant");
    }

    #[test]
    fn p21_times_before_a_shift_and_after_it_are_converted_by_their_own() {
        let mut clock = MachineClock::default();
        clock.begin(Timestamp(10 * HOUR));
        // The clocks say two hours; the machine was let ahead to ten.
        clock.set(Timestamp(10 * HOUR), Millis(8 * HOUR));
        clock.begin(Timestamp(10 * HOUR + 5));
        assert_eq!(clock.wall_of(clock.now()), Timestamp(2 * HOUR + 5));
        assert_eq!(clock.wall_of(Timestamp(HOUR)), Timestamp(HOUR));
        assert_eq!(clock.machine_of(Timestamp(3 * HOUR)), Timestamp(11 * HOUR));
        assert_eq!(clock.earliest_of(Timestamp(HOUR)), Timestamp(HOUR));
        assert_eq!(clock.shifts().collect::<Vec<_>>(), [Millis(8 * HOUR), Millis(0)]);
        assert_eq!(MachineClock::decode(Some(clock.encode())), Ok(clock.clone()));
        clock.set(clock.now(), Millis(1));
        assert_eq!(clock.shift(), Millis(8 * HOUR), "a shift never falls, or time would have to go back");
    }

    #[test]
    fn eras_are_bounded_and_the_first_and_the_last_are_kept() {
        let mut clock = MachineClock::default();
        for shift in 1..100 {
            clock.set(Timestamp(shift * HOUR), Millis(shift));
        }
        let shifts: Vec<Millis> = clock.shifts().collect();
        assert_eq!(shifts.len(), ERAS_MAX);
        assert_eq!((shifts.first(), shifts.last()), (Some(&Millis(99)), Some(&Millis(0))));
    }
}
