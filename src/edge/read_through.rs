//! A connection whose bytes are read through something, and written as they are.
//!
//! Hot path. A reader is a type, not a trait object: three of them lie one in the other around each connection of gRPC.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What stands between the bytes that come and who reads them.
pub(in crate::edge) trait Reader: Unpin {
    /// As [`AsyncRead::poll_read`], of what comes from `io`.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;
}

/// A connection and its reader.
pub(in crate::edge) struct ReadThrough<R, S> {
    pub reader: R,
    pub io: S,
}

impl<R: Reader, S: AsyncRead + Unpin> AsyncRead for ReadThrough<R, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { reader, io } = &mut *self;
        reader.poll_read(Pin::new(io), cx, buf)
    }
}

impl<R: Reader, S: AsyncWrite + Unpin> AsyncWrite for ReadThrough<R, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
