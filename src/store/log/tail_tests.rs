//! The tail rule with peers: what is torn, and what is in doubt.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::env::fault::sim::SimDisk;
use crate::model::LogIndex;
use crate::store::log::record::Record;
use crate::store::log::tests::{FOLDER, WAIT, append, append_and_wait, last_index, open_with, open_with_peers, record};

/// A killed log whose last entry has this body, with the place of the body.
fn with_last(body: Vec<u8>) -> (SimDisk, PathBuf, usize) {
    let disk = SimDisk::default();
    let log = open_with_peers(&disk, 16 * 1024).unwrap();
    append_and_wait(&log, 1, 1..=3);
    let last = Record { body: Bytes::from(body.clone()), ..record(1, 4) };
    assert!(append(&log, vec![last]).recv_timeout(WAIT).unwrap());
    let path = Path::new(FOLDER).join(format!("{:020}.seg", 1));
    let bytes = disk.bytes(&path).unwrap();
    let head = bytes.windows(4).rposition(|bytes| bytes == b"RMQR").unwrap();
    (disk.copy(), path, head + 28 + 37)
}

#[test]
fn p19_zeros_that_may_be_the_entry_s_own_do_not_make_it_a_torn_one() {
    let text: Vec<u8> = b"0123456789".repeat(205)[..2048].to_vec();
    let sector_of = |at: usize| at.next_multiple_of(512);
    let check = |what: &str, body: &[u8], change: &dyn Fn(&mut Vec<u8>, usize), is_torn: bool| {
        let (disk, path, at) = with_last(body.to_vec());
        let mut bytes = disk.bytes(&path).unwrap();
        change(&mut bytes, at);
        disk.put_bytes(&path, bytes);
        let log = open_with_peers(&disk, 16 * 1024).unwrap();
        let expected = if is_torn { None } else { Some(LogIndex(4)) };
        assert_eq!((last_index(&log), log.lost_from()), (3, expected), "{what}");
    };
    check("a flipped bit in a body of zeros", &[0; 2048], &|bytes, at| bytes[at + 20] ^= 1, false);
    check("a flipped bit", &text, &|bytes, at| bytes[at + 20] ^= 1, false);
    check("a write that ended early", &text, &|bytes, at| bytes[sector_of(at + 600)..at + 2048].fill(0), true);
    check("all but the first sector", &text, &|bytes, at| bytes[sector_of(at)..at + 2048].fill(0), true);
    let zeroed = |bytes: &mut Vec<u8>, at: usize| bytes[sector_of(at + 600)..sector_of(at + 600) + 512].fill(0);
    check("a sector in the middle, zeroed", &text, &zeroed, false);
    check("zeros from within a sector on", &text, &|bytes, at| bytes[sector_of(at) + 100..at + 2048].fill(0), false);
}

#[test]
fn p19_a_file_that_lost_only_the_zeros_after_its_last_record_has_all_of_it() {
    for has_peers in [true, false] {
        let (disk, path, at) = with_last(vec![7; 100]);
        let mut bytes = disk.bytes(&path).unwrap();
        // A record ends at a multiple of eight bytes.
        assert_ne!((at + 100) % 8, 0);
        bytes.truncate(at + 100);
        disk.put_bytes(&path, bytes);
        let open = |disk: &SimDisk| {
            let opened = if has_peers { open_with_peers(disk, 16 * 1024) } else { open_with(disk, 16 * 1024) };
            opened.unwrap()
        };
        let log = open(&disk);
        assert_eq!((last_index(&log), log.lost_from()), (4, None));
        append_and_wait(&log, 1, 5..=6);
        drop(log);
        let log = open(&disk);
        assert_eq!(log.reader().read(LogIndex(4), LogIndex(5), 1).unwrap()[0].body, vec![7; 100]);
        assert_eq!(last_index(&log), 6);
    }
}
