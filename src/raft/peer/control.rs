//! Short calls to other replicas: heartbeats, votes, status, questions. One link per peer, open before it is needed, so that
//! bulk data never delays a sign of life (D19).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

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
    Link(Arc<LinkError>),
    /// Nothing came in time, or the link ended.
    #[error("no answer in time")]
    Silence,
    /// The peer could not use the call.
    #[error("the peer refused the call: {0}")]
    Refused(String),
}

type Link = Arc<RequestLink<Call>>;
/// The result of dialling, once there is one.
type Dialled = watch::Receiver<Option<Result<Link, Arc<LinkError>>>>;

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Dialling(Dialled),
    Open(Link),
}

/// Calls to one peer. Cheap to clone.
#[derive(Clone)]
pub(in crate::raft) struct ControlClient {
    identity: PeerIdentity,
    target: u64,
    address: String,
    state: Arc<Mutex<State>>,
}

impl ControlClient {
    /// Dials when it is first used, and again when its link broke.
    pub fn new(identity: PeerIdentity, target: u64, address: String) -> Self {
        Self { identity, target, address, state: Arc::default() }
    }

    /// Calls, and waits for the answer, `limit` at most.
    pub async fn call(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let called = tokio::time::timeout(limit, self.call_unbounded(call)).await;
        called.unwrap_or_else(|_| {
            let mut state = self.state.lock();
            if matches!(&*state, State::Open(link) if link.is_silent_for(SILENCE_MAX)) {
                *state = State::Idle;
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

    async fn link(&self) -> Result<Link, CallError> {
        let mut dialled = {
            let mut state = self.state.lock();
            match &*state {
                State::Open(link) if link.is_open() => return Ok(link.clone()),
                State::Dialling(dialled) => dialled.clone(),
                State::Open(_) | State::Idle => {
                    let dialled = self.dial();
                    *state = State::Dialling(dialled.clone());
                    dialled
                }
            }
        };
        // The task that dials always says how it ended, unless the runtime ends.
        let result = dialled.wait_for(Option::is_some).await.map_err(|_| CallError::Silence)?.clone();
        result.ok_or(CallError::Silence)?.map_err(CallError::Link)
    }

    /// Dials in a task of its own: a heartbeat has less time than a greeting over a long way takes.
    fn dial(&self) -> Dialled {
        let (sender, dialled) = watch::channel(None);
        let own = self.clone();
        tokio::spawn(async move {
            let link = link::dial(&own.identity, own.target, &own.address, proto::Purpose::Control).await;
            let result = link.map(|(reader, writer)| Arc::new(RequestLink::new(reader, writer))).map_err(Arc::new);
            *own.state.lock() = result.as_ref().map_or(State::Idle, |link| State::Open(link.clone()));
            // Nobody may wait any more.
            let _ = sender.send(Some(result));
        });
        dialled
    }
}
