//! Backups: streamed to whoever asks, who writes them. Calls `node/backup`.

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tonic::Status;

use crate::env::clock;
use crate::model::LogIndex;
use crate::node::{BackupSource, EntryId, Node, NotServed};
use crate::proto::admin as wire;
use crate::proto::admin::backup_part::Part;

/// The parts of a backup.
pub(super) type Parts = BoxStream<'static, Result<wire::BackupPart, Status>>;

/// What comes next.
#[derive(Clone, Copy)]
enum Next {
    State { file: usize, at: u64 },
    Records(LogIndex),
}

pub(super) async fn create(node: &Node, _request: wire::CreateBackupRequest) -> Result<Parts, Status> {
    let source = node.begin_backup().await.map_err(refuse)?;
    let header = header(node, &source);
    let first = stream::once(async move { Ok(part(Part::Header(header))) });
    Ok(first.chain(parts(source)).boxed())
}

fn header(node: &Node, source: &BackupSource) -> wire::BackupHeader {
    let (place, manifest) = (node.settings(), source.manifest());
    let id = |id: EntryId| wire::EntryId { term: id.term.0, node: id.node.0, index: id.index.0 };
    wire::BackupHeader {
        cluster: place.cluster.clone(),
        broker: place.broker_name.clone(),
        node: place.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at_ms: clock::wall().0,
        cluster_version: manifest.cluster_version,
        applied: Some(id(manifest.applied)),
        first: manifest.first.0,
        before: manifest.before.map(id),
        members: manifest.members.iter().map(|(node, address)| format!("{node} {address}")).collect(),
        state: manifest
            .files
            .iter()
            .map(|file| wire::BackupFile { name: file.name.clone(), bytes: file.bytes, crc32c: file.crc32c })
            .collect(),
        records_bytes: manifest.log_bytes,
    }
}

fn part(part: Part) -> wire::BackupPart {
    wire::BackupPart { part: Some(part) }
}

/// The files of the state, one after the other, then the records. Reads the next part when the one before was taken.
fn parts(source: BackupSource) -> impl Stream<Item = Result<wire::BackupPart, Status>> {
    let first = Next::State { file: 0, at: 0 };
    stream::unfold((source, Some(first)), |(source, next)| async move {
        let mut next = next?;
        loop {
            let read = match next {
                Next::State { file, .. } if file >= source.manifest().files.len() => {
                    next = Next::Records(source.manifest().first);
                    continue;
                }
                Next::State { file, at } => match source.state_part(file, at).await {
                    Ok(bytes) if bytes.is_empty() => {
                        next = Next::State { file: file + 1, at: 0 };
                        continue;
                    }
                    Ok(bytes) => {
                        next = Next::State { file, at: at + bytes.len() as u64 };
                        Ok(part(Part::State(bytes)))
                    }
                    Err(error) => Err(error),
                },
                Next::Records(first) if first > source.manifest().applied.index => return None,
                Next::Records(first) => match source.records(first).await {
                    Ok((bytes, after)) => {
                        next = Next::Records(after);
                        Ok(part(Part::Records(bytes)))
                    }
                    Err(error) => Err(error),
                },
            };
            return match read {
                Ok(part) => Some((Ok(part), (source, Some(next)))),
                Err(error) => Some((Err(refuse(error)), (source, None))),
            };
        }
    })
}

fn refuse(error: NotServed) -> Status {
    let text = error.to_string();
    match error {
        NotServed::Busy => Status::resource_exhausted(text),
        NotServed::Ended | NotServed::Behind(_) | NotServed::Missing(_) | NotServed::Failed(_) => {
            Status::unavailable(text)
        }
    }
}
