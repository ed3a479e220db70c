//! The door of a thread: connections of clients come and go through it one by one.
//!
//! To begin a connection and to end one costs more than a request, and a thread does what is ready in the order in which it
//! became so: of a thousand clients that come or go at once all would be served before the send of the one beside them. What
//! waits at the door costs next to nothing, and everything else on the thread has a turn between two of them (P20, D253).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;

/// One for each thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<Mutex<()>>);

impl Door {
    /// Waits in line; then all else that is ready on this thread has a turn.
    pub fn pass(&self) -> impl Future<Output = ()> + use<> {
        let first_in_line = self.0.clone().lock_owned();
        async {
            let _first = first_in_line.await;
            tokio::task::yield_now().await;
        }
    }

    /// A connection whose end is read only when it has passed the door.
    pub fn of<S>(&self, io: S) -> LeavesByDoor<S> {
        LeavesByDoor { io, way: Way::Stays(self.clone()) }
    }
}

/// A connection of [`Door::of`].
pub(super) struct LeavesByDoor<S> {
    io: S,
    way: Way,
}

enum Way {
    Stays(Door),
    /// With what was read as its end.
    Leaves(Pin<Box<dyn Future<Output = ()> + Send>>, io::Result<()>),
    Gone,
}

impl<S: AsyncRead + Unpin> AsyncRead for LeavesByDoor<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Way::Stays(door) = &this.way {
            let from = buf.filled().len();
            let read = ready!(Pin::new(&mut this.io).poll_read(cx, buf));
            if read.is_ok() && (buf.filled().len() > from || buf.remaining() == 0) {
                return Poll::Ready(Ok(()));
            }
            this.way = Way::Leaves(Box::pin(door.pass()), read);
        }
        if let Way::Leaves(pass, _) = &mut this.way {
            ready!(pass.as_mut().poll(cx));
        }
        match std::mem::replace(&mut this.way, Way::Gone) {
            Way::Leaves(_, read) => Poll::Ready(read),
            Way::Stays(_) | Way::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LeavesByDoor<S> {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::LocalSet;

    use super::*;

    /// Connections; the client of each wrote a byte and went.
    fn gone(count: usize) -> Vec<impl AsyncRead + Unpin> {
        let gone = |_| {
            let (mut client, server) = tokio::io::duplex(8);
            assert!(futures_util::FutureExt::now_or_never(client.write_all(b"x")).is_some());
            server
        };
        (0..count).map(gone).collect()
    }

    #[test]
    fn p20_those_that_go_at_once_end_one_by_one_and_others_have_their_turn_between_two() {
        const COUNT: usize = 100;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (door, ended) = (Door::default(), Rc::new(Cell::new(0)));
            for io in gone(COUNT) {
                let (mut io, ended) = (door.of(io), ended.clone());
                tokio::task::spawn_local(async move {
                    let mut all = Vec::new();
                    io.read_to_end(&mut all).await.unwrap();
                    assert_eq!(all, b"x", "what it wrote before it went is read");
                    assert_eq!(io.read(&mut [0]).await.unwrap(), 0, "the end stays the end");
                    ended.set(ended.get() + 1);
                });
            }
            let mut before = 0;
            while before < COUNT {
                tokio::task::yield_now().await;
                let now = ended.get();
                assert!(now <= before + 2, "{} ended in one turn", now - before);
                before = now;
            }
        });
    }

    #[tokio::test]
    async fn an_error_is_the_end_and_comes_through_the_door() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let mut io = Door::default().of(fails_with(reset));
        assert_eq!(io.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    /// Nothing but an error to read.
    fn fails_with(error: io::Error) -> impl AsyncRead + Unpin {
        struct Fails(Option<io::Error>);
        impl AsyncRead for Fails {
            fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.0.take().map_or(Ok(()), Err))
            }
        }
        Fails(Some(error))
    }
}
