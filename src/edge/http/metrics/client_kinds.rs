//! The living clients of this node by kind: producers and consumers, by language, version and group.

use std::collections::BTreeMap;

use crate::node::Sessions;

/// Kinds of clients that are told apart.
const KINDS_MAX: usize = 1000;

/// Clients by kind. A client is a producer unless it named a group.
#[derive(Debug, Clone, Default)]
pub(in crate::edge::http) struct ClientKinds {
    /// By language and version.
    pub producers: BTreeMap<(String, String), u64>,
    /// By group, language and version.
    pub consumers: BTreeMap<(String, String, String), u64>,
    /// Clients of kinds for which there was no room.
    pub left_out: u64,
}

impl ClientKinds {
    /// The living clients of this node.
    pub fn of(sessions: &Sessions) -> Self {
        let mut kinds = Self::default();
        sessions.each_living(|client, group| {
            let (language, version) = (client.language.to_lowercase(), client.version.clone());
            let is_full = kinds.producers.len() + kinds.consumers.len() >= KINDS_MAX;
            match group {
                Some(group) => {
                    let kind = (group.to_string(), language, version);
                    if is_full && !kinds.consumers.contains_key(&kind) {
                        kinds.left_out += 1;
                    } else {
                        *kinds.consumers.entry(kind).or_insert(0) += 1;
                    }
                }
                None => {
                    let kind = (language, version);
                    if is_full && !kinds.producers.contains_key(&kind) {
                        kinds.left_out += 1;
                    } else {
                        *kinds.producers.entry(kind).or_insert(0) += 1;
                    }
                }
            }
        });
        kinds
    }
}
