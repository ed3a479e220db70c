//! The door of a thread: connections of clients come and go through it one by one.
//!
//! To begin a connection and to end one costs more than a request, and a thread does what is ready in the order in which it
//! became so: of a thousand clients that come or go at once all would be served before the send of the one beside them. What
//! waits at the door costs next to nothing, and everything else on the thread has a turn between two of them (P20, D253).
//!
//! Who may pass is told so once, and the door does not wait for it: a connection that nobody reads any more holds up no other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::edge::read_through::{ReadThrough, Reader};

/// Where those line up that leave. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// Those that leave: each connection of the thread once, so there is a bound.
pub(super) struct Line(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// The door of a thread that is about to serve connections. Without the line, all pass.
pub(super) fn door() -> (Door, Line) {
    let (door, line) = mpsc::unbounded_channel();
    (Door(door), Line(line))
}

impl Line {
    /// Begins those that come and lets those pass that leave, until it is to stop or nobody can come any more.
    pub async fn let_through<C>(
        mut self,
        mut coming: mpsc::Receiver<C>,
        stop: &CancellationToken,
        mut begin: impl FnMut(C),
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.let_one_leave() => {}
                came = coming.recv() => match came {
                    Some(came) => begin(came),
                    None => return,
                },
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until one leaves, and lets it pass.
    async fn let_one_leave(&mut self) {
        match self.0.recv().await {
            // It may be gone by itself.
            Some(pass) => drop(pass.send(())),
            None => std::future::pending().await,
        }
    }
}

impl Door {
    /// A connection whose end is read only when it may leave.
    pub fn of<S>(&self, io: S) -> ReadThrough<LeavesByDoor, S> {
        ReadThrough { reader: LeavesByDoor(Way::Stays(self.clone())), io }
    }

    fn leave(&self) -> oneshot::Receiver<()> {
        let (pass, passed) = oneshot::channel();
        // If it fails, so does what waits for it.
        let _ = self.0.send(pass);
        passed
    }
}

/// Reads a connection of [`Door::of`].
pub(super) struct LeavesByDoor(Way);

enum Way {
    Stays(Door),
    /// With what was read as its end.
    Leaves(oneshot::Receiver<()>, io::Result<()>),
    Gone,
}

impl Reader for LeavesByDoor {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        io: Pin<&mut S>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(way) = self;
        if let Way::Stays(door) = way {
            let from = buf.filled().len();
            let read = ready!(io.poll_read(cx, buf));
            if read.is_ok() && (buf.filled().len() > from || buf.remaining() == 0) {
                return Poll::Ready(Ok(()));
            }
            *way = Way::Leaves(door.leave(), read);
        }
        if let Way::Leaves(pass, _) = way {
            // An error says that there is no line any more.
            let _ = ready!(Pin::new(pass).poll(cx));
        }
        match std::mem::replace(way, Way::Gone) {
            Way::Leaves(_, read) => Poll::Ready(read),
            Way::Stays(_) | Way::Gone => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::spawn_local;

    use super::*;

    /// A connection whose client wrote a byte and went.
    fn gone(door: &Door) -> ReadThrough<LeavesByDoor, DuplexStream> {
        let (mut client, server) = tokio::io::duplex(8);
        client.write_all(b"x").now_or_never().unwrap().unwrap();
        door.of(server)
    }

    /// What is there to read, as far as it may be read now.
    fn read(io: &mut ReadThrough<LeavesByDoor, DuplexStream>) -> Option<io::Result<usize>> {
        io.read(&mut [0]).now_or_never()
    }

    #[tokio::test]
    async fn p20_those_that_go_at_once_end_one_by_one_in_line_and_nobody_waits_for_one_that_is_not_read() {
        let (door, mut line) = door();
        let mut all: Vec<_> = (0..5).map(|_| gone(&door)).collect();
        for io in &mut all {
            assert_eq!(read(io).unwrap().unwrap(), 1, "what it wrote before it went");
            assert!(read(io).is_none(), "the end waits at the door");
        }
        // One goes by itself, one is never read again.
        drop(all.remove(1));
        let mut ended = Vec::new();
        for _ in 0..5 {
            assert!(line.let_one_leave().now_or_never().is_some());
            let ends = |at: &usize| read(&mut all[*at]).is_some_and(|end| end.unwrap() == 0);
            ended.push([0, 2, 3].into_iter().filter(ends).collect::<Vec<_>>());
        }
        assert_eq!(ended, [&[0][..], &[0], &[0], &[0, 2], &[0, 2, 3]], "and the end stays the end");
        assert!(line.let_one_leave().now_or_never().is_none(), "nobody is left");
    }

    #[tokio::test]
    async fn p20_everything_else_has_a_turn_between_two_that_come_or_go() {
        const EACH: usize = 50;
        let ((door, line), (come, coming), stop) = (door(), mpsc::channel(EACH), CancellationToken::new());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| {
            let seen = seen.clone();
            move || seen.borrow_mut().push(what)
        };
        (0..EACH).for_each(|_| come.try_send(()).unwrap());
        drop(come);
        let lines = async {
            for _ in 0..EACH {
                let (pass, leaves) = (door.leave(), note("goes"));
                spawn_local(pass.map(move |_| leaves()));
            }
            let else_has_a_turn = note("else");
            spawn_local(stop.clone().run_until_cancelled_owned(async move {
                loop {
                    else_has_a_turn();
                    tokio::task::yield_now().await;
                }
            }));
            let begin = note("comes");
            line.let_through(coming, &stop, |()| begin()).await;
            stop.cancel();
        };
        tokio::task::LocalSet::new().run_until(lines).await;
        let seen = seen.borrow();
        assert_eq!(seen.iter().filter(|what| **what == "comes").count(), EACH);
        assert!(seen.iter().filter(|what| **what == "goes").count() > EACH / 4, "they go while others come: {seen:?}");
        // One that may leave does so in its own turn, which may come just before the next one's.
        assert!(seen.windows(3).all(|three| three.contains(&"else")), "{seen:?}");
    }

    #[tokio::test]
    async fn without_a_line_all_leave() {
        let (door, line) = door();
        let mut io = gone(&door);
        assert!(read(&mut io).is_some() && read(&mut io).is_none());
        drop(line);
        for io in [&mut io, &mut gone(&door)] {
            let _ = read(io);
            assert_eq!(read(io).unwrap().unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn an_error_is_an_end_too() {
        struct Fails;
        impl AsyncRead for Fails {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let (door, mut line) = door();
        let mut io = door.of(Fails);
        assert!(io.read(&mut [0]).now_or_never().is_none());
        line.let_one_leave().await;
        assert_eq!(io.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
