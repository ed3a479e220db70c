//! Events: what operators did, and what befell the group. The newest [`EVENTS_MAX`] are kept, the same on every replica.
//!
//! * Shape of the key: `event` number; numbers count up from 1. Of the value: version, at u64 (machine time), entry u64,
//!   kind (tag, then its parts).

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::member_changes::EndedChange;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, Millis, NodeId, Term, Timestamp};
use crate::store::kv::Space;

/// Events that are kept; the oldest goes for a new one. Each has some hundred bytes.
pub const EVENTS_MAX: u64 = 10_000;

const VERSION: u8 = 1;

/// Who asks for something, as the node that is asked sees it. Not proven: there are no users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Where the connection comes from, without its port.
    pub address: String,
    /// What program says that it is, such as `raftmq/0.1.0`.
    pub tool: String,
}

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub by: Operator,
    /// The node that was asked.
    pub node: NodeId,
    /// What it is, in a word that programs may compare, such as `topic-create`.
    pub what: String,
    /// The topic, group or node that it is about; empty if it is about all.
    pub on: String,
    /// The rest, for people.
    pub detail: String,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActEnd {
    Done,
    /// Of several things, some were done.
    Partly {
        done: u32,
        of: u32,
    },
    /// By the machine; the code of the refusal.
    Refused {
        code: u8,
        detail: u8,
    },
    /// As the node that was asked said it.
    Said(String),
}

/// A node began to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewLeader {
    pub term: Term,
    pub leader: NodeId,
    /// From the last sign of the leader before, as the new one saw it, to the first commit in this term; `None` if it had
    /// seen none since its start.
    pub gap: Option<Millis>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEventKind {
    Act(Act, ActEnd),
    /// And who led before, as far as it was noted.
    Leader(NewLeader, Option<NodeId>),
    MembersChanged(EndedChange),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    /// Machine time.
    pub at: Timestamp,
    /// The entry of the log that it is of.
    pub entry: LogIndex,
    pub kind: ClusterEventKind,
}

/// Adds an event; the oldest one goes if there are too many.
pub(in crate::machine) fn note(stage: &mut Stage<'_>, kind: ClusterEventKind) -> Result<(), Failure> {
    let number = stage.number(Space::Meta, keys::EVENT_COUNT)? + 1;
    let event = ClusterEvent { at: stage.now(), entry: stage.at(), kind };
    stage.put_number(Space::Meta, Bytes::from_static(keys::EVENT_COUNT), number);
    stage.put(Space::Meta, keys::event(number), event.encode());
    if let Some(oldest) = number.checked_sub(EVENTS_MAX).filter(|oldest| *oldest > 0) {
        stage.delete(Space::Meta, keys::event(oldest));
    }
    Ok(())
}

/// Who led when a node last began to: the term and the leader.
pub(in crate::machine) fn last_leader(stage: &Stage<'_>) -> Result<Option<(Term, NodeId)>, Failure> {
    let Some(value) = stage.get(Space::Meta, keys::NOTED_LEADER)? else { return Ok(None) };
    let mut reader = Reader::versioned(value, "noted leader", VERSION)?;
    Ok(Some((Term(reader.u64()?), NodeId(reader.u64()?))))
}

pub(in crate::machine) fn put_last_leader(stage: &mut Stage<'_>, term: Term, leader: NodeId) {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(VERSION);
    out.put_u64(term.0);
    out.put_u64(leader.0);
    stage.put(Space::Meta, Bytes::from_static(keys::NOTED_LEADER), out.freeze());
}

impl ClusterEvent {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        out.put_u64(self.at.0);
        out.put_u64(self.entry.0);
        match &self.kind {
            ClusterEventKind::Act(act, end) => {
                out.put_u8(1);
                act.encode(&mut out);
                end.encode(&mut out);
            }
            ClusterEventKind::Leader(new, before) => {
                out.put_u8(2);
                new.encode(&mut out);
                out.put_option(*before, |out, node| out.put_u64(node.0));
            }
            ClusterEventKind::MembersChanged(ended) => {
                out.put_u8(3);
                ended.encode(&mut out);
            }
        }
        out.freeze()
    }

    pub(super) fn decode(value: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::versioned(value, "event", VERSION)?;
        let (at, entry) = (Timestamp(reader.u64()?), LogIndex(reader.u64()?));
        let kind = match reader.u8()? {
            1 => ClusterEventKind::Act(Act::decode(&mut reader)?, ActEnd::decode(&mut reader)?),
            2 => {
                let new = NewLeader::decode(&mut reader)?;
                ClusterEventKind::Leader(new, reader.option(|reader| Ok(NodeId(reader.u64()?)))?)
            }
            3 => ClusterEventKind::MembersChanged(EndedChange::decode(&mut reader)?),
            tag => return Err(reader.unknown(tag.into())),
        };
        Ok(Self { at, entry, kind })
    }
}

impl Act {
    /// All its texts.
    pub fn texts(&self) -> [&str; 5] {
        [&self.by.address, &self.by.tool, &self.what, &self.on, &self.detail]
    }

    pub(in crate::machine) fn encode(&self, out: &mut BytesMut) {
        self.texts().into_iter().for_each(|text| out.put_text(text));
        out.put_u64(self.node.0);
    }

    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            by: Operator { address: reader.text()?, tool: reader.text()? },
            what: reader.text()?,
            on: reader.text()?,
            detail: reader.text()?,
            node: NodeId(reader.u64()?),
        })
    }
}

impl ActEnd {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Done => out.put_u8(1),
            Self::Partly { done, of } => {
                out.put_u8(2);
                out.put_u32(*done);
                out.put_u32(*of);
            }
            Self::Refused { code, detail } => out.put_slice(&[3, *code, *detail]),
            Self::Said(text) => {
                out.put_u8(4);
                out.put_text(text);
            }
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        match reader.u8()? {
            1 => Ok(Self::Done),
            2 => Ok(Self::Partly { done: reader.u32()?, of: reader.u32()? }),
            3 => Ok(Self::Refused { code: reader.u8()?, detail: reader.u8()? }),
            4 => Ok(Self::Said(reader.text()?)),
            tag => Err(reader.unknown(tag.into())),
        }
    }
}

impl NewLeader {
    pub(in crate::machine) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.term.0);
        out.put_u64(self.leader.0);
        out.put_option(self.gap, |out, gap| out.put_u64(gap.0));
    }

    pub(in crate::machine) fn decode(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            term: Term(reader.u64()?),
            leader: NodeId(reader.u64()?),
            gap: reader.option(|reader| Ok(Millis(reader.u64()?)))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::state::member_changes::{ChangeEnd, MemberChange, MemberChangeKind};

    #[test]
    fn every_event_survives_the_state() {
        let text = |text: &str| text.to_owned();
        let act = Act {
            by: Operator { address: text("10.0.0.9"), tool: text("raftmq/0.1.0") },
            node: NodeId(2),
            what: text("offset-reset"),
            on: text("billing"),
            detail: text("topic orders, to earliest"),
        };
        let change = MemberChange {
            number: 3,
            kind: MemberChangeKind::Remove { node: NodeId(1) },
            joins: None,
            begun_at: Timestamp(4),
            is_cancelled: false,
        };
        let new = NewLeader { term: Term(7), leader: NodeId(1), gap: Some(Millis(2310)) };
        let ends = [
            ActEnd::Done,
            ActEnd::Partly { done: 1, of: 2 },
            ActEnd::Refused { code: 5, detail: 1 },
            ActEnd::Said(text("n0 led before")),
        ];
        let acts = ends.map(|end| ClusterEventKind::Act(act.clone(), end));
        let others = [
            ClusterEventKind::Leader(new, Some(NodeId(0))),
            ClusterEventKind::Leader(NewLeader { gap: None, ..new }, None),
            ClusterEventKind::MembersChanged(EndedChange { change, at: Timestamp(9), end: ChangeEnd::Done }),
        ];
        for kind in acts.into_iter().chain(others) {
            let event = ClusterEvent { at: Timestamp(5), entry: LogIndex(8), kind };
            let bytes = event.encode();
            assert_eq!(ClusterEvent::decode(bytes.clone()), Ok(event));
            for end in 0..bytes.len() {
                assert!(ClusterEvent::decode(bytes.slice(..end)).is_err(), "cut at {end}");
            }
        }
    }
}
