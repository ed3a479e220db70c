//! The bounded queue between those who log and the thread that writes the file. Who puts in never waits for a disk.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that wait at most. What comes then is counted and dropped.
pub(super) const BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct State {
    /// Whole lines.
    bytes: Vec<u8>,
    dropped: u64,
    /// Taken and not yet written.
    is_writing: bool,
    is_woken: bool,
}

/// What the thread is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whole lines; none, if there is nothing to write.
    pub bytes: Vec<u8>,
    /// Lines that found no room since the last time.
    pub dropped: u64,
}

/// Lines on their way into the file.
#[derive(Default)]
pub(super) struct LineQueue {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

impl LineQueue {
    /// Takes in a line, or drops it if there is no room.
    pub fn put(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.bytes.len() + line.len() > BYTES_MAX {
            state.dropped += 1;
            return;
        }
        let was_empty = state.bytes.is_empty();
        state.bytes.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Has [`Self::take`] return, though there may be nothing.
    pub fn wake(&self) {
        self.state.lock().is_woken = true;
        self.filled.notify_one();
    }

    /// Takes out all there is; waits for something, `wait` at most. What was taken before counts as written.
    pub fn take(&self, wait: Option<Duration>) -> Taken {
        let mut state = self.state.lock();
        state.is_writing = false;
        if state.bytes.is_empty() {
            self.written.notify_all();
        }
        if state.bytes.is_empty() && !state.is_woken {
            match wait {
                Some(wait) => {
                    let _ = self.filled.wait_for(&mut state, wait);
                }
                None => self.filled.wait(&mut state),
            }
        }
        state.is_woken = false;
        state.is_writing = !state.bytes.is_empty();
        Taken { bytes: std::mem::take(&mut state.bytes), dropped: std::mem::take(&mut state.dropped) }
    }

    /// Waits until all is written, `wait` at most.
    pub fn flush(&self, wait: Duration) {
        let mut state = self.state.lock();
        let is_busy = |state: &mut State| state.is_writing || !state.bytes.is_empty();
        let _ = self.written.wait_while_for(&mut state, is_busy, wait);
    }
}
