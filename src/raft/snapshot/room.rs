//! Whether a snapshot fits on this node's disk, beside the log and state in use and over what an earlier pull left of it.

use crate::model::DiskRoom;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::target::StagedBytes;

/// Beside what is to be pulled: what goes on meanwhile.
pub(super) const SPARE_BYTES: u64 = 16 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// What is missing has no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {} MiB on this node's disk, beside the log and state that are there, and {} MiB are free above diskHardMark: \
     make room",
    needed / MIB,
    free / MIB
)]
pub(super) struct NoRoom {
    pub needed: u64,
    pub free: u64,
}

/// What is staged already, also of another snapshot, is written over or removed: its bytes are not needed again.
pub(super) fn check_room(manifest: &Manifest, staged: &StagedBytes, room: &DiskRoom) -> Result<(), NoRoom> {
    let is_there = |name: &str, bytes: u64| staged.state.get(name).map_or(0, |staged| bytes.min(*staged));
    let state: u64 = manifest.files.iter().map(|file| file.bytes - is_there(&file.name, file.bytes)).sum();
    let log = manifest.log_bytes.saturating_sub(staged.log);
    let (needed, free) = (state + log + SPARE_BYTES, room.free.saturating_sub(room.hard));
    if needed <= free { Ok(()) } else { Err(NoRoom { needed, free }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogIndex, NodeId, Term};
    use crate::store::log::record::RecordId;
    use crate::store::state_files::StateFile;

    const GIB: u64 = 1024 * MIB;

    /// Two files of 3 GiB, and 4 GiB of log.
    fn manifest() -> Manifest {
        let file = |name: &str| StateFile { name: name.to_owned(), bytes: 3 * GIB, crc32c: 0 };
        Manifest {
            source: 1,
            cluster: "c".into(),
            group: "g".into(),
            cluster_version: 1,
            applied: RecordId { term: Term(1), node: NodeId(1), index: LogIndex(9) },
            members: Vec::new(),
            first: LogIndex(1),
            before: None,
            log_bytes: 4 * GIB,
            files: vec![file("a"), file("b")],
        }
    }

    fn staged(files: &[(&str, u64)], log: u64) -> StagedBytes {
        StagedBytes { state: files.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect(), log }
    }

    fn needs(staged: &StagedBytes) -> u64 {
        check_room(&manifest(), staged, &DiskRoom::default()).unwrap_err().needed
    }

    #[test]
    fn p18_what_is_staged_already_needs_no_room_a_second_time() {
        // 10 GiB, of which 8 are there when it breaks off, on a disk that had 15 free, 1 of them below the hard mark.
        let staged = staged(&[("a", 3 * GIB), ("b", 3 * GIB)], 2 * GIB);
        let room = |free| DiskRoom { free, hard: GIB, ..DiskRoom::default() };
        assert_eq!(check_room(&manifest(), &StagedBytes::default(), &room(15 * GIB)), Ok(()));
        assert_eq!(check_room(&manifest(), &staged, &room(7 * GIB)), Ok(()));
        let all = check_room(&manifest(), &StagedBytes::default(), &room(7 * GIB));
        assert_eq!(all, Err(NoRoom { needed: 10 * GIB + SPARE_BYTES, free: 6 * GIB }));
        assert_eq!(check_room(&manifest(), &staged, &room(3 * GIB + SPARE_BYTES)), Ok(()));
        assert!(check_room(&manifest(), &staged, &room(3 * GIB + SPARE_BYTES - 1)).is_err());
        assert!(check_room(&manifest(), &staged, &room(0)).is_err());
    }

    #[test]
    fn only_what_takes_the_place_of_the_same_counts_as_there() {
        assert_eq!(needs(&staged(&[], 0)), 10 * GIB + SPARE_BYTES);
        assert_eq!(needs(&staged(&[("a", 9 * GIB)], 0)), 7 * GIB + SPARE_BYTES, "no more than the file has");
        assert_eq!(needs(&staged(&[("other", 3 * GIB)], 0)), 10 * GIB + SPARE_BYTES);
        assert_eq!(needs(&staged(&[], 99 * GIB)), 6 * GIB + SPARE_BYTES);
    }
}
