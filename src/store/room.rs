//! Room on this node's disk: watches what is free, keeps a reserve, and says what the node can still do.
//!
//! The owner looks often ([`StoreRoom::look`]); between two looks what is taken into the log is counted
//! ([`StoreRoom::take`]). The log's writer asks for the reserve itself when a write finds the disk full.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::env::disk::Disk;
use crate::model::{DiskMark, DiskRoom, RoomState};
use crate::store::reserve::Reserve;

/// The reserve is given away, and grows again, in this many parts.
const RESERVE_PARTS: u64 = 8;
/// Of the hard mark, this part is left when nothing more is taken in: for what is under way, votes and small files.
const LAST_PART: u64 = 8;
const LAST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A record costs more than its bytes: its head, and blocks of the file system.
const OVERHEAD_BYTES: u64 = 256;

/// What should stay free, and what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomMarks {
    /// `diskSoftMark`.
    pub soft: DiskMark,
    /// `diskHardMark`.
    pub hard: DiskMark,
    /// `diskReserve`.
    pub reserve: DiskMark,
}

/// What is taken into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomUse {
    /// New messages: down to the hard mark.
    Messages,
    /// All else: down to the end of the reserve.
    Anything,
}

/// The room of a store folder. All threads share it.
pub struct StoreRoom {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    marks: RoomMarks,
    reserve: Mutex<Reserve>,
    now: watch::Sender<DiskRoom>,
    /// Bytes taken since the last look.
    taken: AtomicU64,
    /// The most bytes that there was no room for, although they were no messages.
    refused: AtomicU64,
}

impl StoreRoom {
    /// Over a folder that exists; looks for the first time.
    ///
    /// * Errors: the file system cannot be asked.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, marks: RoomMarks) -> io::Result<Self> {
        let reserve = Mutex::new(Reserve::open(disk.clone(), folder)?);
        let room = Self {
            disk,
            folder: folder.to_owned(),
            marks,
            reserve,
            now: watch::Sender::new(DiskRoom::default()),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        room.look(0, 0)?;
        Ok(room)
    }

    /// As last seen.
    pub fn now(&self) -> DiskRoom {
        *self.now.borrow()
    }

    /// Changes with each look that finds something else.
    pub fn watch(&self) -> watch::Receiver<DiskRoom> {
        self.now.subscribe()
    }

    /// Looks how much is free. `needed` is what the log and the state may need before the next look: so much is made
    /// free out of the reserve. `waiting` bytes are on their way into the log. Blocks.
    ///
    /// * Errors: the file system cannot be asked.
    pub fn look(&self, needed: u64, waiting: u64) -> io::Result<DiskRoom> {
        let room = self.make_room(needed)?;
        self.taken.store(waiting, Ordering::Relaxed);
        Ok(room)
    }

    /// The same in between: what was taken since the last look still counts.
    pub fn make_room(&self, needed: u64) -> io::Result<DiskRoom> {
        let mut reserve = self.reserve.lock();
        let mut space = self.disk.space(&self.folder)?;
        let (soft, hard) = (self.marks.soft.of(space.total), self.marks.hard.of(space.total));
        let soft = soft.max(hard);
        let whole = self.marks.reserve.of(space.total);
        let part = (whole / RESERVE_PARTS).max(1);
        if space.usable < needed && reserve.bytes() > 0 {
            let missing = (needed - space.usable).div_ceil(part).saturating_mul(part);
            self.shrink(&mut reserve, missing);
            space = self.disk.space(&self.folder)?;
        } else if reserve.bytes() < whole {
            // As much as leaves the soft mark free, so that the reserve alone never makes a disk short.
            let spare = space.free.saturating_sub(soft.saturating_add(part)) / part * part;
            let bytes = (reserve.bytes() + spare).min(whole);
            if bytes > reserve.bytes() {
                if let Err(error) = reserve.grow_to(bytes) {
                    tracing::debug!(%error, bytes, "no space is held in reserve");
                }
                space = self.disk.space(&self.folder)?;
            }
        }
        let mut room = DiskRoom {
            total: space.total,
            free: space.free,
            usable: space.usable,
            reserve: reserve.bytes(),
            soft,
            hard,
            ..DiskRoom::default()
        };
        room.state = self.state_of(&room);
        self.now.send_if_modified(|before| std::mem::replace(before, room) != room);
        Ok(room)
    }

    /// Counts bytes that are taken into the log, if there is room for them; what is counted counts until the next look.
    pub fn take(&self, bytes: u64, what: RoomUse) -> bool {
        let now = self.now();
        let bytes = bytes.saturating_add(OVERHEAD_BYTES);
        let most = match what {
            RoomUse::Messages if !now.has_room() => return false,
            RoomUse::Messages => now.free.saturating_sub(now.hard),
            RoomUse::Anything => now.usable.saturating_add(now.reserve).saturating_sub(last_bytes(&now)),
        };
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= most);
        let is_taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !is_taken && what == RoomUse::Anything {
            self.refused.fetch_max(bytes, Ordering::Relaxed);
        }
        is_taken
    }

    /// The state that follows; out of a worse one only with some room to spare, so that it does not flicker.
    fn state_of(&self, room: &DiskRoom) -> RoomState {
        let before = self.now.borrow().state;
        let last = last_bytes(room).saturating_add(self.refused.load(Ordering::Relaxed));
        let spare = (room.soft - room.hard) / 8;
        let at = |spare: u64| {
            if room.usable.saturating_add(room.reserve) < last.saturating_add(spare.min(last)) {
                RoomState::Full
            } else if room.free < room.hard.saturating_add(spare) {
                RoomState::Hard
            } else if room.free < room.soft.saturating_add(spare) {
                RoomState::Soft
            } else {
                RoomState::Enough
            }
        };
        let (without, with) = (at(0), at(spare));
        let state = if without < before { with.min(before) } else { without };
        if state < RoomState::Full {
            self.refused.store(0, Ordering::Relaxed);
        }
        state
    }

    /// Gives up a part of the reserve, for whoever met a full disk; false if none is left.
    pub fn release_reserve(&self) -> bool {
        let mut reserve = self.reserve.lock();
        let part = (self.marks.reserve.of(self.now().total) / RESERVE_PARTS).max(1);
        let before = reserve.bytes();
        self.shrink(&mut reserve, part);
        reserve.bytes() < before
    }

    fn shrink(&self, reserve: &mut Reserve, by: u64) {
        let (before, left) = (reserve.bytes(), reserve.bytes().saturating_sub(by));
        match reserve.shrink_to(left) {
            Ok(()) if before > left => tracing::warn!(left, "the disk is short of room: the reserve is used"),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "the reserve cannot be used"),
        }
    }
}

/// What has to be left for what is under way.
fn last_bytes(room: &DiskRoom) -> u64 {
    (room.hard / LAST_PART).min(LAST_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fault::sim::SimDisk;

    /// Small, so that a disk full of them fits in memory.
    const UNIT: u64 = 1 << 16;

    fn mark(bytes: u64) -> DiskMark {
        DiskMark { percent: None, bytes: Some(bytes) }
    }

    /// On a disk of 100 units with marks at 16 and 8, and a reserve of 8.
    fn room(disk: &SimDisk) -> StoreRoom {
        disk.resize(Some(100 * UNIT));
        let marks = RoomMarks { soft: mark(16 * UNIT), hard: mark(8 * UNIT), reserve: mark(8 * UNIT) };
        StoreRoom::open(Arc::new(disk.clone()), Path::new("/store"), marks).unwrap()
    }

    /// Lets others leave so much of the disk.
    fn leave(disk: &SimDisk, room: &StoreRoom, free: u64) {
        let others = Path::new("/others");
        disk.put_bytes(others, Vec::new());
        let bytes = 100 * UNIT - disk.used() - free;
        disk.put_bytes(others, vec![0; bytes as usize]);
        room.look(0, 0).unwrap();
    }

    #[test]
    fn p20_the_reserve_is_taken_while_there_is_room_and_given_back_when_there_is_none() {
        let disk = SimDisk::default();
        let room = room(&disk);
        assert_eq!((room.now().reserve, room.now().free), (8 * UNIT, 92 * UNIT));
        leave(&disk, &room, 0);
        assert_eq!((room.now().reserve, room.now().state), (8 * UNIT, RoomState::Hard), "nothing is needed yet");
        room.look(UNIT + 1, 0).unwrap();
        assert_eq!((room.now().reserve, room.now().free), (6 * UNIT, 2 * UNIT), "in parts");
        assert!(room.release_reserve());
        room.look(20 * UNIT, 0).unwrap();
        assert_eq!((room.now().reserve, room.now().state), (0, RoomState::Hard));
        assert!(!room.release_reserve());
        leave(&disk, &room, 0);
        assert_eq!(room.now().state, RoomState::Full);
        leave(&disk, &room, 19 * UNIT);
        assert_eq!((room.now().reserve, room.now().free), (2 * UNIT, 17 * UNIT), "the soft mark stays free");
        leave(&disk, &room, 50 * UNIT);
        assert_eq!((room.now().reserve, room.now().state), (8 * UNIT, RoomState::Enough));
    }

    #[test]
    fn p20_a_process_finds_the_reserve_that_another_one_left() {
        let disk = SimDisk::default();
        drop(room(&disk));
        let used = disk.used();
        let again = room(&disk);
        assert_eq!((again.now().reserve, disk.used()), (8 * UNIT, used));
    }

    #[test]
    fn p20_states_follow_the_marks_and_do_not_flicker() {
        let disk = SimDisk::default();
        let room = room(&disk);
        let state = |free| {
            leave(&disk, &room, free);
            room.now().state
        };
        assert_eq!(state(17 * UNIT), RoomState::Enough);
        assert_eq!(state(16 * UNIT - 1), RoomState::Soft);
        assert_eq!(state(16 * UNIT + 10), RoomState::Soft, "not enough to spare");
        assert_eq!(state(8 * UNIT - 1), RoomState::Hard);
        assert_eq!(state(8 * UNIT + 10), RoomState::Hard);
        assert_eq!(state(9 * UNIT), RoomState::Soft);
        assert_eq!(state(17 * UNIT), RoomState::Enough);
    }

    #[test]
    fn p20_messages_stop_at_the_hard_mark_and_the_rest_at_the_end_of_the_reserve() {
        let disk = SimDisk::default();
        let room = room(&disk);
        leave(&disk, &room, 10 * UNIT);
        assert!(room.take(UNIT, RoomUse::Messages));
        assert!(!room.take(UNIT, RoomUse::Messages), "what was taken since the last look counts");
        assert!(room.take(15 * UNIT, RoomUse::Anything));
        assert!(!room.take(UNIT, RoomUse::Anything), "some is left for what is under way");
        room.look(0, 0).unwrap();
        assert!(room.take(UNIT, RoomUse::Messages));
        room.look(0, 2 * UNIT).unwrap();
        assert!(!room.take(UNIT, RoomUse::Messages), "what still waits for the writer counts");
        leave(&disk, &room, 7 * UNIT);
        assert!(!room.take(0, RoomUse::Messages));
        assert!(room.take(UNIT, RoomUse::Anything));
    }
}
