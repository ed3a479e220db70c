//! The small durable facts beside the log: whose folder this is, which disk it is on and which disks the
//! peers are on, the vote, what Raft has purged.
//!
//! * Shape: two slots of 4096 bytes, both written and synced each time, one after the other: a torn write
//!   leaves the other slot as it was, and damage to one slot later leaves the same facts in the other. Each:
//!   `length u32, crc32c u32, payload`, payload `version u8, sequence u64, cluster, group, node u64,
//!   disk u64, known disks (node u64, disk u64), vote?, purged?, durable u64`. The valid slot with the higher
//!   sequence counts. Version 1 had no `durable`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};

use crate::env::disk::{Disk, DiskFile};
use crate::env::rng::random_u64;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::record::RecordId;

const VERSION: u8 = 2;
const SLOT_BYTES: u64 = 4096;
/// Names are at most 255 bytes, so a payload is far below a slot.
const PAYLOAD_BYTES_MAX: usize = SLOT_BYTES as usize - 8;
pub(in crate::store) const FILE: &str = "meta";

/// Whose log it is; checked against the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOwner {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    pub node: NodeId,
}

impl fmt::Display for LogOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node n{} of group {} in cluster {}", self.node, self.group, self.cluster)
    }
}

/// A vote of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteRecord {
    pub term: Term,
    /// For whom.
    pub node: NodeId,
    /// Whether that node is known to lead.
    pub committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    sequence: u64,
    owner: LogOwner,
    /// Drawn when the folder is made, never 0.
    disk: u64,
    known: BTreeMap<NodeId, u64>,
    vote: Option<VoteRecord>,
    purged: Option<RecordId>,
    /// The log is known to be synced this far; it may be further.
    durable: LogIndex,
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
        let file = disk.create(&path).map_err(Error::io(path.display()))?;
        let mut slots = Vec::new();
        let len = file.len().map_err(Error::io(path.display()))?;
        for at in [0, SLOT_BYTES] {
            let room = usize::try_from(len.saturating_sub(at).min(SLOT_BYTES)).expect("at most a slot");
            if room == 0 {
                continue;
            }
            let mut bytes = vec![0; room];
            file.read_at(&mut bytes, at).map_err(Error::io(path.display()))?;
            slots.extend(decode_slot(bytes.into()).ok());
        }
        let newest = slots.into_iter().max_by_key(|content| content.sequence);
        let content = match newest {
            Some(content) if content.owner == *owner => content,
            Some(content) => {
                let folder = folder.to_owned();
                let (found, expected) = (content.owner.to_string(), owner.to_string());
                return Err(Error::Foreign { folder, found, expected });
            }
            // A new folder, or one whose very first write was torn: then no log can be there yet.
            None if !has_segments(disk, folder)? => {
                let disk = random_u64().max(1);
                let owner = owner.clone();
                let known = BTreeMap::new();
                Content { sequence: 0, owner, disk, known, vote: None, purged: None, durable: LogIndex(0) }
            }
            None => {
                let reason = "neither slot can be read, but there are segments".to_owned();
                return Err(Error::Damaged { file: path, at: 0, reason });
            }
        };
        let mut meta = Self { file, content };
        if meta.content.sequence == 0 {
            meta.write()?;
            disk.sync_dir(folder).map_err(Error::io(folder.display()))?;
        }
        Ok(meta)
    }

    pub fn vote(&self) -> Option<VoteRecord> {
        self.content.vote
    }

    pub fn purged(&self) -> Option<RecordId> {
        self.content.purged
    }

    /// Which disk this folder is on.
    pub fn disk(&self) -> u64 {
        self.content.disk
    }

    /// The disks that the peers were on when this node first met them.
    pub fn known(&self) -> &BTreeMap<NodeId, u64> {
        &self.content.known
    }

    /// Remembers the disk a peer is on, unless another is known. Durable on return.
    pub fn know(&mut self, node: NodeId, disk: u64) -> Result<(), Error> {
        if self.content.known.contains_key(&node) {
            return Ok(());
        }
        self.content.known.insert(node, disk);
        self.write()
    }

    /// How far the log is known to be synced.
    pub fn durable(&self) -> LogIndex {
        self.content.durable
    }

    /// Notes how far the log is synced. Durable on return.
    pub fn mark_durable(&mut self, durable: LogIndex) -> Result<(), Error> {
        if self.content.durable == durable {
            return Ok(());
        }
        self.content.durable = durable;
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
        let mut out = BytesMut::with_capacity(payload.len() + 8);
        out.put_u32(u32::try_from(payload.len()).expect("checked above"));
        out.put_u32(crc32c::crc32c(&payload));
        out.put_slice(&payload);
        for at in [0, SLOT_BYTES] {
            self.file.write_at(&out, at).map_err(Error::io("write meta"))?;
            self.file.sync_data().map_err(Error::io("sync meta"))?;
        }
        Ok(())
    }
}

fn has_segments(disk: &dyn Disk, folder: &Path) -> Result<bool, Error> {
    let names = disk.list(folder).map_err(Error::io(folder.display()))?;
    Ok(names.iter().any(|name| name.ends_with(crate::store::log::segment::SUFFIX)))
}

fn encode(content: &Content) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_u64(content.sequence);
    out.put_text(&content.owner.cluster);
    out.put_text(&content.owner.group);
    out.put_u64(content.owner.node.0);
    out.put_u64(content.disk);
    let known: Vec<_> = content.known.iter().collect();
    out.put_list(&known, |out, (node, disk)| {
        out.put_u64(node.0);
        out.put_u64(**disk);
    });
    out.put_option(content.vote, |out, vote| {
        out.put_u64(vote.term.0);
        out.put_u64(vote.node.0);
        out.put_u8(vote.committed.into());
    });
    out.put_option(content.purged, |out, id| {
        out.put_u64(id.term.0);
        out.put_u64(id.node.0);
        out.put_u64(id.index.0);
    });
    out.put_u64(content.durable.0);
    out.freeze()
}

fn decode_slot(bytes: Bytes) -> Result<Content, Malformed> {
    let mut reader = Reader::new(bytes, "meta slot");
    let (length, crc) = (reader.u32()? as usize, reader.u32()?);
    let payload = reader.take(length)?;
    if crc32c::crc32c(&payload) != crc {
        return Err(Malformed::Short("meta slot"));
    }
    let mut reader = Reader::new(payload, "meta");
    let version = reader.u8()?;
    if !(1..=VERSION).contains(&version) {
        return Err(reader.unknown(version.into()));
    }
    Ok(Content {
        sequence: reader.u64()?,
        owner: LogOwner { cluster: reader.text()?, group: reader.text()?, node: NodeId(reader.u64()?) },
        disk: reader.u64()?,
        known: reader.list(|reader| Ok((NodeId(reader.u64()?), reader.u64()?)))?.into_iter().collect(),
        vote: reader.option(|reader| {
            let (term, node) = (Term(reader.u64()?), NodeId(reader.u64()?));
            Ok(VoteRecord { term, node, committed: reader.bool()? })
        })?,
        purged: reader.option(|reader| {
            let (term, node) = (Term(reader.u64()?), NodeId(reader.u64()?));
            Ok(RecordId { term, node, index: LogIndex(reader.u64()?) })
        })?,
        durable: if version >= 2 { LogIndex(reader.u64()?) } else { LogIndex(0) },
    })
}
