//! Hours of the day, as `deleteWhen` has them: `04`, or `04;16`.

use std::fmt;

/// Hours of a day.
pub const HOURS: u8 = 24;

/// A set of hours of the day, 0 to 23, of whatever time zone the asker means. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoursOfDay(u32);

impl HoursOfDay {
    /// Every hour.
    pub const ALL: Self = Self((1 << HOURS) - 1);

    /// Reads hours that are separated by `;`, or `always` for all of them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("always") {
            return Some(Self::ALL);
        }
        let mut hours = 0;
        for part in text.split(';').map(str::trim) {
            let is_number = (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            let hour: u8 = part.parse().ok().filter(|hour| is_number && *hour < HOURS)?;
            hours |= 1 << hour;
        }
        Some(Self(hours))
    }

    /// Whether an hour is among them.
    pub fn contains(self, hour: u8) -> bool {
        hour < HOURS && self.0 & 1 << hour != 0
    }

    /// The most hours, counted from the begin of one of them to the begin of the next.
    pub fn longest_gap(self) -> u8 {
        let from = |hour: u8| (1..=HOURS).find(|later| self.contains((hour + later) % HOURS)).unwrap_or(HOURS);
        (0..HOURS).filter(|hour| self.contains(*hour)).map(from).max().unwrap_or(HOURS)
    }
}

impl fmt::Display for HoursOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("always");
        }
        let hours: Vec<_> = (0..HOURS).filter(|hour| self.contains(*hour)).map(|hour| format!("{hour:02}")).collect();
        f.write_str(&hours.join(";"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_as_rocketmq_writes_them_and_no_others() {
        let shown = |text: &str| HoursOfDay::parse(text).map(|hours| hours.to_string());
        for (text, expected) in [
            ("04", Some("04")),
            ("4", Some("04")),
            ("04;16", Some("04;16")),
            ("16; 4;04", Some("04;16")),
            ("00;23", Some("00;23")),
            ("Always", Some("always")),
            ("", None),
            ("24", None),
            ("-1", None),
            ("+4", None),
            ("004", None),
            ("04;", None),
            ("04,16", None),
            ("never", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_the_hours_of_the_set_are_in_it() {
        let hours = HoursOfDay::parse("04;16").unwrap();
        let found: Vec<_> = (0..=u8::MAX).filter(|hour| hours.contains(*hour)).collect();
        assert_eq!(found, [4, 16]);
        assert!((0..HOURS).all(|hour| HoursOfDay::ALL.contains(hour)));
        assert!(!HoursOfDay::ALL.contains(HOURS));
    }

    #[test]
    fn the_longest_gap_goes_over_midnight() {
        let gap = |text| HoursOfDay::parse(text).unwrap().longest_gap();
        assert_eq!([gap("04"), gap("04;16"), gap("04;05"), gap("00;22"), gap("always")], [24, 12, 23, 22, 1]);
    }
}
