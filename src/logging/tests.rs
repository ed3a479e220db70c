//! Log files on a simulated disk, and the queue before them.

use std::io;
use std::path::Path;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::Targets;

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::logging::file::RotatingFile;
use crate::logging::queue::{BYTES_MAX, LineQueue};
use crate::logging::targets::{ANNOUNCEMENTS, shown};

const FOLDER: &str = "/home/logs";

fn file(disk: &SimDisk, bytes_max: u64, kept: u32) -> RotatingFile {
    RotatingFile::new(Box::new(disk.clone()), Path::new(FOLDER), bytes_max, kept)
}

fn text(disk: &SimDisk, name: &str) -> String {
    String::from_utf8(disk.bytes(&Path::new(FOLDER).join(name)).unwrap_or_default()).unwrap()
}

#[test]
fn a_file_has_whole_lines_up_to_its_size_and_so_many_are_kept() {
    let disk = SimDisk::default();
    let mut file = file(&disk, 10, 2);
    file.write(b"one\ntwo\nthree\n").unwrap();
    assert_eq!((text(&disk, "broker.log"), text(&disk, "broker.1.log")), ("three\n".into(), "one\ntwo\n".into()));
    file.write(b"a line that is longer than a file\n4\n5\n6\n").unwrap();
    assert_eq!(text(&disk, "broker.log"), "4\n5\n6\n");
    assert_eq!(text(&disk, "broker.1.log"), "a line that is longer than a file\n");
    assert_eq!(text(&disk, "broker.2.log"), "three\n");
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap(), ["broker.1.log", "broker.2.log", "broker.log"]);
}

#[test]
fn fewer_files_are_kept_once_the_setting_says_so_and_others_are_left_alone() {
    let disk = SimDisk::default();
    for name in ["broker.7.log", "broker.x.log", "other.9.log"] {
        disk.put_bytes(&Path::new(FOLDER).join(name), b"x\n".to_vec());
    }
    let mut file = file(&disk, 4, 0);
    file.write(b"one\ntwo\n").unwrap();
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap(), ["broker.log", "broker.x.log", "other.9.log"]);
    assert_eq!(text(&disk, "broker.log"), "two\n");
}

#[test]
fn a_full_disk_leaves_no_half_line_and_no_line_twice() {
    let disk = SimDisk::default();
    let mut file = file(&disk, 1000, 2);
    file.write(b"first\n").unwrap();
    disk.resize(Some(9));
    let (written, error) = file.write(b"second\nthird\n").unwrap_err();
    assert_eq!((written, error.kind()), (0, io::ErrorKind::StorageFull));
    assert_eq!(text(&disk, "broker.log"), "first\n");
    disk.resize(None);
    file.write(&b"second\nthird\n"[written..]).unwrap();
    assert_eq!(text(&disk, "broker.log"), "first\nsecond\nthird\n");
}

#[test]
fn a_file_that_was_moved_cut_or_removed_by_others_is_begun_again() {
    let disk = SimDisk::default();
    let (path, mut file) = (Path::new(FOLDER).join("broker.log"), file(&disk, 1000, 2));
    file.write(b"one\n").unwrap();
    disk.rename(&path, Path::new("/elsewhere")).unwrap();
    file.write(b"two\n").unwrap();
    assert_eq!(text(&disk, "broker.log"), "two\n");
    disk.open(&path).unwrap().set_len(0).unwrap();
    file.write(b"three\n").unwrap();
    assert_eq!(text(&disk, "broker.log"), "three\n");
    disk.remove(&path).unwrap();
    file.write(b"four\n").unwrap();
    assert_eq!(text(&disk, "broker.log"), "four\n");
}

#[test]
fn a_file_of_another_process_is_not_written() {
    let disk = SimDisk::default();
    let (mut one, mut other) = (file(&disk, 1000, 2), file(&disk, 1000, 2));
    one.write(b"one\n").unwrap();
    let (written, error) = other.write(b"other\n").unwrap_err();
    assert_eq!((written, error.to_string().contains("logHome")), (0, true), "{error}");
    drop(one);
    other.write(b"other\n").unwrap();
    assert_eq!(text(&disk, "broker.log"), "one\nother\n");
}

#[test]
fn the_queue_is_bounded_and_counts_what_it_drops() {
    let queue = LineQueue::default();
    let line = vec![b'x'; BYTES_MAX / 4];
    (0..6).for_each(|_| queue.put(&line));
    let taken = queue.take(None);
    assert_eq!((taken.bytes.len(), taken.dropped), (BYTES_MAX, 2));
    queue.wake();
    let taken = queue.take(None);
    assert_eq!((taken.bytes.len(), taken.dropped), (0, 0));
    assert_eq!(queue.take(Some(Duration::from_millis(1))).bytes.len(), 0, "it does not wait for ever");
}

#[test]
fn who_flushes_waits_until_all_is_written_and_not_for_a_disk_that_hangs() {
    let queue = std::sync::Arc::new(LineQueue::default());
    queue.flush(Duration::from_secs(60));
    queue.put(b"last words\n");
    queue.flush(Duration::from_millis(1));
    let writing = queue.clone();
    let thread = std::thread::spawn(move || {
        assert_eq!(writing.take(None).bytes, b"last words\n");
        std::thread::sleep(Duration::from_millis(20));
        writing.take(Some(Duration::from_secs(60)))
    });
    queue.flush(Duration::from_secs(60));
    queue.put(b"more\n");
    assert_eq!(thread.join().unwrap().bytes, b"more\n", "it was written before");
}

#[test]
fn the_raft_library_s_lines_are_for_those_who_look_for_a_bug() {
    let is_shown = |filter: &Targets, target: &str, level| filter.would_enable(target, level);
    let info = shown(Level::INFO);
    assert!(!is_shown(&info, "openraft::core::heartbeat", &Level::ERROR));
    assert!(is_shown(&info, "h2::server", &Level::WARN) && !is_shown(&info, "h2::server", &Level::INFO));
    assert!(is_shown(&info, "raftmq::raft::replica", &Level::INFO));
    assert!(!is_shown(&info, "raftmq::raft::replica", &Level::DEBUG));
    let debug = shown(Level::DEBUG);
    assert!(is_shown(&debug, "openraft::replication", &Level::WARN));
    assert!(is_shown(&debug, "raftmq::raft::replica", &Level::DEBUG));
    let error = shown(Level::ERROR);
    assert!(!is_shown(&error, "raftmq::raft::replica", &Level::WARN) && is_shown(&error, ANNOUNCEMENTS, &Level::WARN));
}
