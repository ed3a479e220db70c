//! Values out of texts: numbers with bounds, durations, sizes, choices. Every complaint names the
//! place, the value, the limit and the remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::config::characters::setting;
use crate::config::host::host;
use crate::config::{Effective, Key, Kind, Origin, Status};
use crate::model::{DiskMark, Millis, units};

/// Longest path and longest name in one that Linux takes.
const PATH_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;

/// A node that needs more of its disk free could hardly use it.
const DISK_PERCENT_MAX: u8 = 50;
/// No disk is larger.
const DISK_BYTES_MAX: u64 = 1 << 60;

/// The settings given, and what is wrong with them.
pub(super) struct Values<'a> {
    keys: &'static [Key],
    given: &'a BTreeMap<&'static str, (String, Origin)>,
    pub errors: &'a mut Vec<String>,
    /// Keys that were complained about.
    refused: BTreeSet<&'static str>,
    /// Values that follow from others, of keys that were not set.
    decided: BTreeMap<&'static str, String>,
    /// What is legal but worth a word, with its place.
    pub notes: Vec<String>,
}

impl<'a> Values<'a> {
    /// `refused` are keys whose values cannot be used at all, and are not among those given.
    pub fn new(
        keys: &'static [Key],
        given: &'a BTreeMap<&'static str, (String, Origin)>,
        errors: &'a mut Vec<String>,
        refused: BTreeSet<&'static str>,
    ) -> Self {
        Self { keys, given, errors, refused, decided: BTreeMap::new(), notes: Vec::new() }
    }

    /// Every honoured key with its value.
    pub fn effective(&self) -> Vec<Effective> {
        let honoured = self.keys.iter().filter(|key| matches!(key.status, Status::Honoured));
        honoured
            .map(|key| {
                let (value, origin) = self.lookup(key.name);
                let value = self.decided.get(key.name).map_or(value, String::as_str);
                Effective { key: key.name, value: value.to_owned(), origin }
            })
            .collect()
    }

    fn lookup(&self, name: &str) -> (&str, Origin) {
        match self.given.get(name) {
            Some((value, origin)) => (value, origin.clone()),
            None => {
                let key = self.keys.iter().find(|key| key.name == name);
                (key.expect("honoured keys are in the table").default, Origin::Default)
            }
        }
    }

    pub fn text(&self, name: &str) -> String {
        self.lookup(name).0.to_owned()
    }

    pub fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Whether somebody set it.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Sets what nobody set.
    pub fn decide(&mut self, name: &'static str, value: &str) {
        self.decided.insert(name, value.to_owned());
    }

    /// Whether a complaint about a key was made.
    pub fn is_refused(&self, name: &str) -> bool {
        self.refused.contains(name)
    }

    /// Complains about a key, once: what else is wrong with a value that cannot be used says nothing.
    pub fn complain(&mut self, name: &'static str, what: impl std::fmt::Display) {
        if self.refused.contains(name) {
            return;
        }
        let (value, origin) = self.lookup(name);
        let message = format!("{origin}: {}: {what}", setting(name, value));
        self.errors.push(message);
        self.refused.insert(name);
    }

    /// Remarks on a key whose value can be used.
    pub fn note(&mut self, name: &'static str, what: impl std::fmt::Display) {
        let (value, origin) = self.lookup(name);
        let message = format!("{origin}: {}: {what}", setting(name, value));
        self.notes.push(message);
    }

    pub fn bool(&mut self, name: &'static str) -> bool {
        match self.text(name).to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.complain(name, "is neither true nor false");
                false
            }
        }
    }

    /// Whether the machine is to decide.
    pub fn is_auto(&self, name: &str) -> bool {
        self.lookup(name).0.eq_ignore_ascii_case("auto")
    }

    /// A number, size or duration inside its bounds.
    pub fn number(&mut self, name: &'static str) -> u64 {
        let key = self.keys.iter().find(|key| key.name == name).expect("honoured keys are in the table");
        let (number, range, form) = read_number(&key.kind, &self.text(name));
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.complain(name, format!("must be {form}"));
            *range.start()
        })
    }

    /// A share of a disk, a size, or both.
    pub fn disk_mark(&mut self, name: &'static str) -> DiskMark {
        let text = self.text(name);
        parse_disk_mark(&text).unwrap_or_else(|| {
            self.complain(name, "is not a share such as 5% (up to 50%), a size such as 4GiB, or both: 5%,4GiB");
            DiskMark { percent: None, bytes: Some(0) }
        })
    }

    /// A name that must be one.
    pub fn name(&mut self, name: &'static str) -> String {
        let text = self.text(name);
        if text.is_empty() {
            self.complain(name, "must not be empty; remove the line for the default");
        }
        text
    }

    /// A host, as it can be dialled or listened on.
    pub fn host(&mut self, name: &'static str) -> Option<String> {
        match host(&self.text(name)) {
            Ok(host) => Some(host),
            Err(what) => {
                self.complain(name, what);
                None
            }
        }
    }

    /// A file or folder, if one is set.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let text = self.optional(name)?;
        if text.len() > PATH_BYTES_MAX || text.split('/').any(|part| part.len() > NAME_BYTES_MAX) {
            let what = format!("is too long: a path has up to {PATH_BYTES_MAX} bytes, a name in it {NAME_BYTES_MAX}");
            self.complain(name, what);
        }
        Some(text.into())
    }

    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(name);
        let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(&text));
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.complain(name, format!("is not one of {}", names.join(", ")));
        }
        found.map(|(_, value)| *value)
    }
}

/// The number that a text is, the bounds that it must keep to, and what it must be, in words.
fn read_number(kind: &Kind, text: &str) -> (Option<u64>, RangeInclusive<u64>, String) {
    match kind {
        Kind::Number(range) => {
            let form = format!("a whole number from {} to {}", range.start(), range.end());
            (units::whole(text), range.clone(), form)
        }
        Kind::AutoNumber(range) => {
            let form = format!("auto, or a whole number from {} to {}", range.start(), range.end());
            (units::whole(text), range.clone(), form)
        }
        Kind::Bytes(range) => {
            let [least, most] = [range.start(), range.end()].map(|bytes| units::size_text(*bytes));
            (
                units::size(text),
                range.clone(),
                format!("a size from {least} to {most}: bytes, or with a unit such as KiB or MiB"),
            )
        }
        Kind::Millis(range) => {
            let [least, most] = [range.start(), range.end()].map(|millis| Millis(*millis).in_one_unit());
            let form = format!("a time from {least} to {most}: milliseconds, or with a unit such as 500ms or 30s");
            (units::time(text, Some(Millis(1))).map(|length| length.0), range.clone(), form)
        }
        Kind::Text
        | Kind::Path
        | Kind::Word
        | Kind::Host
        | Kind::Members
        | Kind::Bool
        | Kind::Kept
        | Kind::DiskMark
        | Kind::HoursOfDay => unreachable!("it is no number"),
    }
}

/// A share of a disk, a size, or both, in either order.
pub(super) fn parse_disk_mark(text: &str) -> Option<DiskMark> {
    let mut mark = DiskMark { percent: None, bytes: None };
    for part in text.split(',').map(str::trim) {
        match part.strip_suffix('%') {
            Some(digits) if mark.percent.is_none() => {
                let percent = digits.trim_end().parse().ok().filter(|percent| *percent <= DISK_PERCENT_MAX)?;
                mark.percent = Some(percent);
            }
            None if mark.bytes.is_none() => {
                mark.bytes = Some(units::size(part).filter(|bytes| *bytes <= DISK_BYTES_MAX)?)
            }
            Some(_) | None => return None,
        }
    }
    Some(mark)
}
