//! `fileReservedTime` and the keys beside it: what is deleted, and when.

use crate::config::value::Values;
use crate::model::limits::{KEPT_MAX, KEPT_MIN};
use crate::model::{HoursOfDay, Millis};

/// Bounds that RocketMQ puts `diskMaxUsedSpaceRatio` into.
const DISK_USED_MIN: u64 = 10;
const DISK_USED_MAX: u64 = 95;
/// Less, and the log would lose its only sealed segment each time it begins a new one.
const SEGMENTS_MIN: u64 = 2;

/// What is deleted, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionConfig {
    /// `fileReservedTime`: messages are kept this long.
    pub kept_for: Millis,
    /// `deleteWhen`.
    pub delete_hours: HoursOfDay,
    /// `diskMaxUsedSpaceRatio`, in percent.
    pub disk_used_max: u8,
    /// `cleanFileForciblyEnable`.
    pub deletes_unexpired: bool,
    /// `logRetentionBytes`; `None`: no bound.
    pub log_bytes_max: Option<u64>,
}

pub(super) fn retention(values: &mut Values<'_>, segment_bytes: u64) -> Option<RetentionConfig> {
    let kept_for = kept_for(values);
    let delete_hours = HoursOfDay::parse(&values.text("deleteWhen"));
    if delete_hours.is_none() {
        values
            .complain("deleteWhen", "is no hour of the day; write hours from 00 to 23 such as 04 or 04;16, or always");
    }
    let disk_used_max = disk_used_max(values);
    let deletes_unexpired = values.bool("cleanFileForciblyEnable");
    let log_bytes = values.number("logRetentionBytes");
    let least = segment_bytes.saturating_mul(SEGMENTS_MIN);
    if (1..least).contains(&log_bytes) && !values.is_refused("mappedFileSizeCommitLog") {
        let what = format!(
            "must be at least {least}, {SEGMENTS_MIN} segments of mappedFileSizeCommitLog ({segment_bytes}); 0: no bound"
        );
        values.complain("logRetentionBytes", what);
    }
    let (kept_for, delete_hours) = (kept_for?, delete_hours?);
    let gap = Millis::from_secs(3600 * u64::from(delete_hours.longest_gap()));
    if delete_hours != HoursOfDay::ALL && kept_for < gap {
        let (hours, most) = (delete_hours, Millis(kept_for.0 + gap.0).in_one_unit());
        let what = format!(
            "expired messages go in the hours of deleteWhen ({hours}) only, so some are kept for up to {most}; set \
             deleteWhen=always to have them deleted when they expire"
        );
        values.note("fileReservedTime", what);
    }
    let log_bytes_max = Some(log_bytes).filter(|bytes| *bytes > 0);
    Some(RetentionConfig { kept_for, delete_hours, disk_used_max, deletes_unexpired, log_bytes_max })
}

fn kept_for(values: &mut Values<'_>) -> Option<Millis> {
    const NAME: &str = "fileReservedTime";
    match parse_kept(&values.text(NAME)) {
        Some(Millis(0)) => {
            let what = "would delete every message at once; write how long messages are kept: hours such as 72, or a time \
                        such as 90s, 2m, 36h or 7d";
            values.complain(NAME, what);
            None
        }
        Some(kept) if (KEPT_MIN..=KEPT_MAX).contains(&kept) => Some(kept),
        Some(_) => {
            values
                .complain(NAME, format!("must be between {} and {} hours", KEPT_MIN.in_one_unit(), KEPT_MAX.0 / HOUR));
            None
        }
        None => {
            values.complain(NAME, "is not a number of hours such as 72, or a time such as 90s, 2m, 36h or 7d");
            None
        }
    }
}

const HOUR: u64 = 3_600_000;

/// Hours: bare; or with s, m, h, d.
fn parse_kept(text: &str) -> Option<Millis> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].trim() {
        "" | "h" => HOUR,
        "s" => 1000,
        "m" => 60_000,
        "d" => 24 * HOUR,
        _ => return None,
    };
    // `parse` takes a sign, which is no digit.
    let number: u64 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    Some(Millis(number.saturating_mul(factor)))
}

/// Beyond its bounds RocketMQ takes the nearest one, and files have such values.
fn disk_used_max(values: &mut Values<'_>) -> u8 {
    const NAME: &str = "diskMaxUsedSpaceRatio";
    let given = values.number(NAME);
    let taken = given.clamp(DISK_USED_MIN, DISK_USED_MAX);
    if taken != given && !values.is_refused(NAME) {
        values.note(NAME, format!("is taken for {taken}, as in RocketMQ; write {DISK_USED_MIN} to {DISK_USED_MAX}"));
    }
    u8::try_from(taken).expect("at most 95")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_messages_are_kept_is_in_hours_or_has_a_unit() {
        let parsed = |text| parse_kept(text).map(|kept| kept.0);
        assert_eq!(parsed("72"), Some(72 * HOUR));
        assert_eq!(
            [parsed("90s"), parsed("2m"), parsed("36 h"), parsed("7d")].map(Option::unwrap),
            [90_000, 120_000, 36 * HOUR, 7 * 24 * HOUR]
        );
        assert_eq!(parsed("18446744073709551615d"), Some(u64::MAX));
        for text in ["", "h", "-1", "+1", "1.5h", "1w", "7 days", "1h30m", "18446744073709551616"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
