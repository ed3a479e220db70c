//! Places for clients' connections: how many there are, and how many of them one address may take (P20).
//!
//! A node needs files for itself: a log or a state that cannot open one ends it. So connections are counted against what
//! this process may have open, less what it needs, and refused before that is touched. The limit is read anew for each
//! connection: it can be changed while a process runs (`prlimit`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::env::process;

/// Connections of clients to one node.
const CONNECTIONS_MAX: u64 = 10_000;
/// Files that a node may need beside `openFilesMax` and connections of clients: peers (64 unproven, three to each member),
/// HTTP (64), RocksDB's own, snapshots and backups, ports, log files, and room for what comes between two looks.
const OTHER_FILES: u64 = 256;
/// With fewer places a start is refused.
const CONNECTIONS_LEAST: u64 = 64;
/// Refused connections are said so often at most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The places of a node. Cheap to clone.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    reserve: u64,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: u64,
    by_address: HashMap<IpAddr, u64>,
    refused: u64,
    said: Option<Instant>,
}

/// The place of one connection, until it is dropped.
pub struct Place {
    places: Places,
    address: IpAddr,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaceCounts {
    pub open: u64,
    /// Since the start.
    pub refused: u64,
}

/// Why a connection has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("all {0} places for connections are taken")]
    All(u64),
    #[error("this address has {0} connections, half of all that this node takes")]
    OfAddress(u64),
}

/// This process may open too few files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open, and needs {least} with openFilesMax={open_files_max}; \
     raise the limit (ulimit -n, LimitNOFILE=)"
)]
pub struct TooFewFiles {
    limit: u64,
    least: u64,
    open_files_max: u32,
}

impl Places {
    /// Places of a node that keeps so many files of its store open.
    pub fn new(open_files_max: u32) -> Self {
        let reserve = u64::from(open_files_max) + OTHER_FILES;
        Self(Arc::new(Shared { reserve, taken: Mutex::default() }))
    }

    /// Whether this process may open what a node needs.
    pub fn check(open_files_max: u32, limit: u64) -> Result<(), TooFewFiles> {
        let least = u64::from(open_files_max) + OTHER_FILES + CONNECTIONS_LEAST;
        if limit < least { Err(TooFewFiles { limit, least, open_files_max }) } else { Ok(()) }
    }

    /// Takes a place for a connection; who gets none is to be closed.
    pub fn take(&self, peer: SocketAddr) -> Result<Place, Refused> {
        self.take_within(peer, process::open_files_limit())
    }

    /// Connections that are open, and how many were refused.
    pub fn counts(&self) -> PlaceCounts {
        let taken = self.0.taken.lock();
        PlaceCounts { open: taken.all, refused: taken.refused }
    }

    fn take_within(&self, peer: SocketAddr, limit: u64) -> Result<Place, Refused> {
        let most = CONNECTIONS_MAX.min(limit.saturating_sub(self.0.reserve));
        // One host that takes what it can get must not keep all others out.
        let of_address = most.div_ceil(2);
        let address = host_of(peer);
        let mut taken = self.0.taken.lock();
        let own = taken.by_address.get(&address).copied().unwrap_or_default();
        let refused = match () {
            () if taken.all >= most => Refused::All(most),
            () if own >= of_address => Refused::OfAddress(own),
            () => {
                taken.all += 1;
                taken.by_address.insert(address, own + 1);
                return Ok(Place { places: self.clone(), address });
            }
        };
        taken.refused += 1;
        if taken.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            taken.said = Some(Instant::now());
            let count = taken.refused;
            drop(taken);
            tracing::warn!(%peer, count, limit, "connections are refused: {refused}; see ulimit -n if that is too few");
        }
        Err(refused)
    }
}

/// The machine at the other end: one has as many IPv6 addresses as it likes.
pub(in crate::edge) fn host_of(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn p20_an_address_gets_half_and_what_the_node_needs_is_left() {
        let places = Places::new(100);
        let limit = 100 + OTHER_FILES + 10;
        let (a, b, c) = (peer("10.0.0.1:1000"), peer("10.0.0.2:1000"), peer("10.0.0.3:1000"));
        let mut of_a: Vec<_> = (0..5).map(|_| places.take_within(a, limit).unwrap()).collect();
        assert_eq!(places.take_within(a, limit).err(), Some(Refused::OfAddress(5)));
        let of_b: Vec<_> = (0..5).map(|_| places.take_within(b, limit).unwrap()).collect();
        assert_eq!(places.take_within(c, limit).err(), Some(Refused::All(10)));
        of_a.pop();
        let of_c = places.take_within(c, limit).unwrap();
        drop((of_a, of_b, of_c));
        let taken = places.0.taken.lock();
        assert_eq!((taken.all, taken.by_address.len(), taken.refused), (0, 0, 2));
    }

    #[tokio::test]
    async fn p20_a_limit_that_falls_while_a_node_runs_counts_from_then_on() {
        let places = Places::new(100);
        let limit = 100 + OTHER_FILES + 10;
        let a = peer("10.0.0.1:1000");
        let held: Vec<_> = (0..3).map(|_| places.take_within(a, limit).unwrap()).collect();
        assert_eq!(places.take_within(a, limit - 7).err(), Some(Refused::All(3)));
        assert_eq!(places.take_within(a, 7).err(), Some(Refused::All(0)));
        drop(held);
        assert!(places.take_within(a, limit - 7).is_ok());
    }

    #[tokio::test]
    async fn p20_a_host_has_one_share_under_all_its_ipv6_addresses() {
        let places = Places::new(100);
        let limit = 100 + OTHER_FILES + 2;
        let _held = places.take_within(peer("[2001:db8::1]:1000"), limit).unwrap();
        assert_eq!(places.take_within(peer("[2001:db8::ffff:2]:9"), limit).err(), Some(Refused::OfAddress(1)));
        let _mapped = places.take_within(peer("[::ffff:10.0.0.1]:9"), limit).unwrap();
        assert_eq!(places.0.taken.lock().by_address.len(), 2);
    }

    #[test]
    fn a_start_with_too_few_files_says_how_many_it_needs() {
        assert_eq!(Places::check(256, 576), Ok(()));
        let refused = Places::check(256, 575).unwrap_err().to_string();
        assert!(refused.contains("may have 575 files open, and needs 576 with openFilesMax=256"), "{refused}");
    }
}
