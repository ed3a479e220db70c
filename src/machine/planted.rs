//! A command of a cluster version that no build has yet, for tests of upgrades. Debug builds only: the process says at its
//! start whether it knows the command (`raft/planted`), and one that does not is the older build.

use std::sync::atomic::{AtomicU8, Ordering};

/// No build ever gives this tag to a command.
pub const TAG: u8 = u8::MAX;

/// What this process knows of it.
static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const AS_IT_SHOULD: u8 = 1;
const TOO_EARLY: u8 = 2;

/// From now on this process knows the command and the version that it came with; if `too_early` it forgets to ask whether
/// the others do.
pub fn know(too_early: bool) {
    KNOWN.store(if too_early { TOO_EARLY } else { AS_IT_SHOULD }, Ordering::Relaxed);
}

pub(super) fn is_known() -> bool {
    KNOWN.load(Ordering::Relaxed) != UNKNOWN
}

pub(super) fn is_too_early() -> bool {
    KNOWN.load(Ordering::Relaxed) == TOO_EARLY
}
