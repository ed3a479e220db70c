//! The small durable facts beside the log: whose folder this is, which disk it is on and its last starts, what is known of
//! the peers' disks, the vote, what Raft has purged, where the log begins.
//!
//! * Shape: two slots of 4096 bytes, both written and synced each time, one after the other: a torn write
//!   leaves the other slot as it was, and damage to one slot later leaves the same facts in the other. Each:
//!   `length u32, crc32c u32, payload` (`meta_content`). The valid slot with the higher sequence counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::{BufMut, BytesMut};

use crate::env::disk::{Disk, DiskFile, is_unreadable};
use crate::env::rng::random_u64;
use crate::model::{LogIndex, NodeId};
use crate::store::Error;
use crate::store::log::meta_content::{
    Content, KNOWN_MAX, KnownPeer, LogIdentity, LogOwner, LogStart, StartMark, VoteRecord, decode_slot, encode,
};
use crate::store::log::record::RecordId;
use crate::store::log::segment;

/// Starts that are remembered: more would have to pass unseen by a peer before it takes an old disk for a new one.
const STARTS_MAX: usize = 32;
const SLOT_BYTES: u64 = 4096;
/// Names are at most 255 bytes, so a payload is far below a slot.
const PAYLOAD_BYTES_MAX: usize = SLOT_BYTES as usize - 8;
pub(in crate::store) const FILE: &str = "meta";

/// What a cut leaves as the last segment.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Anew {
    /// Its first entry.
    pub first: LogIndex,
    /// From here on its entries may have been others before.
    pub from: LogIndex,
}

/// The open meta file.
pub(in crate::store) struct Meta {
    file: Box<dyn DiskFile>,
    content: Content,
}

impl Meta {
    /// Opens the folder's meta file, or makes it for a new folder.
    pub fn open(disk: &dyn Disk, folder: &Path, owner: &LogOwner) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let file = disk.create(&path).map_err(Error::unwritten(path.display()))?;
        let (mut slots, mut has_unreadable) = (Vec::new(), false);
        let len = file.len().map_err(Error::io(path.display()))?;
        for at in [0, SLOT_BYTES] {
            let room = usize::try_from(len.saturating_sub(at).min(SLOT_BYTES)).expect("at most a slot");
            if room == 0 {
                continue;
            }
            let mut bytes = vec![0; room];
            match file.read_at(&mut bytes, at) {
                Err(error) if is_unreadable(&error) => {
                    tracing::error!(file = %path.display(), at, %error, "one copy of the meta file cannot be read");
                    has_unreadable = true;
                }
                read => {
                    read.map_err(Error::io(path.display()))?;
                    slots.extend(decode_slot(bytes.into()).ok());
                }
            }
        }
        let newest = slots.into_iter().max_by_key(|content| content.sequence);
        let content = match newest {
            Some(content) if content.owner.is_of(owner) => content,
            Some(content) => {
                let folder = folder.to_owned();
                let (found, expected) = (content.owner.to_string(), owner.to_string());
                return Err(Error::Foreign { folder, found, expected });
            }
            // A new folder, or one whose very first write was torn: then no log can be there yet.
            None if !has_unreadable && !has_segments(disk, folder)? => {
                let disk = random_u64().max(1);
                let owner = owner.clone();
                let known = BTreeMap::new();
                let (starts, durable) = (Vec::new(), LogIndex(0));
                let (vote, purged, start, lost_from) = (None, None, None, None);
                let (segment_format, durable_id, anew_from, lineage) = (segment::VERSION, None, None, 0);
                Content {
                    sequence: 0,
                    owner,
                    disk,
                    lineage,
                    starts,
                    known,
                    vote,
                    purged,
                    durable,
                    segment_format,
                    start,
                    lost_from,
                    durable_id,
                    anew_from,
                }
            }
            None => {
                let reason =
                    "neither copy of the meta file can be read, and in it is how this node voted: it must not take \
                              part under its id any more. Replace the node (raftmq cluster replace)"
                        .to_owned();
                return Err(Error::Damaged { file: path, at: 0, reason });
            }
        };
        // A vote must not fail because the disk is full. A file system that cannot do it, or has no room now, goes without.
        if let Err(error) = file.allocate(2 * SLOT_BYTES) {
            tracing::debug!(%error, "no space is reserved for votes");
        }
        let mut meta = Self { file, content };
        let is_new = meta.content.sequence == 0;
        meta.begin()?;
        if is_new {
            disk.sync_dir(folder).map_err(Error::io(folder.display()))?;
        }
        Ok(meta)
    }

    /// Notes durably that the folder is opened once more.
    fn begin(&mut self) -> Result<(), Error> {
        let starts = &mut self.content.starts;
        let number = starts.last().map_or(0, |last| last.number) + 1;
        starts.push(StartMark { number, nonce: random_u64() });
        starts.drain(..starts.len().saturating_sub(STARTS_MAX));
        self.write()
    }

    /// Takes this opening back: the peers refused it, and refused ones must not push those out that they know.
    pub fn forget_start(&mut self) -> Result<(), Error> {
        self.content.starts.pop();
        self.write()
    }

    /// The last openings of the folder, oldest first; the last is this one.
    pub fn starts(&self) -> &[StartMark] {
        &self.content.starts
    }

    pub fn vote(&self) -> Option<VoteRecord> {
        self.content.vote
    }

    pub fn purged(&self) -> Option<RecordId> {
        self.content.purged
    }

    /// The node whose folder this is.
    pub fn node(&self) -> NodeId {
        self.content.owner.node
    }

    /// Which disk this folder is on.
    pub fn disk(&self) -> u64 {
        self.content.disk
    }

    /// Which group of its name it belongs to.
    pub fn lineage(&self) -> u64 {
        self.content.lineage
    }

    /// What is remembered of the peers.
    pub fn known(&self) -> &BTreeMap<NodeId, KnownPeer> {
        &self.content.known
    }

    /// Remembers a peer, unless another disk is known. Durable on return.
    pub fn know(&mut self, node: NodeId, peer: KnownPeer) -> Result<(), Error> {
        let known = &mut self.content.known;
        let is_other_disk = known.get(&node).is_some_and(|before| before.disk != peer.disk);
        let is_too_many = !known.contains_key(&node) && known.len() >= KNOWN_MAX;
        if is_other_disk || is_too_many || known.get(&node) == Some(&peer) {
            return Ok(());
        }
        known.insert(node, peer);
        self.write()
    }

    /// Forgets all peers but these. Durable on return.
    pub fn know_only(&mut self, peers: &BTreeSet<NodeId>) -> Result<(), Error> {
        self.content.known.retain(|node, _| peers.contains(node));
        self.write()
    }

    /// From now on the folder is this node's, in the group of this lineage. Durable on return.
    pub fn become_node(&mut self, node: NodeId, lineage: u64) -> Result<(), Error> {
        (self.content.owner.node, self.content.lineage) = (node, lineage);
        self.write()
    }

    /// Notes how far peers that are known have acknowledged the committed log. Durable with the next write.
    pub fn note_acknowledged(&mut self, node: NodeId, index: LogIndex) {
        if let Some(known) = self.content.known.get_mut(&node) {
            known.acknowledged = known.acknowledged.max(index);
        }
    }

    /// Writes what was noted. Durable on return.
    pub fn save(&mut self) -> Result<(), Error> {
        self.write()
    }

    /// How far the log is known to be synced.
    pub fn durable(&self) -> LogIndex {
        self.content.durable
    }

    /// An entry that was durable after the last cut, if one is known. It is gone if this much was lost since.
    pub fn durable_id(&self) -> Option<RecordId> {
        self.content.durable_id
    }

    /// Notes how far the log is synced, and which entry that is, if it is known. Durable on return.
    pub fn mark_durable(&mut self, durable: LogIndex, id: Option<RecordId>) -> Result<(), Error> {
        let id = id.or(self.content.durable_id);
        if self.content.durable == durable && self.content.durable_id == id {
            return Ok(());
        }
        (self.content.durable, self.content.durable_id) = (durable, id);
        self.write()
    }

    /// Notes, before it happens, that all after `keep` is cut. Of the segment that is the last one then, `anew` says from where on its entries will
    /// be others. Durable on return.
    pub fn note_cut(&mut self, keep: LogIndex, kept: Option<RecordId>, anew: Anew) -> Result<(), Error> {
        // Others of this segment may have been cut before.
        let before = self.content.anew_from.filter(|before| (anew.first..anew.from).contains(before));
        self.content.anew_from = Some(before.unwrap_or(anew.from));
        (self.content.durable, self.content.durable_id) = (keep, kept.filter(|kept| kept.index == keep));
        self.write()
    }

    /// From which entry on others were in the last segment before.
    pub fn anew_from(&self) -> Option<LogIndex> {
        self.content.anew_from
    }

    /// Where the log begins, if something was forgotten.
    pub fn start(&self) -> Option<LogStart> {
        self.content.start
    }

    /// Durable on return.
    pub fn set_start(&mut self, start: LogStart) -> Result<(), Error> {
        self.content.start = Some(start);
        self.write()
    }

    /// A copied log becomes the own one: all but its records, and where they begin, is what it was. Durable on return.
    pub fn adopt(&mut self, identity: LogIdentity) -> Result<(), Error> {
        let LogIdentity { node, disk, lineage, starts, known, vote, lost_from } = identity;
        let content = &mut self.content;
        content.owner.node = node;
        (content.disk, content.starts, content.known, content.vote) = (disk, starts, known, vote);
        (content.lineage, content.lost_from) = (lineage, lost_from);
        self.write()
    }

    /// From which entry on damage took some that this node may have acknowledged and may still lack.
    pub fn lost_from(&self) -> Option<LogIndex> {
        self.content.lost_from
    }

    /// Notes that entries from here on are lost, before they are cut. Durable on return.
    pub fn note_lost(&mut self, from: LogIndex) -> Result<(), Error> {
        let before = self.content.lost_from.unwrap_or(from);
        self.content.lost_from = Some(before.min(from));
        self.content.durable = self.content.durable.min(LogIndex(from.0.saturating_sub(1)));
        self.write()
    }

    /// Notes that this node has again what it lost. Durable on return.
    pub fn note_restored(&mut self) -> Result<(), Error> {
        self.content.lost_from = None;
        self.write()
    }

    /// Whether all segments but the last have the newest format.
    pub fn is_upgraded(&self) -> bool {
        self.content.segment_format >= segment::SEALED_VERSION
    }

    /// Notes that all segments have the newest format. Durable on return.
    pub fn note_upgraded(&mut self) -> Result<(), Error> {
        if self.is_upgraded() {
            return Ok(());
        }
        self.content.segment_format = segment::VERSION;
        self.write()
    }

    /// Durable on return.
    pub fn set_vote(&mut self, vote: VoteRecord) -> Result<(), Error> {
        self.content.vote = Some(vote);
        self.write()
    }

    /// Durable on return.
    pub fn set_purged(&mut self, purged: RecordId) -> Result<(), Error> {
        self.content.purged = Some(purged);
        self.write()
    }

    fn write(&mut self) -> Result<(), Error> {
        self.content.sequence += 1;
        let payload = encode(&self.content);
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "meta of {} bytes exceeds its slot", payload.len());
        let mut out = BytesMut::with_capacity(SLOT_BYTES as usize);
        out.put_u32(u32::try_from(payload.len()).expect("checked above"));
        out.put_u32(crc32c::crc32c(&payload));
        out.put_slice(&payload);
        // All of the block: or a disk that cannot read what was there could not write it either.
        out.resize(SLOT_BYTES as usize, 0);
        for at in [0, SLOT_BYTES] {
            self.file.write_at(&out, at).map_err(Error::unwritten("write meta"))?;
            self.file.sync_data().map_err(Error::io("sync meta"))?;
        }
        Ok(())
    }
}

fn has_segments(disk: &dyn Disk, folder: &Path) -> Result<bool, Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    Ok(names.iter().any(|name| segment::is_segment(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::fault::sim::SimDisk;
    use crate::model::codec::Writer;
    use crate::model::{MemberName, Term};

    fn owner() -> LogOwner {
        LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(1) }
    }

    fn open(disk: &SimDisk) -> Meta {
        Meta::open(disk, Path::new("/log"), &owner()).unwrap()
    }

    #[test]
    fn p18_each_opening_is_remembered_and_so_are_the_peers() {
        let disk = SimDisk::default();
        let mut meta = open(&disk);
        let first = meta.starts().to_vec();
        assert_eq!(first.len(), 1);
        let known = KnownPeer { disk: 5, start: Some(StartMark { number: 3, nonce: 9 }), acknowledged: LogIndex(7) };
        meta.know(NodeId(2), known).unwrap();
        meta.know(NodeId(2), KnownPeer { disk: 6, ..known }).unwrap();
        meta.note_acknowledged(NodeId(2), LogIndex(8));
        meta.note_acknowledged(NodeId(2), LogIndex(4));
        meta.save().unwrap();
        drop(meta);
        let meta = open(&disk);
        assert_eq!(meta.starts()[0], first[0]);
        assert_eq!(meta.starts()[1].number, first[0].number + 1);
        let known = KnownPeer { acknowledged: LogIndex(8), ..known };
        assert_eq!(meta.known().iter().collect::<Vec<_>>(), [(&NodeId(2), &known)], "another disk changes nothing");
    }

    #[test]
    fn p18_a_folder_is_that_of_a_name_whichever_replica_of_it_it_is() {
        let disk = SimDisk::default();
        let mut meta = open(&disk);
        assert_eq!(meta.node(), NodeId(1));
        let known = KnownPeer { disk: 5, start: None, acknowledged: LogIndex(0) };
        for node in [2, 3, 4] {
            meta.know(NodeId(node), known).unwrap();
        }
        meta.know_only(&BTreeSet::from([NodeId(3), NodeId(9)])).unwrap();
        let later = NodeId::later_of(MemberName(1), 7);
        meta.become_node(later, 55).unwrap();
        let again = open(&disk);
        assert_eq!((again.node(), again.lineage()), (later, 55));
        assert_eq!(again.known().keys().collect::<Vec<_>>(), [&NodeId(3)]);
        let other = LogOwner { node: NodeId(2), ..owner() };
        assert!(matches!(Meta::open(&disk, Path::new("/log"), &other), Err(Error::Foreign { .. })));
    }

    #[test]
    fn p18_starts_that_the_peers_refused_push_out_none_that_they_know() {
        let disk = SimDisk::default();
        let known = open(&disk).starts()[0];
        for _ in 0..2 * STARTS_MAX {
            let mut refused = open(&disk);
            assert_eq!(refused.starts()[0], known);
            refused.forget_start().unwrap();
        }
    }

    #[test]
    fn the_memory_of_starts_and_peers_is_bounded() {
        let disk = SimDisk::default();
        for _ in 0..STARTS_MAX + 5 {
            open(&disk);
        }
        let mut meta = open(&disk);
        assert_eq!(meta.starts().len(), STARTS_MAX);
        for node in 0..500 {
            meta.know(NodeId(node), KnownPeer { disk: node, start: None, acknowledged: LogIndex(0) }).unwrap();
        }
        assert_eq!(meta.known().len(), KNOWN_MAX);
        let names = LogOwner { cluster: "c".repeat(255), group: "g".repeat(255), node: NodeId(1) };
        meta.content.owner = names;
        meta.content.vote = Some(VoteRecord { term: Term(1), node: NodeId(1), committed: true });
        let id = RecordId { term: Term(1), node: NodeId(1), index: LogIndex(1) };
        meta.content.purged = Some(id);
        meta.content.start = Some(LogStart { first: LogIndex(2), before: Some(id) });
        (meta.content.lost_from, meta.content.durable_id) = (Some(LogIndex(3)), Some(id));
        meta.save().expect("all of it fits into a slot");
    }

    #[test]
    fn a_folder_of_version_2_opens_and_keeps_what_it_knew() {
        let disk = SimDisk::default();
        drop(open(&disk));
        let mut payload = BytesMut::new();
        payload.put_u8(2);
        payload.put_u64(40);
        payload.put_text("c");
        payload.put_text("g");
        payload.put_u64(1);
        payload.put_u64(77);
        payload.put_list(&[(2u64, 5u64)], |out, (node, disk)| {
            out.put_u64(*node);
            out.put_u64(*disk);
        });
        payload.put_option(Some(()), |out, ()| {
            out.put_u64(6);
            out.put_u64(2);
            out.put_u8(1);
        });
        payload.put_option(None::<()>, |_, ()| {});
        payload.put_u64(12);
        let mut slot = BytesMut::new();
        slot.put_u32(u32::try_from(payload.len()).unwrap());
        slot.put_u32(crc32c::crc32c(&payload));
        slot.put_slice(&payload);
        let file = disk.create(&Path::new("/log").join(FILE)).unwrap();
        file.write_at(&slot, 0).unwrap();
        let meta = open(&disk);
        assert_eq!((meta.disk(), meta.durable(), meta.lineage()), (77, LogIndex(12), 0));
        assert_eq!(meta.vote(), Some(VoteRecord { term: Term(6), node: NodeId(2), committed: true }));
        assert_eq!(meta.known()[&NodeId(2)], KnownPeer { disk: 5, start: None, acknowledged: LogIndex(0) });
        assert_eq!(meta.starts().len(), 1);
        assert!(!meta.is_upgraded(), "its segments are of the format before");
        assert_eq!(meta.start(), None);
    }

    #[test]
    fn p18_the_start_of_the_log_and_the_format_of_its_segments_are_remembered() {
        let disk = SimDisk::default();
        let mut meta = open(&disk);
        assert!(meta.is_upgraded());
        let before = Some(RecordId { term: Term(3), node: NodeId(2), index: LogIndex(99) });
        meta.set_start(LogStart { first: LogIndex(100), before }).unwrap();
        drop(meta);
        let meta = open(&disk);
        assert_eq!(meta.start(), Some(LogStart { first: LogIndex(100), before }));
        assert!(meta.is_upgraded());
    }
}
