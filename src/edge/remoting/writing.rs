//! Writes the frames of a connection. Hot path.
//!
//! Frames that are ready together go out together; a client that takes nothing for too long is given up.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::broker::{Held, InRoom};

/// Frames written at once.
const FRAMES_TOGETHER: usize = 64;
/// A longer body is written from where it is.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// A client must take something in this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A frame on its way to the client, with what it holds until it is written.
pub(super) struct Written {
    pub head: Bytes,
    pub body: Bytes,
    /// Of the client's share; `None` for what nobody asked for.
    pub held: Option<Held>,
    pub room: Option<InRoom>,
}

/// Writes until there will be nothing more.
pub(super) async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Written>) -> io::Result<()> {
    let mut together = Vec::with_capacity(FRAMES_TOGETHER);
    let mut out = BytesMut::new();
    // Of the frames in `out`.
    let mut kept = Vec::new();
    while frames.recv_many(&mut together, FRAMES_TOGETHER).await > 0 {
        for Written { head, body, held, room } in together.drain(..) {
            kept.push((held, room));
            out.put(head);
            if body.len() <= COPIED_BYTES_MAX {
                out.put(body);
            } else {
                write_all(&mut to, &mut out.split().freeze()).await?;
                write_all(&mut to, &mut { body }).await?;
                kept.clear();
            }
        }
        write_all(&mut to, &mut out.split().freeze()).await?;
        in_time(to.flush()).await?;
        kept.clear();
    }
    in_time(to.shutdown()).await
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), bytes: &mut Bytes) -> io::Result<()> {
    while bytes.has_remaining() {
        if in_time(to.write_buf(bytes)).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

async fn in_time<T>(writing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(WRITE_TIMEOUT, writing).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for 30 s")),
    }
}
