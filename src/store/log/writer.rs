//! The log's writer thread: takes everything that waits, writes it, syncs once, completes it.
//!
//! Hot path. Completions go newest first, so that one wake-up serves all that one sync covers (D3). With `ASYNC_FLUSH` appends are
//! done once written, and a sync follows within half a second.
//!
//! A failed write or sync poisons the log: what waits and all that comes later fails, and the process must end (D18). A write
//! that finds the disk full did not fail: it waits for room (`full_disk`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::env::disk::DiskLock;
use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::FOOTER_RECORD_BYTES;
use crate::store::log::full_disk::FullDisk;
use crate::store::log::gather_buffer::GatherBuffer;
use crate::store::log::in_place::NotInPlace;
use crate::store::log::last_segment::{FramedRecord, LastSegment};
use crate::store::log::log_state::{Done, LogState, Op, OpReply};
use crate::store::log::meta::Meta;
use crate::store::log::meta_content::LogStart;
use crate::store::log::options::{FlushMode, Options};
use crate::store::log::record::{ALIGN, Maker, PREAMBLE_BYTES, Preamble, Record, RecordId};
use crate::store::log::removal::Removal;
use crate::store::log::segments::Sealed;

/// Bytes the writer takes for one sync.
const SYNC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// With `ASYNC_FLUSH`, what was written is synced this often.
const ASYNC_SYNC_EVERY: Duration = Duration::from_millis(500);
/// After this long without work the writer notes durably how far the log is synced: the last records have no later one
/// that says it of them.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// What the peers acknowledged is written this often.
const SAVE_MARKS_EVERY: Duration = Duration::from_secs(10);

pub(in crate::store) struct Writer {
    log: Arc<LogState>,
    options: Options,
    meta: Meta,
    removal: Removal,
    /// Everything up to here is synced.
    synced: LogIndex,
    /// The last index written since.
    unsynced: Option<LogIndex>,
    /// When the first of those was written.
    unsynced_since: Option<Instant>,
    /// Entries were cut, and `meta` knows none yet that came for them.
    is_unproven: bool,
    /// When what the peers acknowledged was last written.
    marks_saved: Instant,
    /// Records as they go into the segment.
    framed: GatherBuffer,
    full_disk: FullDisk,
    _lock: Box<dyn DiskLock>,
}

type Completion = (LogIndex, Done);

/// Why the writer woke up.
enum Wake {
    Ops(Vec<Op>),
    /// A background sync or the mark is due.
    Idle,
    /// Forgotten segments are to be removed.
    Removal,
}

impl Writer {
    /// Over what recovery left, all of it synced.
    pub fn new(
        log: Arc<LogState>,
        options: Options,
        meta: Meta,
        leftovers: Vec<Sealed>,
        lock: Box<dyn DiskLock>,
    ) -> Self {
        // Those that were cut before this start, too.
        let is_cut = |from: LogIndex| !meta.durable_id().is_some_and(|id| id.index >= from && is_new(&meta, id));
        let is_unproven = meta.lost_from().is_some() || meta.anew_from().is_some_and(is_cut);
        let synced = log.state.lock().done;
        Self {
            log,
            options,
            meta,
            removal: Removal::of_leftovers(leftovers),
            synced,
            unsynced: None,
            unsynced_since: None,
            is_unproven,
            marks_saved: Instant::now(),
            framed: GatherBuffer::default(),
            full_disk: FullDisk::default(),
            _lock: lock,
        }
    }

    /// Works until the log is closed or fails.
    pub fn run(mut self) {
        while let Some(wake) = self.next_wake() {
            let is_late = |since: Instant| since.elapsed() >= ASYNC_SYNC_EVERY;
            let worked = match wake {
                Wake::Ops(ops) => self.work(ops),
                Wake::Idle => self.sync().and_then(|()| self.mark_durable()),
                Wake::Removal => Ok(()),
            };
            let worked = worked.and_then(|()| match self.unsynced_since {
                Some(since) if is_late(since) => self.sync(),
                _ => Ok(()),
            });
            if let Err(error) = worked {
                return self.poison(&error);
            }
            // One step each time: what waits has its turn in between.
            if !self.removal.is_done() {
                self.removal.step(&self.log.segments);
            }
        }
        if let Err(error) = self.sync().and_then(|()| self.mark_durable()) {
            self.poison(&error);
        }
    }

    /// Waits for work; `None` is the end.
    fn next_wake(&mut self) -> Option<Wake> {
        let mut state = self.log.state.lock();
        loop {
            if !state.queue.is_empty() {
                break;
            }
            if state.is_closing {
                return None;
            }
            if !self.removal.is_done() {
                return Some(Wake::Removal);
            }
            let wait = match self.unsynced_since {
                Some(since) => Some(ASYNC_SYNC_EVERY.saturating_sub(since.elapsed())),
                None if self.meta.durable() != self.synced => Some(MARK_AFTER),
                None => None,
            };
            match wait {
                Some(wait) => {
                    if self.log.changed.wait_for(&mut state, wait).timed_out() {
                        return Some(Wake::Idle);
                    }
                }
                None => self.log.changed.wait(&mut state),
            }
        }
        let mut ops = Vec::new();
        let mut taken_bytes = 0;
        while taken_bytes < SYNC_BYTES_MAX {
            let Some(op) = state.queue.pop_front() else { break };
            if let Op::Append { bytes, .. } = &op {
                taken_bytes += bytes;
                state.queue_bytes -= bytes;
            }
            ops.push(op);
        }
        drop(state);
        self.log.changed.notify_all();
        Some(Wake::Ops(ops))
    }

    fn work(&mut self, ops: Vec<Op>) -> Result<(), Error> {
        let mut records: Vec<Record> = Vec::new();
        let mut completions: Vec<Completion> = Vec::new();
        for op in ops {
            match op {
                Op::Append { records: more, done, .. } => {
                    let last = more.last().map_or(LogIndex(0), |record| record.index);
                    records.extend(more);
                    completions.push((last, done));
                }
                Op::Vote { vote, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.set_vote(vote);
                    answer(result, &reply)?;
                }
                Op::Cut { keep, kept, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.cut(keep, kept);
                    answer(result, &reply)?;
                }
                Op::Purge { upto, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.set_purged(upto);
                    answer(result, &reply)?;
                }
                Op::Sync { reply } => {
                    let result = self.barrier(&mut records, &mut completions);
                    answer(result, &reply)?;
                }
                Op::Know { node, peer, reply } => {
                    let result = self.meta.know(node, peer);
                    self.log.state.lock().known.clone_from(self.meta.known());
                    answer(result, &reply)?;
                }
                Op::KnowOnly { peers, reply } => {
                    let result = self.meta.know_only(&peers);
                    self.log.state.lock().known.clone_from(self.meta.known());
                    answer(result, &reply)?;
                }
                Op::Become { node, lineage, reply } => {
                    let result = self.meta.become_node(node, lineage);
                    answer(result, &reply)?;
                }
                Op::ForgetStart { reply } => {
                    let result = self.meta.forget_start();
                    answer(result, &reply)?;
                }
                Op::ForgetBefore { first, reply } => self.forget_before(first, reply)?,
                Op::Lose { from, reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.note_lost(from);
                    answer(result, &reply)?;
                }
                Op::Restored { reply } => {
                    self.barrier(&mut records, &mut completions)?;
                    let result = self.meta.note_restored();
                    answer(result, &reply)?;
                }
                Op::Repair { records: repaired, reply } => {
                    let result = match self.log.segments.write_in_place(&repaired) {
                        Err(NotInPlace::Ended(error)) => return Err(error),
                        Err(NotInPlace::Left(error)) => Err(error),
                        Ok(()) => Ok(()),
                    };
                    // A caller that is gone does not care.
                    let _ = reply.send(result);
                }
                Op::Replace { rebuilt, reply } => {
                    let result = self.log.segments.replace(rebuilt);
                    answer(result, &reply)?;
                }
                Op::Acknowledged(marks) => {
                    marks.iter().for_each(|(node, index)| self.meta.note_acknowledged(*node, *index));
                    if self.marks_saved.elapsed() >= SAVE_MARKS_EVERY {
                        self.meta.save()?;
                        self.marks_saved = Instant::now();
                    }
                }
            }
        }
        self.complete(&mut records, &mut completions)
    }

    /// Writes the records, syncs them unless the flush mode is async, and completes the appends.
    fn complete(&mut self, records: &mut Vec<Record>, completions: &mut Vec<Completion>) -> Result<(), Error> {
        if completions.is_empty() {
            return Ok(());
        }
        panic_if_planted(records);
        let written = self.write(records).and_then(|()| match self.options.flush {
            FlushMode::Sync => self.sync(),
            FlushMode::Async => Ok(()),
        });
        if let Err(error) = written {
            for (_, done) in completions.drain(..).rev() {
                done(Err(io::Error::other(error.to_string())));
            }
            return Err(error);
        }
        let last = records.last().map(|record| record.index);
        records.clear();
        {
            let mut state = self.log.state.lock();
            if let Some(last) = last {
                state.done = last;
                state.cache.shrink(last);
            }
        }
        if let Some(last) = last {
            self.log.notify_durable(last);
        }
        // Newest first: its receiver keeps a mark, so the older ones then wake nobody.
        for (_, done) in completions.drain(..).rev() {
            done(Ok(()));
        }
        Ok(())
    }

    /// Makes everything appended so far durable, and completes it.
    fn barrier(&mut self, records: &mut Vec<Record>, completions: &mut Vec<Completion>) -> Result<(), Error> {
        self.complete(records, completions)?;
        self.sync()
    }

    fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        let committed = self.log.state.lock().committed;
        let mut rest = records;
        while let Some(first) = rest.first() {
            let segment = match self.segment_for(first) {
                Err(error) if error.is_full() => {
                    self.make_room(error)?;
                    continue;
                }
                segment => segment?,
            };
            let mut framed: Vec<FramedRecord> = Vec::new();
            let mut room = segment.room(self.options.segment_bytes);
            let mut before = segment.last_checksum();
            for record in rest {
                let preamble = Preamble::of(record, self.synced, committed).after(before);
                let size = preamble.whole_bytes();
                let needed = size + FOOTER_RECORD_BYTES;
                let maker = Maker::from(record.id());
                let is_of_another = framed.last().is_some_and(|before| before.maker != maker);
                // The first one fits or has the segment to itself.
                if (needed > room || is_of_another) && !framed.is_empty() {
                    break;
                }
                let checksum = preamble.put(record, &mut self.framed);
                before = Some(checksum);
                room = room.saturating_sub(needed);
                framed.push(FramedRecord { bytes: size, checksum, maker });
            }
            if let Err(error) = segment.write(&mut self.framed, &framed) {
                self.framed.clear();
                if error.is_full() {
                    // What was written of it is written again, at the same place.
                    self.make_room(error)?;
                    continue;
                }
                return Err(error);
            }
            self.full_disk.note_written();
            self.log.measures.written_bytes.add(framed.iter().map(|record| record.bytes).sum());
            self.framed.shrink();
            // Noted per segment: rolling to the next one must find what this one still owes.
            self.unsynced = Some(LogIndex(first.index.0 + framed.len() as u64 - 1));
            self.unsynced_since.get_or_insert_with(Instant::now);
            rest = &rest[framed.len()..];
        }
        Ok(())
    }

    /// The segment that takes `record` next: the last one, or a new one after it.
    fn segment_for(&mut self, record: &Record) -> Result<Arc<LastSegment>, Error> {
        if let Some(last) = self.log.segments.last() {
            let needed = (PREAMBLE_BYTES + record.wire_bytes() + ALIGN) as u64 + FOOTER_RECORD_BYTES;
            let has_room = needed <= last.room(self.options.segment_bytes) || last.is_empty();
            if last.next() == record.index && has_room {
                return Ok(last);
            }
            // A later segment proves that the one before was whole: recovery relies on it.
            self.sync()?;
        }
        let committed = self.log.state.lock().committed;
        self.log.segments.roll(record.index, self.options.segment_bytes, committed)
    }

    /// Notes durably how far the log is synced, and with which entry.
    fn mark_durable(&mut self) -> Result<(), Error> {
        self.meta.mark_durable(self.synced, self.log.segments.id_of(self.synced))
    }

    fn sync(&mut self) -> Result<(), Error> {
        let Some(upto) = self.unsynced.take() else { return Ok(()) };
        self.unsynced_since = None;
        if let Some(segment) = self.log.segments.last() {
            let began = Instant::now();
            segment.sync()?;
            self.log.measures.sync.observe_time(began.elapsed());
        }
        self.synced = upto;
        if self.is_unproven {
            self.mark_durable()?;
            self.is_unproven = !self.meta.durable_id().is_some_and(|id| is_new(&self.meta, id));
        }
        Ok(())
    }

    fn cut(&mut self, keep: LogIndex, kept: Option<RecordId>) -> Result<(), Error> {
        // First: a crash in between must not leave a mark beyond the end of the log. The mark also tells what is left from an
        // older version of it, and so does that of the first entry that comes (D165).
        if keep < self.synced {
            self.meta.note_cut(keep, kept, self.log.segments.anew_after(keep))?;
            self.is_unproven = true;
        }
        self.log.segments.cut(keep, self.options.segment_bytes)?;
        self.synced = self.synced.min(keep);
        let done = {
            let mut state = self.log.state.lock();
            state.done = state.done.min(keep);
            state.done
        };
        // Those who wait for a mark must not take new records at cut indexes for the old ones.
        self.log.notify_durable(done);
        Ok(())
    }

    /// After a write that found the disk full: what frees room must not wait for it, so it goes before all that waits.
    fn make_room(&mut self, error: Error) -> Result<(), Error> {
        let forgetting: Vec<Op> = {
            let mut state = self.log.state.lock();
            let frees = |op: &Op| matches!(op, Op::ForgetBefore { .. });
            let (freeing, others): (VecDeque<_>, _) = std::mem::take(&mut state.queue).into_iter().partition(frees);
            state.queue = others;
            freeing.into()
        };
        for op in forgetting {
            if let Op::ForgetBefore { first, reply } = op {
                self.forget_before(first, reply)?;
            }
        }
        if self.removal.is_done() {
            return self.full_disk.wait(&self.log, error);
        }
        while !self.removal.is_done() {
            self.removal.step(&self.log.segments);
        }
        Ok(())
    }

    /// Notes durably where the log begins now; the files follow, step by step.
    fn forget_before(&mut self, first: LogIndex, reply: OpReply<u64>) -> Result<(), Error> {
        let start = match self.log.segments.start_after_forgetting(first) {
            Ok(Some((first, before))) => LogStart { first, before },
            Ok(None) => {
                self.removal.push(Vec::new(), reply);
                return Ok(());
            }
            Err(error) => {
                // Only a read failed: nothing is forgotten, and the log goes on.
                let _ = reply.send(Err(error));
                return Ok(());
            }
        };
        self.meta.set_start(start)?;
        self.log.note_start(start);
        self.removal.push(self.log.segments.forget_before(start.first), reply);
        Ok(())
    }

    fn poison(&self, error: &Error) {
        // Only at the end writes stop waiting for room: then nobody waits for anything any more.
        let is_end = error.is_full() && self.log.state.lock().is_ending();
        if is_end {
            tracing::warn!(%error, "the commit log is closed with entries that it could not write");
        } else {
            tracing::error!(%error, "the commit log is closed");
        }
        let ops = {
            let mut state = self.log.state.lock();
            state.is_poisoned = true;
            std::mem::take(&mut state.queue)
        };
        self.log.changed.notify_all();
        for op in ops {
            match op {
                Op::Append { done, .. } => done(Err(io::Error::other(error.to_string()))),
                // The caller sees the closed channel.
                Op::Vote { .. } | Op::Cut { .. } | Op::Purge { .. } | Op::Know { .. } | Op::KnowOnly { .. } => {}
                Op::Become { .. }
                | Op::Sync { .. }
                | Op::ForgetStart { .. }
                | Op::ForgetBefore { .. }
                | Op::Acknowledged(_) => {}
                Op::Lose { .. } | Op::Restored { .. } | Op::Repair { .. } | Op::Replace { .. } => {}
            }
        }
        if !is_end {
            (self.log.on_fatal)(error);
        }
    }
}

/// Whether an entry is none that is cut for others yet: whoever had others cut, cut none of its own term.
fn is_new(meta: &Meta, id: RecordId) -> bool {
    meta.vote().is_none_or(|vote| id.term >= vote.term)
}

/// Answers the caller; an error stops the writer, and the caller sees the closed channel.
fn answer(result: Result<(), Error>, reply: &OpReply) -> Result<(), Error> {
    match result {
        Ok(()) => {
            // A caller that is gone does not care.
            let _ = reply.send(Ok(()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn panic_if_planted(records: &[Record]) {
    let name = PlantedBug::LogThreadPanics.name().as_bytes();
    let has_name = |record: &Record| record.body.windows(name.len()).any(|bytes| bytes == name);
    let is_planted = planted_bug::is(PlantedBug::LogThreadPanics) && records.iter().any(has_name);
    assert!(!is_planted, "as planted");
}
