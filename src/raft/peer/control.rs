//! Short calls to other replicas: heartbeats, votes, status, questions. One link per peer, open before it is needed, so that
//! bulk data never delays a sign of life (D19).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::proto::peer as proto;
use crate::proto::peer::answer::Answer;
use crate::proto::peer::call::Call;
use crate::raft::peer::frame::FrameWriter;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::requests::{Request, RequestLink};

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
    Link(#[from] LinkError),
    /// Nothing came in time, or the link ended.
    #[error("no answer in time")]
    Silence,
    /// The peer could not use the call.
    #[error("the peer refused the call: {0}")]
    Refused(String),
}

/// Calls to one peer. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct ControlClient {
    identity: PeerIdentity,
    target: u64,
    address: String,
    link: Arc<Mutex<Option<Arc<RequestLink<Call>>>>>,
}

impl ControlClient {
    /// Dials when it is first used, and again when its link broke.
    pub fn new(identity: PeerIdentity, target: u64, address: String) -> Self {
        Self { identity, target, address, link: Arc::default() }
    }

    /// Calls, and waits for the answer, `limit` at most.
    pub async fn call(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let called = tokio::time::timeout(limit, self.call_unbounded(call)).await;
        called.unwrap_or_else(|_| {
            let mut link = self.link.lock();
            if link.as_ref().is_some_and(|link| link.is_silent_for(SILENCE_MAX)) {
                *link = None;
            }
            Err(CallError::Silence)
        })
    }

    async fn call_unbounded(&self, call: Call) -> Result<Answer, CallError> {
        let link = self.link().await?;
        let mut in_flight = link.put(call).await.map_err(|_| CallError::Silence)?;
        match in_flight.answer().await.and_then(|answer| answer.answer) {
            Some(Answer::Refused(reason)) => Err(CallError::Refused(reason)),
            Some(answer) => Ok(answer),
            None => Err(CallError::Silence),
        }
    }

    async fn link(&self) -> Result<Arc<RequestLink<Call>>, LinkError> {
        if let Some(link) = self.link.lock().as_ref().filter(|link| link.is_open()) {
            return Ok(link.clone());
        }
        let (reader, writer) = link::dial(&self.identity, self.target, &self.address, proto::Purpose::Control).await?;
        let link = Arc::new(RequestLink::new(reader, writer));
        // Callers may race; the loser's link serves its own call and goes with it.
        *self.link.lock() = Some(link.clone());
        Ok(link)
    }
}
