//! Room on a node's disk: how much is free, how much should stay free, and what follows from it.

use crate::model::NodeId;

/// How much of a disk is meant: a share of it, a number of bytes, or whichever of both is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskMark {
    pub percent: Option<u8>,
    pub bytes: Option<u64>,
}

impl DiskMark {
    /// In bytes, on a disk of this size.
    pub fn of(self, total: u64) -> u64 {
        let share = |percent: u8| u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX);
        let share = self.percent.map_or(u64::MAX, share);
        share.min(self.bytes.unwrap_or(u64::MAX)).min(total)
    }
}

/// What a node can do with the room it has. A later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RoomState {
    #[default]
    Enough,
    /// Below `diskSoftMark`: retention should run early.
    Soft,
    /// Below `diskHardMark`: no messages are added; the rest goes on, from the reserve in the end.
    Hard,
    /// The reserve is used up as well: nothing more is taken into the log.
    Full,
}

impl RoomState {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 4] = [Self::Enough, Self::Soft, Self::Hard, Self::Full];

    /// As operators see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enough => "ok",
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Full => "full",
        }
    }
}

/// The room on one node's disk. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskRoom {
    pub total: u64,
    /// To any process that is not the system's own.
    pub free: u64,
    /// To the node: the superuser may use what a file system keeps for it beside.
    pub usable: u64,
    /// Held by the node itself, and given to its log and state when nothing is free.
    pub reserve: u64,
    /// `diskSoftMark` on this disk.
    pub soft: u64,
    /// `diskHardMark` on this disk.
    pub hard: u64,
    pub state: RoomState,
}

impl DiskRoom {
    /// Whether messages can be added.
    pub fn has_room(&self) -> bool {
        self.state < RoomState::Hard
    }

    /// What is used of the disk, in percent, rounded down. The reserve counts as free.
    pub fn used_percent(&self) -> u8 {
        let used = self.total.saturating_sub(self.free.saturating_add(self.reserve));
        let percent = u128::from(used) * 100 / u128::from(self.total.max(1));
        u8::try_from(percent).unwrap_or(100)
    }
}

/// Why no messages are added: too few voters have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Voters with room, of all voters.
    pub with_room: u32,
    pub voters: u32,
    /// The fullest one.
    pub fullest: NodeId,
    /// What is free there, in bytes.
    pub free: u64,
    /// What had to be free there.
    pub mark: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_mark_is_the_lesser_of_share_and_bytes_and_never_above_the_disk() {
        let both = DiskMark { percent: Some(10), bytes: Some(64 * MIB) };
        assert_eq!(both.of(90 * MIB), 9 * MIB);
        assert_eq!(both.of(2 << 40), 64 * MIB);
        assert_eq!(DiskMark { percent: Some(50), bytes: None }.of(100), 50);
        assert_eq!(DiskMark { percent: None, bytes: Some(200) }.of(100), 100);
    }

    #[test]
    fn what_is_used_leaves_out_the_reserve() {
        let room = DiskRoom { total: 100, free: 10, reserve: 15, ..DiskRoom::default() };
        assert_eq!(room.used_percent(), 75);
        assert_eq!(DiskRoom::default().used_percent(), 0);
        assert!(RoomState::Full > RoomState::Hard && !DiskRoom { state: RoomState::Full, ..room }.has_room());
    }
}
