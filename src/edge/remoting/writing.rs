//! Writes the frames of a connection. Hot path.
//!
//! Frames that are ready together go out together; a client that takes nothing for too long is given up.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames written at once.
const FRAMES_TOGETHER: usize = 64;
/// A longer body is written from where it is.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// A client must take something in this time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A frame: its head and its body.
pub(super) type Written = (Bytes, Bytes);

/// Writes until there will be nothing more.
pub(super) async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Written>) -> io::Result<()> {
    let mut together = Vec::with_capacity(FRAMES_TOGETHER);
    let mut out = BytesMut::new();
    while frames.recv_many(&mut together, FRAMES_TOGETHER).await > 0 {
        for (head, body) in together.drain(..) {
            out.put(head);
            if body.len() <= COPIED_BYTES_MAX {
                out.put(body);
            } else {
                write_all(&mut to, &mut out.split().freeze()).await?;
                write_all(&mut to, &mut { body }).await?;
            }
        }
        write_all(&mut to, &mut out.split().freeze()).await?;
        in_time(to.flush()).await?;
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
