//! A planted bug for the drill: what is applied depends on who applies it. Debug builds only.

use bytes::Bytes;

use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::store::kv::{Space, WriteBatch};

/// Adds a write to a batch that no two processes agree about.
pub(super) fn differ(batch: &mut WriteBatch) {
    if planted_bug::is(PlantedBug::ReplicasDiffer) {
        let own = Bytes::copy_from_slice(&std::process::id().to_be_bytes());
        batch.writes.push((Space::Meta, Bytes::from_static(b"planted"), Some(own)));
    }
}
