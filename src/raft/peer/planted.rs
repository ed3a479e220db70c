//! A planted bug for the drill: a leader that takes what it sent for acknowledged. Debug builds only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::base::BoxStream;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio_util::task::AbortOnDropHandle;

use crate::env::fault::planted_bug;
use crate::env::fault::planted_bug::PlantedBug;
use crate::proto::peer as proto;
use crate::raft::peer::frame::{FrameReader, FrameWriter};
use crate::raft::peer::rpc_error;
use crate::raft::peer::rpc_error::RpcResult;
use crate::raft::peer::wire;
use crate::raft::types::Types;

/// Whether the bug is planted.
pub(super) fn acks_before_commit() -> bool {
    planted_bug::is(PlantedBug::AckBeforeCommit)
}

/// In the place of `append::stream`: once the follower has agreed to the link, what is sent counts as acknowledged.
pub(super) fn acknowledge_what_is_sent<S>(
    mut requests: S,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> BoxStream<'static, RpcResult<StreamAppendResult<Types>>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    let (answers, received) = tokio::sync::mpsc::unbounded_channel();
    let has_agreed = Arc::new(AtomicBool::new(false));
    let (agreed, answer) = (has_agreed.clone(), answers.clone());
    let sending = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if agreed.load(Ordering::Relaxed) {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                let _ = answer.send(Ok(Ok(last)));
            }
            let (frame, records) = wire::put_append(request);
            writer.put_append(&frame, &records);
            if writer.flush().await.is_err() {
                return;
            }
        }
    });
    let reading = tokio::spawn(async move {
        loop {
            let ack = match reader.next::<proto::AppendAck>().await {
                Ok(Some(ack)) => ack,
                // The follower has answered everything there was.
                Ok(None) => return,
                Err(error) => {
                    let _ = answers.send(Err(rpc_error::of_link(&error.into())));
                    return;
                }
            };
            let result = wire::ack(ack, u64::MAX - 1).map_err(rpc_error::of_message);
            let is_success = matches!(result, Ok(Ok(_)));
            let is_news = !has_agreed.swap(has_agreed.load(Ordering::Relaxed) || is_success, Ordering::Relaxed);
            if (is_news || !is_success) && answers.send(result).is_err() {
                return;
            }
        }
    });
    let tasks = [AbortOnDropHandle::new(sending), AbortOnDropHandle::new(reading)];
    Box::pin(stream::unfold((received, tasks), |(mut received, tasks)| async move {
        Some((received.recv().await?, (received, tasks)))
    }))
}
