//! The counts of one topic, or of one group in a topic: since the start, of today and yesterday, and messages by minute
//! and hour. An idle one is small: periods without messages take no room.

use std::collections::VecDeque;
use std::ops::AddAssign;

use crate::env::clock::local_day;
use crate::model::Timestamp;
use crate::model::counts::{GroupCounts, TopicCounts};

const MINUTE_MS: u64 = 60_000;
const MINUTES: u32 = 60;
const HOURS: u32 = 24;

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    pub messages: u64,
    pub bytes: u64,
}

/// Counts over several periods.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Periods<Counts> {
    /// Since the node began to count.
    pub total: Counts,
    /// Of the day in this machine's time zone, and of the one before; as far as the node counted then.
    pub today: Counts,
    pub yesterday: Counts,
    /// Messages per second over the last minute.
    pub per_second: f64,
    /// Of the last 60 minutes and of the last 24 hours, the present ones included.
    pub hour: Flow,
    pub day: Flow,
}

/// What is counted, and what of it is a flow of messages.
pub(super) trait Counts: Copy + Default + for<'a> AddAssign<&'a Self> {
    fn flow(&self) -> Flow;
}

impl Counts for TopicCounts {
    fn flow(&self) -> Flow {
        Flow { messages: self.messages, bytes: self.bytes }
    }
}

impl Counts for GroupCounts {
    fn flow(&self) -> Flow {
        Flow { messages: self.deliveries, bytes: self.bytes }
    }
}

/// A time as rows need it: finding the day takes the time zone, so one is kept for as long as its minute lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moment {
    minute: u32,
    day: i32,
}

impl Moment {
    pub fn of(at: Timestamp) -> Self {
        Self { minute: minute_of(at), day: local_day(at) }
    }

    pub fn has(&self, at: Timestamp) -> bool {
        self.minute == minute_of(at)
    }

    fn hour(&self) -> u32 {
        self.minute / MINUTES
    }
}

fn minute_of(at: Timestamp) -> u32 {
    u32::try_from(at.0 / MINUTE_MS).unwrap_or(u32::MAX)
}

/// The counts of one topic, or of one group in a topic.
#[derive(Debug, Default)]
pub(super) struct Counted<Of> {
    total: Of,
    /// The day of `today`.
    day: i32,
    today: Of,
    yesterday: Of,
    minutes: Ring,
    hours: Ring,
}

impl<Of: Counts> Counted<Of> {
    pub fn add(&mut self, now: &Moment, counts: &Of) {
        self.begin(now.day);
        self.total += counts;
        self.today += counts;
        let flow = counts.flow();
        if flow.messages > 0 {
            self.minutes.add(now.minute, MINUTES, flow);
            self.hours.add(now.hour(), HOURS, flow);
        }
    }

    /// As they are at a time, which belongs to the moment.
    pub fn at(&self, now: &Moment, time: Timestamp) -> Periods<Of> {
        let (today, yesterday) = self.days_at(now.day);
        let into_ms = time.0 % MINUTE_MS;
        // As if the messages of the minute before had come evenly.
        let before = self.minutes.of(now.minute.saturating_sub(1)).messages as f64;
        let rest = before * (MINUTE_MS - into_ms) as f64 / MINUTE_MS as f64;
        Periods {
            total: self.total,
            today,
            yesterday,
            per_second: (rest + self.minutes.of(now.minute).messages as f64) / 60.0,
            hour: self.minutes.sum(now.minute, MINUTES),
            day: self.hours.sum(now.hour(), HOURS),
        }
    }

    /// Gives up what is too old to be shown, and the room that it took.
    pub fn shrink(&mut self, now: &Moment) {
        self.minutes.shrink(now.minute, MINUTES);
        self.hours.shrink(now.hour(), HOURS);
    }

    /// Messages by minute, of the minutes of the last hour that had some.
    pub fn minutes(&self, now: &Moment) -> Vec<(Timestamp, u64)> {
        let shown = self.minutes.slots.iter().filter(|(at, _)| at.saturating_add(MINUTES) > now.minute);
        shown.map(|(at, flow)| (Timestamp(u64::from(*at) * MINUTE_MS), flow.messages)).collect()
    }

    fn begin(&mut self, day: i32) {
        // Clocks that are set back do not undo a day.
        if day > self.day {
            (self.today, self.yesterday) = self.days_at(day);
            self.day = day;
        }
    }

    fn days_at(&self, day: i32) -> (Of, Of) {
        match day.saturating_sub(self.day) {
            ..=0 => (self.today, self.yesterday),
            1 => (Of::default(), self.today),
            _ => (Of::default(), Of::default()),
        }
    }
}

/// Messages by period, those periods only that had some, in order.
#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<(u32, Flow)>,
}

impl Ring {
    fn add(&mut self, period: u32, most: u32, flow: Flow) {
        if self.slots.back().is_none_or(|(last, _)| *last < period) {
            self.forget(period, most);
            self.slots.push_back((period, Flow::default()));
        }
        // Time that went back is counted where it was.
        if let Some((_, sum)) = self.slots.back_mut() {
            sum.messages += flow.messages;
            sum.bytes += flow.bytes;
        }
    }

    fn forget(&mut self, period: u32, most: u32) {
        while self.slots.front().is_some_and(|(first, _)| first.saturating_add(most) <= period) {
            self.slots.pop_front();
        }
    }

    fn shrink(&mut self, period: u32, most: u32) {
        self.forget(period, most);
        if self.slots.capacity() > 4 && self.slots.len() * 4 <= self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    fn of(&self, period: u32) -> Flow {
        let found = self.slots.iter().rev().find(|(at, _)| *at == period);
        found.map(|(_, flow)| *flow).unwrap_or_default()
    }

    fn sum(&self, period: u32, most: u32) -> Flow {
        let shown = self.slots.iter().filter(|(at, _)| at.saturating_add(most) > period);
        shown.fold(Flow::default(), |sum, (_, flow)| Flow {
            messages: sum.messages + flow.messages,
            bytes: sum.bytes + flow.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29 00:00 UTC.
    const START: u64 = 1_795_910_400_000;
    const MINUTE: u64 = 60_000;

    fn moment(minute: u64, day: i32) -> Moment {
        Moment { minute: minute_of(Timestamp(START + minute * MINUTE)), day }
    }

    fn messages(messages: u64) -> TopicCounts {
        TopicCounts { messages, bytes: messages * 100, ..TopicCounts::default() }
    }

    fn at(counted: &Counted<TopicCounts>, minute: u64, day: i32) -> Periods<TopicCounts> {
        counted.at(&moment(minute, day), Timestamp(START + minute * MINUTE + 15_000))
    }

    #[test]
    fn messages_leave_the_minute_the_hour_and_the_day_one_after_the_other() {
        let mut counted = Counted::default();
        counted.add(&moment(0, 1), &messages(120));
        counted.add(&moment(1, 1), &messages(60));
        // A quarter of the minute is over: 60 of it, and three quarters of the 120 before.
        let now = at(&counted, 1, 1);
        assert_eq!((now.per_second, now.hour.messages, now.day.bytes), (2.5, 180, 18_000));
        let minutes = [(Timestamp(START), 120), (Timestamp(START + MINUTE), 60)];
        assert_eq!(counted.minutes(&moment(1, 1)), minutes);
        assert_eq!(counted.minutes(&moment(60, 1)), minutes[1..]);
        assert_eq!(at(&counted, 3, 1).per_second, 0.0);
        assert_eq!([59, 60, 61].map(|minute| at(&counted, minute, 1).hour.messages), [180, 60, 0]);
        assert_eq!([23 * 60, 24 * 60].map(|minute| at(&counted, minute, 1).day.messages), [180, 0]);
        assert_eq!(at(&counted, 90_000, 1).total, messages(180));
    }

    #[test]
    fn a_day_becomes_yesterday_and_then_nothing() {
        let mut counted = Counted::default();
        counted.add(&moment(0, 5), &messages(7));
        assert_eq!(at(&counted, 1, 5).today, messages(7));
        let next = at(&counted, 1440, 6);
        assert_eq!((next.today, next.yesterday), (messages(0), messages(7)));
        counted.add(&moment(1440, 6), &messages(1));
        // A clock that was set back.
        counted.add(&moment(1439, 5), &messages(1));
        let next = at(&counted, 1441, 6);
        assert_eq!((next.today, next.yesterday), (messages(2), messages(7)));
        let later = at(&counted, 5 * 1440, 9);
        assert_eq!((later.today, later.yesterday, later.total), (messages(0), messages(0), messages(9)));
    }

    #[test]
    fn rows_are_bounded_and_idle_ones_give_their_room_back() {
        let mut counted = Counted::default();
        for minute in 0..3000 {
            counted.add(&moment(minute, 1), &messages(1));
        }
        assert_eq!((counted.minutes.slots.len(), counted.hours.slots.len()), (60, 24));
        assert_eq!(at(&counted, 2999, 1).hour.messages, 60);
        counted.shrink(&moment(6000, 1));
        assert!(counted.minutes.slots.capacity() == 0 && counted.hours.slots.capacity() == 0);
        assert!(size_of::<Counted<TopicCounts>>() <= 256, "{}", size_of::<Counted<TopicCounts>>());
    }
}
