//! Numbers with units as people write them, on the command line and in configurations: one reader for all times and one for all
//! sizes, and how limits are shown.
//!
//! Nothing is rounded, and what does not fit into 64 bits is the largest number: so it is refused as too large, not as no number.

use crate::model::Millis;

const KIB: u64 = 1 << 10;
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Larger ones first, for what is shown. A prefix stands for 1024 in whichever of its forms.
const SIZES: [(&str, u64); 5] =
    [("TiB", KIB * KIB * KIB * KIB), ("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB), ("KiB", KIB), ("B", 1)];

/// A whole number: digits alone.
pub fn whole(text: &str) -> Option<u64> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| text.parse().unwrap_or(u64::MAX))
}

/// A time such as `500ms`, `90s`, `2m`, `36h` or `7d`. A number without a unit is so many of `bare`, and none if that is
/// `None`.
pub fn time(text: &str, bare: Option<Millis>) -> Option<Millis> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => bare?.0,
        unit => TIMES.iter().find(|(name, _)| *name == unit)?.1,
    };
    Some(Millis(number.saturating_mul(factor)))
}

/// A size in bytes such as `200`, `64KiB`, `4MB` or `1g`.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let is_it = |name: &str| {
        let forms = [name, &name[..1], &name.replace('i', "")];
        forms.iter().any(|form| form.eq_ignore_ascii_case(unit))
    };
    let factor = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| is_it(name))?.1 };
    Some(number.saturating_mul(factor))
}

/// The number, and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    Some((whole(&text[..digits])?, text[digits..].trim()))
}

/// A size in the largest unit that gives a whole number: `64MiB`.
pub fn size_text(bytes: u64) -> String {
    let fits = SIZES.iter().find(|(_, factor)| bytes.is_multiple_of(*factor));
    match fits {
        Some((unit, factor)) if bytes > 0 && *factor > 1 => format!("{}{unit}", bytes / factor),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        let of = |text| time(text, None).map(|length| length.0);
        for (text, millis) in
            [("500ms", 500), ("90s", 90_000), ("2m", 120_000), ("36 h", 129_600_000), ("7d", 604_800_000), ("0s", 0)]
        {
            assert_eq!(of(text), Some(millis), "{text}");
        }
        assert_eq!(of("18446744073709551616d"), Some(u64::MAX));
        for text in ["", "5", "s", "-1s", "+1s", "1.5h", "1h30m", "5S", "7 days", "1w", " 5s", "५s"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(time("72", Some(Millis(3_600_000))), Some(Millis(259_200_000)));
        assert_eq!(time("72s", Some(Millis(3_600_000))), Some(Millis(72_000)));
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024_in_every_form() {
        for (text, bytes) in [
            ("0", 0),
            ("200", 200),
            ("200B", 200),
            ("4k", 4096),
            ("4KB", 4096),
            ("4 KiB", 4096),
            ("1mib", 1 << 20),
            ("3G", 3 << 30),
            ("2TB", 2 << 40),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!(size("99999999999999999999T"), Some(u64::MAX));
        for text in ["", "KB", "-1", "+1", "1.5KB", "1 000", "4kbit", "4Ki", "1e6", "0x10"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn limits_are_shown_as_they_can_be_written() {
        let shown = [0, 1, 1000, 1024, 1_048_576, 4_194_304, 1 << 40, (1 << 40) + 1].map(size_text);
        assert_eq!(shown, ["0", "1", "1000", "1KiB", "1MiB", "4MiB", "1TiB", "1099511627777"]);
        for bytes in [0, 7, 1024, 3 << 20, 5 << 40] {
            assert_eq!(size(&size_text(bytes)), Some(bytes));
        }
    }
}
