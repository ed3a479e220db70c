//! Planted bugs: switches that break a promise on purpose, so that tests see the drill notice them.
//!
//! `RAFTMQ_PLANT` names them, separated by commas. They exist in debug builds only; in a release build [`is`] is `false` at compile
//! time, and the variable does nothing.

/// One bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// The leader counts what it sent to a follower as acknowledged.
    AckBeforeCommit,
    /// Leases are forgotten when the leader changes.
    LeaseInLeaderMemory,
    /// A send is answered with the offset that its message was expected to get.
    OffsetAtProposal,
    /// What was acked before a restart is open again.
    AcksLostAtRestart,
    /// The log's writer thread panics at a record with [`Self::name`] in it.
    LogThreadPanics,
    /// A send of a message with the id [`Self::name`], and a receive of a group of that name, panic in the front end.
    RequestPanics,
    /// A delivery time is rounded down to ten seconds.
    DelayRoundedDown,
    /// A rollback is taken for a commit.
    RollbackCommits,
    /// A message that its consumer gives back for the last time is settled instead of being a dead letter.
    DeadLettersDropped,
    /// What is applied depends on the process that applies it.
    ReplicasDiffer,
    /// The peers take a node on another disk than it was on for what it was.
    WipedDiskVotes,
    /// What a repair writes has another body than what the peers gave.
    RepairKeepsOtherBytes,
    /// A restore leaves out the group offsets.
    RestoreDropsOffsets,
    /// No bug: the process is a newer build, with a command of a newer cluster version.
    NewCommand,
    /// The same, and it proposes that command without asking whether the others know it.
    NewCommandTooEarly,
}

impl PlantedBug {
    /// Its name in `RAFTMQ_PLANT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::LeaseInLeaderMemory => "lease-in-leader-memory",
            Self::OffsetAtProposal => "offset-at-proposal",
            Self::AcksLostAtRestart => "acks-lost-at-restart",
            Self::LogThreadPanics => "log-thread-panics",
            Self::RequestPanics => "request-panics",
            Self::DelayRoundedDown => "delay-rounded-down",
            Self::RollbackCommits => "rollback-commits",
            Self::DeadLettersDropped => "dead-letters-dropped",
            Self::ReplicasDiffer => "replicas-differ",
            Self::WipedDiskVotes => "wiped-disk-votes",
            Self::RepairKeepsOtherBytes => "repair-keeps-other-bytes",
            Self::RestoreDropsOffsets => "restore-drops-offsets",
            Self::NewCommand => "new-command",
            Self::NewCommandTooEarly => "new-command-too-early",
        }
    }
}

/// Whether this bug is planted.
#[cfg(debug_assertions)]
pub fn is(plant: PlantedBug) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("RAFTMQ_PLANT").unwrap_or_default());
    chosen.split(',').any(|name| name == plant.name())
}

/// Whether this bug is planted: never in a release build.
#[cfg(not(debug_assertions))]
pub const fn is(_plant: PlantedBug) -> bool {
    false
}
