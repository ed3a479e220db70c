//! Room on the voters' disks: what each says of itself, whether messages may be added, and who should not lead.
//!
//! Nodes hear of each other's room in the answers to status calls, which every node makes each second (`node/routes`); a
//! leader asks more often while room is short. What is said here is checked before a batch is made (`propose/gather`) and
//! before an append of the leader is taken (`peer/server`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::pool::Pool;
use crate::model::{DiskRoom, NoRoom, NodeId, RoomState};
use crate::raft::leadership::{Leadership, transfer_leadership};
use crate::raft::members::MemberTable;
use crate::raft::peer::status::StatusClients;
use crate::raft::state_machine::ShardRaft;
use crate::store::kv::Kv;
use crate::store::log::CommitLog;
use crate::store::room::{RoomUse, StoreRoom};

/// What was heard of a voter before that is not counted any more.
const CONTACT_MAX: Duration = Duration::from_secs(3);
/// How often this node looks at its disk, and while room is short.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY_SHORT: Duration = Duration::from_millis(50);
/// How often a leader asks the others while room is short.
const ASK_EVERY_SHORT: Duration = Duration::from_millis(150);
/// Of the hard mark, so many times as much free is worth a close look.
const CLOSE_LOOK: u64 = 4;
/// What the log needs at hand beside what the state needs.
const LOG_BYTES: u64 = 1024 * 1024;
/// Pause after a transfer of leadership.
const TRANSFER_PAUSE: Duration = Duration::from_secs(2);
/// A state that goes on is logged again after this long.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The room of the voters in contact, by node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rooms(pub BTreeMap<NodeId, DiskRoom>);

impl Rooms {
    /// The voter with the least room: the worst state, then the largest part in use.
    pub fn fullest(&self) -> Option<(NodeId, DiskRoom)> {
        self.0.iter().max_by_key(|(_, room)| (room.state, room.used_percent())).map(|(node, room)| (*node, *room))
    }
}

/// What is known of the voters' room. Shared.
pub(in crate::raft) struct VoterRooms {
    own: Arc<StoreRoom>,
    node: NodeId,
    members: MemberTable,
    /// Of the others; `None` from an older build, which does not say.
    others: Mutex<BTreeMap<NodeId, (Option<DiskRoom>, Instant)>>,
    /// Why no messages are added now.
    refusal: RwLock<Option<NoRoom>>,
}

impl VoterRooms {
    pub fn new(own: Arc<StoreRoom>, node: NodeId, members: MemberTable) -> Self {
        Self { own, node, members, others: Mutex::default(), refusal: RwLock::default() }
    }

    /// Notes what another voter says of itself.
    pub fn note(&self, node: NodeId, room: Option<DiskRoom>) {
        let mut others = self.others.lock();
        others.retain(|node, _| self.members.is_member(*node));
        others.insert(node, (room, Instant::now()));
        drop(others);
        self.judge();
    }

    /// This node's own room.
    pub fn own(&self) -> &Arc<StoreRoom> {
        &self.own
    }

    /// Of the voters in contact that say it, this node included.
    pub fn known(&self) -> Rooms {
        let mut rooms: BTreeMap<_, _> =
            self.in_contact().into_iter().filter_map(|(node, room)| Some((node, room?))).collect();
        rooms.insert(self.node, self.own.now());
        Rooms(rooms)
    }

    /// Whether a majority has room for messages, as far as this node knows.
    pub fn takes_messages(&self) -> bool {
        self.refusal.read().is_none()
    }

    /// Whether a voter has room, as far as it was heard of.
    pub fn may_lead(&self, node: NodeId) -> bool {
        self.in_contact().get(&node).is_some_and(|room| room.is_none_or(|room| room.has_room()))
    }

    /// Takes `bytes` into the log of this node, which leads.
    ///
    /// * Errors: why not.
    pub fn admit(&self, bytes: usize, what: RoomUse) -> Result<(), NoRoom> {
        if what == RoomUse::Messages
            && let Some(no_room) = *self.refusal.read()
        {
            return Err(no_room);
        }
        if self.own.take(bytes as u64, what) { Ok(()) } else { Err(self.no_room_here()) }
    }

    /// As it is at this moment, after as much as a flush of the state needs was made free out of the reserve.
    pub fn for_flush(&self, bytes: u64) -> DiskRoom {
        self.own.make_room(bytes.saturating_add(LOG_BYTES)).unwrap_or_else(|_| self.own.now())
    }

    /// Takes `bytes` of the leader's log, if there is room for them.
    pub fn take(&self, bytes: usize) -> bool {
        self.own.take(bytes as u64, RoomUse::Anything)
    }

    /// Waits until `bytes` of the leader's log can be taken.
    pub async fn until_taken(&self, bytes: usize) {
        let mut room = self.own.watch();
        while !self.take(bytes) {
            // What was taken is looked at anew meanwhile, also if the room stays the same.
            let _ = tokio::time::timeout(LOOK_EVERY_SHORT, room.changed()).await;
        }
    }

    fn in_contact(&self) -> BTreeMap<NodeId, Option<DiskRoom>> {
        let others = self.others.lock();
        let is_recent = |at: &Instant| at.elapsed() < CONTACT_MAX;
        let recent = others.iter().filter(|(node, (_, at))| is_recent(at) && self.members.is_voter(**node));
        recent.map(|(node, (room, _))| (*node, *room)).collect()
    }

    /// Finds out whether messages may be added: this node has room, and so has a majority. Voters out of contact count as
    /// without room, but only beside one that is known to have none: without any contact it is not room that is missing.
    fn judge(&self) {
        let own = self.own.now();
        let others = self.in_contact();
        let has_room = |room: &Option<DiskRoom>| room.is_none_or(|room| room.has_room());
        let with_room = others.values().filter(|room| has_room(room)).count() + usize::from(own.has_room());
        let is_full = !own.has_room() || others.values().any(|room| !has_room(room));
        let is_refused = is_full && (!own.has_room() || with_room <= self.members.voters() / 2);
        let refusal = is_refused.then(|| {
            let (fullest, room) = self.known().fullest().unwrap_or((self.node, own));
            self.no_room(fullest, room, with_room)
        });
        *self.refusal.write() = refusal;
    }

    fn no_room(&self, fullest: NodeId, room: DiskRoom, with_room: usize) -> NoRoom {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        NoRoom {
            with_room: count(with_room),
            voters: count(self.members.voters()),
            fullest,
            free: room.free,
            mark: room.hard,
        }
    }

    fn no_room_here(&self) -> NoRoom {
        let others = self.in_contact();
        let with_room = others.values().filter(|room| room.is_none_or(|room| room.has_room())).count();
        self.no_room(self.node, self.own.now(), with_room)
    }

    /// Whether a leader without room should let another lead: a majority of the voters has room without it.
    fn is_better_off_without_this_node(&self) -> bool {
        let with_room = self.in_contact().values().filter(|room| room.is_none_or(|room| room.has_room())).count();
        !self.own.now().has_room() && with_room > self.members.voters() / 2
    }
}

/// Looks at the room as long as the node runs.
pub(in crate::raft) struct RoomWatch {
    pub rooms: Arc<VoterRooms>,
    pub kv: Arc<dyn Kv>,
    pub log: CommitLog,
    pub raft: ShardRaft,
    pub status_clients: StatusClients,
    pub leadership: watch::Receiver<Leadership>,
}

impl RoomWatch {
    /// Runs until it is dropped.
    pub async fn run(self) {
        // Apart, because a peer that does not answer must not keep this node from looking at its own disk.
        tokio::join!(self.look_often(), self.lead_with_room());
    }

    async fn look_often(&self) {
        let (mut reported, mut failed) = (None, None);
        loop {
            if let Err(error) = self.look().await
                && is_due(failed, REPORT_EVERY)
            {
                failed = Some(Instant::now());
                tracing::warn!(%error, "the room on the disk cannot be looked at");
            }
            self.rooms.judge();
            report(&self.rooms.own.now(), &mut reported);
            tokio::time::sleep(if self.is_short() { LOOK_EVERY_SHORT } else { LOOK_EVERY }).await;
        }
    }

    async fn look(&self) -> io::Result<()> {
        let needed = LOG_BYTES + self.kv.unflushed_bytes();
        let (own, waiting) = (self.rooms.own.clone(), self.log.waiting_bytes());
        let looked = Pool::Upkeep.run(move || own.look(needed, waiting)).await;
        looked.map_err(io::Error::other)?.map(|_| ())
    }

    /// While this node leads and room is short, asks the others often, and lets one lead that has room if this one has none.
    async fn lead_with_room(&self) {
        let mut transferred = None;
        loop {
            tokio::time::sleep(ASK_EVERY_SHORT).await;
            if !self.leadership.borrow().is_self || !self.is_short() {
                continue;
            }
            self.status_clients.ask_all().await;
            if self.rooms.is_better_off_without_this_node() && is_due(transferred, TRANSFER_PAUSE) {
                transferred = Some(Instant::now());
                tracing::warn!(
                    "this leader has no room on its disk and a majority of the others has: leadership is handed on"
                );
                let may_lead = |node| self.rooms.may_lead(NodeId(node));
                transfer_leadership(&self.raft, self.leadership.clone(), &self.status_clients, may_lead).await;
            }
        }
    }

    fn is_short(&self) -> bool {
        self.rooms.known().0.values().any(is_short)
    }
}

fn is_short(room: &DiskRoom) -> bool {
    room.state > RoomState::Enough || room.free < room.hard.saturating_mul(CLOSE_LOOK)
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

/// Says how it stands when that changes, and once a minute while it is not well.
fn report(room: &DiskRoom, reported: &mut Option<(RoomState, Instant)>) {
    let before = reported.map_or(RoomState::Enough, |(state, _)| state);
    let is_again = reported.is_some_and(|(_, at)| at.elapsed() >= REPORT_EVERY) && room.state > RoomState::Enough;
    if room.state == before && !is_again {
        return;
    }
    *reported = Some((room.state, Instant::now()));
    let DiskRoom { free, reserve, soft, hard, .. } = *room;
    match room.state {
        RoomState::Enough => tracing::info!(free, reserve, "the disk has room again"),
        RoomState::Soft => {
            tracing::warn!(free, reserve, diskSoftMark = soft, "the disk is short of room: retention should run early");
        }
        RoomState::Hard => tracing::warn!(
            free,
            reserve,
            diskHardMark = hard,
            "the disk is full: sends are refused if a majority is; acknowledgements, receives, votes and deletions go on. \
             Room comes from retention, from deleted topics, or from other files on that disk"
        ),
        RoomState::Full => tracing::error!(
            free,
            reserve,
            diskHardMark = hard,
            "the disk is full and the reserve is used up: this node votes and answers reads, and takes nothing into its \
             log until there is room again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::fault::sim::SimDisk;
    use crate::model::{DiskMark, MemberName};
    use crate::store::room::RoomMarks;

    const MIB: u64 = 1 << 20;

    fn rooms(free: u64) -> VoterRooms {
        let disk = SimDisk::default();
        disk.put_bytes(Path::new("/others"), vec![0; 10 * MIB as usize]);
        disk.resize(Some(10 * MIB + free));
        let mark = |bytes| DiskMark { percent: None, bytes: Some(bytes) };
        let marks = RoomMarks { soft: mark(4 * MIB), hard: mark(2 * MIB), reserve: mark(0) };
        let own = StoreRoom::open(Arc::new(disk), Path::new("/store"), marks).unwrap();
        let members = MemberTable::new((1..=3).map(|name| (MemberName(name), String::new())).collect());
        let rooms = VoterRooms::new(Arc::new(own), NodeId(1), members);
        rooms.judge();
        rooms
    }

    fn with(state: RoomState) -> Option<DiskRoom> {
        Some(DiskRoom { total: 100, free: 10, hard: 20, soft: 30, state, ..DiskRoom::default() })
    }

    #[tokio::test]
    async fn p20_messages_are_added_while_a_majority_has_room_and_the_leader_too() {
        let rooms = rooms(10 * MIB);
        let send = || rooms.admit(100, RoomUse::Messages);
        assert_eq!(send(), Ok(()), "nothing is known of the others yet");
        rooms.note(NodeId(2), with(RoomState::Hard));
        let refused = send().unwrap_err();
        assert_eq!((refused.with_room, refused.voters, refused.fullest, refused.mark), (1, 3, NodeId(2), 20));
        assert_eq!(rooms.admit(100, RoomUse::Anything), Ok(()), "the rest goes on");
        rooms.note(NodeId(3), with(RoomState::Soft));
        assert_eq!(send(), Ok(()), "one of three may be full");
        rooms.note(NodeId(3), None);
        assert_eq!(send(), Ok(()), "an older build does not say it and is trusted");
        rooms.note(NodeId(3), with(RoomState::Full));
        assert_eq!(send().unwrap_err().fullest, NodeId(3));
        rooms.note(NodeId(2), with(RoomState::Enough));
        assert_eq!(send(), Ok(()));
        assert_eq!(rooms.known().fullest().map(|(node, _)| node), Some(NodeId(3)));
    }

    #[tokio::test]
    async fn p20_a_leader_without_room_adds_nothing_and_lets_those_lead_that_have_it() {
        let rooms = rooms(MIB);
        rooms.note(NodeId(2), with(RoomState::Enough));
        assert_eq!(rooms.admit(1, RoomUse::Messages).unwrap_err().fullest, NodeId(1));
        assert!(!rooms.is_better_off_without_this_node(), "one other is no majority");
        rooms.note(NodeId(3), with(RoomState::Hard));
        assert!(!rooms.is_better_off_without_this_node());
        rooms.note(NodeId(3), with(RoomState::Soft));
        assert!(rooms.is_better_off_without_this_node());
        assert!(rooms.may_lead(NodeId(2)) && rooms.may_lead(NodeId(3)));
    }

    #[tokio::test]
    async fn p20_voters_out_of_contact_count_only_beside_a_full_one() {
        let rooms = rooms(10 * MIB);
        rooms.note(NodeId(2), with(RoomState::Enough));
        rooms.note(NodeId(3), with(RoomState::Hard));
        assert_eq!(rooms.admit(1, RoomUse::Messages), Ok(()));
        let long_ago = Instant::now().checked_sub(CONTACT_MAX).unwrap();
        rooms.others.lock().values_mut().for_each(|(_, at)| *at = long_ago);
        rooms.judge();
        assert_eq!(rooms.admit(1, RoomUse::Messages), Ok(()), "nobody is in contact: it is not room that is missing");
        rooms.note(NodeId(3), with(RoomState::Hard));
        assert_eq!(rooms.admit(1, RoomUse::Messages).unwrap_err().with_room, 1);
    }
}
