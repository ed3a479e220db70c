//! What is in a snapshot: the files of the state with their checksums, and which records of the log belong to it.
//!
//! * Shape: `version u8, source u64, cluster, group, cluster version u32, applied id (term u64, node u64, index u64),
//!   members (list: id u64, address), first u64, id before it?, log bytes u64, files (list: name, bytes u64, crc32c u32)`,
//!   then a checksum (`store/state_files`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::{LogIndex, NodeId};
use crate::store::log::record::RecordId;
use crate::store::state_files::{StateFile, check_names, with_checksum, without_checksum};

const VERSION: u8 = 1;
/// No disk has so much, and sums of what fits are far from their limit.
const BYTES_MAX: u64 = 1 << 56;

/// What a snapshot consists of. It is complete with the records from [`Self::first`] up to [`Self::applied`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Names the source at the node that made it, while it lives.
    pub source: u64,
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// Whoever reads the state or the log must know this cluster version.
    pub cluster_version: u32,
    /// The last entry in the state.
    pub applied: RecordId,
    /// Voters and learners with their addresses, as the state has them.
    pub members: Vec<(NodeId, String)>,
    /// The first record: nothing in the state refers to one before.
    pub first: LogIndex,
    /// The entry before it, unless it is the first of all.
    pub before: Option<RecordId>,
    /// About how many bytes the records have.
    pub log_bytes: u64,
    pub files: Vec<StateFile>,
}

impl Manifest {
    /// Bytes of the files of the state.
    pub fn state_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64(self.source);
        out.put_text(&self.cluster);
        out.put_text(&self.group);
        out.put_u32(self.cluster_version);
        self.applied.put(&mut out);
        out.put_list(&self.members, |out, (node, address)| {
            out.put_u64(node.0);
            out.put_text(address);
        });
        out.put_u64(self.first.0);
        out.put_option(self.before, |out, id| id.put(out));
        out.put_u64(self.log_bytes);
        out.put_list(&self.files, |out, file| file.put(out));
        with_checksum(out)
    }

    /// * Errors: it is of another version, damaged, or says what cannot be: a file name that is a path, a log that begins
    ///   after its end, numbers that no sum or next index of fits into 64 bits.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let bytes = without_checksum(bytes).ok_or(Malformed::Short("manifest"))?;
        let mut reader = Reader::versioned(bytes, "manifest", VERSION)?;
        let manifest = Self {
            source: reader.u64()?,
            cluster: reader.text()?,
            group: reader.text()?,
            cluster_version: reader.u32()?,
            applied: RecordId::read(&mut reader)?,
            members: reader.list(|reader| Ok((NodeId(reader.u64()?), reader.text()?)))?,
            first: LogIndex(reader.u64()?),
            before: reader.option(RecordId::read)?,
            log_bytes: reader.u64()?,
            files: reader.list(StateFile::read)?,
        };
        manifest.check(&reader)?;
        Ok(manifest)
    }

    fn check(&self, reader: &Reader) -> Result<(), Malformed> {
        if check_names(&self.files).is_err() {
            return Err(reader.unknown(self.files.len() as u64));
        }
        let mut sizes = self.files.iter().map(|file| file.bytes).chain([self.log_bytes]);
        if sizes.try_fold(0, u64::checked_add).is_none_or(|sum| sum > BYTES_MAX) {
            return Err(reader.unknown(self.log_bytes));
        }
        let is_log = self.first > LogIndex(0) && self.first <= self.applied.index;
        let has_next = self.applied.index < LogIndex(u64::MAX);
        let before = self.before.map_or(LogIndex(0), |before| before.index);
        if !is_log || !has_next || before.0 != self.first.0 - 1 {
            return Err(reader.unknown(self.first.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Term;

    fn manifest() -> Manifest {
        let id = |index| RecordId { term: Term(3), node: NodeId(1), index: LogIndex(index) };
        let file = |name: &str| StateFile { name: name.to_owned(), bytes: 7, crc32c: 9 };
        Manifest {
            source: 5,
            cluster: "c".into(),
            group: "g".into(),
            cluster_version: 3,
            applied: id(90),
            members: vec![(NodeId(0), "a:1".into()), (NodeId(7), "b:2".into())],
            first: LogIndex(41),
            before: Some(id(40)),
            log_bytes: 1 << 40,
            files: vec![file("CURRENT"), file("000012.sst")],
        }
    }

    #[test]
    fn p19_a_manifest_reads_back_and_with_any_byte_changed_it_is_none() {
        let encoded = manifest().encode();
        assert_eq!(Manifest::decode(encoded.clone()), Ok(manifest()));
        for at in 0..encoded.len() {
            let mut broken = encoded.to_vec();
            broken[at] ^= 0x20;
            assert!(Manifest::decode(broken.into()).is_err(), "byte {at}");
            assert!(Manifest::decode(encoded.slice(..at)).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn p19_a_manifest_that_says_what_cannot_be_is_refused() {
        let named = |names: &[&str]| {
            let file = |name: &&str| StateFile { name: (*name).to_owned(), bytes: 1, crc32c: 1 };
            Manifest { files: names.iter().map(file).collect(), ..manifest() }
        };
        for (what, wrong) in [
            ("a path", named(&["a/b"])),
            ("the folder above", named(&[".."])),
            ("no name", named(&[""])),
            ("a file twice", named(&["a", "a"])),
            ("no first entry", Manifest { first: LogIndex(0), before: None, ..manifest() }),
            ("it ends before it begins", Manifest { first: LogIndex(91), before: None, ..manifest() }),
            ("a gap", Manifest { first: LogIndex(42), ..manifest() }),
            ("nothing before", Manifest { before: None, ..manifest() }),
            ("more bytes than can be counted", Manifest { log_bytes: u64::MAX - 3, ..manifest() }),
            ("an end that nothing can follow", {
                Manifest { applied: RecordId { index: LogIndex(u64::MAX), ..manifest().applied }, ..manifest() }
            }),
        ] {
            assert!(Manifest::decode(wrong.encode()).is_err(), "{what}");
        }
    }
}
