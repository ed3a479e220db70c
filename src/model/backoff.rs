//! How long a push consumer waits between deliveries of a message.
//!
//! * Source: contract §6.3, contract §15: RocketMQ's list by default; a group may have a list of its own, or exponential
//!   waits.

use bytes::{BufMut, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::time::Millis;
use crate::model::units;

/// Most steps of a list.
pub const STEPS_MAX: usize = 64;
/// Longest step.
pub const STEP_MAX: Millis = Millis::from_secs(12 * 3600);

/// The waits of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backoff {
    /// RocketMQ's list of eighteen.
    #[default]
    Standard,
    /// Before the second delivery, the third, …; the last step is repeated.
    Steps(Vec<Millis>),
    /// Each wait is the one before times `multiplier`, up to `max`.
    Exponential {
        /// Before the second delivery.
        initial: Millis,
        max: Millis,
        multiplier: u32,
    },
}

impl Backoff {
    /// From the command line: `default`, `1s,5s,30s`, or `exponential:5s,2h,2`.
    ///
    /// * Errors: a text that names the value, the limit and the form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "use default, a list such as 1s,5s,30s, or exponential:INITIAL,MAX,MULTIPLIER";
        let step = |text: &str| {
            let step = units::time(text, None).ok_or_else(|| format!("'{text}' is not a time; {form}"))?;
            if step > STEP_MAX {
                return Err(format!("'{text}' is longer than {}", STEP_MAX.in_one_unit()));
            }
            Ok(step)
        };
        if text == "default" {
            return Ok(Self::Standard);
        }
        if let Some(rest) = text.strip_prefix("exponential:") {
            let [initial, max, multiplier] = rest.split(',').collect::<Vec<_>>()[..] else {
                return Err(format!("'{text}' has not three values; {form}"));
            };
            let (initial, max) = (step(initial)?, step(max)?);
            let multiplier = multiplier.parse().ok().filter(|times| (1..=100).contains(times));
            let multiplier =
                multiplier.ok_or_else(|| format!("the multiplier of '{text}' is not between 1 and 100"))?;
            if initial > max || initial.0 == 0 {
                return Err(format!("the first wait of '{text}' is 0 or longer than the last"));
            }
            return Ok(Self::Exponential { initial, max, multiplier });
        }
        let steps = text.split(',').map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.len() > STEPS_MAX {
            return Err(format!("{} steps are more than {STEPS_MAX}", steps.len()));
        }
        Ok(Self::Steps(steps))
    }

    /// The text that [`Self::parse`] reads.
    pub fn to_text(&self) -> String {
        match self {
            Self::Standard => "default".into(),
            Self::Steps(steps) => steps.iter().map(|step| step.in_one_unit()).collect::<Vec<_>>().join(","),
            Self::Exponential { initial, max, multiplier } => {
                format!("exponential:{},{},{multiplier}", initial.in_one_unit(), max.in_one_unit())
            }
        }
    }

    /// The bytes for the log.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Standard => out.put_u8(0),
            Self::Steps(steps) => {
                out.put_u8(1);
                out.put_list(steps, |out, step| out.put_u64(step.0));
            }
            Self::Exponential { initial, max, multiplier } => {
                out.put_u8(2);
                out.put_u64(initial.0);
                out.put_u64(max.0);
                out.put_u32(*multiplier);
            }
        }
    }

    /// From the bytes of the log.
    pub fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            0 => Self::Standard,
            1 => Self::Steps(reader.list(|reader| Ok(Millis(reader.u64()?)))?),
            2 => Self::Exponential {
                initial: Millis(reader.u64()?),
                max: Millis(reader.u64()?),
                multiplier: reader.u32()?,
            },
            value => return Err(reader.unknown(value.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written_in_text_and_in_bytes() {
        for text in ["default", "1s,5s,30s", "exponential:5s,2h,2", "0ms,500ms"] {
            let backoff = Backoff::parse(text).unwrap();
            assert_eq!(Backoff::parse(&backoff.to_text()).as_ref(), Ok(&backoff), "{text}");
            let mut out = BytesMut::new();
            backoff.encode(&mut out);
            assert_eq!(Backoff::decode(&mut Reader::new(out.freeze(), "backoff")), Ok(backoff));
        }
        let bad = ["", "1", "1s,,2s", "13h", "exponential:5s,2h", "exponential:5s,1s,2", "exponential:0s,1s,2"];
        for text in bad {
            assert!(Backoff::parse(text).is_err(), "{text}");
        }
        assert!(Backoff::parse(&vec!["1s"; 65].join(",")).unwrap_err().contains("more than 64"));
    }
}
