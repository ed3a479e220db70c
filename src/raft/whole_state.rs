//! All that a state store holds: to read it from end to end, and to empty it.

use std::io;

use bytes::Bytes;

use crate::store::kv::{Kv, Space, WriteBatch};

/// Pairs read from the store at a time.
const PAGE: usize = 4096;

/// Every pair of a space, ascending; ends with the first error of `pair`.
pub(super) fn each(kv: &dyn Kv, space: Space, mut pair: impl FnMut(Bytes, Bytes) -> io::Result<()>) -> io::Result<()> {
    let mut from = Bytes::new();
    loop {
        let page = kv.scan(space, &from, &[u8::MAX; 64], PAGE).map_err(io::Error::other)?;
        let is_last = page.len() < PAGE;
        if let Some((key, _)) = page.last() {
            from = [key.as_ref(), &[0]].concat().into();
        }
        for (key, value) in page {
            pair(key, value)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Empties a store, durably.
pub(super) fn clear(kv: &dyn Kv) -> io::Result<()> {
    let mut batch = WriteBatch { writes: Vec::new() };
    for space in Space::ALL {
        each(kv, space, |key, _| {
            batch.writes.push((space, key, None));
            Ok(())
        })?;
    }
    kv.write(batch).map_err(io::Error::other)?;
    kv.flush().map_err(io::Error::other)
}
