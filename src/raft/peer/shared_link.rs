//! A link to one peer that many callers share: dialled when it is first used, and again when it broke.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::proto::peer as proto;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::link;
use crate::raft::peer::link::LinkError;
use crate::raft::peer::requests::{Request, RequestLink};

type Dialled<Q> = Result<Arc<RequestLink<Q>>, Arc<LinkError>>;

enum State<Q: Request> {
    Idle,
    /// The result of dialling, once there is one.
    Dialling(watch::Receiver<Option<Dialled<Q>>>),
    Open(Arc<RequestLink<Q>>),
}

/// Cheap to clone.
pub(super) struct SharedLink<Q: Request> {
    identity: PeerIdentity,
    target: u64,
    address: String,
    purpose: proto::Purpose,
    state: Arc<Mutex<State<Q>>>,
}

impl<Q: Request> Clone for SharedLink<Q> {
    fn clone(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            target: self.target,
            address: self.address.clone(),
            purpose: self.purpose,
            state: self.state.clone(),
        }
    }
}

impl<Q: Request> SharedLink<Q> {
    pub fn new(identity: PeerIdentity, target: u64, address: String, purpose: proto::Purpose) -> Self {
        Self { identity, target, address, purpose, state: Arc::new(Mutex::new(State::Idle)) }
    }

    /// The open link; one caller dials for all that wait.
    pub async fn open(&self) -> Dialled<Q> {
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
        let result = dialled.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
        // The task that dials always says how it ended, unless the runtime ends.
        result.unwrap_or_else(|| Err(Arc::new(LinkError::Broken(std::io::ErrorKind::Interrupted.into()))))
    }

    /// Forgets a link that is not worth keeping.
    pub fn forget(&self, link: &Arc<RequestLink<Q>>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Open(kept) if Arc::ptr_eq(kept, link)) {
            *state = State::Idle;
        }
    }

    /// Dials in a task of its own: a heartbeat has less time than a greeting over a long way takes.
    fn dial(&self) -> watch::Receiver<Option<Dialled<Q>>> {
        let (sender, dialled) = watch::channel(None);
        let own = self.clone();
        tokio::spawn(async move {
            let link = link::dial(&own.identity, own.target, &own.address, own.purpose).await;
            let result = link.map(|(reader, writer)| Arc::new(RequestLink::new(reader, writer))).map_err(Arc::new);
            *own.state.lock() = result.as_ref().map_or(State::Idle, |link| State::Open(link.clone()));
            // Nobody may wait any more.
            let _ = sender.send(Some(result));
        });
        dialled
    }
}
