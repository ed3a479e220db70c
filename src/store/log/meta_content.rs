//! What the meta file says, and how: the payload of one slot (`meta`).
//!
//! * Shape: `version u8, sequence u64, cluster, group, node u64, disk u64, known disks (node u64, disk u64), vote?, purged?,
//!   durable u64, starts (number u64, nonce u64), known states (node u64, start?, acknowledged u64), segment format u32,
//!   start of the log? (first u64, id before it?), lost from? u64, durable id?, lineage u64, anew from? u64`. Version 1 ended
//!   before `durable`, version 2 after it, version 3 before the segment format, version 4 before what was lost, version 5 before
//!   the lineage, version 6 before `anew from`.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, NodeId, Term};
use crate::store::log::record::RecordId;
use crate::store::log::segment;

const VERSION: u8 = 7;
/// Peers that are remembered; the configuration has fewer.
pub(in crate::store) const KNOWN_MAX: usize = 32;

/// Whose log it is; checked against the folder, but for which replica of its name the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOwner {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    pub node: NodeId,
}

impl LogOwner {
    /// Whether a replica of the other's name owns it.
    pub fn is_of(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.group == other.group && self.node.name() == other.node.name()
    }
}

impl fmt::Display for LogOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of group {} in cluster {}", self.node, self.group, self.cluster)
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

/// One opening of a folder. A folder that was put back from a copy does not know those since the copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartMark {
    /// Counts up.
    pub number: u64,
    /// Drawn.
    pub nonce: u64,
}

/// What is remembered of a peer's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPeer {
    /// The disk it was on when this node first met it.
    pub disk: u64,
    /// The last start that this node saw of it; none from before version 3.
    pub start: Option<StartMark>,
    /// What it has acknowledged of the committed log, coarsely: its log can never end before.
    pub acknowledged: LogIndex,
}

/// Where the log begins since something was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct LogStart {
    /// The first entry that is kept, at most.
    pub first: LogIndex,
    /// The entry before it, if it was on this node.
    pub before: Option<RecordId>,
}

/// What a node's log says beside its records: it stays when the records come from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogIdentity {
    pub(in crate::store) node: NodeId,
    pub(in crate::store) disk: u64,
    pub(in crate::store) lineage: u64,
    pub(in crate::store) starts: Vec<StartMark>,
    pub(in crate::store) known: BTreeMap<NodeId, KnownPeer>,
    pub(in crate::store) vote: Option<VoteRecord>,
    /// From which entry on damage took some that it may have acknowledged.
    pub lost_from: Option<LogIndex>,
}

/// All that the meta file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Content {
    pub sequence: u64,
    pub owner: LogOwner,
    /// Drawn when the folder is made, never 0.
    pub disk: u64,
    /// Which group of its name it belongs to: 0 for one that was founded, another number for each that was made from a backup.
    pub lineage: u64,
    /// The last starts, oldest first.
    pub starts: Vec<StartMark>,
    pub known: BTreeMap<NodeId, KnownPeer>,
    pub vote: Option<VoteRecord>,
    pub purged: Option<RecordId>,
    /// The log is known to be synced this far; it may be further.
    pub durable: LogIndex,
    /// Version of all segments but the last.
    pub segment_format: u32,
    pub start: Option<LogStart>,
    /// Entries from here on were lost to damage that this node may have acknowledged, and it may still lack some of them.
    pub lost_from: Option<LogIndex>,
    /// An entry that was durable after the last cut, if one is known: no version of the log from before has it.
    pub durable_id: Option<RecordId>,
    /// From this entry on others were in the last segment before, and were cut.
    pub anew_from: Option<LogIndex>,
}

/// The payload of a slot.
pub(in crate::store) fn encode(content: &Content) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_u64(content.sequence);
    out.put_text(&content.owner.cluster);
    out.put_text(&content.owner.group);
    out.put_u64(content.owner.node.0);
    out.put_u64(content.disk);
    let known: Vec<_> = content.known.iter().collect();
    out.put_list(&known, |out, (node, known)| {
        out.put_u64(node.0);
        out.put_u64(known.disk);
    });
    out.put_option(content.vote, |out, vote| {
        out.put_u64(vote.term.0);
        out.put_u64(vote.node.0);
        out.put_u8(vote.committed.into());
    });
    out.put_option(content.purged, |out, id| id.put(out));
    out.put_u64(content.durable.0);
    out.put_list(&content.starts, put_start);
    out.put_list(&known, |out, (node, known)| {
        out.put_u64(node.0);
        out.put_option(known.start.as_ref(), put_start);
        out.put_u64(known.acknowledged.0);
    });
    out.put_u32(content.segment_format);
    out.put_option(content.start, |out, start| {
        out.put_u64(start.first.0);
        out.put_option(start.before, |out, id| id.put(out));
    });
    out.put_option(content.lost_from, |out, lost| out.put_u64(lost.0));
    out.put_option(content.durable_id, |out, id| id.put(out));
    out.put_u64(content.lineage);
    out.put_option(content.anew_from, |out, from| out.put_u64(from.0));
    out.freeze()
}

fn put_start(out: &mut BytesMut, start: &StartMark) {
    out.put_u64(start.number);
    out.put_u64(start.nonce);
}

fn read_start(reader: &mut Reader) -> Result<StartMark, Malformed> {
    Ok(StartMark { number: reader.u64()?, nonce: reader.u64()? })
}

/// Reads a slot: `length u32, crc32c u32`, payload.
pub(in crate::store) fn decode_slot(bytes: Bytes) -> Result<Content, Malformed> {
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
    let mut content = Content {
        sequence: reader.u64()?,
        owner: LogOwner { cluster: reader.text()?, group: reader.text()?, node: NodeId(reader.u64()?) },
        disk: reader.u64()?,
        lineage: 0,
        starts: Vec::new(),
        known: reader
            .list(|reader| {
                let (node, disk) = (NodeId(reader.u64()?), reader.u64()?);
                Ok((node, KnownPeer { disk, start: None, acknowledged: LogIndex(0) }))
            })?
            .into_iter()
            // Older builds remembered whoever called itself a member.
            .take(KNOWN_MAX)
            .collect(),
        vote: reader.option(|reader| {
            let (term, node) = (Term(reader.u64()?), NodeId(reader.u64()?));
            Ok(VoteRecord { term, node, committed: reader.bool()? })
        })?,
        purged: reader.option(RecordId::read)?,
        durable: if version >= 2 { LogIndex(reader.u64()?) } else { LogIndex(0) },
        segment_format: segment::VERSION_MIN,
        start: None,
        lost_from: None,
        durable_id: None,
        anew_from: None,
    };
    if version >= 3 {
        content.starts = reader.list(read_start)?;
        for (node, start, acknowledged) in
            reader.list(|reader| Ok((NodeId(reader.u64()?), reader.option(read_start)?, LogIndex(reader.u64()?))))?
        {
            if let Some(known) = content.known.get_mut(&node) {
                (known.start, known.acknowledged) = (start, acknowledged);
            }
        }
    }
    if version >= 4 {
        content.segment_format = reader.u32()?;
        content.start = reader
            .option(|reader| Ok(LogStart { first: LogIndex(reader.u64()?), before: reader.option(RecordId::read)? }))?;
    }
    if version >= 5 {
        content.lost_from = reader.option(|reader| reader.u64().map(LogIndex))?;
        content.durable_id = reader.option(RecordId::read)?;
    }
    if version >= 6 {
        content.lineage = reader.u64()?;
    }
    if version >= 7 {
        content.anew_from = reader.option(|reader| reader.u64().map(LogIndex))?;
    }
    Ok(content)
}
