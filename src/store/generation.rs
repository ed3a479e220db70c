//! Generations of log and state: exactly one is the node's at any time, and another one can be put in its place at once.
//!
//! * Shape: generation 0 is in the folders `log` and `state` of the store, generation n in the same folders of
//!   `generation-n`. Which one counts is in the file `generation`: `number u64, crc32c u32`; without the file it is 0. In
//!   `state-damaged` is a state that is kept until another one is there (D147).
//!
//! The next generation is built beside the one that counts, and put in its place by replacing that file. Folders of all
//! other generations are left over, and removed in small steps.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, BytesMut};

use crate::store::Error;
use crate::store::folder::StoreFolder;

const FILE: &str = "generation";
const NEW_FILE: &str = "generation.new";
const PREFIX: &str = "generation-";
const FILE_BYTES: usize = 12;
/// A state that was found to be damaged, until another node's is in its place.
const DAMAGED_STATE: &str = "state-damaged";
/// Files that are removed in one step: others use the disk too.
const REMOVED_AT_ONCE: usize = 8;

/// Which one of a node's generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

impl Generation {
    /// The one that is built beside this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl StoreFolder {
    /// The generation that counts.
    ///
    /// * Errors: [`Error::Damaged`] if the file cannot be read: guessing could bring an old log back.
    pub fn generation(&self) -> Result<Generation, Error> {
        let path = self.path.join(FILE);
        if !self.disk.exists(&path).map_err(Error::io(path.display()))? {
            return Ok(Generation(0));
        }
        let file = self.disk.open(&path).map_err(Error::io(path.display()))?;
        let mut bytes = [0; FILE_BYTES];
        let damaged = |reason: &str| Error::Damaged { file: path.clone(), at: 0, reason: reason.to_owned() };
        if file.len().map_err(Error::io(path.display()))? != FILE_BYTES as u64 {
            return Err(damaged("it must have 12 bytes"));
        }
        file.read_at(&mut bytes, 0).map_err(Error::io(path.display()))?;
        let mut content = &bytes[..];
        let number = content.get_u64();
        if content.get_u32() != crc32c::crc32c(&bytes[..8]) {
            return Err(damaged("its checksum does not fit"));
        }
        Ok(Generation(number))
    }

    /// Where the log of a generation is.
    pub fn log_of(&self, generation: Generation) -> PathBuf {
        self.folder_of(generation).join("log")
    }

    /// Where the state of a generation is.
    pub fn state_of(&self, generation: Generation) -> PathBuf {
        self.folder_of(generation).join("state")
    }

    /// Where a state of a generation is kept that was found to be damaged.
    pub fn damaged_state_of(&self, generation: Generation) -> PathBuf {
        self.folder_of(generation).join(DAMAGED_STATE)
    }

    /// Above them.
    pub fn folder_of(&self, generation: Generation) -> PathBuf {
        match generation {
            Generation(0) => self.path.clone(),
            Generation(number) => self.path.join(format!("{PREFIX}{number}")),
        }
    }

    /// From now on this generation counts, whose files are durable. Durable on return; after a crash before that it is this
    /// one or the one before.
    pub fn flip_to(&self, generation: Generation) -> Result<(), Error> {
        let (new, path) = (self.path.join(NEW_FILE), self.path.join(FILE));
        let mut content = BytesMut::with_capacity(FILE_BYTES);
        content.put_u64(generation.0);
        let crc = crc32c::crc32c(&content);
        content.put_u32(crc);
        let file = self.disk.create(&new).map_err(Error::unwritten(new.display()))?;
        file.write_at(&content, 0).map_err(Error::unwritten(new.display()))?;
        file.sync_data().map_err(Error::io(new.display()))?;
        self.disk.rename(&new, &path).map_err(Error::io(path.display()))?;
        self.disk.sync_dir(&self.path).map_err(Error::io(self.path.display()))
    }

    /// From now on a generation counts in which there is neither log nor state yet. Durable on return.
    pub fn begin_anew(&self) -> Result<(), Error> {
        // Not the next one: a snapshot may be on its way there.
        let fresh = self.generation()?.next().next();
        let folder = self.folder_of(fresh);
        self.disk.remove_tree(&folder).map_err(Error::io(folder.display()))?;
        self.flip_to(fresh)
    }

    /// What is left of generations other than these: all that is in them can go.
    pub fn leftovers(&self, kept: &[Generation]) -> Result<Vec<PathBuf>, Error> {
        let names = self.disk.list(&self.path).map_err(Error::io(self.path.display()))?;
        let is_left = |name: &String| match name.strip_prefix(PREFIX) {
            Some(number) => !kept.iter().any(|kept| number.parse() == Ok(kept.0)),
            None => ["log", "state", DAMAGED_STATE].contains(&name.as_str()) && !kept.contains(&Generation(0)),
        };
        Ok(names.into_iter().filter(is_left).map(|name| self.path.join(name)).collect())
    }

    /// Removes a few of the files in a folder and below, and the folder with the last of them; true if some are left. Blocks.
    pub fn remove_some(&self, folder: &Path) -> Result<bool, Error> {
        let mut left = REMOVED_AT_ONCE;
        self.remove_up_to(folder, &mut left)?;
        if left == 0 {
            return Ok(true);
        }
        self.disk.remove_tree(folder).map_err(Error::io(folder.display()))?;
        self.disk.sync_dir(&self.path).map_err(Error::io(self.path.display()))?;
        Ok(false)
    }

    fn remove_up_to(&self, folder: &Path, left: &mut usize) -> Result<(), Error> {
        for name in self.disk.list(folder).map_err(Error::io(folder.display()))? {
            if *left == 0 {
                return Ok(());
            }
            let path = folder.join(name);
            match self.disk.remove(&path) {
                Ok(()) => *left -= 1,
                // It is a folder, or the list fails too.
                Err(_) => self.remove_up_to(&path, left)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::disk::Disk;
    use crate::env::fault::sim::SimDisk;

    fn store(disk: &SimDisk) -> StoreFolder {
        StoreFolder { disk: Arc::new(disk.clone()), path: PathBuf::from("/store") }
    }

    #[test]
    fn p18_a_crash_at_any_point_of_a_flip_leaves_one_generation_or_the_other() {
        for before in 0..3 {
            let disk = SimDisk::default();
            if before > 0 {
                store(&disk).flip_to(Generation(before)).unwrap();
            }
            let start = disk.operations();
            store(&disk.copy()).flip_to(Generation(before + 1)).unwrap();
            let mut seen = [0, 0];
            for operations in 0..5 {
                for seed in 0..20 {
                    let crashed = disk.copy();
                    crashed.stop_after(operations);
                    let flipped = store(&crashed).flip_to(Generation(before + 1));
                    assert_eq!(flipped.is_ok(), operations >= 5, "{operations}");
                    crashed.crash(seed);
                    let after = store(&crashed).generation().unwrap();
                    assert!(after == Generation(before) || after == Generation(before + 1), "{after:?}");
                    seen[usize::from(after == Generation(before + 1))] += 1;
                    store(&crashed).flip_to(Generation(before + 1)).unwrap();
                    crashed.crash(seed);
                    assert_eq!(store(&crashed).generation().unwrap(), Generation(before + 1));
                }
            }
            assert_eq!(disk.operations(), start);
            assert!(seen[0] > 10 && seen[1] > 5, "{seen:?}");
        }
    }

    #[test]
    fn p18_a_node_that_begins_anew_finds_nothing_of_what_was_there_or_on_its_way() {
        let disk = SimDisk::default();
        let store = store(&disk);
        for folder in ["log", "generation-1/log", "generation-2/log"] {
            disk.create(&Path::new("/store").join(folder).join("1")).unwrap();
        }
        store.begin_anew().unwrap();
        let fresh = store.generation().unwrap();
        assert_eq!(fresh, Generation(2));
        assert!(!disk.exists(&store.log_of(fresh)).unwrap());
        assert_eq!(store.leftovers(&[fresh]).unwrap().len(), 2);
    }

    #[test]
    fn p19_a_damaged_mark_is_refused_and_never_guessed() {
        let disk = SimDisk::default();
        store(&disk).flip_to(Generation(7)).unwrap();
        let path = Path::new("/store").join(FILE);
        let bytes = disk.bytes(&path).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 4;
            disk.put_bytes(&path, broken);
            assert!(matches!(store(&disk).generation(), Err(Error::Damaged { .. })), "byte {at}");
            disk.put_bytes(&path, bytes[..at].to_vec());
            assert!(matches!(store(&disk).generation(), Err(Error::Damaged { .. })), "{at} bytes");
        }
    }

    #[test]
    fn what_is_left_of_other_generations_goes_in_small_steps() {
        let disk = SimDisk::default();
        let store = store(&disk);
        for folder in ["log", "state", "state-damaged", "generation-2/log", "generation-3/log", "generation-4/state"] {
            for file in 0..20 {
                disk.create(&Path::new("/store").join(folder).join(format!("{file}"))).unwrap();
            }
        }
        disk.create(Path::new("/store/reserve")).unwrap();
        assert_eq!(store.leftovers(&[Generation(0)]).unwrap().len(), 3);
        let left = store.leftovers(&[Generation(3), Generation(4)]).unwrap();
        let path = |name: &str| Path::new("/store").join(name);
        assert_eq!(left, [path("generation-2"), path("log"), path("state"), path("state-damaged")]);
        let mut steps = 0;
        for folder in &left {
            while store.remove_some(folder).unwrap() {
                steps += 1;
            }
        }
        assert_eq!(steps, 8);
        disk.crash(1);
        assert_eq!(disk.list(Path::new("/store")).unwrap(), ["generation-3", "generation-4", "reserve"]);
    }
}
