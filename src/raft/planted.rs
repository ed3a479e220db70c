//! Planted bugs for tests: what is applied depends on who applies it; a repair writes what nobody sent; a build with a command
//! that others do not know. Debug builds only.

use bytes::Bytes;

use crate::env::fault::planted_bug::{self, PlantedBug};
use crate::machine::{Batch, planted};
use crate::store::kv::{Space, WriteBatch};
use crate::store::log::examine::{EntryRange, Examined, Remedy};
use crate::store::log::record::Record;

/// Adds a write to a batch that no two processes agree about.
pub(super) fn differ(batch: &mut WriteBatch) {
    if planted_bug::is(PlantedBug::ReplicasDiffer) {
        let own = Bytes::copy_from_slice(&std::process::id().to_be_bytes());
        batch.writes.push((Space::Meta, Bytes::from_static(b"planted"), Some(own)));
    }
}

/// Has all of a damaged segment repaired, so that any damage shows the bug.
pub(super) fn all_is_bad(mut examined: Examined) -> Examined {
    let is_repaired = examined.is_sealed() && examined.remedy != Remedy::None;
    if planted_bug::is(PlantedBug::RepairKeepsOtherBytes) && is_repaired {
        examined.bad = vec![EntryRange { from: examined.first, to: examined.next }];
        examined.remedy = Remedy::Rebuild;
    }
    examined
}

/// Changes the last byte of the last message of each record, but for the last one of several: the next segment names that.
pub(super) fn change_messages(records: &mut [Record]) {
    if !planted_bug::is(PlantedBug::RepairKeepsOtherBytes) {
        return;
    }
    let count = (records.len() - 1).max(1);
    for record in &mut records[..count] {
        let has_messages = Batch::decode(record.body.clone()).is_ok_and(|batch| batch.message_count() > 0);
        if has_messages {
            let mut body = record.body.to_vec();
            *body.last_mut().expect("it has a message") ^= 1;
            record.body = body.into();
        }
    }
}

/// Lets this process be a newer build, if that is planted.
pub(super) fn be_newer() {
    let too_early = planted_bug::is(PlantedBug::NewCommandTooEarly);
    if too_early || planted_bug::is(PlantedBug::NewCommand) {
        planted::know(too_early);
    }
}
