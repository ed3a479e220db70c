//! A crash at every point: a script runs on a disk that stops after each of its operations in turn, loses power, and is
//! opened again, some of the times with a second crash on the way. Then every promise of the log is checked, and the log
//! must go on.
//!
//! `RAFTMQ_SWEEP=20 scripts/test.sh --lib store::log::sweep` tries 20 seeds per point and every point of each recovery.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::env::fault::sim::SimDisk;
use crate::env::rng::SeededRng;
use crate::model::{LogIndex, NodeId, Term};
use crate::store::Error;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::tests::{FOLDER, WAIT, append, last_index, open_in_mode, open_with_peers, record};
use crate::store::log::{CommitLog, FlushMode, VoteRecord};

/// About nine records.
const SEGMENT_BYTES: u64 = 1024;

/// One step of a script; each waits until it is answered.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Appends so many entries, in one call.
    Append(u64),
    /// Two calls at once.
    AppendTwice(u64),
    Vote,
    /// Cuts so many entries, and raises the term.
    Cut(u64),
    /// Cuts down to where the last segment begins.
    CutToSegment,
    /// Purges all but so many entries.
    Purge(u64),
    /// Forgets what it can before the last so many entries.
    Forget(u64),
    /// Closes the log and opens it again.
    Reopen,
    /// Purges so many entries beyond the end, as a snapshot of the leader does, and goes on after them.
    Skip(u64),
}

const SCRIPT: [Step; 32] = [
    Step::Append(1),
    Step::Append(3),
    Step::Vote,
    // Rolls in the middle of a call, then in between.
    Step::Append(20),
    Step::AppendTwice(5),
    Step::Purge(20),
    Step::Cut(2),
    Step::Append(3),
    // Into a sealed segment.
    Step::Cut(15),
    Step::Vote,
    Step::Append(40),
    Step::Forget(12),
    Step::Append(1),
    Step::Reopen,
    Step::Append(8),
    Step::CutToSegment,
    Step::Reopen,
    Step::Append(2),
    Step::CutToSegment,
    Step::Append(9),
    Step::Vote,
    Step::Purge(3),
    Step::Forget(1),
    Step::Append(12),
    // A rolled segment and nothing after it, then a reopening.
    Step::Append(9),
    Step::Reopen,
    Step::Cut(11),
    Step::AppendTwice(14),
    Step::Skip(7),
    Step::Append(11),
    Step::CutToSegment,
    Step::Skip(4),
];

/// What is known of the log from its answers.
#[derive(Debug, Clone, Default)]
struct Known {
    term: u64,
    /// Answered, and durable.
    entries: BTreeMap<u64, Record>,
    /// May be there, in this order, after those.
    maybe: Vec<Record>,
    /// A cut to here was begun: what is after it may be there or not.
    cutting: Option<u64>,
    vote: Option<VoteRecord>,
    maybe_vote: Option<VoteRecord>,
    purged: u64,
    maybe_purged: u64,
    /// Answered: nothing before it comes back.
    first: u64,
    /// Something before it may be gone.
    maybe_first: u64,
}

impl Known {
    fn last(&self) -> u64 {
        let entries = self.entries.keys().next_back().copied().unwrap_or(0);
        self.maybe.last().map_or(entries, |record| record.index.0)
    }

    /// A barrier passed, or a sync: all that was appended is durable.
    fn settle(&mut self) {
        self.entries.extend(std::mem::take(&mut self.maybe).into_iter().map(|record| (record.index.0, record)));
    }
}

/// The script on one disk.
struct Run<'a> {
    disk: &'a SimDisk,
    flush: FlushMode,
    log: Option<CommitLog>,
    known: Known,
    /// The next entry, if some are skipped.
    next: Option<u64>,
}

type Answer = Result<(), Error>;

impl Run<'_> {
    fn log(&self) -> &CommitLog {
        self.log.as_ref().expect("it is open")
    }

    fn open(&mut self) -> Answer {
        self.log = None;
        self.log = Some(open_in_mode(self.disk, SEGMENT_BYTES, self.flush)?);
        Ok(())
    }

    fn append(&mut self, calls: &[u64]) -> Answer {
        let mut next = self.next.take().unwrap_or(self.known.last() + 1);
        let mut answers = Vec::new();
        for count in calls {
            let records: Vec<_> = (next..next + count).map(|index| record(self.known.term, index)).collect();
            next += count;
            self.known.maybe.extend(records.clone());
            answers.push(append(self.log(), records));
        }
        let is_done = answers.into_iter().all(|answer| answer.recv_timeout(WAIT).unwrap_or(false));
        if !is_done {
            return Err(Error::Poisoned);
        }
        if self.flush == FlushMode::Sync {
            self.known.settle();
        }
        Ok(())
    }

    fn cut(&mut self, keep: u64) -> Answer {
        self.known.cutting = Some(keep);
        self.log().truncate_after(Some(LogIndex(keep)))?;
        self.known.settle();
        self.known.entries.split_off(&(keep + 1));
        self.known.cutting = None;
        self.known.term += 1;
        Ok(())
    }

    fn purge(&mut self, upto: u64) -> Answer {
        self.known.maybe_purged = upto;
        self.log().purge(RecordId { term: Term(self.known.term), node: NodeId(1), index: LogIndex(upto) })?;
        self.known.purged = upto;
        self.known.settle();
        Ok(())
    }

    fn step(&mut self, step: Step) -> Answer {
        match step {
            Step::Append(count) => self.append(&[count]),
            Step::AppendTwice(count) => self.append(&[count, count]),
            Step::Vote => {
                let vote = VoteRecord { term: Term(self.known.term), node: NodeId(1), committed: false };
                self.known.maybe_vote = Some(vote);
                self.log().save_vote(vote)?;
                self.known.vote = Some(vote);
                self.known.settle();
                Ok(())
            }
            Step::Cut(count) => self.cut(self.known.last() - count),
            Step::CutToSegment => {
                let first = self.log().segments().last().expect("there is one").first.0;
                self.cut(first - 1)
            }
            Step::Purge(kept) => self.purge(self.known.last() - kept),
            Step::Forget(kept) => {
                let before = self.known.last() + 1 - kept;
                self.known.maybe_first = before;
                self.log().forget_before(LogIndex(before))?;
                let first = self.log().segments()[0].first.0;
                assert!(first > self.known.first.max(1), "something is forgotten");
                (self.known.first, self.known.maybe_first) = (first, first);
                Ok(())
            }
            Step::Reopen => {
                self.log = None;
                // Closing syncs, if it gets that far.
                if self.disk.bytes("/log/meta".as_ref()).is_some() && !self.is_stopped() {
                    self.known.settle();
                }
                self.open()
            }
            Step::Skip(count) => {
                let upto = self.known.last() + count;
                self.purge(upto)?;
                self.next = Some(upto + 1);
                self.append(&[3])
            }
        }
    }

    fn is_stopped(&self) -> bool {
        use crate::env::disk::Disk;
        self.disk.list("/log".as_ref()).is_err()
    }
}

impl Known {
    /// Checks an opened log against what is known; from then on what was found is known.
    fn check(&mut self, log: &CommitLog, context: &str) {
        let vote = log.read_vote();
        assert!(vote == self.vote || vote == self.maybe_vote, "{context}: {vote:?} of {self:?}");
        (self.vote, self.maybe_vote) = (vote, vote);
        let purged = log.purged().map_or(0, |id| id.index.0);
        assert!(purged >= self.purged, "{context}: purged {purged} of {}", self.purged);
        let (first, last) = (log.segments().first().map_or(1, |segment| segment.first.0), last_index(log));
        let firsts = self.first..=self.maybe_first.max(self.first).max(1);
        assert!(firsts.contains(&first), "{context}: begins with {first}, not in {firsts:?}");
        (self.first, self.maybe_first) = (first, first);
        if first > 1 && self.first == first && !log.segments().is_empty() {
            assert!(purged + 1 >= first, "{context}: purged {purged} of a log from {first}");
        }
        let certain = self.entries.keys().next_back().copied().unwrap_or(0);
        let certain = self.cutting.map_or(certain, |keep| certain.min(keep));
        assert!(last >= certain, "{context}: ends at {last}, not at {certain}");
        let mut all = std::mem::take(&mut self.entries);
        all.extend(std::mem::take(&mut self.maybe).into_iter().map(|record| (record.index.0, record)));
        all.retain(|index, _| (first..=last).contains(index));
        self.cutting = None;
        for index in first..=last {
            let found = log.reader().read(LogIndex(index), LogIndex(index + 1), 1);
            let found = found.unwrap_or_else(|error| panic!("{context}: entry {index}: {error}")).pop();
            assert_eq!(found.as_ref(), all.get(&index), "{context}: entry {index} of {first} to {last}");
        }
        self.entries = all;
    }
}

/// Runs the script until the disk stops; gives what is known then, and whether it came to the end.
fn run(disk: &SimDisk, flush: FlushMode, stop_after: u64) -> (Known, bool) {
    let known = Known { term: 1, ..Known::default() };
    let mut run = Run { disk, flush, log: None, known, next: None };
    disk.stop_after(stop_after);
    let mut done = run.open();
    for step in SCRIPT {
        done = done.and_then(|()| run.step(step));
    }
    run.log = None;
    (run.known, done.is_ok())
}

/// All segments but the last have footers: a start, and a read, that had to do without would take longer.
fn check_sealed(disk: &SimDisk, log: &CommitLog, context: &str) {
    let segments = log.segments();
    let sealed = &segments[..segments.len().saturating_sub(1)];
    for segment in sealed {
        let bytes = disk.bytes(format!("/log/{:020}.seg", segment.first.0).as_ref()).expect("it is there");
        let has_footer = bytes.ends_with(&0x5241_4654_4D51_4654_u64.to_be_bytes());
        assert!(has_footer, "{context}: the segment from {} has no footer", segment.first);
    }
}

/// Goes on with an opened log, and looks at it again after another crash.
fn go_on(disk: &SimDisk, log: CommitLog, mut known: Known, seed: u64, context: &str) {
    known.term += 100;
    let next = last_index(&log).max(log.purged().map_or(0, |id| id.index.0)) + 1;
    let range: RangeInclusive<u64> = next..=next + 12;
    let records: Vec<_> = range.map(|index| record(known.term, index)).collect();
    assert!(append(&log, records.clone()).recv_timeout(WAIT).unwrap(), "{context}");
    known.entries.extend(records.into_iter().map(|record| (record.index.0, record)));
    disk.crash(seed);
    drop(log);
    let log = open_in_mode(disk, SEGMENT_BYTES, FlushMode::Sync).unwrap_or_else(|error| panic!("{context}: {error}"));
    known.check(&log, &format!("{context}, once more"));
}

fn check_after_crash(stopped: &SimDisk, known: &Known, seed: u64, context: &str, tries_all: bool) {
    let crashed = stopped.copy();
    crashed.crash(seed);
    let open = |disk: &SimDisk, context: &str| {
        open_in_mode(disk, SEGMENT_BYTES, FlushMode::Sync).unwrap_or_else(|error| panic!("{context}: {error}"))
    };
    let disk = crashed.copy();
    let log = open(&disk, context);
    let recovery = disk.operations();
    let mut found = known.clone();
    found.check(&log, context);
    check_sealed(&disk, &log, context);
    go_on(&disk, log, found, seed, context);
    // The process alone dies: what it wrote is in the page cache, and a start that finds it there vouches for it.
    let disk = stopped.copy();
    let context_of_kill = format!("{context}, of the process alone");
    let log = open(&disk, &context_of_kill);
    let mut found = known.clone();
    found.check(&log, &context_of_kill);
    disk.crash(seed);
    drop(log);
    found.check(&open(&disk, &context_of_kill), &format!("{context_of_kill}, then of the machine"));
    let mut rng = SeededRng::new(seed);
    let points = if tries_all { (0..recovery).collect() } else { vec![rng.below(recovery)] };
    for point in points {
        let context = format!("{context}, and after operation {point} of the recovery");
        let disk = crashed.copy();
        disk.stop_after(point);
        drop(open_in_mode(&disk, SEGMENT_BYTES, FlushMode::Sync));
        disk.crash(seed + 1);
        known.clone().check(&open(&disk, &context), &context);
    }
}

fn sweep(flush: FlushMode) {
    let asked = std::env::var("RAFTMQ_SWEEP").ok().map(|seeds| seeds.parse::<u64>().expect("a number of seeds"));
    for stop_after in 0.. {
        let disk = SimDisk::default();
        let (known, is_whole) = run(&disk, flush, stop_after);
        for seed in 0..asked.unwrap_or(1) {
            let seed = stop_after * 1000 + seed;
            let context = format!("{flush:?}, stopped after operation {stop_after}, seed {seed}");
            check_after_crash(&disk, &known, seed, &context, asked.is_some());
        }
        if is_whole {
            assert!(stop_after > 200, "the script has {stop_after} operations");
            return;
        }
    }
}

#[test]
fn p1_p18_a_crash_after_any_operation_loses_nothing_and_the_log_goes_on() {
    sweep(FlushMode::Sync);
}

#[test]
fn p18_a_crash_after_any_operation_with_async_flush_loses_only_what_was_not_synced() {
    sweep(FlushMode::Async);
}

/// How many entries a segment has.
fn entries_of_a_segment() -> u64 {
    let disk = SimDisk::default();
    let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
    let is_first = |index: &u64| {
        assert!(append(&log, vec![record(1, *index)]).recv_timeout(WAIT).unwrap());
        log.segments().len() == 1
    };
    (1..).take_while(is_first).count() as u64
}

#[test]
fn p18_a_loss_of_power_while_a_segment_begins_is_no_damage_with_peers_either() {
    let before = entries_of_a_segment();
    let next = Path::new(FOLDER).join(format!("{:020}.seg", before + 1));
    let (mut stop_after, mut is_done) = (0, false);
    while !is_done {
        let disk = SimDisk::default();
        let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap();
        for index in 1..=before {
            assert!(append(&log, vec![record(1, index)]).recv_timeout(WAIT).unwrap());
        }
        disk.stop_after(stop_after);
        is_done = append(&log, vec![record(1, before + 1)]).recv_timeout(WAIT).unwrap_or(false);
        drop(log);
        for seed in 0..20 {
            let disk = disk.copy();
            disk.crash(seed);
            let context = format!("stopped after operation {stop_after}, seed {seed}");
            // Something of the entry that was being written may be there, and is in doubt.
            let has_entry = disk.bytes(&next).is_some_and(|bytes| bytes[64..].iter().any(|byte| *byte != 0));
            for _ in 0..2 {
                let log = open_with_peers(&disk, SEGMENT_BYTES).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(last_index(&log) >= before, "{context}: {}", last_index(&log));
                assert!(log.lost_from().is_none() || has_entry, "{context}: {:?}", log.lost_from());
            }
        }
        stop_after += 1;
    }
    assert!(stop_after > 8, "{stop_after} operations");
}
