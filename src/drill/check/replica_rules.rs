//! Replicas side by side: C14.

use std::collections::BTreeMap;

use crate::drill::check::history_index::HistoryIndex;
use crate::drill::check::verdict::Rule;
use crate::drill::history::Applied;

impl HistoryIndex<'_> {
    /// How many replicas were compared at one entry, at most.
    pub fn equal_replicas(&mut self) -> usize {
        let mut by_entry: BTreeMap<u64, BTreeMap<&str, (Applied, u64)>> = BTreeMap::new();
        for (node, applied, number) in &self.digests {
            by_entry.entry(applied.index).or_default().insert(node, (*applied, *number));
        }
        let mut found = Vec::new();
        for (entry, nodes) in &by_entry {
            let mut nodes = nodes.iter();
            let Some((one, (applied, number))) = nodes.next() else { continue };
            for (other, (theirs, their_number)) in nodes.filter(|(_, (theirs, _))| theirs != applied) {
                let how = match (theirs.content == applied.content, theirs.running == applied.running) {
                    (false, true) => "wrote the same and have not the same",
                    (true, false) => "have the same and did not write the same",
                    _ => "have not the same",
                };
                found.push((format!("at entry {entry} {one} and {other} {how}"), vec![*number, *their_number]));
            }
        }
        self.find_all(Rule::ReplicasDiffer, found);
        by_entry.values().map(BTreeMap::len).max().unwrap_or(0)
    }
}
