//! Pulls from another replica: its snapshot in parts, or records of its log, over a link of its own.
//!
//! After: `snapshot_server` on the other side.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::LogIndex;
use crate::proto::peer as proto;
use crate::proto::peer::snapshot_answer::Answer;
use crate::proto::peer::snapshot_call::Call;
use crate::raft::peer::frame::FrameWriter;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::requests::Request;
use crate::raft::peer::shared_link::SharedLink;
use crate::raft::peer::snapshot_server::read_not_served;
use crate::raft::peer::wire;
use crate::raft::snapshot::manifest::Manifest;
use crate::raft::snapshot::source::{NotGiven, SnapshotSource, check_records};
use crate::store::log::record::Record;

/// To make a snapshot the whole state is read once.
const OPEN_MAX: Duration = Duration::from_secs(120);
/// A part waits for its turn at the source's rate.
const PART_MAX: Duration = Duration::from_secs(20);

impl Request for Call {
    type Answer = proto::SnapshotAnswer;

    fn put(self, id: u64, writer: &mut FrameWriter) {
        writer.put(&proto::SnapshotCall { id, call: Some(self) });
    }

    fn id_of(answer: &proto::SnapshotAnswer) -> u64 {
        answer.id
    }
}

/// One replica that may give a snapshot. Dialled when it is first asked, and again when the link broke. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct SnapshotLink(SharedLink<Call>);

impl SnapshotLink {
    pub fn new(identity: PeerIdentity, target: u64, address: String) -> Self {
        Self(SharedLink::new(identity, target, address, proto::Purpose::Snapshot))
    }

    async fn call(&self, call: Call, limit: Duration) -> Result<Answer, NotGiven> {
        let until = Instant::now() + limit;
        let opened = tokio::time::timeout_at(until, self.0.open()).await;
        let opened = opened.map_err(|_| NotGiven::Unreachable("nobody answers there in time".to_owned()))?;
        let link = opened.map_err(|error| match &*error {
            // A build that does not know what the link is for takes it for one without a purpose.
            LinkError::Refused { reason, .. } => NotGiven::Refused(reason.clone()),
            error => NotGiven::Unreachable(error.to_string()),
        })?;
        let answering = async {
            let mut in_flight = link.put(call).await.ok()?;
            in_flight.answer().await?.answer
        };
        match tokio::time::timeout_at(until, answering).await {
            Ok(Some(Answer::NotServed(not_served))) => Err(read_not_served(not_served).into()),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(NotGiven::Unreachable("the link ended".to_owned())),
            Err(_) => {
                self.0.forget(&link);
                Err(NotGiven::Late)
            }
        }
    }
}

fn unexpected() -> NotGiven {
    NotGiven::Unusable("an answer to another call".to_owned())
}

impl SnapshotSource for SnapshotLink {
    async fn open(&self, at_least: LogIndex) -> Result<Manifest, NotGiven> {
        let call = Call::Open(proto::OpenSource { at_least: at_least.0 });
        let Answer::Manifest(manifest) = self.call(call, OPEN_MAX).await? else { return Err(unexpected()) };
        Manifest::decode(manifest).map_err(|error| NotGiven::Unusable(error.to_string()))
    }

    async fn file_part(&self, source: u64, file: usize, at: u64) -> Result<Bytes, NotGiven> {
        let file = u32::try_from(file).map_err(|_| unexpected())?;
        let call = Call::FilePart(proto::FilePart { source, file, at });
        let Answer::FilePart(part) = self.call(call, PART_MAX).await? else { return Err(unexpected()) };
        Ok(part)
    }

    async fn records(&self, source: Option<u64>, first: LogIndex, last: LogIndex) -> Result<Vec<Record>, NotGiven> {
        let source = source.unwrap_or(0);
        let call = Call::Records(proto::LogRecords { source, first: first.0, last: last.0 });
        let Answer::Records(records) = self.call(call, PART_MAX).await? else { return Err(unexpected()) };
        check_records(wire::read_records(records).map_err(|error| NotGiven::Unusable(error.to_string()))?, first, last)
    }

    async fn close(&self, source: u64) {
        // It ends by itself too.
        let _ = self.call(Call::Close(proto::CloseSource { source }), PART_MAX).await;
    }
}
