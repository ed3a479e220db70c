//! The key-values of a namespace: a body in JSON.
//!
//! Source: remoting §3.1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValueTable {
    pub table: BTreeMap<String, String>,
}
