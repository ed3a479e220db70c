//! Damage at seed: a log is written, closed or killed, one of its files is damaged, and it is opened and read. What is wrong
//! must be found, no wrong byte may be read, and with what the peers have all of it must heal, over a loss of power on the
//! way, too.
//!
//! 500 seeds here; `RAFTMQ_DAMAGES=5000 scripts/test.sh --lib store::log::damage` tries as many as it says, and `=8132..8133`
//! those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::env::disk::Disk;
use crate::env::fault::sim::SimDisk;
use crate::env::rng::SeededRng;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::examine::{EntryRange, Examined, Remedy};
use crate::store::log::record::Record;
use crate::store::log::tests::{self, FOLDER, WAIT, append, last_index, open_with, record};
use crate::store::log::{CommitLog, VoteRecord};

/// About nine records.
const SEGMENT_BYTES: u64 = 1024;
const SECTOR: usize = 512;
const SLOT: usize = 4096;

/// A log as it was before the damage.
struct Written {
    disk: SimDisk,
    /// The same disk, earlier.
    older: SimDisk,
    /// Every entry that was acknowledged.
    entries: BTreeMap<u64, Record>,
    vote: VoteRecord,
    /// The last entries, which nothing on the disk knows to be durable; 0 of a log that was closed.
    ambiguous: u64,
}

fn append_group(log: &CommitLog, entries: &mut BTreeMap<u64, Record>, term: u64, count: u64) {
    let next = last_index(log) + 1;
    let records: Vec<_> = (next..next + count).map(|index| record(term, index)).collect();
    assert!(append(log, records.clone()).recv_timeout(WAIT).unwrap());
    entries.extend(records.into_iter().map(|record| (record.index.0, record)));
}

fn write(rng: &mut SeededRng) -> Written {
    let disk = SimDisk::default();
    let mut log = open_with(&disk, SEGMENT_BYTES).unwrap();
    let (mut entries, mut term) = (BTreeMap::new(), 1);
    let mut vote = VoteRecord { term: Term(1), node: NodeId(1), committed: false };
    log.save_vote(vote).unwrap();
    append_group(&log, &mut entries, term, 5);
    let mut older = disk.copy();
    let steps = 4 + rng.below(12);
    let older_at = rng.below(steps);
    for step in 0..steps {
        if step == older_at {
            older = disk.copy();
        }
        match rng.below(8) {
            0 => {
                term += 1;
                vote = VoteRecord { term: Term(term), node: NodeId(rng.below(3)), committed: false };
                log.save_vote(vote).unwrap();
            }
            1 if last_index(&log) > 3
                && log.segments().first().is_some_and(|first| first.first.0 + 3 < last_index(&log)) =>
            {
                let kept = rng.below(12).min(last_index(&log) - log.segments()[0].first.0 - 2).max(1);
                let keep = last_index(&log) - kept;
                log.truncate_after(Some(LogIndex(keep))).unwrap();
                entries.split_off(&(keep + 1));
                term += 1;
                append_group(&log, &mut entries, term, 1 + rng.below(9));
            }
            2 if step > 2 => {
                // As Raft does it: up to the beginning of a segment.
                let segments = log.segments();
                let firsts = segments.iter().map(|segment| segment.first.0);
                let Some(first) = firsts.rev().find(|first| *first + 2 < last_index(&log)) else { continue };
                if let Some(upto) = entries.get(&(first - 1)) {
                    log.purge(upto.id()).unwrap();
                    log.forget_before(LogIndex(first)).unwrap();
                    entries = entries.split_off(&first);
                }
            }
            3 => {
                drop(log);
                log = open_with(&disk, SEGMENT_BYTES).unwrap();
            }
            _ => append_group(&log, &mut entries, term, 1 + rng.below(15)),
        }
    }
    // Killed, so that nothing says of the last entries that they are durable, or closed.
    if rng.below(2) == 0 {
        let last_group = 1 + rng.below(5);
        append_group(&log, &mut entries, term, last_group);
        let disk = disk.copy();
        return Written { disk, older, entries, vote, ambiguous: last_group };
    }
    drop(log);
    Written { disk, older, entries, vote, ambiguous: 0 }
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(Path::new(FOLDER)).unwrap();
    let names = names.into_iter().filter(|name| name.ends_with(".seg") || name == "meta");
    names.map(|name| Path::new(FOLDER).join(name)).collect()
}

fn pick<'a, T>(rng: &mut SeededRng, list: &'a [T]) -> &'a T {
    &list[usize::try_from(rng.below(list.len() as u64)).unwrap()]
}

/// Where in a file damage is worth it: not in what is reserved and empty, most of the time.
fn place(rng: &mut SeededRng, bytes: &[u8]) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    usize::try_from(rng.below(used as u64)).unwrap()
}

/// What was done to a file.
struct Damage {
    how: String,
    /// Everything from some byte to its end is as it was before, or was never written. Of the last segment nothing on the disk
    /// shows that but what is known to be durable: the state beside it and the peers do (D82).
    is_undone_from: Option<PathBuf>,
}

/// Damages one file.
fn damage(rng: &mut SeededRng, disk: &SimDisk, older: &SimDisk) -> Damage {
    let files = files(disk);
    let file = pick(rng, &files).clone();
    let mut bytes = disk.bytes(&file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut is_undone = false;
    let how = match rng.below(8) {
        0 | 1 => {
            let (at, bit) = (place(rng, &bytes), rng.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} of {name} flipped")
        }
        2 => {
            let at = place(rng, &bytes);
            bytes.truncate(at);
            format!("{name} cut to {at} bytes")
        }
        3 | 4 => {
            let unit = if rng.below(2) == 0 { SECTOR } else { SLOT };
            let at = place(rng, &bytes) / unit * unit;
            let end = (at + unit * usize::try_from(1 + rng.below(2)).unwrap()).min(bytes.len());
            let old = older.bytes(&file).unwrap_or_default();
            // Both copies of the meta file, and the vote with them: what shows that is the peers (D82).
            let end = if name == "meta" { end.min((at / SLOT + 1) * SLOT) } else { end };
            is_undone = end >= used;
            (at..end).for_each(|at| bytes[at] = old.get(at).copied().unwrap_or(0));
            format!("bytes {at}..{end} of {name} as they were before")
        }
        5 => {
            let unit = if rng.below(2) == 0 { SECTOR } else { 64 };
            let at = place(rng, &bytes) / unit * unit;
            let end = (at + unit).min(bytes.len());
            is_undone = end >= used;
            bytes[at..end].fill(0);
            format!("bytes {at}..{end} of {name} zeroed")
        }
        6 => {
            let other = pick(rng, &files).clone();
            let others = disk.bytes(&other).unwrap();
            disk.put_bytes(&other, bytes);
            bytes = others;
            format!("{name} and {} swapped", other.display())
        }
        _ => {
            disk.remove(&file).unwrap();
            disk.sync_dir(Path::new(FOLDER)).unwrap();
            return Damage { how: format!("{name} removed"), is_undone_from: None };
        }
    };
    disk.put_bytes(&file, bytes);
    let last = files.iter().filter(|file| file.extension().is_some()).max();
    Damage { how, is_undone_from: last.filter(|last| is_undone && **last == file).cloned() }
}

/// What became of damages.
#[derive(Debug, Default)]
struct Found {
    /// Both copies of the meta file: the node is to be replaced.
    refused: u64,
    /// Entries were refused to their readers until they came from a peer.
    unread: u64,
    /// The end was noted as lost, and came from the leader.
    lost: u64,
    /// What nothing knew to be durable was cut as torn.
    cut: u64,
    /// Everything was there all the same.
    harmless: u64,
}

fn open_with_peers(disk: &SimDisk) -> Result<CommitLog, Error> {
    tests::open_with_peers(disk, SEGMENT_BYTES)
}

/// Reads what was acknowledged, as far as the log goes: each entry is right or refused. Gives how many are refused.
fn read_all(log: &CommitLog, written: &Written, context: &str) -> u64 {
    let mut refused = 0;
    for (index, expected) in written.entries.range(..=last_index(log)) {
        match log.reader().read(LogIndex(*index), LogIndex(index + 1), 1) {
            Ok(read) => assert_eq!(read.first(), Some(expected), "{context}: entry {index}"),
            Err(Error::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{context}: entry {index}: {error}"),
        }
    }
    refused
}

/// Reads all segments through, and repairs what is wrong with entries of the peers, until nothing is.
pub(super) fn heal(log: &CommitLog, peers: &BTreeMap<u64, Record>) -> Result<(), Error> {
    let fetch = |range: EntryRange| -> Vec<Record> {
        peers.range(range.from.0..range.to.0).map(|(_, record)| record.clone()).collect()
    };
    for _ in 0..20 {
        let firsts: BTreeSet<LogIndex> = log.segments().iter().map(|segment| segment.first).collect();
        for first in firsts {
            let Some(examined) = log.examine(first, &mut |_| true)? else { continue };
            match examined.remedy {
                Remedy::None => {}
                Remedy::InPlace => match examined.bad.iter().try_for_each(|bad| log.repair_in_place(fetch(*bad))) {
                    Err(Error::Io { .. }) if examined.is_sealed() => rebuild(log, examined, &fetch)?,
                    repaired => repaired?,
                },
                Remedy::Rebuild => rebuild(log, examined, &fetch)?,
            }
        }
        if log.damage().is_empty() {
            return Ok(());
        }
    }
    panic!("it does not end: {:?}", log.damage());
}

fn rebuild(log: &CommitLog, examined: Examined, fetch: &dyn Fn(EntryRange) -> Vec<Record>) -> Result<(), Error> {
    let mut rebuild = log.rebuild(examined)?;
    while let Some(range) = rebuild.advance()? {
        rebuild.put(&fetch(range))?;
    }
    rebuild.finish()
}

/// What the leader sends.
pub(super) fn catch_up(log: &CommitLog, peers: &BTreeMap<u64, Record>) -> Result<(), Error> {
    let missing: Vec<_> = peers.range(last_index(log) + 1..).map(|(_, record)| record.clone()).collect();
    if !missing.is_empty() && !append(log, missing).recv_timeout(WAIT).unwrap_or(false) {
        return Err(Error::Poisoned);
    }
    if log.lost_from().is_some() { log.note_restored() } else { Ok(()) }
}

fn heal_all(disk: &SimDisk, peers: &BTreeMap<u64, Record>) -> Result<(), Error> {
    let log = open_with_peers(disk)?;
    heal(&log, peers)?;
    catch_up(&log, peers)?;
    heal(&log, peers)
}

/// Everything is there, and a start, and a scrub, find nothing any more.
fn check_healed(disk: &SimDisk, written: &Written, context: &str) {
    let log = open_with_peers(disk).unwrap_or_else(|error| panic!("{context}, healed: {error}"));
    assert_eq!((log.damage(), log.lost_from()), (Vec::new(), None), "{context}");
    assert_eq!(read_all(&log, written, context), 0, "{context}");
    assert_eq!(last_index(&log), *written.entries.keys().next_back().unwrap(), "{context}");
    for segment in log.segments() {
        let examined = log.examine(segment.first, &mut |_| true).unwrap().expect("it is there");
        assert_eq!(examined.remedy, Remedy::None, "{context}: {examined:?}");
    }
    assert_eq!(log.read_vote(), Some(written.vote), "{context}");
}

fn check(seed: u64, found: &mut Found) {
    let mut rng = SeededRng::new(seed);
    let written = write(&mut rng);
    let disk = written.disk.copy();
    let Damage { how, is_undone_from } = damage(&mut rng, &disk, &written.older);
    let context = format!("seed {seed}, {how}");
    let damaged = disk.copy();
    let log = match open_with_peers(&disk) {
        Ok(log) => log,
        Err(Error::Damaged { reason, .. }) if reason.contains("cluster replace") => {
            assert!(how.contains("meta"), "{context}: {reason}");
            found.refused += 1;
            return;
        }
        Err(error) => panic!("{context}: {error}"),
    };
    assert_eq!(log.read_vote(), Some(written.vote), "{context}");
    let (last, acknowledged) = (last_index(&log), *written.entries.keys().next_back().unwrap());
    let refused = read_all(&log, &written, &context);
    if last < acknowledged && log.lost_from().is_none() {
        let first = is_undone_from.and_then(|file| file.file_stem()?.to_str()?.parse::<u64>().ok());
        let certain = (acknowledged - written.ambiguous).min(first.map_or(u64::MAX, |first| first - 1));
        assert!(last >= certain, "{context}: it ends at {last}, not at {certain}, and says nothing");
        found.cut += 1;
    } else if log.lost_from().is_some() {
        found.lost += 1;
    } else if refused > 0 {
        found.unread += 1;
    } else {
        found.harmless += 1;
    }
    let before = disk.operations();
    let healing = heal(&log, &written.entries).and_then(|()| catch_up(&log, &written.entries));
    healing.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(log);
    check_healed(&disk, &written, &context);

    // And once more, with a loss of power on the way.
    let operations = disk.operations() - before;
    let stop_after = rng.below(operations + 20);
    let context = format!("{context}, a crash after operation {stop_after} of the start and the repair");
    damaged.stop_after(stop_after);
    let _ = heal_all(&damaged, &written.entries);
    damaged.crash(seed);
    heal_all(&damaged, &written.entries).unwrap_or_else(|error| panic!("{context}: {error}"));
    check_healed(&damaged, &written, &context);
}

#[test]
fn p19_damage_at_seed_is_found_never_read_and_healed_with_what_peers_have() {
    let asked = std::env::var("RAFTMQ_DAMAGES").unwrap_or_else(|_| "500".to_owned());
    let number = |text: &str| text.parse::<u64>().expect("a number of damages, or two with two dots between");
    let seeds = asked.split_once("..").map_or_else(|| 0..number(&asked), |(from, to)| number(from)..number(to));
    let mut found = Found::default();
    seeds.clone().for_each(|seed| check(seed, &mut found));
    let count = seeds.end - seeds.start;
    assert!(count < 100 || found.unread > count / 10 && found.lost > count / 20, "{found:?}");
}
