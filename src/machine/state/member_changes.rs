//! The change of members that is under way, the last one that ended, and which numbers are used up.
//!
//! One change at a time: it is here from when an operator asks for it until the leader has seen it through, whoever leads by
//! then. The membership itself is Raft's and not in the state.
//!
//! * Shape of the value: version, last number u32, number of changes u64, change?, ended?, list of (node u64, since u64).
//!   Change: number u64, kind (tag, numbers and texts), begun at u64, cancelled. Ended: change, at u64, end (tag, text).

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{MemberName, NodeId, Timestamp};

const VERSION: u8 = 1;
/// In place of a change's number: whichever is under way.
pub const ANY_CHANGE: u64 = 0;
/// Replicas whose time of joining is remembered; a group has fewer.
const SINCE_MAX: usize = 64;

/// What an operator wants of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChangeKind {
    /// A new member; which replica it is to be, is decided when the change begins.
    Add {
        name: MemberName,
        address: String,
    },
    /// A new replica takes the place of `old`, under its name.
    Replace {
        old: NodeId,
        address: String,
    },
    Remove {
        node: NodeId,
    },
}

/// A change that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Counts up.
    pub number: u64,
    pub kind: MemberChangeKind,
    /// The replica that comes, if one does.
    pub joins: Option<NodeId>,
    pub begun_at: Timestamp,
    /// It is to be undone, as far as it has not come too far.
    pub is_cancelled: bool,
}

impl MemberChange {
    /// The member that it is about.
    pub fn name(&self) -> MemberName {
        match &self.kind {
            MemberChangeKind::Add { name, .. } => *name,
            MemberChangeKind::Replace { old, .. } => old.name(),
            MemberChangeKind::Remove { node } => node.name(),
        }
    }

    /// The replica that leaves, if one does.
    pub fn leaves(&self) -> Option<NodeId> {
        match &self.kind {
            MemberChangeKind::Add { .. } => None,
            MemberChangeKind::Replace { old, .. } => Some(*old),
            MemberChangeKind::Remove { node } => Some(*node),
        }
    }
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeEnd {
    Done,
    Cancelled,
    /// It could not be done; why.
    Refused(String),
}

/// A change that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedChange {
    pub change: MemberChange,
    pub at: Timestamp,
    pub end: ChangeEnd,
}

/// All there is to know of changes of members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberChanges {
    /// The last number that a later replica was given.
    pub last_number: u32,
    /// Changes begun so far.
    pub count: u64,
    pub pending: Option<MemberChange>,
    pub ended: Option<EndedChange>,
    /// Since when later replicas are members.
    pub since: Vec<(NodeId, Timestamp)>,
}

impl MemberChanges {
    /// Begins a change, unless one is under way.
    pub(in crate::machine) fn begin(&mut self, kind: MemberChangeKind, now: Timestamp) {
        if self.pending.is_some() {
            return;
        }
        let name = match &kind {
            MemberChangeKind::Add { name, .. } => Some(*name),
            MemberChangeKind::Replace { old, .. } => Some(old.name()),
            MemberChangeKind::Remove { .. } => None,
        };
        // One that was made from a backup has a number of its own, and its successor a higher one.
        let leaves = match &kind {
            MemberChangeKind::Add { .. } => 0,
            MemberChangeKind::Replace { old: node, .. } | MemberChangeKind::Remove { node } => node.number(),
        };
        self.last_number = self.last_number.max(leaves);
        let joins = name.map(|name| {
            // As many changes as this no group sees.
            self.last_number = self.last_number.saturating_add(1);
            NodeId::later_of(name, self.last_number)
        });
        self.count += 1;
        let number = self.count;
        self.pending = Some(MemberChange { number, kind, joins, begun_at: now, is_cancelled: false });
    }

    /// Has the change of this number undone.
    pub(in crate::machine) fn cancel(&mut self, number: u64) {
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.number == number) {
            pending.is_cancelled = true;
        }
    }

    /// Ends the change of this number, or [`ANY_CHANGE`]; gives it, if it was under way.
    pub(in crate::machine) fn end(&mut self, number: u64, end: ChangeEnd, now: Timestamp) -> Option<MemberChange> {
        let change = self.pending.take_if(|pending| number == ANY_CHANGE || pending.number == number)?;
        if end == ChangeEnd::Done {
            self.since.retain(|(node, _)| Some(*node) != change.leaves());
            self.since.extend(change.joins.map(|node| (node, now)));
            self.since.drain(..self.since.len().saturating_sub(SINCE_MAX));
        }
        self.ended = Some(EndedChange { change: change.clone(), at: now, end });
        Some(change)
    }

    pub(in crate::machine) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u32(self.last_number);
        out.put_u64(self.count);
        out.put_option(self.pending.as_ref(), |out, change| change.encode(out));
        out.put_option(self.ended.as_ref(), |out, ended| ended.encode(out));
        out.put_list(&self.since, |out, (node, since)| {
            out.put_u64(node.0);
            out.put_u64(since.0);
        });
        out.freeze()
    }

    pub(in crate::machine) fn decode(value: Option<Bytes>) -> Result<Self, Malformed> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut reader = Reader::versioned(value, "changes of members", VERSION)?;
        Ok(Self {
            last_number: reader.u32()?,
            count: reader.u64()?,
            pending: reader.option(MemberChange::decode)?,
            ended: reader.option(EndedChange::decode)?,
            since: reader.list(|reader| Ok((NodeId(reader.u64()?), Timestamp(reader.u64()?))))?,
        })
    }
}

impl EndedChange {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        self.change.encode(out);
        out.put_u64(self.at.0);
        self.end.encode(out);
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            change: MemberChange::decode(reader)?,
            at: Timestamp(reader.u64()?),
            end: ChangeEnd::decode(reader)?,
        })
    }
}

impl MemberChangeKind {
    pub(in crate::machine) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Add { name, address } => {
                out.put_u8(1);
                out.put_u32(name.0);
                out.put_text(address);
            }
            Self::Replace { old, address } => {
                out.put_u8(2);
                out.put_u64(old.0);
                out.put_text(address);
            }
            Self::Remove { node } => {
                out.put_u8(3);
                out.put_u64(node.0);
            }
        }
    }

    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Add { name: MemberName(reader.u32()?), address: reader.text()? }),
            2 => Ok(Self::Replace { old: NodeId(reader.u64()?), address: reader.text()? }),
            3 => Ok(Self::Remove { node: NodeId(reader.u64()?) }),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

impl MemberChange {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.number);
        self.kind.encode(out);
        out.put_option(self.joins, |out, node| out.put_u64(node.0));
        out.put_u64(self.begun_at.0);
        out.put_u8(self.is_cancelled.into());
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            number: reader.u64()?,
            kind: MemberChangeKind::decode(reader)?,
            joins: reader.option(|reader| Ok(NodeId(reader.u64()?)))?,
            begun_at: Timestamp(reader.u64()?),
            is_cancelled: reader.bool()?,
        })
    }
}

impl ChangeEnd {
    pub(in crate::machine) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Done => out.put_u8(1),
            Self::Cancelled => out.put_u8(2),
            Self::Refused(why) => {
                out.put_u8(3);
                out.put_text(why);
            }
        }
    }

    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Done),
            2 => Ok(Self::Cancelled),
            3 => Ok(Self::Refused(reader.text()?)),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N3: MemberName = MemberName(3);

    fn add() -> MemberChangeKind {
        MemberChangeKind::Add { name: N3, address: "h:1".into() }
    }

    #[test]
    fn one_change_is_under_way_at_a_time_and_no_number_comes_twice() {
        let mut changes = MemberChanges::default();
        changes.begin(add(), Timestamp(1));
        let first = changes.pending.clone().unwrap();
        assert_eq!((first.number, first.joins), (1, Some(NodeId::later_of(N3, 1))));
        changes.begin(MemberChangeKind::Remove { node: NodeId(0) }, Timestamp(2));
        assert_eq!(changes.pending.as_ref(), Some(&first), "said while another one is under way");
        assert_eq!(changes.end(7, ChangeEnd::Done, Timestamp(3)), None);
        changes.cancel(7);
        assert!(!changes.pending.as_ref().unwrap().is_cancelled);
        assert_eq!(changes.end(1, ChangeEnd::Refused("no".into()), Timestamp(3)), Some(first));
        assert_eq!(changes.since, []);
        changes.begin(add(), Timestamp(4));
        let second = changes.pending.clone().unwrap();
        assert_eq!((second.number, second.joins), (2, Some(NodeId::later_of(N3, 2))), "that number is used up");
        changes.end(2, ChangeEnd::Done, Timestamp(5));
        assert_eq!(changes.since, [(NodeId::later_of(N3, 2), Timestamp(5))]);
        changes.begin(MemberChangeKind::Replace { old: NodeId::later_of(N3, 2), address: "h:1".into() }, Timestamp(6));
        changes.end(3, ChangeEnd::Done, Timestamp(7));
        assert_eq!(changes.since, [(NodeId::later_of(N3, 3), Timestamp(7))], "the one that left is forgotten");
    }

    #[test]
    fn p18_the_successor_of_a_replica_from_a_backup_has_a_higher_number() {
        let restored = NodeId::later_of(MemberName(0), 1 << 30);
        let replace = MemberChangeKind::Replace { old: restored, address: "h:1".into() };
        for leaves in [replace, MemberChangeKind::Remove { node: restored }] {
            let mut changes = MemberChanges::default();
            changes.begin(leaves, Timestamp(1));
            assert!(changes.pending.as_ref().unwrap().joins.is_none_or(|joins| joins > restored));
            let ended = changes.end(ANY_CHANGE, ChangeEnd::Cancelled, Timestamp(2));
            assert!(ended.is_some() && changes.pending.is_none());
            changes.begin(MemberChangeKind::Add { name: MemberName(0), address: "h:1".into() }, Timestamp(3));
            assert!(changes.pending.unwrap().joins > Some(restored));
        }
    }

    #[test]
    fn changes_survive_the_state() {
        let mut changes = MemberChanges::default();
        assert_eq!(MemberChanges::decode(None), Ok(changes.clone()));
        for kind in [
            add(),
            MemberChangeKind::Replace { old: NodeId(2), address: "i:2".into() },
            MemberChangeKind::Remove { node: NodeId(1) },
        ] {
            changes.begin(kind, Timestamp(5));
            let number = changes.count;
            changes.cancel(number);
            assert_eq!(MemberChanges::decode(Some(changes.encode())), Ok(changes.clone()));
            for end in [ChangeEnd::Done, ChangeEnd::Cancelled, ChangeEnd::Refused("why".into())] {
                let mut ended = changes.clone();
                ended.end(number, end, Timestamp(9));
                assert_eq!(MemberChanges::decode(Some(ended.encode())), Ok(ended));
            }
            changes.end(number, ChangeEnd::Done, Timestamp(9));
        }
    }
}
