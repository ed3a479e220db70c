//! The rules, what breaks them, and the verdict.

use std::collections::BTreeMap;
use std::fmt;

/// The rules; each but the last breaks a promise of docs/promises.md. Printed, in text and JSON, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Rule {
    /// C1: an acknowledged message is lost (P1, P2).
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
    /// C13a: an offset moved back (P13).
    #[serde(rename = "C13a")]
    OffsetMovedBack,
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
            Self::OffsetMovedBack => "C13a",
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
    /// A message whose lease ended is delivered again within this, while the service is up (P8), microseconds.
    pub lateness_us: u64,
    /// Longest gap between acknowledged sends while a majority was up, microseconds.
    pub outage_max_us: u64,
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
}
