//! The files of a copy of the state, as manifests of snapshots and of backups name them; and what both manifests end with: a
//! checksum of all that they say.
//!
//! * Shape of one: `name, bytes u64, crc32c u32`. Of the checksum: `crc32c u32`.

use std::collections::BTreeSet;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use crate::env::disk::DiskFile;
use crate::model::codec::{Malformed, Reader, Writer};

const CRC_BYTES: usize = 4;
/// A file name, at most.
const NAME_BYTES_MAX: usize = 255;
/// Read at once.
const PART_BYTES: usize = 1024 * 1024;

/// One file of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    /// In the folder of the state.
    pub name: String,
    pub bytes: u64,
    pub crc32c: u32,
}

impl StateFile {
    pub fn put(&self, out: &mut BytesMut) {
        out.put_text(&self.name);
        out.put_u64(self.bytes);
        out.put_u32(self.crc32c);
    }

    pub fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { name: reader.text()?, bytes: reader.u64()?, crc32c: reader.u32()? })
    }
}

/// * Errors: one has a name that is no file's, or is elsewhere; or two have the same.
pub fn check_names(files: &[StateFile]) -> Result<(), String> {
    let is_file_name = |name: &str| {
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != "." && name != ".." && !name.contains(['/', '\0'])
    };
    if let Some(file) = files.iter().find(|file| !is_file_name(&file.name)) {
        return Err(format!("'{}' is no name of a file", file.name.escape_debug()));
    }
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    if names.len() < files.len() { Err("two files of the state have one name".to_owned()) } else { Ok(()) }
}

/// Ends a manifest.
pub fn with_checksum(mut out: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out.freeze()
}

/// The manifest before its checksum; `None` if that does not fit.
pub fn without_checksum(mut bytes: Bytes) -> Option<Bytes> {
    let crc = bytes.split_off(bytes.len().checked_sub(CRC_BYTES)?);
    (crc32c::crc32c(&bytes).to_be_bytes() == *crc).then_some(bytes)
}

/// Reads so many bytes of a file from its beginning, in parts, each with where it begins, and gives the checksum of all. Ends
/// with the first error of `part`, or of the file, as `failed` makes it one.
pub fn read_through<E>(
    file: &dyn DiskFile,
    bytes: u64,
    failed: impl Fn(io::Error) -> E,
    mut part: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<u32, E> {
    let mut buffer = vec![0; PART_BYTES];
    let (mut at, mut crc) = (0, 0);
    while at < bytes {
        let count = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(PART_BYTES);
        file.read_at(&mut buffer[..count], at).map_err(&failed)?;
        crc = crc32c::crc32c_append(crc, &buffer[..count]);
        part(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(crc)
}

/// The checksum of so many bytes of a file.
pub fn checksum_of(file: &dyn DiskFile, bytes: u64) -> io::Result<u32> {
    read_through(file, bytes, |error| error, |_, _| Ok(()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::disk::Disk;
    use crate::env::fault::sim::SimDisk;

    #[test]
    fn a_file_is_read_in_parts_and_its_checksum_is_that_of_the_whole() {
        let content: Vec<u8> = (0..2 * PART_BYTES + 77).map(|at| (at % 251) as u8).collect();
        let file = SimDisk::default().create(Path::new("/file")).unwrap();
        file.write_at(&content, 0).unwrap();
        let mut read = Vec::new();
        let crc = read_through(&*file, content.len() as u64, drop, |part, at| {
            assert_eq!(read.len() as u64, at);
            read.extend_from_slice(part);
            Ok(())
        });
        assert_eq!((crc, &read), (Ok(crc32c::crc32c(&content)), &content));
        let head = PART_BYTES as u64 + 1;
        assert_eq!(checksum_of(&*file, head).unwrap(), crc32c::crc32c(&content[..PART_BYTES + 1]));
        assert!(checksum_of(&*file, content.len() as u64 + 1).is_err(), "it ends before");
        let ended = read_through(&*file, head, |_| "failed", |_, at| if at > 0 { Err("enough") } else { Ok(()) });
        assert_eq!(ended, Err("enough"));
    }

    #[test]
    fn p19_a_manifest_is_none_if_a_byte_of_it_is_another_or_missing() {
        let whole = with_checksum(BytesMut::from(&b"what it says"[..]));
        assert_eq!(without_checksum(whole.clone()).unwrap(), &b"what it says"[..]);
        for at in 0..whole.len() {
            let mut broken = whole.to_vec();
            broken[at] ^= 1;
            assert_eq!(without_checksum(broken.into()), None, "byte {at}");
            assert_eq!(without_checksum(whole.slice(..at)), None, "{at} bytes");
        }
    }
}
