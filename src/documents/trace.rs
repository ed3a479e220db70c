//! The life of a message, as `message trace -o json` and the dashboard show it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::proto::admin::{StoredMessage, TraceEvent, TraceMessageResponse, TracedEntry, TracedGroup};

/// What became of the message before any group received it. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct LifeRow {
    pub message_id: String,
    pub produced_at_ms: u64,
    pub produced_by: String,
    pub stored_at_ms: u64,
    /// The entry with its bytes; the segment is named by its first entry, on the node that answered.
    pub entry: u64,
    pub slot: u32,
    pub term: Option<u64>,
    pub segment: Option<u64>,
    /// The nodes that surely have the entry, and those of which that is not known.
    pub replicas: Vec<String>,
    pub unknown: Vec<String>,
    /// queued, delayed, half, or rolled back.
    pub state: String,
    pub queue: Option<u32>,
    pub offset: Option<u64>,
    pub delivery_at_ms: Option<u64>,
    pub asked: u32,
    pub asked_next_ms: Option<u64>,
}

/// What happened to a message in a group. Keys of the JSON.
#[derive(Debug, Serialize)]
pub struct TraceRow {
    pub group: String,
    pub state: String,
    pub at_ms: Option<u64>,
    pub what: String,
    pub client: String,
    pub entry: Option<u64>,
}

/// The message, and what happened to it in each group.
pub fn rows(trace: TraceMessageResponse) -> (LifeRow, Vec<TraceRow>) {
    let TraceMessageResponse { message, groups, entry, state, asked, asked_next_ms, .. } = trace;
    let life = LifeRow { asked, asked_next_ms, ..life(message.unwrap_or_default(), entry.unwrap_or_default(), state) };
    (life, groups.into_iter().flat_map(trace_rows).collect())
}

/// `raftmq.trace.v1`.
pub fn document((life, events): &(LifeRow, Vec<TraceRow>)) -> Value {
    json!({ "schema": "raftmq.trace.v1", "message": life, "events": events })
}

pub fn life(message: StoredMessage, entry: TracedEntry, state: String) -> LifeRow {
    LifeRow {
        message_id: message.message_id,
        produced_at_ms: message.born_at_ms,
        produced_by: message.born_host,
        stored_at_ms: message.stored_at_ms,
        entry: entry.index,
        slot: message.slot,
        term: Some(entry.term).filter(|term| *term > 0),
        segment: entry.segment,
        replicas: entry.replicas,
        unknown: entry.unknown,
        state,
        queue: message.queue,
        offset: message.offset,
        delivery_at_ms: message.delivery_at_ms,
        asked: 0,
        asked_next_ms: None,
    }
}

/// One row for each event; one for a group in which nothing happened.
fn trace_rows(of: TracedGroup) -> Vec<TraceRow> {
    let TracedGroup { group, state, events } = of;
    let row = |event: Option<TraceEvent>| {
        let (at_ms, entry) = (event.as_ref().map(|event| event.at_ms), event.as_ref().map(|event| event.entry));
        let (what, client) = event.map(|event| (event.what, event.client)).unwrap_or_default();
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        TraceRow { group: group.clone(), state: state.clone(), at_ms, what: dash(what), client: dash(client), entry }
    };
    if events.is_empty() { vec![row(None)] } else { events.into_iter().map(|event| row(Some(event))).collect() }
}
