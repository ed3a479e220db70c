//! The rules, what breaks them, and the verdict.

use std::collections::BTreeMap;
use std::fmt;

/// The rules; each but the last breaks a promise of docs/promises.md. Printed, in text and JSON, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Rule {
    /// C1: an acknowledged message is lost, or was acknowledged without a majority (P1, P2).
    #[serde(rename = "C1")]
    AckedMessageLost,
    /// C2: a message that nobody sent, or with another body (P3).
    #[serde(rename = "C2")]
    UnknownMessage,
    /// C3: one send has two queue offsets (P4).
    #[serde(rename = "C3")]
    StoredTwice,
    /// C4: one queue offset has held two messages, or a queue has a hole (P5).
    #[serde(rename = "C4")]
    OffsetConflict,
    /// C5: a producer's sends are stored in another order (P5).
    #[serde(rename = "C5")]
    ProducerOrderBroken,
    /// C6: two sends of any producers are stored in another order than they happened (P5).
    #[serde(rename = "C6")]
    RealTimeOrderBroken,
    /// C7: a message was never delivered to the group (P6).
    #[serde(rename = "C7")]
    NeverDelivered,
    /// C8: a message was delivered again after its ack was answered OK (P7).
    #[serde(rename = "C8")]
    RedeliveredAfterAck,
    /// C9: a message was delivered again while its lease ran, or too late after it ended (P8).
    #[serde(rename = "C9")]
    RedeliveredOffTime,
    /// C10: a delayed message was delivered early, late or after its recall (P11).
    #[serde(rename = "C10")]
    DelayBroken,
    /// C11: a half message was visible without a commit, or not visible after one, or nobody was asked about it (P12).
    #[serde(rename = "C11")]
    TransactionBroken,
    /// C12: a message was given up too early or too late, twice or never (P6, P10).
    #[serde(rename = "C12")]
    DeadLetterBroken,
    /// C13a: an offset moved back (P13).
    #[serde(rename = "C13a")]
    OffsetMovedBack,
    /// C14: replicas that had applied the same entry differed (P15).
    #[serde(rename = "C14")]
    ReplicasDiffer,
    /// C15: the service was away too long, or did not come back, or a node ended by itself (P17).
    #[serde(rename = "C15")]
    Unavailable,
    /// C16: a send that was answered with a definite failure is in the log (P16).
    #[serde(rename = "C16")]
    RefusedMessageStored,
    /// V: the run saw too little to prove anything.
    #[serde(rename = "V")]
    TooLittleSeen,
}

impl Rule {
    /// Its number in docs/promises.md, "Rules of the drill".
    pub fn number(self) -> &'static str {
        match self {
            Self::AckedMessageLost => "C1",
            Self::UnknownMessage => "C2",
            Self::StoredTwice => "C3",
            Self::OffsetConflict => "C4",
            Self::ProducerOrderBroken => "C5",
            Self::RealTimeOrderBroken => "C6",
            Self::NeverDelivered => "C7",
            Self::RedeliveredAfterAck => "C8",
            Self::RedeliveredOffTime => "C9",
            Self::DelayBroken => "C10",
            Self::TransactionBroken => "C11",
            Self::DeadLetterBroken => "C12",
            Self::OffsetMovedBack => "C13a",
            Self::ReplicasDiffer => "C14",
            Self::Unavailable => "C15",
            Self::RefusedMessageStored => "C16",
            Self::TooLittleSeen => "V",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub rule: Rule,
    pub text: String,
    /// The numbers of the events that show it.
    pub events: Vec<u64>,
}

/// What a run must have seen, and how long it may have been away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// Sends acknowledged.
    pub sends: usize,
    /// Faults done.
    pub faults: usize,
    /// Of these, to a node that led.
    pub leader_faults: usize,
    /// Deliveries after the first.
    pub redeliveries: usize,
    /// Delayed messages delivered, recalls, commits, rollbacks, questions about transactions and dead letters: so many of
    /// each.
    pub of_each_kind: usize,
    /// Replicas whose digests were read at one and the same entry.
    pub compared: usize,
    /// Snapshots that nodes caught up by.
    pub snapshots: usize,
    /// Damages of logs that were found and repaired.
    pub repairs: usize,
    /// Deliveries of the group after which a message is a dead letter.
    pub attempts_max: u32,
    /// A producer is asked about what it left open within this, while the service is up, microseconds.
    pub asked_within_us: u64,
    /// A delayed message is delivered within this after its time, while the service is up (P11), microseconds.
    pub delay_late_us: u64,
    /// A clock that was moved moves a delivery by this at most (P21), microseconds.
    pub moved_clock_us: u64,
    /// A message whose lease ended is delivered again within this, while the service is up (P8), microseconds.
    pub lateness_us: u64,
    /// Longest gap between acknowledged sends while a majority was up all the time, microseconds.
    pub gap_max_us: u64,
    /// Longest time until sends are acknowledged again after a majority was away, microseconds.
    pub resume_max_us: u64,
}

/// What a run had of the rarer kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// Delayed messages that were delivered.
    pub delayed: usize,
    /// Recalls answered OK.
    pub recalled: usize,
    /// Commits answered OK.
    pub committed: usize,
    /// Rollbacks answered OK.
    pub rolled_back: usize,
    /// Transactions that a producer was asked about.
    pub questions: usize,
    /// Dead letters of the group.
    pub dead_letters: usize,
    /// Replicas whose digests were read at one and the same entry.
    pub compared: usize,
}

/// Whether the promises were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes, as far as this history shows.
    True,
    /// No.
    False,
    /// The history does not show it.
    Unknown,
}

/// What the checker found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    pub verdict: Verdict,
    /// What is wrong or missing; at most a few of each rule.
    pub findings: Vec<Finding>,
    /// How often each rule was broken.
    pub broken: BTreeMap<String, usize>,
    /// Sends acknowledged, with unknown fate, refused.
    pub sends: [usize; 3],
    /// Messages lost.
    pub lost: usize,
    /// Messages with two queue offsets.
    pub duplicated: usize,
    /// Messages delivered again after their ack was answered OK.
    pub redelivered_after_ack: usize,
    /// Deliveries after the first.
    pub redeliveries: usize,
    /// Of the rarer kinds.
    pub seen: Seen,
}
