//! Short calls to other replicas: heartbeats, votes, status, questions. One link per peer, open before it is needed, so that
//! bulk data never delays a sign of life (D19).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::peer::frame::FrameWriter;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::requests::Request;
use crate::raft::peer::shared_link::SharedLink;

/// A link that owes answers for this long is ended: the other side is gone, or came back without it.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl Request for Call {
    type Answer = proto::Answer;

    fn put(self, id: u64, writer: &mut FrameWriter) {
        writer.put(&proto::Call { id, call: Some(self) });
    }

    fn id_of(answer: &proto::Answer) -> u64 {
        answer.id
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum CallError {
    #[error(transparent)]
    Link(Arc<LinkError>),
    /// Nothing came in time, or the link ended.
    #[error("no answer in time")]
    Silence,
    /// The peer could not use the call.
    #[error("the peer refused the call: {0}")]
    Refused(String),
}

/// Calls to one peer. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct ControlClient(SharedLink<Call>);

impl ControlClient {
    pub fn new(identity: PeerIdentity, target: u64, address: String) -> Self {
        Self(SharedLink::new(identity, target, address, proto::Purpose::Control))
    }

    /// Calls, and waits for the answer, `limit` at most.
    pub async fn call(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let until = Instant::now() + limit;
        let opened = tokio::time::timeout_at(until, self.0.open()).await.map_err(|_| CallError::Silence)?;
        let link = opened.map_err(CallError::Link)?;
        let answering = async {
            let mut in_flight = link.put(call).await.ok()?;
            in_flight.answer().await?.answer
        };
        match tokio::time::timeout_at(until, answering).await {
            Ok(Some(Answer::Refused(reason))) => Err(CallError::Refused(reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(CallError::Silence),
            Err(_) => {
                if link.is_silent_for(SILENCE_MAX) {
                    self.0.forget(&link);
                }
                Err(CallError::Silence)
            }
        }
    }
}
