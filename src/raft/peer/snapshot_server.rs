//! Serves the snapshots of this node to another replica, over a link of its own: bulk data never delays anything else.
//!
//! Before: `snapshot_link` on the other side. Calls `raft/snapshot/sources`.

use crate::model::{LogIndex, NodeId};
use crate::proto::peer as proto;
use crate::proto::peer::not_served::Reason;
use crate::proto::peer::snapshot_answer::Answer;
use crate::proto::peer::snapshot_call::Call;
use crate::raft::peer::wire;
use crate::raft::snapshot::sources::{NotServed, SnapshotSources};

/// Answers one call of the node `from`.
pub(super) async fn answer(sources: SnapshotSources, from: u64, call: proto::SnapshotCall) -> proto::SnapshotAnswer {
    let answered = match call.call {
        Some(Call::Open(open)) => {
            let manifest = sources.open(&NodeId(from).to_string(), LogIndex(open.at_least)).await;
            manifest.map(|manifest| Answer::Manifest(manifest.encode()))
        }
        Some(Call::FilePart(part)) => {
            let file = usize::try_from(part.file).unwrap_or(usize::MAX);
            sources.file_part(part.source, file, part.at).await.map(Answer::FilePart)
        }
        Some(Call::Records(records)) => {
            let source = Some(records.source).filter(|source| *source > 0);
            let read = sources.records(source, LogIndex(records.first), LogIndex(records.last)).await;
            read.map(|records| Answer::Records(wire::records(&records)))
        }
        Some(Call::Close(close)) => {
            sources.close(close.source).await;
            Ok(Answer::Closed(proto::Closed {}))
        }
        None => Err(NotServed::Failed("this build does not know the call".to_owned())),
    };
    let answer = answered.unwrap_or_else(|not_served| Answer::NotServed(put_not_served(&not_served)));
    proto::SnapshotAnswer { id: call.id, answer: Some(answer) }
}

fn put_not_served(not_served: &NotServed) -> proto::NotServed {
    let (reason, entry) = match not_served {
        NotServed::Ended => (Reason::Ended, LogIndex(0)),
        NotServed::Busy => (Reason::Busy, LogIndex(0)),
        NotServed::Behind(applied) => (Reason::Behind, *applied),
        NotServed::Missing(entry) => (Reason::Missing, *entry),
        NotServed::Failed(_) => (Reason::Unspecified, LogIndex(0)),
    };
    proto::NotServed { reason: reason.into(), entry: entry.0, words: not_served.to_string() }
}

/// What [`put_not_served`] put.
pub(super) fn read_not_served(not_served: proto::NotServed) -> NotServed {
    let entry = LogIndex(not_served.entry);
    match not_served.reason() {
        Reason::Ended => NotServed::Ended,
        Reason::Busy => NotServed::Busy,
        Reason::Behind => NotServed::Behind(entry),
        Reason::Missing => NotServed::Missing(entry),
        Reason::Unspecified => NotServed::Failed(not_served.words),
    }
}
