//! Puts a configuration together from its sources, and reports everything that is wrong with it.

use std::collections::BTreeMap;

use crate::config::broker::BrokerConfig;
use crate::config::keys::{KEYS, Key, Status};
use crate::config::origin::{Effective, Origin};
use crate::config::value::Values;
use crate::config::{broker, properties};

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

/// Reads and checks a configuration.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut given: BTreeMap<&'static str, (String, Origin)> = BTreeMap::new();
    let mut warnings = Vec::new();
    if let Some((name, text)) = sources.file {
        match properties::parse(text) {
            Ok(lines) => {
                for line in lines {
                    let origin = Origin::File { name: name.to_owned(), line: line.number };
                    let Some(key) = known(&line.key, &origin, &mut errors) else { continue };
                    if let Some((_, Origin::File { line: before, .. })) = given.get(key.name) {
                        errors.push(format!("{origin}: '{}' is already set in line {before}; keep one", key.name));
                    }
                    given.insert(key.name, (line.value, origin));
                }
            }
            Err(error) => errors.push(format!("{name}: {error}")),
        }
    }
    for (source, origin) in [(&sources.environment, Origin::Environment), (&sources.flags, Origin::Flag)] {
        for (name, value) in source {
            let Some(key) = known(name, &origin, &mut errors) else { continue };
            given.insert(key.name, (value.clone(), origin.clone()));
        }
    }
    for key in KEYS {
        if let (Status::Ignored(reason), Some((_, origin))) = (key.status, given.get(key.name)) {
            warnings.push(format!("{origin}: '{}' is accepted without effect: {reason}", key.name));
        }
    }
    let mut values = Values::new(&given, &mut errors);
    let config = broker::build(&mut values);
    let effective = values.effective();
    match config {
        Some(config) if errors.is_empty() => {
            broker::warn(&config, &mut warnings);
            Ok(Loaded { config, effective, warnings })
        }
        _ => Err(ConfigErrors(errors)),
    }
}

fn known(name: &str, origin: &Origin, errors: &mut Vec<String>) -> Option<&'static Key> {
    let found = KEYS.iter().find(|key| key.name == name);
    if found.is_none() {
        let similarity = |key: &&Key| {
            let similarity = strsim::jaro_winkler(&key.name.to_lowercase(), &name.to_lowercase());
            (similarity * 1000.0) as u32
        };
        let nearest = KEYS.iter().max_by_key(similarity).filter(|key| similarity(key) > 800);
        let hint = nearest.map_or_else(String::new, |key| format!("; did you mean '{}'?", key.name));
        errors.push(format!("{origin}: unknown key '{name}'{hint}"));
    }
    found
}
