//! The cluster version below the log: which commands and formats all nodes can apply (D83). Before:
//! `broker/background/cluster_version`.
//!
//! A build knows the newest version that it can take part in ([`CLUSTER_VERSION`]). The version in the state is raised once all
//! nodes can; only then may a command of that version be proposed, and from then on the peers refuse a build that is older.
//!
//! | version | came with |
//! |---|---|
//! | 0 | all builds before the version was in the log |
//! | 1 | commands with the tags 32 to 35, moves of offsets that only advance |
//! | 2 | retention: commands with the tags 36 and up, and what they store |
//! | 3 | changes of members, repair: commands with the tags 40 and up |
//! | 4 | events: commands with the tags 43 to 45, and what they store; sends to a queue (46, 51 to 53), messages of classic clients |
//! | 5 | bounded steps: what one entry does of ticks, sweeps, resets and subscriptions, and what is stored of the rest; what the tools of classic clients keep (50, 54); returns of what a node cannot read (55), and leases with those; the window of message ids is ten minutes at any rate (`state/recent_sends`) |

use bytes::Bytes;

use crate::machine::outcome::Outcome;
#[cfg(debug_assertions)]
use crate::machine::planted;
use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::store::kv::Space;

/// The newest cluster version that this build can take part in.
pub const CLUSTER_VERSION: u32 = 5;

/// The newest cluster version that this build can take part in, or one more if a test has it be a newer build.
pub fn newest_version() -> u32 {
    #[cfg(debug_assertions)]
    if planted::is_known() {
        return CLUSTER_VERSION + 1;
    }
    CLUSTER_VERSION
}

/// It never goes down.
pub(super) fn raise(stage: &mut Stage<'_>, to: u32) -> Result<Outcome, Failure> {
    if u64::from(to) > stage.number(Space::Meta, keys::CLUSTER_VERSION)? {
        stage.put_number(Space::Meta, Bytes::from_static(keys::CLUSTER_VERSION), to.into());
    }
    Ok(Outcome::Done)
}
