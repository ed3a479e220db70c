//! Puts a configuration together from its sources, and reports everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::broker::BrokerConfig;
use crate::config::keys::{KEYS, Key, Status};
use crate::config::origin::{Effective, Origin};
use crate::config::value::Values;
use crate::config::{broker, characters, demand, properties};

/// Environment variables `RAFTMQ_CONF_<key>` set keys.
pub const ENVIRONMENT_PREFIX: &str = "RAFTMQ_CONF_";

/// A configuration that can be started with.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: BrokerConfig,
    /// Every honoured key, in the table's order.
    pub effective: Vec<Effective>,
    /// For the operator.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// What a configuration is made of; later sources win.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// File name and text.
    pub file: Option<(&'a str, &'a str)>,
    /// Key and value of each variable with [`ENVIRONMENT_PREFIX`], without it.
    pub environment: Vec<(String, String)>,
    /// `-D key=value`.
    pub flags: Vec<(String, String)>,
}

/// What the sources set, and what there is to say about it.
pub(super) struct Given {
    keys: &'static [Key],
    pub values: BTreeMap<&'static str, (String, Origin)>,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    /// Keys whose values cannot be used and are not among them.
    pub refused: BTreeSet<&'static str>,
}

/// Reads and checks a configuration.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
    let Given { values: given, mut errors, mut warnings, refused, .. } = Given::read(KEYS, sources);
    let mut values = Values::new(KEYS, &given, &mut errors, refused);
    let config = broker::build(&mut values);
    accept_without_effect(&mut values, &given, config.as_ref(), &mut warnings);
    let effective = values.effective();
    warnings.append(&mut values.notes);
    match config {
        Some(config) if errors.is_empty() => {
            broker::warn(&config, &mut warnings);
            Ok(Loaded { config, effective, warnings })
        }
        _ => Err(ConfigErrors(errors)),
    }
}

impl Given {
    /// What the sources say about these keys.
    pub fn read(keys: &'static [Key], sources: &Sources<'_>) -> Self {
        let (values, errors, warnings, refused) = Default::default();
        let mut given = Self { keys, values, errors, warnings, refused };
        if let Some((name, text)) = sources.file {
            given.read_file(name, text);
        }
        for (source, origin) in [(&sources.environment, Origin::Environment), (&sources.flags, Origin::Flag)] {
            for (name, value) in source {
                given.read_value(name, value, &origin);
            }
        }
        given
    }

    fn read_file(&mut self, file: &str, text: &str) {
        let cleaned = characters::clean_file(text);
        for (line, column, letter) in &cleaned.invisible {
            let letter = characters::named(*letter);
            self.errors.push(format!("{file}:{line}:{column}: {letter} stands here; remove it"));
        }
        if let Some((line, column, letter)) = cleaned.blanks.first() {
            let others = match cleaned.blanks.len() - 1 {
                0 => String::new(),
                others => format!(" (and {others} more like it)"),
            };
            let letter = characters::named(*letter);
            self.warnings.push(format!("{file}:{line}:{column}: {letter} is taken for a blank{others}"));
        }
        if let Some(line) = cleaned.ends_open {
            self.errors
                .push(format!("{file}:{line}: the last line ends in '\\', which joins it to a line that is missing"));
        }
        match properties::parse(&cleaned.text) {
            Ok(lines) => {
                for line in lines {
                    let origin = Origin::File { name: file.to_owned(), line: line.number };
                    self.set(&line.key, &line.value, origin);
                }
            }
            Err(error) => self.errors.push(format!("{file}: {error}")),
        }
    }

    /// A value that is in no file.
    fn read_value(&mut self, name: &str, value: &str, origin: &Origin) {
        let cleaned = characters::clean_value(value);
        if let Some((_, at, letter)) = cleaned.invisible.first() {
            let (setting, letter) = (characters::setting(name, value), characters::named(*letter));
            self.errors.push(format!("{origin}: {setting}: has {letter} as character {at}; remove it"));
        }
        if let Some((_, at, letter)) = cleaned.blanks.first() {
            let (key, letter) = (characters::shown(name), characters::named(*letter));
            self.warnings.push(format!("{origin}: '{key}': {letter} as character {at} is taken for a blank"));
        }
        self.set(name, &cleaned.text, origin.clone());
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin) {
        let Some(key) = known(self.keys, name, &origin, &mut self.errors) else { return };
        let value = value.trim();
        let is_in_file = |origin: &Origin| matches!(origin, Origin::File { .. });
        if let Some((_, Origin::File { line: before, .. })) = self.values.get(key.name)
            && is_in_file(&origin)
        {
            self.errors.push(format!("{origin}: '{}' is already set in line {before}; keep one", key.name));
        }
        let is_read = !matches!(key.status, Status::Ignored(_));
        if let Some(fault) = characters::fault(value, key.kind.is_ascii()).filter(|_| is_read) {
            self.errors.push(format!("{origin}: {}: {fault}", characters::setting(key.name, value)));
            self.refused.insert(key.name);
            return;
        }
        self.values.insert(key.name, (value.to_owned(), origin));
    }
}

/// Warns about each key that does nothing, and complains about what is asked for and not given.
fn accept_without_effect(
    values: &mut Values<'_>,
    given: &BTreeMap<&'static str, (String, Origin)>,
    config: Option<&BrokerConfig>,
    warnings: &mut Vec<String>,
) {
    let is_group = demand::is_group(given) || values.is_refused("dLegerPeers");
    for key in KEYS {
        let Some((value, origin)) = given.get(key.name) else { continue };
        let reason = match key.status {
            Status::Honoured => continue,
            Status::Ignored(reason) => reason,
            Status::Demanding { harmless, reason, remedy } => {
                // Without readable members nobody knows how many are enough; what is wrong with them is said.
                let members = config.map_or(usize::MAX - 1, |config| config.peers.len());
                if !demand::is_harmless(harmless, value, is_group, members) {
                    values.complain(key.name, remedy);
                    continue;
                }
                reason
            }
        };
        warnings.push(format!("{origin}: '{}' is accepted without effect: {reason}", key.name));
    }
}

fn known(keys: &'static [Key], name: &str, origin: &Origin, errors: &mut Vec<String>) -> Option<&'static Key> {
    let found = keys.iter().find(|key| key.name == name);
    if found.is_some() {
        return found;
    }
    if let Some(fault) = characters::fault_of_key(name) {
        errors.push(format!("{origin}: {fault}"));
        return None;
    }
    let similarity = |key: &&Key| {
        let similarity = strsim::jaro_winkler(&key.name.to_lowercase(), &name.to_lowercase());
        (similarity * 1000.0) as u32
    };
    let nearest = keys.iter().max_by_key(similarity).filter(|key| similarity(key) > 800);
    let hint = nearest.map_or_else(String::new, |key| format!("; did you mean '{}'?", key.name));
    errors.push(format!("{origin}: unknown key '{}'{hint}", characters::shown(name)));
    None
}
