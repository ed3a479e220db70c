//! Numbers of conditions and properties, compared exactly.

use std::cmp::Ordering;

/// A number of a condition or of a property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// Written without a fraction, and within 64 bits.
    Whole(i64),
    Decimal(f64),
}

impl Number {
    /// A number beyond 64 bits becomes a decimal, which is rounded and still on the right side of every whole number.
    pub(super) fn read(text: &str) -> Option<Self> {
        match whole(text) {
            Some(value) => Some(Self::Whole(value)),
            None => text.parse().ok().map(Self::Decimal),
        }
    }

    /// `None` if one of them is not a number (NaN).
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (Self::Decimal(left), Self::Decimal(right)) => left.partial_cmp(&right),
            (Self::Whole(left), Self::Decimal(right)) => compare_mixed(left, right),
            (Self::Decimal(left), Self::Whole(right)) => compare_mixed(right, left).map(Ordering::reverse),
        }
    }
}

/// A whole number of 64 bits, also one that is written with zeros after the point.
fn whole(text: &str) -> Option<i64> {
    let digits = match text.split_once('.') {
        Some((digits, fraction)) if fraction.bytes().all(|byte| byte == b'0') => digits,
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

/// Compares exactly: as decimals, whole numbers of more than 53 bits would be rounded to their neighbours.
fn compare_mixed(whole: i64, decimal: f64) -> Option<Ordering> {
    /// 2^63, the first whole number that is no i64.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if decimal.is_nan() {
        return None;
    }
    if decimal >= END {
        return Some(Ordering::Less);
    }
    if decimal < -END {
        return Some(Ordering::Greater);
    }
    let floor = decimal.floor();
    // Within the bounds of an i64. Where the whole parts are equal, a fraction makes the decimal the larger one.
    let fraction = if decimal > floor { Ordering::Less } else { Ordering::Equal };
    Some(whole.cmp(&(floor as i64)).then(fraction))
}
