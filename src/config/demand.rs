//! Keys that ask for protection, replication or a role. What this build does not give ends the start: a node that went on
//! would look protected, or replicated, and not be so.

use std::collections::BTreeMap;

use crate::config::Origin;

/// The values that ask for nothing this build does not give; an empty one never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harmless {
    /// These, in any letter case.
    Words(&'static [&'static str]),
    /// These; in a replica group any other too, for there RocketMQ itself puts another in its place.
    WordsOrGroup(&'static [&'static str]),
    /// Numbers up to the majority of the members.
    UpToMajority,
    /// Numbers up to that of the members.
    UpToMembers,
}

/// Whether a replica group is asked for: it is by its members, or by RocketMQ's switch.
pub(super) fn is_group(given: &BTreeMap<&'static str, (String, Origin)>) -> bool {
    let value = |key| given.get(key).map_or("", |(value, _)| value.as_str());
    value("enableDLegerCommitLog").eq_ignore_ascii_case("true") || !value("dLegerPeers").is_empty()
}

/// Whether a value asks for nothing that is not given.
pub(super) fn is_harmless(harmless: Harmless, value: &str, is_group: bool, members: usize) -> bool {
    let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    let is_at_most = |most: usize| value.parse::<usize>().is_ok_and(|number| number <= most);
    value.is_empty()
        || match harmless {
            Harmless::Words(words) => is_one_of(words),
            Harmless::WordsOrGroup(words) => is_group || is_one_of(words),
            Harmless::UpToMajority => is_at_most(members / 2 + 1),
            Harmless::UpToMembers => is_at_most(members),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_values_pass_and_no_others() {
        let passes = |harmless, is_group, values: &[&str]| -> Vec<bool> {
            values.iter().map(|value| is_harmless(harmless, value, is_group, 3)).collect()
        };
        let off = Harmless::Words(&["false"]);
        assert_eq!(passes(off, true, &["", "false", "FALSE", "true", "yes"]), [true, true, true, false, false]);
        let first = Harmless::WordsOrGroup(&["0"]);
        assert_eq!(passes(first, false, &["0", "1"]), [true, false]);
        assert_eq!(passes(first, true, &["0", "1"]), [true, true]);
        let numbers = ["2", "3", "4", "-1", "x"];
        assert_eq!(passes(Harmless::UpToMajority, true, &numbers), [true, false, false, false, false]);
        assert_eq!(passes(Harmless::UpToMembers, true, &numbers), [true, true, false, false, false]);
    }
}
