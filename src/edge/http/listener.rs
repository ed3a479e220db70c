//! The HTTP port and its thread. What a connection may take is bounded: how many there are, its headers, the time for them
//! and the time to take an answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::edge::http::pages::Pages;
use crate::edge::http::patience::Patience;
use crate::edge::listener::NewRuntime;

/// Open connections; a further one takes the place of the oldest, so that nobody can keep others out by holding on.
const CONNECTIONS_MAX: usize = 64;
/// For the head of a request, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// For the whole answer to be taken.
const TAKE_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A stop waits so long for answers under way.
const STOP_MAX: Duration = Duration::from_millis(500);
const STOP_STEP: Duration = Duration::from_millis(10);

/// The running HTTP port.
pub struct Http {
    thread: std::thread::JoinHandle<()>,
    stop: CancellationToken,
}

impl Http {
    /// Serves a bound port on a thread of its own.
    pub fn start(port: std::net::TcpListener, runtime: NewRuntime, pages: Arc<Pages>) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (runtime, stopping) = (runtime()?, stop.clone());
        let serving = move || tokio::task::LocalSet::new().block_on(&runtime, accept(port, pages, stopping));
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(serving)?;
        Ok(Self { thread, stop })
    }

    /// Takes no more requests, and waits a moment for those in flight.
    pub async fn stop(self) {
        self.stop.cancel();
        let ends = async {
            while !self.thread.is_finished() {
                tokio::time::sleep(STOP_STEP).await;
            }
        };
        // Late or not, the node stops.
        let _ = tokio::time::timeout(STOP_MAX, ends).await;
    }
}

async fn accept(port: std::net::TcpListener, pages: Arc<Pages>, stop: CancellationToken) {
    let listener = match TcpListener::from_std(port) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the HTTP port cannot be served"),
    };
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS_MAX {
                    open.pop_front();
                }
                let connection = tokio::task::spawn_local(serve(stream, peer, pages.clone(), stop.clone()));
                open.push_back(AbortOnDropHandle::new(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for connection in open {
        // It ends by itself, or the stop is late.
        let _ = connection.await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, pages: Arc<Pages>, stop: CancellationToken) {
    let io = TokioIo::new(Patience::new(stream, TAKE_TIMEOUT));
    let service = service_fn(|request| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request, peer).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
