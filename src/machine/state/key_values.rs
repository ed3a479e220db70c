//! Key-values as stored: what tools of RocketMQ keep in name servers, by namespace and key, such as which topics are ordered
//! (remoting §3.1).
//!
//! * Shape of the key: see `keys`; of the value: a version byte and the text. Their number is kept beside them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::codec::{Malformed, Reader, Writer};
use crate::store::kv::Space;

const VERSION: u8 = 1;

/// How many there are.
pub(in crate::machine) fn count(stage: &Stage<'_>) -> Result<u64, Failure> {
    Ok(stage.number(Space::Meta, keys::KEY_VALUE_COUNT)?)
}

pub(in crate::machine) fn is_there(stage: &Stage<'_>, namespace: &str, key: &str) -> Result<bool, Failure> {
    Ok(stage.get(Space::Meta, &keys::key_value(namespace, key))?.is_some())
}

/// Sets one, or removes it; `count` is how many there are then.
pub(in crate::machine) fn put(stage: &mut Stage<'_>, namespace: &str, key: &str, value: Option<&str>, count: u64) {
    match value {
        Some(value) => stage.put(Space::Meta, keys::key_value(namespace, key), encode(value)),
        None => stage.delete(Space::Meta, keys::key_value(namespace, key)),
    }
    stage.put_number(Space::Meta, Bytes::from_static(keys::KEY_VALUE_COUNT), count);
}

fn encode(value: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(value.len() + 4);
    out.put_u8(VERSION);
    out.put_text(value);
    out.freeze()
}

pub(super) fn decode(value: Bytes) -> Result<String, Malformed> {
    Reader::versioned(value, "value of a key", VERSION)?.text()
}
