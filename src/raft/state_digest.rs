//! A digest of everything that a replica has applied, to compare replicas by (P15).
//!
//! The store is read while entries may be applied: it was read as one if its applied mark is the same before and after,
//! because an entry and its mark are written together. Nothing in the store is a node's own, so all of it counts.

use std::io;
use std::time::Duration;

use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use crate::machine::state::view::View;
use crate::model::LogIndex;
use crate::raft::marks::read_marks;
use crate::raft::types;
use crate::raft::whole_state;
use crate::store::kv::{Kv, Space};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What a replica has applied, as three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// The last entry in it.
    pub applied: LogIndex,
    /// Of all keys and values that there are.
    pub content: u64,
    /// Of all writes that there were, in their order ([`View::digest`]).
    pub running: u64,
}

/// Reads the whole store, again and again until no entry was applied meanwhile; `None` if that is not so before `until`.
/// Blocks.
///
/// * Errors: the disk failed.
pub(super) fn read(kv: &dyn Kv, until: Instant) -> io::Result<Option<StateDigest>> {
    loop {
        let before = read_marks(kv)?.0;
        let Some(content) = content(kv, until)? else { return Ok(None) };
        let running = View::new(kv).digest().map_err(io::Error::other)?;
        if read_marks(kv)?.0 == before {
            let applied = before.map_or(LogIndex(0), |id| types::index_in(id.index));
            return Ok(Some(StateDigest { applied, content, running }));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// `None` if it is not read before `until`.
fn content(kv: &dyn Kv, until: Instant) -> io::Result<Option<u64>> {
    let mut digest = Xxh3::new();
    // What follows from the others may have been made anew, and then differ in its form (`machine/state/references`).
    for space in Space::ALL.into_iter().filter(|space| *space != Space::Reference) {
        let read = whole_state::each(kv, space, |key, value| {
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            digest.update(&[space as u8]);
            for part in [key, value] {
                digest.update(&(part.len() as u64).to_be_bytes());
                digest.update(&part);
            }
            Ok(())
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
            read => read?,
        }
    }
    Ok(Some(digest.digest()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::kv::WriteBatch;
    use crate::store::kv::memory::MemoryKv;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn kv(pairs: &[(Space, &'static str, &'static str)]) -> MemoryKv {
        let kv = MemoryKv::default();
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let writes = pairs.iter().map(|(space, key, value)| (*space, bytes(key), Some(bytes(value)))).collect();
        kv.write(WriteBatch { writes }).unwrap();
        kv
    }

    #[test]
    fn p15_one_changed_byte_of_any_space_or_a_key_in_another_space_is_another_digest() {
        let digest = |pairs: &[_]| read(&kv(pairs), far()).unwrap().unwrap().content;
        let spaces = Space::ALL.into_iter().filter(|space| *space != Space::Reference);
        let pairs: Vec<_> = spaces.map(|space| (space, "ab", "cd")).collect();
        let whole = digest(&pairs);
        assert_eq!(digest(&pairs), whole);
        for at in 0..pairs.len() {
            for changed in [("ab", "ce"), ("abc", "d"), ("a", "bcd")] {
                let mut other = pairs.clone();
                (other[at].1, other[at].2) = changed;
                assert_ne!(digest(&other), whole, "{other:?}");
            }
            let mut fewer = pairs.to_vec();
            fewer.remove(at);
            assert_ne!(digest(&fewer), whole, "{fewer:?}");
        }
        assert_ne!(digest(&[(Space::Queue, "a", "b")]), digest(&[(Space::Lease, "a", "b")]));
    }

    #[test]
    fn it_gives_up_when_its_time_is_over() {
        assert_eq!(read(&kv(&[(Space::Queue, "a", "b")]), Instant::now()).unwrap(), None);
    }
}
