//! Appends of the leader as a follower takes them, in order, over one link.
//!
//! Hot path. What Raft has been given must be written before this node can vote again, so what there may be no room for waits
//! here. The link is read all the same, because a connection that is not read counts as broken after a while; the leader
//! is told to send no more, and what it sent until then is bounded by what it may have in flight.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::Notify;

use crate::proto::peer as proto;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::service::PeerService;
use crate::raft::peer::wire;
use crate::raft::types::Types;

/// A follower without room says so this often, so that its leader does not take it for gone.
const SAYS_PAUSED_EVERY: Duration = Duration::from_millis(500);
/// Answers put into one write.
const ANSWERS_AT_ONCE: usize = 64;
/// Bytes of records that wait for room, at most: more than a leader has in flight.
const WAITING_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Takes appends until the link ends.
pub(super) async fn take_appends(
    service: PeerService,
    from: u64,
    reader: FrameReader,
    mut writer: FrameWriter,
) -> io::Result<()> {
    let _ended = StreamEnded(service.stream_ended.clone());
    let is_paused = Arc::new(AtomicBool::new(false));
    let frames = Frames { reader, waiting: VecDeque::new(), waiting_bytes: 0, is_paused: is_paused.clone() };
    let checking = service.clone();
    // The first frame that cannot be used ends the link: skipping it would leave a hole.
    let requests = stream::unfold((frames, checking), move |(mut frames, service)| async move {
        let frame = frames.next(&service).await?;
        let request = usable(&service, from, frame)?;
        Some((request, (frames, service)))
    });
    let mut acks = std::pin::pin!(service.raft.stream_append(Box::pin(requests)).fuse());
    let mut says_paused = tokio::time::interval(SAYS_PAUSED_EVERY);
    loop {
        let ack = tokio::select! {
            biased;
            ack = acks.next() => ack,
            _ = says_paused.tick() => {
                if is_paused.load(Ordering::Relaxed) {
                    writer.put(&wire::put_paused());
                    writer.flush().await?;
                }
                continue;
            }
        };
        let Some(ack) = ack else { break };
        writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?));
        for _ in 1..ANSWERS_AT_ONCE {
            let Some(Some(ack)) = acks.next().now_or_never() else { break };
            writer.put(&wire::put_ack(&ack.map_err(io::Error::other)?));
        }
        writer.flush().await?;
    }
    writer.close().await
}

fn usable(service: &PeerService, from: u64, frame: proto::AppendFrame) -> Option<AppendEntriesRequest<Types>> {
    let request = wire::append(frame).and_then(|request| service.check(from, &request.vote).map(|()| request));
    let request = request.inspect_err(|error| service.identity.note_refusal(from, error)).ok()?;
    service.note_leader(&request.vote);
    Some(request)
}

/// The frames of a link, each once there is room for it.
struct Frames {
    reader: FrameReader,
    /// Read while one before them waited for room.
    waiting: VecDeque<proto::AppendFrame>,
    waiting_bytes: usize,
    /// One waits for room.
    is_paused: Arc<AtomicBool>,
}

impl Frames {
    /// `None` when the link ends, also while a frame waits: then its leader sends it again.
    async fn next(&mut self, service: &PeerService) -> Option<proto::AppendFrame> {
        let frame = match self.waiting.pop_front() {
            Some(frame) => {
                self.waiting_bytes -= frame.records.len();
                frame
            }
            None => self.reader.next::<proto::AppendFrame>().await.ok()??,
        };
        if service.rooms.take(frame.records.len()) {
            return Some(frame);
        }
        self.is_paused.store(true, Ordering::Relaxed);
        let has_room = self.wait_for_room(service, frame.records.len()).await;
        self.is_paused.store(false, Ordering::Relaxed);
        has_room.then_some(frame)
    }

    /// Whether there was room before the link ended.
    async fn wait_for_room(&mut self, service: &PeerService, bytes: usize) -> bool {
        let mut taken = std::pin::pin!(service.rooms.until_taken(bytes));
        loop {
            tokio::select! {
                () = taken.as_mut() => return true,
                read = self.reader.next::<proto::AppendFrame>(), if self.waiting_bytes < WAITING_BYTES_MAX => {
                    let Ok(Some(frame)) = read else { return false };
                    self.waiting_bytes += frame.records.len();
                    self.waiting.push_back(frame);
                }
            }
        }
    }
}

/// Notifies when the stream of appends ends that it was made for.
struct StreamEnded(Arc<Notify>);

impl Drop for StreamEnded {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
