//! What the front of the log, its readers and its writer thread share: the queue, the tail cache and the marks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::mpsc::SyncSender;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::model::{LogIndex, NodeId};
use crate::store::Error;
use crate::store::log::measures::LogMeasures;
use crate::store::log::meta_content::{KnownPeer, LogStart, StartMark, VoteRecord};
use crate::store::log::rebuild::Rebuilt;
use crate::store::log::record::{Record, RecordId};
use crate::store::log::segments::Segments;
use crate::store::log::tail_cache::TailCache;

/// Called once with the result of one append.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
/// Called with the last index that is done, whenever it changes.
pub type OnDurable = Box<dyn Fn(LogIndex) + Send + Sync>;
/// Called once with the reason when the log closes itself.
pub type OnFatal = Box<dyn Fn(&Error) + Send + Sync>;

/// Called when the disk is full; true if it made room.
pub type OnFull = Box<dyn Fn() -> bool + Send + Sync>;

pub(in crate::store) struct LogState {
    /// Whose log it is.
    pub node: NodeId,
    /// Which disk this is.
    pub disk: u64,
    /// Which group of its name it belongs to.
    pub lineage: u64,
    /// The last openings of the folder, oldest first.
    pub starts: Vec<StartMark>,
    pub state: Mutex<State>,
    /// Notified for the writer when work comes, and for appenders when room comes.
    pub changed: Condvar,
    pub segment_bytes: u64,
    pub has_peers: bool,
    pub segments: Segments,
    pub on_durable: RwLock<Option<OnDurable>>,
    pub on_full: RwLock<Option<OnFull>>,
    pub on_fatal: OnFatal,
    pub measures: LogMeasures,
}

pub(in crate::store) struct State {
    pub queue: VecDeque<Op>,
    pub queue_bytes: usize,
    pub cache: TailCache,
    pub last: Option<RecordId>,
    pub vote: Option<VoteRecord>,
    /// What Raft has purged; at least what is before the start of the log.
    pub purged: Option<RecordId>,
    /// Where the log begins since something was forgotten.
    pub start: Option<LogStart>,
    /// From which entry on damage took some that this node may have acknowledged.
    pub lost_from: Option<LogIndex>,
    /// What is remembered of the peers' disks.
    pub known: BTreeMap<NodeId, KnownPeer>,
    pub committed: LogIndex,
    /// Appends up to here are done.
    pub done: LogIndex,
    pub is_poisoned: bool,
    pub is_closing: bool,
    /// The process is about to end: what waits for room waits no longer.
    pub is_stopping: bool,
}

/// Where the writer answers a caller that blocks.
pub(in crate::store) type OpReply<T = ()> = SyncSender<Result<T, Error>>;

/// Work for the writer, done in the order of the queue.
pub(in crate::store) enum Op {
    Append {
        records: Vec<Record>,
        bytes: usize,
        done: Done,
    },
    Vote {
        vote: VoteRecord,
        reply: OpReply,
    },
    Cut {
        keep: LogIndex,
        /// The entry there, if it is known.
        kept: Option<RecordId>,
        reply: OpReply,
    },
    Purge {
        upto: RecordId,
        reply: OpReply,
    },
    Sync {
        reply: OpReply,
    },
    Know {
        node: NodeId,
        peer: KnownPeer,
        reply: OpReply,
    },
    /// Forgets all peers but these.
    KnowOnly {
        peers: BTreeSet<NodeId>,
        reply: OpReply,
    },
    Become {
        node: NodeId,
        lineage: u64,
        reply: OpReply,
    },
    ForgetStart {
        reply: OpReply,
    },
    /// Of segments on disk only; waits for no append.
    ForgetBefore {
        first: LogIndex,
        reply: OpReply<u64>,
    },
    /// Entries from here on are lost: noted before they are cut.
    Lose {
        from: LogIndex,
        reply: OpReply,
    },
    /// What was lost is here again.
    Restored {
        reply: OpReply,
    },
    /// Entries to be written in their places.
    Repair {
        records: Vec<Record>,
        reply: OpReply,
    },
    /// A segment that was made anew.
    Replace {
        rebuilt: Rebuilt,
        reply: OpReply,
    },
    /// Nobody waits for it.
    Acknowledged(Vec<(NodeId, LogIndex)>),
}

impl State {
    /// Whether there is no more than the end to wait for.
    pub fn is_ending(&self) -> bool {
        self.is_closing || self.is_stopping
    }
}

impl LogState {
    /// Something was forgotten.
    pub fn note_start(&self, start: LogStart) {
        let mut state = self.state.lock();
        state.start = Some(start);
        state.purged = latest(state.purged, start.before);
    }

    pub fn notify_durable(&self, index: LogIndex) {
        if let Some(on_durable) = &*self.on_durable.read() {
            on_durable(index);
        }
    }
}

/// The one with the higher index.
pub(in crate::store) fn latest(one: Option<RecordId>, other: Option<RecordId>) -> Option<RecordId> {
    [one, other].into_iter().flatten().max_by_key(|id| id.index)
}
