//! `fileReservedTime` and the keys beside it: what is deleted, and when.

use crate::config::value::Values;
use crate::model::limits::{KEPT_MAX, KEPT_MIN};
use crate::model::{HoursOfDay, Millis, units};

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
    let form = format!(
        "hours such as 72, or a time such as 90s, 2m, 36h or 7d, from {} to {} hours",
        KEPT_MIN.in_one_unit(),
        KEPT_MAX.0 / HOUR.0
    );
    match units::time(&values.text(NAME), Some(HOUR)) {
        Some(Millis(0)) => {
            values.complain(
                NAME,
                format!("would delete every message at once; write how long messages are kept: {form}"),
            );
            None
        }
        Some(kept) if (KEPT_MIN..=KEPT_MAX).contains(&kept) => Some(kept),
        Some(_) | None => {
            values.complain(NAME, format!("must be {form}"));
            None
        }
    }
}

const HOUR: Millis = Millis::from_secs(3600);

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
