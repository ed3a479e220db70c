//! Planted bugs for tests: what is applied depends on who applies it; a build with a command that others do not know. Debug
//! builds only.

use bytes::Bytes;

use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::machine::planted;
use crate::store::kv::{Space, WriteBatch};

/// Adds a write to a batch that no two processes agree about.
pub(super) fn differ(batch: &mut WriteBatch) {
    if planted_bug::is(PlantedBug::ReplicasDiffer) {
        let own = Bytes::copy_from_slice(&std::process::id().to_be_bytes());
        batch.writes.push((Space::Meta, Bytes::from_static(b"planted"), Some(own)));
    }
}

/// Lets this process be a newer build, if that is planted.
pub(super) fn be_newer() {
    let too_early = planted_bug::is(PlantedBug::NewCommandTooEarly);
    if too_early || planted_bug::is(PlantedBug::NewCommand) {
        planted::know(too_early);
    }
}
