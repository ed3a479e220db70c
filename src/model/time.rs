//! Points in time and lengths of time, in whole milliseconds.

use std::fmt;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Timestamp {
    /// Saturates.
    pub fn plus(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// The time from `earlier` to this point; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// As `2026-11-21 10:02:11`, in UTC.
    pub fn utc(self) -> String {
        let secs = self.0 / 1000;
        let (days, second) = (secs / 86_400, secs % 86_400);
        // Days to a civil date, counted in eras of 400 years that begin on 1 March (H. Hinnant, "chrono-compatible
        // low-level date algorithms").
        let from_era = days + 719_468;
        let (era, day_of_era) = (from_era / 146_097, from_era % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl Millis {
    /// From whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// In the longest unit that gives a whole number, as settings are written: `90s`, `36h`, `7d`.
    pub fn in_one_unit(self) -> String {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let fits = units.iter().find(|(millis, _)| self.0 > 0 && self.0.is_multiple_of(*millis));
        fits.map_or_else(|| format!("{}ms", self.0), |(millis, unit)| format!("{}{unit}", self.0 / millis))
    }
}

impl From<std::time::Duration> for Millis {
    /// Whole milliseconds; saturates.
    fn from(length: std::time::Duration) -> Self {
        Self(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Millis> for std::time::Duration {
    fn from(length: Millis) -> Self {
        Self::from_millis(length.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_shown_in_the_longest_unit_that_fits() {
        let shown = [0, 1, 1500, 90_000, 120_000, 129_600_000, 259_200_000].map(|millis| Millis(millis).in_one_unit());
        assert_eq!(shown, ["0ms", "1ms", "1500ms", "90s", "2m", "36h", "3d"]);
    }
}
