//! The history of a drill: every request, every answer, and what was done to the nodes, as JSON lines.
//!
//! All of it is stamped with one monotonic clock on one machine, so its order in real time is exact.
//!
//! * Shape: one [`Event`] a line; fields that do not apply are left out.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked.
    Inv,
    /// Answered: it happened.
    Ok,
    /// Answered: it did not happen and never will.
    Fail,
    /// Answered, or given up: nobody knows. Also what the drill itself notes.
    Info,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A send of one message; with [`Event::due`], of a delayed one.
    Send,
    /// A send of one half message.
    SendTxn,
    /// A commit or a rollback of a half message.
    EndTxn,
    /// A question about a half message that nobody ended; [`Phase::Info`]. One without message id: from here on nobody
    /// listens to questions.
    TxnCheck,
    /// A recall of a delayed message.
    Recall,
    /// A poll.
    Recv,
    /// An ack of one delivery.
    Ack,
    /// A change of a delivery's invisible time.
    Renew,
    /// Max and group offsets as an operator sees them.
    QueryOff,
    /// Everything one replica has, read after the run.
    Audit,
    /// The group's dead letters as one node has them, read after the run, with the places where they died.
    DeadLetters,
    /// What one replica has applied, in numbers.
    Digest,
    /// Something done to a node.
    Fault,
    /// A node healed.
    Heal,
    /// A node ended by itself.
    Ended,
    /// A node started itself again, without a snapshot that it had pulled.
    StartedAgain,
    /// Something that was asked of the cluster was not done in its time.
    NotDone,
    /// The log of a node was damaged; [`Phase::Ok`]: what was damaged is whole again.
    Rot,
    /// Nodes catch up by a snapshot: so many had since the drill began ([`Event::off`]).
    Snapshots,
    /// From here on fewer than two nodes can do anything.
    MajorityLost,
    /// Until here, that is.
    MajorityBack,
    /// From here on the drill itself holds its clients, to compare replicas.
    Held,
    /// Until here, that is.
    Released,
    /// The group's messages are all received and settled, or the drill gave up waiting.
    Drained,
}

/// The name of the fault after which sends may be refused and acks may not.
pub const FULL_DISK: &str = "full-disk";

/// One delivered message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Got {
    /// Message id.
    pub mid: String,
    /// Queue id.
    pub q: u32,
    /// Queue offset.
    pub off: u64,
    /// Deliveries so far including this one.
    pub att: u32,
    /// Hash of the body.
    pub h: u64,
}

/// Offsets of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// Offset of the next message.
    pub max: u64,
    /// Everything below is settled for the group.
    pub group: u64,
}

/// What a replica has applied: `raftmq.admin.v1`'s StateDigest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry in it.
    pub index: u64,
    /// Digest of all there is.
    pub content: u64,
    /// Digest of all writes there were.
    pub running: u64,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 0.
    pub i: u64,
    /// Microseconds since the drill began.
    pub t: u64,
    /// Who: a producer, a consumer, the nemesis.
    pub p: String,
    /// Where the operation stands.
    pub ph: Phase,
    /// What it is about.
    pub f: OperationKind,
    /// The number of the event that asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of: Option<u64>,
    /// Which node was asked, or hurt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    /// Message id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mid: Option<String>,
    /// Hash of the body.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub h: Option<u64>,
    /// Queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q: Option<u32>,
    /// Offset.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub off: Option<u64>,
    /// When a delayed message is to be delivered, in the drill's microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due: Option<u64>,
    /// Whether a half message is committed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<bool>,
    /// The answer's code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<i32>,
    /// Consumer group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// Invisible time asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inv_ms: Option<u64>,
    /// Messages of a poll or an audit.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub msgs: Vec<Got>,
    /// Offsets by queue.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub offs: BTreeMap<u32, Offsets>,
    /// What a replica has applied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub applied: Option<Applied>,
    /// Kind of fault, or a remark.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Whether the node led when it was hurt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub led: Option<bool>,
}

impl Event {
    /// An event with nothing but its head; number and time are set when it is recorded.
    pub fn new(p: &str, ph: Phase, f: OperationKind) -> Self {
        Self {
            i: 0,
            t: 0,
            p: p.to_owned(),
            ph,
            f,
            of: None,
            node: None,
            mid: None,
            h: None,
            q: None,
            off: None,
            due: None,
            commit: None,
            code: None,
            group: None,
            inv_ms: None,
            msgs: Vec::new(),
            offs: BTreeMap::new(),
            applied: None,
            kind: None,
            led: None,
        }
    }
}

/// Records events in the order they happen; shared by all tasks of a drill.
pub struct Recorder {
    started: Instant,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// Time counts from now.
    pub fn start() -> Self {
        Self { started: Instant::now(), events: Mutex::default() }
    }

    /// Numbers, stamps and keeps an event; its number.
    pub fn record(&self, mut event: Event) -> u64 {
        let mut events = self.events.lock();
        event.i = events.len() as u64;
        event.t = self.now();
        let number = event.i;
        events.push(event);
        number
    }

    /// Microseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }
}

/// The lines of a file.
pub fn to_lines(events: &[Event]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event)?);
        text.push('\n');
    }
    Ok(text)
}

/// From the lines of a file; an error names the line.
pub fn from_lines(text: &str) -> Result<Vec<Event>, String> {
    let read =
        |(at, line): (usize, &str)| serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1));
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_the_file() {
        let recorder = Recorder::start();
        let number =
            recorder.record(Event { mid: Some("m".into()), ..Event::new("prod-1", Phase::Inv, OperationKind::Send) });
        let got = Got { mid: "m".into(), q: 1, off: 2, att: 1, h: 3 };
        let offs = BTreeMap::from([(0, Offsets { max: 4, group: 2 })]);
        recorder.record(Event {
            of: Some(number),
            msgs: vec![got],
            offs,
            ..Event::new("c", Phase::Ok, OperationKind::Recv)
        });
        let events = recorder.events();
        let text = to_lines(&events).unwrap();
        assert_eq!(from_lines(&text).unwrap(), events);
        assert!(text.starts_with(r#"{"i":0,"t":"#), "{text}");
        assert!(from_lines("{}\n").unwrap_err().starts_with("line 1"));
    }
}
