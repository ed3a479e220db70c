//! Damage to the files of the state store: found when it is opened, read or written, and noted, and nothing wrong is read.
#![allow(clippy::disallowed_methods, reason = "the test plays the disk")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::env::rng::SeededRng;
use crate::store::kv::rocks::{RocksKv, damage_mark};
use crate::store::kv::{Kv, Result, Space, WriteBatch};

const MEMORY_BYTES: usize = 8 * 1024 * 1024;
const OPEN_FILES_MAX: u32 = 64;
const KEYS: u32 = 200;
const FLUSHES: u32 = 3;

type Content = BTreeMap<Bytes, Bytes>;

fn open(folder: &Path) -> Result<RocksKv> {
    RocksKv::open(&folder.join("state"), MEMORY_BYTES, OPEN_FILES_MAX)
}

fn is_marked(folder: &Path) -> bool {
    damage_mark(&folder.join("state")).exists()
}

/// What is written before each flush: some of the keys, with other values.
fn batch(flush: u32) -> WriteBatch {
    let key = |number: u32| Bytes::from(format!("key {number:06}"));
    let value = |number: u32| Bytes::from(format!("{flush} of {number} ").repeat(20));
    let numbers = (0..KEYS).filter(|number| flush == 0 || number % (flush + 1) == 0);
    WriteBatch { writes: numbers.map(|number| (Space::Queue, key(number), Some(value(number)))).collect() }
}

/// A store, closed, and what was in it after each flush; nothing at first.
fn filled(folder: &Path) -> Vec<Content> {
    let kv = open(folder).unwrap();
    let mut contents = vec![Content::new()];
    for flush in 0..FLUSHES {
        kv.write(batch(flush)).unwrap();
        kv.flush().unwrap();
        let mut content = contents[flush as usize].clone();
        content.extend(batch(flush).writes.into_iter().map(|(_, key, value)| (key, value.unwrap())));
        contents.push(content);
    }
    contents
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let of_it = |name: &str| name.ends_with(".sst") || name == "CURRENT" || name.starts_with("MANIFEST");
    let paths = std::fs::read_dir(folder.join("state")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| of_it(&path.file_name().unwrap().to_string_lossy())).collect();
    files.sort();
    files
}

fn damage(rng: &mut SeededRng, folder: &Path) -> String {
    let files = files(folder);
    let file = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut bytes = std::fs::read(file).unwrap();
    let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
    match rng.below(4) {
        0 => {
            std::fs::remove_file(file).unwrap();
            return format!("{name} removed");
        }
        1 => bytes.truncate(at),
        2 => bytes[at] ^= 1 << rng.below(8),
        _ => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }
    std::fs::write(file, &bytes).unwrap();
    format!("{name} damaged at {at}, {} bytes left", bytes.len())
}

#[test]
fn p19_a_damaged_state_store_is_found_or_is_a_whole_earlier_one() {
    let whole = tempfile::tempdir().unwrap();
    let contents = filled(whole.path());
    let (mut refused, mut found, mut earlier) = (0, 0, 0);
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        std::process::Command::new("cp").arg("-a").arg(whole.path().join("state")).arg(folder.path()).status().unwrap();
        let how = damage(&mut SeededRng::new(seed), folder.path());
        let context = format!("seed {seed}: {how}");
        let kv = match open(folder.path()) {
            Ok(kv) => kv,
            Err(error) => {
                assert!(error.is_damage(), "{context}: the start makes it anew only if it says so: {error}");
                refused += 1;
                continue;
            }
        };
        let read = kv.scan(Space::Queue, b"", &[255], usize::MAX).map(|pairs| pairs.into_iter().collect::<Content>());
        match read.and_then(|read| kv.verify(&mut |_| true).map(|()| read)) {
            Ok(read) => {
                let is_there = contents.iter().position(|content| *content == read);
                let is_there =
                    is_there.unwrap_or_else(|| panic!("{context}: {} keys that never were together", read.len()));
                earlier += u32::from(is_there < contents.len() - 1);
            }
            Err(error) => {
                assert!(error.is_damage() && is_marked(folder.path()) && kv.is_given_up(), "{context}: {error}");
                found += 1;
            }
        }
        // Each key that is given alone was its value once, or is refused.
        for (key, value) in &contents[contents.len() - 1] {
            if let Ok(Some(read)) = kv.get(Space::Queue, key) {
                assert!(earlier > 0 || read == *value, "{context}");
            }
        }
    }
    assert!(refused > 10 && found > 0, "{refused} refused, {found} found when it was read, {earlier} earlier ones");
}

#[test]
fn p19_damage_that_a_compaction_finds_is_noted_when_something_is_written() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let tables: Vec<_> = files(folder.path()).into_iter().filter(|file| file.extension().is_some()).collect();
    let mut bytes = std::fs::read(&tables[0]).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&tables[0], bytes).unwrap();
    let kv = open(folder.path()).unwrap();
    // The fourth flush begins a compaction.
    for _ in 0..200 {
        if kv.write(batch(0)).and_then(|()| kv.flush()).is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(kv.is_given_up());
    assert!(is_marked(folder.path()), "the next start would read it again, and end again");
}
