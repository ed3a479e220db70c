//! What of the log on this disk was found to be damaged: by a start, by a reader or by the scrub. It stays here until it is
//! repaired; whoever reads it meanwhile is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::LogIndex;

/// Segments that are remembered; the scrub finds the others once there is room.
const SEGMENTS_MAX: usize = 1024;

#[derive(Default)]
pub(in crate::store) struct Quarantine {
    /// By the first entries of the segments.
    segments: Mutex<BTreeMap<LogIndex, Noted>>,
    /// Whether there are some, and some that are closed: so a reader of a healthy log takes no lock.
    has_any: AtomicBool,
    has_closed: AtomicBool,
    found: Arc<Notify>,
}

struct Noted {
    reason: String,
    is_closed: bool,
}

impl Quarantine {
    /// Something in the segment that begins with `first` is damaged. What can be read in it, still is.
    pub fn note(&self, first: LogIndex, reason: &str) {
        self.insert(first, reason, false);
    }

    /// Nothing in the segment is to be believed: each record is whole, but they are not those that were written.
    pub fn close(&self, first: LogIndex, reason: &str) {
        self.insert(first, reason, true);
    }

    fn insert(&self, first: LogIndex, reason: &str, is_closed: bool) {
        let mut segments = self.segments.lock();
        let is_new = !segments.contains_key(&first);
        if is_new {
            if segments.len() >= SEGMENTS_MAX {
                return;
            }
            tracing::error!(segment = %first, reason, "the log is damaged; nothing damaged is given out");
        }
        let noted = segments.entry(first).or_insert_with(|| Noted { reason: reason.to_owned(), is_closed });
        noted.is_closed |= is_closed;
        self.note_what_there_is(&segments);
        drop(segments);
        if is_new {
            self.found.notify_one();
        }
    }

    /// It is repaired, or gone.
    pub fn clear(&self, first: LogIndex) -> bool {
        let mut segments = self.segments.lock();
        let was_there = segments.remove(&first).is_some();
        self.note_what_there_is(&segments);
        was_there
    }

    /// Those that begin in this range are gone.
    pub fn clear_range(&self, range: impl std::ops::RangeBounds<LogIndex>) {
        let mut segments = self.segments.lock();
        segments.retain(|first, _| !range.contains(first));
        self.note_what_there_is(&segments);
    }

    fn note_what_there_is(&self, segments: &BTreeMap<LogIndex, Noted>) {
        self.has_any.store(!segments.is_empty(), Ordering::Relaxed);
        self.has_closed.store(segments.values().any(|noted| noted.is_closed), Ordering::Relaxed);
    }

    /// Whether anything is damaged.
    pub fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// Whether something in it is damaged.
    pub fn has(&self, first: LogIndex) -> bool {
        self.segments.lock().contains_key(&first)
    }

    pub fn is_closed(&self, first: LogIndex) -> bool {
        self.has_closed.load(Ordering::Relaxed) && self.segments.lock().get(&first).is_some_and(|noted| noted.is_closed)
    }

    /// The first entries of the segments, and what is wrong with each.
    pub fn all(&self) -> Vec<(LogIndex, String)> {
        self.segments.lock().iter().map(|(first, noted)| (*first, noted.reason.clone())).collect()
    }

    /// Notified when something is found.
    pub fn found(&self) -> Arc<Notify> {
        self.found.clone()
    }
}
