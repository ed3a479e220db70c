//! Which broker names producers are not to use, as stored: tools of RocketMQ take the write permission of a broker away before
//! its maintenance (remoting §3.1). One record; none if all may be written.
//!
//! * Shape: a version byte, whether the whole group is meant, a list of members' names u32.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{MemberName, Unwritable};
use crate::store::kv::Space;

const VERSION: u8 = 1;

fn encode(unwritable: &Unwritable) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + unwritable.members.len() * 4);
    out.put_u8(VERSION);
    out.put_u8(unwritable.group.into());
    let members: Vec<_> = unwritable.members.iter().copied().collect();
    out.put_list(&members, |out, member| out.put_u32(member.0));
    out.freeze()
}

pub(super) fn decode(value: Option<Bytes>) -> Result<Unwritable, Malformed> {
    let Some(value) = value else { return Ok(Unwritable::default()) };
    let mut reader = Reader::versioned(value, "names without write permission", VERSION)?;
    let group = reader.bool()?;
    let members = reader.list(|reader| Ok(MemberName(reader.u32()?)))?.into_iter().collect();
    Ok(Unwritable { group, members })
}

pub(in crate::machine) fn get(stage: &Stage<'_>) -> Result<Unwritable, Failure> {
    Ok(decode(stage.get(Space::Meta, keys::UNWRITABLE)?)?)
}

pub(in crate::machine) fn put(stage: &mut Stage<'_>, unwritable: &Unwritable) {
    let key = Bytes::from_static(keys::UNWRITABLE);
    if *unwritable == Unwritable::default() {
        stage.delete(Space::Meta, key);
    } else {
        stage.put(Space::Meta, key, encode(unwritable));
    }
}
