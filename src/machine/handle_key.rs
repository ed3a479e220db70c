//! The key of the cluster's handles below the log: the first one stays for ever, because handles sealed with it are in the
//! hands of clients. Before: `broker/handle_key`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::machine::outcome::Outcome;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::HandleKey;
use crate::store::kv::Space;

pub(super) fn set(stage: &mut Stage<'_>, key: HandleKey) -> Result<Outcome, Failure> {
    if stage.get(Space::Meta, keys::HANDLE_KEY)?.is_none() {
        let mut value = BytesMut::with_capacity(32);
        value.put_u8(keys::HANDLE_KEY_VERSION);
        key.encode(&mut value);
        stage.put(Space::Meta, Bytes::from_static(keys::HANDLE_KEY), value.freeze());
    }
    Ok(Outcome::Done)
}
