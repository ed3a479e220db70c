//! What is in a backup, as its manifest says.
//!
//! * Shape: `version u8, cluster, group, node, build, created at u64, cluster version u32, applied id (term u64, node u64,
//!   index u64), first u64, id before it?, members (list: name and address), state files (list: name, bytes u64, crc32c u32),
//!   record files (list: first u64, last u64, bytes u64, crc32c u32)`, then a checksum (`store/state_files`).
//! * Units: milliseconds since 1970.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::codec::{Malformed, Reader, Writer};
use crate::model::limits::RECORD_BYTES_MAX;
use crate::model::{LogIndex, Timestamp};
use crate::store::log::record::RecordId;
use crate::store::state_files::{StateFile, check_names, with_checksum, without_checksum};

const VERSION: u8 = 1;
/// A file of records with this much is full.
pub(super) const RECORD_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// A file of records, at most: one that is not full yet takes one record more.
const RECORD_FILE_BYTES_MAX: u64 = RECORD_FILE_BYTES + RECORD_BYTES_MAX as u64 + 1024;

/// One file of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFile {
    pub first: LogIndex,
    pub last: LogIndex,
    pub bytes: u64,
    pub crc32c: u32,
}

/// What a node says of a backup before it sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// The node that it was made from.
    pub node: String,
    /// Which build that node ran.
    pub build: String,
    pub created_at: Timestamp,
    /// Whoever restores it must know this cluster version.
    pub cluster_version: u32,
    /// The last entry in the state.
    pub applied: RecordId,
    /// The first record: nothing in the state refers to one before.
    pub first: LogIndex,
    /// The entry before it, if the node knew it.
    pub before: Option<RecordId>,
    /// The members of the group then, for people.
    pub members: Vec<String>,
    pub state: Vec<StateFile>,
}

/// A whole backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub source: Source,
    /// In the order of their records.
    pub records: Vec<RecordFile>,
}

impl Source {
    /// Bytes of all files of the state; no more than there are numbers, whatever they are said to be.
    pub fn state_bytes(&self) -> u64 {
        self.state.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Why it cannot be a backup.
    pub(super) fn check(&self) -> Result<(), String> {
        check_names(&self.state)?;
        if self.state.is_empty() {
            return Err("it has no files of the state".to_owned());
        }
        // The entries after the last one are numbered too.
        let is_last = self.applied.index.0 >= u64::MAX - 2;
        if self.first == LogIndex(0) || self.first > self.applied.index || is_last {
            return Err(format!("records from {} to {}", self.first, self.applied.index));
        }
        if self.before.is_some_and(|before| before.index.0.checked_add(1) != Some(self.first.0)) {
            return Err(format!("the entry before {} has another number", self.first));
        }
        Ok(())
    }
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.records.iter().fold(self.source.state_bytes(), |sum, file| sum.saturating_add(file.bytes))
    }

    pub(super) fn encode(&self) -> Bytes {
        let Source { cluster, group, node, build, created_at, cluster_version, applied, first, before, members, state } =
            &self.source;
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        for text in [cluster, group, node, build] {
            out.put_text(text);
        }
        out.put_u64(created_at.0);
        out.put_u32(*cluster_version);
        applied.put(&mut out);
        out.put_u64(first.0);
        out.put_option(*before, |out, id| id.put(out));
        out.put_list(members, |out, member| out.put_text(member));
        out.put_list(state, |out, file| file.put(out));
        out.put_list(&self.records, |out, file| {
            out.put_u64(file.first.0);
            out.put_u64(file.last.0);
            out.put_u64(file.bytes);
            out.put_u32(file.crc32c);
        });
        with_checksum(out)
    }

    /// * Errors: why it cannot be used.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, String> {
        let bytes = without_checksum(bytes).ok_or("it is cut short, or its checksum does not fit")?;
        let version = bytes.first().copied().unwrap_or(0);
        if version != VERSION {
            return Err(format!(
                "it has format {version}, and this build reads {VERSION}: restore it with the build that made it"
            ));
        }
        let manifest = Self::read(&mut Reader::new(bytes.slice(1..), "manifest")).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let source = Source {
            cluster: reader.text()?,
            group: reader.text()?,
            node: reader.text()?,
            build: reader.text()?,
            created_at: Timestamp(reader.u64()?),
            cluster_version: reader.u32()?,
            applied: RecordId::read(reader)?,
            first: LogIndex(reader.u64()?),
            before: reader.option(RecordId::read)?,
            members: reader.list(Reader::text)?,
            state: reader.list(StateFile::read)?,
        };
        let records = reader.list(|reader| {
            let (first, last) = (LogIndex(reader.u64()?), LogIndex(reader.u64()?));
            Ok(RecordFile { first, last, bytes: reader.u64()?, crc32c: reader.u32()? })
        })?;
        Ok(Self { source, records })
    }

    fn check(&self) -> Result<(), String> {
        self.source.check()?;
        let mut next = self.source.first;
        for file in &self.records {
            if file.first != next || file.last < file.first {
                return Err(format!("a file of records from {} to {} where {next} is next", file.first, file.last));
            }
            if file.bytes > RECORD_FILE_BYTES_MAX || file.last > self.source.applied.index {
                return Err(format!("a file of records up to {} with {} bytes", file.last, file.bytes));
            }
            next = file.last.next();
        }
        if next != self.source.applied.index.next() {
            return Err(format!("records up to {next} only, of {}", self.source.applied.index));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeId, Term};

    fn manifest() -> Manifest {
        let id = |index| RecordId { term: Term(3), node: NodeId(1), index: LogIndex(index) };
        let file = |name: &str| StateFile { name: name.to_owned(), bytes: 7, crc32c: 9 };
        let records = |first, last| RecordFile { first: LogIndex(first), last: LogIndex(last), bytes: 5, crc32c: 4 };
        let source = Source {
            cluster: "c".into(),
            group: "g".into(),
            node: "n1".into(),
            build: "0.1".into(),
            created_at: Timestamp(77),
            cluster_version: 3,
            applied: id(90),
            first: LogIndex(41),
            before: Some(id(40)),
            members: vec!["n0 a:1".into()],
            state: vec![file("CURRENT"), file("000012.sst")],
        };
        Manifest { source, records: vec![records(41, 60), records(61, 90)] }
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
        type Change = dyn Fn(&mut Manifest);
        let with = |change: &Change| {
            let mut manifest = manifest();
            change(&mut manifest);
            Manifest::decode(manifest.encode())
        };
        let unchanged = with(&|_| {});
        assert!(unchanged.is_ok());
        let last = RecordId { index: LogIndex(u64::MAX), ..manifest().source.applied };
        let changes: [(&str, &Change); 14] = [
            ("a path", &|it| it.source.state[0].name = "a/b".into()),
            ("the folder above", &|it| it.source.state[0].name = "..".into()),
            ("no name", &|it| it.source.state[0].name = String::new()),
            ("a file twice", &|it| it.source.state[0].name = it.source.state[1].name.clone()),
            ("no state", &|it| it.source.state.clear()),
            ("no first entry", &|it| it.source.first = LogIndex(0)),
            ("a gap before", &|it| it.source.first = LogIndex(42)),
            ("a gap between", &|it| it.records[1].first = LogIndex(62)),
            ("an end that is missing", &|it| it.records[1].last = LogIndex(89)),
            ("an end beyond the state", &|it| it.records[1].last = LogIndex(91)),
            ("no number after the last one", &move |it| {
                it.source.applied = last;
                it.records[1].last = last.index;
            }),
            ("no number after the one before", &move |it| it.source.before = Some(last)),
            ("the last of all numbers", &move |it| it.records[0].last = last.index),
            ("a file that no memory holds", &|it| it.records[0].bytes = 1 << 40),
        ];
        for (what, change) in changes {
            assert!(with(change).is_err(), "{what}");
        }
    }
}
