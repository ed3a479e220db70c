//! The stream of appends to one follower, over a link of its own (D19).
//!
//! Hot path. One long link per term with many frames in flight. A link that owes answers and gives none is ended, because
//! a half-open one would hold replication for ever; a follower without room on its disk says from time to time that it
//! pauses.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Fuse};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::BoxStream;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::model::NodeId;
use crate::proto::peer as proto;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::peer::learner_pace::LearnerPace;
use crate::raft::peer::rpc_error;
use crate::raft::peer::rpc_error::RpcResult;
use crate::raft::peer::wire;
use crate::raft::types;
use crate::raft::types::Types;

/// Append frames sent and not yet answered, per follower: their bytes, in KiB. Below what the follower's log takes
/// without waiting for its disk.
const KIB_IN_FLIGHT: u32 = 32 * 1024;
/// What a frame costs beside its entries.
const FRAME_KIB: u32 = 1;
/// A link that owes an answer for this long is ended.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// A frame that only says what is committed waits this long for entries to travel with, while the follower is busy
/// anyway (D27). The shortest time the runtime's timer knows.
const COMMIT_WAIT: Duration = Duration::from_millis(1);

/// Sends openraft's requests in order and gives the answers; ends after an error or the last answer. Dropping it ends the
/// link.
pub(super) fn stream<S>(
    requests: S,
    (reader, writer): (FrameReader, FrameWriter),
    pace: LearnerPace,
    identity: PeerIdentity,
    target: u64,
) -> BoxStream<'static, RpcResult<StreamAppendResult<Types>>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    let in_flight = Arc::new(InFlight::default());
    let (sent, reading) = (in_flight.clone(), identity.clone());
    let mut checked = None;
    let can_read = move || {
        let version = reading.applied_version();
        if checked != Some(version) && reading.check_version(target).is_err() {
            return false;
        }
        checked = Some(version);
        true
    };
    let sender = tokio::spawn(async move {
        // The reading side notices a broken link too.
        let _ = send_frames(requests, writer, sent, pace, can_read).await;
    });
    let answers = Answers { link: reader, in_flight, identity, target, _sender: AbortOnDropHandle::new(sender) };
    Box::pin(stream::unfold(Some(answers), |answers| async move {
        let mut answers = answers?;
        let answer = answers.next().await?;
        let goes_on = answer.is_ok();
        Some((answer, goes_on.then_some(answers)))
    }))
}

fn body_bytes(request: &AppendEntriesRequest<Types>) -> usize {
    request.entries.iter().map(types::body_bytes).sum()
}

/// The frames of one link that wait for their answers.
struct InFlight {
    room: Semaphore,
    frames: Mutex<Frames>,
    /// The follower has no room on its disk: nothing more is sent until it answers again.
    is_paused: AtomicBool,
    goes_on: Notify,
}

#[derive(Default)]
struct Frames {
    /// KiB of each, oldest first.
    sizes: VecDeque<u32>,
    /// When the oldest was sent, or the last answer came: the later of the two.
    since: Option<Instant>,
}

impl Default for InFlight {
    fn default() -> Self {
        let room = Semaphore::new(KIB_IN_FLIGHT as usize);
        Self { room, frames: Mutex::default(), is_paused: AtomicBool::new(false), goes_on: Notify::new() }
    }
}

impl InFlight {
    /// Waits while the follower pauses, and for room; one frame alone always has it.
    async fn add(&self, request: &AppendEntriesRequest<Types>) {
        let kib =
            u32::try_from(body_bytes(request) / 1024).unwrap_or(u32::MAX).saturating_add(FRAME_KIB).min(KIB_IN_FLIGHT);
        while self.is_paused.load(Ordering::Relaxed) {
            self.goes_on.notified().await;
        }
        // Given back by the answer; the semaphore is never closed.
        if let Ok(permit) = self.room.acquire_many(kib).await {
            permit.forget();
        }
        let mut frames = self.frames.lock();
        frames.sizes.push_back(kib);
        frames.since.get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        let mut frames = self.frames.lock();
        if let Some(kib) = frames.sizes.pop_front() {
            self.room.add_permits(kib as usize);
        }
        frames.since = (!frames.sizes.is_empty()).then(Instant::now);
    }

    /// The peer is alive and answers later; true if it did not say so before.
    fn pause(&self) -> bool {
        let mut frames = self.frames.lock();
        frames.since = (!frames.sizes.is_empty()).then(Instant::now);
        !self.is_paused.swap(true, Ordering::Relaxed)
    }

    /// True if the peer had paused.
    fn go_on(&self) -> bool {
        let had_paused = self.is_paused.swap(false, Ordering::Relaxed);
        if had_paused {
            self.goes_on.notify_one();
        }
        had_paused
    }

    fn is_empty(&self) -> bool {
        self.frames.lock().sizes.is_empty()
    }

    /// When the peer counts as gone unless it answers before.
    fn answer_due(&self) -> Instant {
        self.frames.lock().since.unwrap_or_else(Instant::now) + SILENCE_MAX
    }
}

/// Writes openraft's requests to the link, in order, until they end or the follower's build is too old for what the log has.
async fn send_frames<S>(
    requests: S,
    mut link: FrameWriter,
    in_flight: Arc<InFlight>,
    mut pace: LearnerPace,
    mut can_read: impl FnMut() -> bool,
) -> io::Result<()>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let mut requests = requests.fuse();
    while let Some(request) = requests.next().await {
        let (request, next) = fold(request, &mut requests, &in_flight).await;
        for request in std::iter::once(request).chain(next) {
            pace.until_due(body_bytes(&request)).await;
            in_flight.add(&request).await;
            if !can_read() {
                return link.close().await;
            }
            let (frame, records) = wire::put_append(request);
            link.put_append(&frame, &records);
            link.flush().await?;
        }
    }
    link.close().await
}

/// Under load the next entries come before a follower needs to know what is committed: then one frame says both, and a
/// batch costs a frame and an answer less per follower. A request is only dropped for a later one that says at least as
/// much.
async fn fold<S>(
    mut request: AppendEntriesRequest<Types>,
    requests: &mut Fuse<S>,
    in_flight: &InFlight,
) -> (AppendEntriesRequest<Types>, Option<AppendEntriesRequest<Types>>)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    let until = Instant::now() + COMMIT_WAIT;
    while request.entries.is_empty() && !in_flight.is_empty() {
        let Ok(Some(next)) = tokio::time::timeout_at(until, requests.next()).await else { break };
        let is_after = next.vote == request.vote && next.prev_log_id == request.prev_log_id;
        if !is_after {
            return (request, Some(next));
        }
        request = next;
    }
    (request, None)
}

/// The answers of a link, from its reading side. Dropping it ends the link.
struct Answers {
    link: FrameReader,
    in_flight: Arc<InFlight>,
    identity: PeerIdentity,
    target: u64,
    _sender: AbortOnDropHandle<()>,
}

impl Answers {
    /// The next answer; `None` when the peer has answered everything and closed.
    async fn next(&mut self) -> Option<RpcResult<StreamAppendResult<Types>>> {
        let read = loop {
            match tokio::time::timeout_at(self.in_flight.answer_due(), self.link.next::<proto::AppendAck>()).await {
                Ok(Ok(Some(ack))) if ack.outcome() == proto::append_ack::Outcome::Paused => self.follower_pauses(),
                Ok(read) => break read,
                Err(_) if self.in_flight.answer_due() > Instant::now() => {}
                Err(elapsed) => return Some(Err(rpc_error::of_silence(&elapsed))),
            }
        };
        match read {
            Ok(Some(ack)) => {
                self.in_flight.answered();
                self.follower_goes_on();
                Some(wire::ack(ack, self.identity.term()).map_err(rpc_error::of_message))
            }
            Ok(None) => self.identity.check_version(self.target).err().map(|old| Err(rpc_error::of_link(&old.into()))),
            Err(error) => Some(Err(rpc_error::of_link(&error.into()))),
        }
    }

    fn follower_pauses(&mut self) {
        if self.in_flight.pause() {
            tracing::warn!(
                follower = NodeId(self.target).to_string(),
                "a follower has no room on its disk and takes no more entries"
            );
        }
    }

    fn follower_goes_on(&mut self) {
        if self.in_flight.go_on() {
            tracing::info!(follower = NodeId(self.target).to_string(), "the follower takes entries again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::newest_version;
    use crate::model::MemberName;
    use crate::raft::members::MemberTable;
    use crate::raft::peer::facts::Facts;
    use crate::raft::peer::security::PeerSecurity;
    use crate::raft::snapshot::rate::RateLimit;
    use crate::raft::snapshot::test_replica::TestReplica;

    #[tokio::test]
    async fn p22_a_build_that_cannot_read_the_log_any_more_is_sent_nothing_more() {
        let names = ("c".to_owned(), "g".to_owned());
        let addresses: BTreeMap<_, _> = (0..2).map(|name| (MemberName(name), format!("h{name}:1"))).collect();
        let log = TestReplica::new(0).log;
        let identity = PeerIdentity::new(names, 0, MemberTable::new(addresses), PeerSecurity::default(), log, false);
        identity.set_started();
        let older = newest_version() - 1;
        let facts = Facts { disk: 7, cluster_version: older, ..Facts::from_wire(Some(identity.facts())).unwrap() };
        identity.meet(1, facts, identity.acknowledged_by(1)).await.unwrap();

        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (from, to) = tokio::io::split(ours);
        let (follower, mut answers) = tokio::io::split(theirs);
        let (requests, outgoing) = tokio::sync::mpsc::channel(4);
        let outgoing =
            Box::pin(stream::unfold(outgoing, async |mut outgoing| Some((outgoing.recv().await?, outgoing))));
        let link: (FrameReader, FrameWriter) = (FrameReader::new(Box::new(from)), FrameWriter::new(Box::new(to)));
        let pace = LearnerPace::new(&identity, NodeId(1), Arc::new(RateLimit::new(0)));
        let mut stream = stream(outgoing, link, pace, identity.clone(), 1);
        let mut received = FrameReader::new(follower);
        let request = || AppendEntriesRequest::<Types> {
            vote: types::vote(1, 0, true),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        requests.send(request()).await.unwrap();
        assert!(received.next::<proto::AppendFrame>().await.unwrap().is_some(), "it can read all that there is");
        assert_eq!(identity.common_version(newest_version()), older, "raised although it was met, by an older leader");
        requests.send(request()).await.unwrap();
        assert!(received.next::<proto::AppendFrame>().await.unwrap().is_none(), "it is sent no more");
        tokio::io::AsyncWriteExt::shutdown(&mut answers).await.unwrap();
        let Some(Err(error)) = stream.next().await else { panic!("the stream goes on") };
        assert!(error.to_string().contains("install this node's build"), "{error}");
        assert!(identity.check_version(1).is_err());
    }
}
