//! Points in time as people type them: `2h`, `2026-11-28`, `2026-11-28T10:00:00Z`, milliseconds since 1970.
//!
//! One reader for all commands. A time without a zone is UTC, as every table shows it.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::env::clock;
use crate::model::{Millis, Timestamp, units};

/// Numbers of this size are seconds since 1970, which nobody here asks for: as milliseconds they would be of 1970 to 1973.
const SECONDS: std::ops::Range<u64> = 1_000_000_000..100_000_000_000;

const FORMS: [&str; 6] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d_%H:%M:%S",
    // RocketMQ's own tools.
    "%Y-%m-%d#%H:%M:%S:%3f",
];

/// A point in time, or how far it is from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    Away(Millis),
}

/// A time before now: `2h` is two hours ago.
pub fn past(text: &str) -> Result<Timestamp, String> {
    Ok(match moment(text, "2h for two hours ago")? {
        Moment::At(at) => at,
        Moment::Away(length) => Timestamp(clock::wall().0.saturating_sub(length.0)),
    })
}

/// A time after now: `2h` is in two hours.
pub fn coming(text: &str) -> Result<Timestamp, String> {
    Ok(match moment(text, "2h for in two hours")? {
        Moment::At(at) => at,
        Moment::Away(length) => clock::wall().plus(length),
    })
}

/// A time, or a length that counts from now; `like` says what a length would mean.
pub fn moment(text: &str, like: &str) -> Result<Moment, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(Moment::Away(Millis(0)));
    }
    if let Ok(number) = text.parse::<u64>() {
        if SECONDS.contains(&number) {
            return Err(format!("'{text}' would be in the year 197x: milliseconds since 1970 are meant, {number}000"));
        }
        if (1..SECONDS.start).contains(&number) {
            return Err(format!(
                "'{text}' has no unit, and would be in January 1970: write {text}h or {text}d, or {like}"
            ));
        }
        return Ok(Moment::At(Timestamp(number)));
    }
    if let Some(length) = units::time(text, None) {
        return Ok(Moment::Away(length));
    }
    let of_date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let without_zone = || FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let with_zone = DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_millis()).ok();
    let millis = with_zone.or_else(|| Some(of_date().or_else(without_zone)?.and_utc().timestamp_millis()));
    match millis.map(u64::try_from) {
        Some(Ok(millis)) => Ok(Moment::At(Timestamp(millis))),
        Some(Err(_)) => Err(format!("'{text}' is before 1970")),
        None => Err(format!(
            "'{text}' is no time; write {like}, 2026-11-28, 2026-11-28T10:00:00Z or +08:00, or milliseconds since 1970"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T00:00:00Z.
    const DAY: u64 = 1_795_824_000_000;

    #[test]
    fn a_time_is_a_date_rfc_3339_milliseconds_or_a_length() {
        for (text, at) in [
            ("2026-11-28", DAY),
            ("2026-11-28T00:00:00Z", DAY),
            ("2026-11-28T08:00:00+08:00", DAY),
            ("2026-11-28T10:00:00.250Z", DAY + 36_000_250),
            ("2026-11-28T10:00:00", DAY + 36_000_000),
            ("2026-11-28 10:00:00", DAY + 36_000_000),
            ("2026-11-28 10:00", DAY + 36_000_000),
            ("2026-11-28#10:00:00:250", DAY + 36_000_250),
            ("1795824000000", DAY),
            ("0", 0),
        ] {
            assert_eq!(moment(text, ""), Ok(Moment::At(Timestamp(at))), "{text}");
        }
        assert_eq!(moment("2h", ""), Ok(Moment::Away(Millis::from_secs(7200))));
        assert_eq!(moment("now", ""), Ok(Moment::Away(Millis(0))));
        let now = clock::wall();
        assert!(now.since(past("1h").unwrap()) >= Millis::from_secs(3599) && coming("1h").unwrap() > now);
        assert_eq!(past(&DAY.to_string()), Ok(Timestamp(DAY)));
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_would_be() {
        for wrong in ["", "yesterday", "2026-13-01", "28.11.2026", "-2h", "2026-11-28T25:00:00Z", "1.5h"] {
            let said = past(wrong).unwrap_err();
            assert!(said.starts_with(&format!("'{wrong}' is no time; write 2h for two hours ago")), "{said}");
        }
        assert!(past("1795824000").unwrap_err().contains("milliseconds since 1970 are meant, 1795824000000"));
        assert_eq!(
            past("5"),
            Err("'5' has no unit, and would be in January 1970: write 5h or 5d, or 2h for two hours ago".to_owned())
        );
        assert_eq!(past("1969-07-20"), Err("'1969-07-20' is before 1970".to_owned()));
    }
}
