//! Clocks of nodes that jump and drift: libfaketime between a node and its C library, told by a file what to add to the
//! time of day. The monotonic clock stays what it is.
//!
//! Source: the manual of libfaketime 0.9.10.

use std::io;
use std::path::{Path, PathBuf};

use crate::env::disk;

/// Where Debian and its kin put the library.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// Where it notes what its processes share.
const SHARED_MEMORY: &str = "/dev/shm";

/// How clocks of nodes are moved.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    library: PathBuf,
    folder: PathBuf,
}

impl Clocks {
    /// With the library of this machine; the files that tell it what to do go to a folder.
    ///
    /// * Errors: it is not there.
    pub fn find(folder: &Path) -> io::Result<Self> {
        let library = LIBRARIES.iter().map(PathBuf::from).find(|path| disk::is_there(path)).ok_or_else(|| {
            let text = format!("no libfaketime ({}): apt-get install libfaketime", LIBRARIES[0]);
            io::Error::new(io::ErrorKind::NotFound, text)
        })?;
        Ok(Self { library, folder: folder.to_owned() })
    }

    /// What a node's process has to have in its environment; its clock is right at first.
    pub fn environment(&self, node: usize) -> io::Result<Vec<(&'static str, PathBuf)>> {
        self.move_by(node, 0)?;
        Ok(vec![
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(node)),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ])
    }

    /// From now on a node's clock is ahead by so many milliseconds, or behind.
    pub fn move_by(&self, node: usize, millis: i64) -> io::Result<()> {
        let sign = if millis < 0 { '-' } else { '+' };
        let millis = millis.unsigned_abs();
        disk::replace_text(&self.file(node), &format!("{sign}{}.{:03}\n", millis / 1000, millis % 1000))
    }

    /// Removes what the library leaves of a process that was killed.
    pub fn clean_up(process_id: u32) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            disk::remove_if_there(&Path::new(SHARED_MEMORY).join(format!("{name}{process_id}")));
        }
    }

    fn file(&self, node: usize) -> PathBuf {
        self.folder.join(format!("n{node}.clock"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_clock_of_another_process_is_moved_while_it_runs_and_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let clocks = match Clocks::find(folder.path()) {
            Ok(clocks) => clocks,
            Err(error) => return eprintln!("SKIPPED: {error}"),
        };
        let shows = |millis: i64| {
            let environment = clocks.environment(1).unwrap();
            clocks.move_by(1, millis).unwrap();
            let shown = Command::new("date").arg("+%s%3N").envs(environment).output().unwrap();
            let shown: i64 = String::from_utf8(shown.stdout).unwrap().trim().parse().unwrap();
            shown - crate::env::clock::wall().0 as i64
        };
        for millis in [0, 3_600_000, -3_600_000, 500, -70 * 365 * 86_400_000, 70 * 365 * 86_400_000] {
            let moved = shows(millis);
            assert!((moved - millis).abs() < 2_000, "asked for {millis} ms, moved by {moved} ms");
        }
    }
}
