//! Raft's marks in the state store: the last applied entry and the membership in force.
//!
//! They are written in the same batch as what an entry changed, so after a crash they say how far the state is (D6).

use std::io;

use bytes::Bytes;

use crate::model::codec::Reader;
use crate::raft::types;
use crate::raft::types::{LogId, StoredMembership};
use crate::store::kv::{Kv, Space, WriteBatch};

/// Key of the id of the last applied entry.
const APPLIED: &[u8] = b"raft applied";
/// Key of the membership in force and the entry that set it.
const MEMBERSHIP: &[u8] = b"raft membership";

/// Adds the applied id, and the membership if it changed, to a batch.
pub(super) fn push_marks(batch: &mut WriteBatch, applied: &Option<LogId>, membership: Option<&StoredMembership>) {
    batch.writes.push((Space::Meta, Bytes::from_static(APPLIED), Some(types::encode_log_id(applied))));
    if let Some(membership) = membership {
        let id = types::encode_log_id(membership.log_id());
        let value = [id, types::encode_membership(membership.membership())].concat();
        batch.writes.push((Space::Meta, Bytes::from_static(MEMBERSHIP), Some(value.into())));
    }
}

/// The last entry applied, and the membership in force then.
pub(super) type Marks = (Option<LogId>, StoredMembership);

/// Entries may be applied meanwhile, and few of them change the membership.
const READS_MAX: usize = 4;

/// What a store says it has applied, and the membership in force. Entries may be applied meanwhile.
pub(super) fn read_marks(kv: &dyn Kv) -> io::Result<Marks> {
    for _ in 0..READS_MAX {
        let (applied, membership) = read_once(kv)?;
        if *membership.log_id() <= applied {
            return Ok((applied, membership));
        }
    }
    Err(io::Error::other("the state's membership is of an entry that it has not applied"))
}

fn read_once(kv: &dyn Kv) -> io::Result<Marks> {
    let get = |key| kv.get(Space::Meta, key).map_err(io::Error::other);
    let applied = match get(APPLIED)? {
        Some(value) => types::read_log_id(&mut Reader::new(value, "applied id")).map_err(io::Error::other)?,
        None => None,
    };
    let membership = match get(MEMBERSHIP)? {
        Some(value) => {
            let mut reader = Reader::new(value, "membership");
            let id = types::read_log_id(&mut reader).map_err(io::Error::other)?;
            let rest = reader.take(reader.remaining()).map_err(io::Error::other)?;
            StoredMembership::new(id, types::decode_membership(rest).map_err(io::Error::other)?)
        }
        None => StoredMembership::default(),
    };
    Ok((applied, membership))
}
