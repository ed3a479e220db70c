//! How often in a row what was pulled could not be put in its place: the process starts again each time, and is not to do that
//! again and again.
//!
//! * Shape: an empty file `install-failed-n` in the store folder for each time, from 1 on, up to a number. Empty, because what
//!   failed may have been that the disk is full.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::folder::StoreFolder;

const PREFIX: &str = "install-failed-";
/// More are not counted.
const TIMES_MAX: u32 = 10;
/// After the first time; twice as long after each later one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

fn path(store: &StoreFolder, time: u32) -> PathBuf {
    store.path.join(format!("{PREFIX}{time}"))
}

fn times(store: &StoreFolder) -> io::Result<u32> {
    let mut times = 0;
    while times < TIMES_MAX && store.disk.exists(&path(store, times + 1))? {
        times += 1;
    }
    Ok(times)
}

/// Notes one more time. Durable on return.
pub(super) fn note(store: &StoreFolder) -> io::Result<()> {
    let next = (times(store)? + 1).min(TIMES_MAX);
    store.disk.create(&path(store, next))?;
    store.disk.sync_dir(&store.path)
}

/// It was put in its place.
pub(super) fn forget(store: &StoreFolder) -> io::Result<()> {
    let times = times(store)?;
    if times > 0 {
        (1..=times).rev().try_for_each(|time| store.disk.remove(&path(store, time)))?;
        store.disk.sync_dir(&store.path)?;
    }
    Ok(())
}

/// How long to wait after a start before it is tried again.
pub(super) fn pause(store: &StoreFolder) -> Duration {
    // If it cannot be looked at, nothing is known against trying.
    match times(store).unwrap_or(0) {
        0 => Duration::ZERO,
        times => FIRST_PAUSE.saturating_mul(1 << (times - 1)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::env::fault::sim::SimDisk;

    #[test]
    fn each_failure_in_a_row_makes_the_pause_longer_also_after_a_crash() {
        let disk = SimDisk::default();
        let store = StoreFolder { disk: Arc::new(disk.clone()), path: PathBuf::from("/store") };
        assert_eq!(pause(&store), Duration::ZERO);
        for seconds in [10, 20, 40, 80] {
            note(&store).unwrap();
            disk.crash(seconds);
            assert_eq!(pause(&store), Duration::from_secs(seconds));
        }
        (0..100).for_each(|_| note(&store).unwrap());
        assert_eq!(pause(&store), PAUSE_MAX);
        forget(&store).unwrap();
        disk.crash(1);
        assert_eq!(pause(&store), Duration::ZERO);
        forget(&store).unwrap();
    }
}
