//! When a message of a classic client is to be delivered, as its properties say it (remoting §5.2). Hot path.

use crate::edge::remoting::codes::Refused;
use crate::edge::rules;
use crate::edge::rules::message::MessageLimits;
use crate::model::{Millis, Timestamp};
use crate::proto::remoting::ResponseCode;

/// A delay by its level; it goes before the others.
pub(super) const LEVEL: &str = "DELAY";
/// Delays of one's own, the first that is given counts.
pub(super) const TIMERS: [&str; 3] = ["TIMER_DELAY_SEC", "TIMER_DELAY_MS", DELIVER_AT];
/// The time of delivery itself, in milliseconds.
pub(super) const DELIVER_AT: &str = "TIMER_DELIVER_MS";

/// RocketMQ's levels, from 1 on; a higher one is the last.
pub(super) const LEVEL_SECONDS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The time of delivery of a message with these properties; `None` for at once.
///
/// * Errors: a value that is no number, a timer beyond the limit; levels have none.
pub(super) fn delivery_at(
    properties: &[(String, String)],
    limits: MessageLimits,
) -> Result<Option<Timestamp>, Refused> {
    let now = limits.now;
    let number = |name: &str| {
        let Some((_, value)) = properties.iter().find(|(known, _)| known == name) else { return Ok(None) };
        value.parse::<i64>().map(Some).map_err(|_| {
            let text = format!("the property {name} is a number, not {value:?}");
            Refused::new(ResponseCode::MessageIllegal, text)
        })
    };
    if let Some(level) = number(LEVEL)?.and_then(|level| usize::try_from(level).ok()).filter(|level| *level > 0) {
        let seconds = LEVEL_SECONDS[level.min(LEVEL_SECONDS.len()) - 1];
        return Ok(Some(now.plus(Millis::from_secs(seconds))));
    }
    for (name, unit) in TIMERS.into_iter().zip([1000, 1, 0]) {
        let Some(value) = number(name)? else { continue };
        // What lies before now means now.
        let value = u64::try_from(value).unwrap_or(0);
        let at = match unit {
            0 => Timestamp(value),
            unit => now.plus(Millis(value.saturating_mul(unit))),
        };
        rules::message::delivery_at(at, limits)?;
        return Ok(Some(at));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: MessageLimits =
        MessageLimits { body_bytes_max: 0, delay_max: Millis::from_secs(10), now: Timestamp(1_000_000) };

    fn of(properties: &[(&str, &str)]) -> Result<Option<u64>, ResponseCode> {
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        delivery_at(&properties, LIMITS).map(|at| at.map(|at| at.0)).map_err(|refused| refused.code)
    }

    #[test]
    fn levels_and_timers_say_when_and_levels_go_first() {
        for (properties, at) in [
            (&[][..], None),
            (&[("DELAY", "1")], Some(1_001_000)),
            (&[("DELAY", "3")], Some(1_010_000)),
            (&[("DELAY", "18")], Some(8_200_000)),
            (&[("DELAY", "19")], Some(8_200_000)),
            (&[("DELAY", "9223372036854775807")], Some(8_200_000)),
            (&[("DELAY", "0")], None),
            (&[("DELAY", "-1")], None),
            (&[("TIMER_DELAY_SEC", "7")], Some(1_007_000)),
            (&[("TIMER_DELAY_MS", "7")], Some(1_000_007)),
            (&[("TIMER_DELIVER_MS", "7")], Some(7)),
            (&[("TIMER_DELAY_MS", "-7")], Some(1_000_000)),
            (&[("TIMER_DELAY_SEC", "1"), ("TIMER_DELAY_MS", "7"), ("TIMER_DELIVER_MS", "9")], Some(1_001_000)),
            (&[("DELAY", "1"), ("TIMER_DELIVER_MS", "9")], Some(1_001_000)),
        ] {
            assert_eq!(of(properties), Ok(at), "{properties:?}");
        }
        assert_eq!(of(&[("TIMER_DELAY_SEC", "10")]), Ok(Some(1_010_000)));
        for late in [("TIMER_DELAY_SEC", "11"), ("TIMER_DELAY_MS", "10001"), ("TIMER_DELIVER_MS", "1010001")] {
            assert_eq!(of(&[late]), Err(ResponseCode::MessageIllegal), "{late:?}");
        }
        assert_eq!(of(&[("TIMER_DELAY_SEC", "9223372036854775807")]), Err(ResponseCode::MessageIllegal));
        for name in [LEVEL, "TIMER_DELAY_SEC", "TIMER_DELAY_MS", DELIVER_AT] {
            for bad in ["", "1s", "1.5", "99999999999999999999"] {
                assert_eq!(of(&[(name, bad)]), Err(ResponseCode::MessageIllegal), "{name} {bad:?}");
            }
        }
    }
}
