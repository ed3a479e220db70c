//! All that a state store holds, read from end to end.

use std::io;

use bytes::Bytes;

use crate::store::kv;
use crate::store::kv::{Kv, Space};

/// Every pair of a space, ascending; ends with the first error of `pair`.
pub(super) fn each(kv: &dyn Kv, space: Space, pair: impl FnMut(Bytes, Bytes) -> io::Result<()>) -> io::Result<()> {
    kv::each(kv, space, &[], &[u8::MAX; 64], pair)
}
