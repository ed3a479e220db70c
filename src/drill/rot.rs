//! Damages the log of a node, as a disk does that rots: a bit, a sector, the end of a file, a file.

use std::io;
use std::path::{Path, PathBuf};

use crate::env::disk::{Disk, RealDisk};
use crate::env::rng::SeededRng;

const SECTOR_BYTES: u64 = 512;

/// What a node does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// It has files open, and writes to the last one.
    Runs,
    Stopped,
}

/// Damages one of the segments in a log's folder; says how. `None` if there is none that may be damaged.
pub(super) fn damage(log: &Path, node: Node, rng: &mut SeededRng) -> io::Result<Option<String>> {
    let names = RealDisk.list(log)?;
    let mut segments: Vec<PathBuf> =
        names.iter().filter(|name| name.ends_with(".seg")).map(|name| log.join(name)).collect();
    if node == Node::Runs {
        segments.pop();
    }
    if segments.is_empty() {
        return Ok(None);
    }
    let at_random = |rng: &mut SeededRng, bound: u64| rng.below(bound.max(1));
    let path = &segments[usize::try_from(at_random(rng, segments.len() as u64)).unwrap_or_default()];
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = RealDisk.open(path)?;
    let used = used_bytes(&*file)?;
    let at = at_random(rng, used);
    Ok(Some(match (at_random(rng, 5), node) {
        (0, Node::Stopped) => {
            file.set_len(at)?;
            format!("cut {name} to {at} bytes")
        }
        (1, Node::Stopped) => {
            RealDisk.remove(path)?;
            format!("removed {name}")
        }
        (2, _) => {
            let from = at / SECTOR_BYTES * SECTOR_BYTES;
            let length = SECTOR_BYTES.min(used - from);
            file.write_at(&vec![0; usize::try_from(length).unwrap_or_default()], from)?;
            format!("zeroed a sector of {name}")
        }
        _ => {
            let mut byte = [0];
            file.read_at(&mut byte, at)?;
            byte[0] ^= 1 << at_random(rng, 8);
            file.write_at(&byte, at)?;
            format!("flipped a bit of byte {at} of {name}")
        }
    }))
}

/// Up to the last byte that is not zero.
fn used_bytes(file: &dyn crate::env::disk::DiskFile) -> io::Result<u64> {
    let mut end = file.len()?;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let from = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - from).unwrap_or_default()];
        file.read_at(part, from)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}
