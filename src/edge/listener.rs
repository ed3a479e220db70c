//! The client ports: accepts connections, distinguishes TLS from plaintext and gRPC from the classic protocol by the first
//! byte, and serves them on threads of its own, connections taking turns, or on Raft's thread (D22, D43, D186).
//!
//! tonic's services are called from hyper's connections directly; tonic's own transport is not used. Requests run in a
//! `LocalSet`: on Raft's thread, however many are ready, Raft's tasks have their turn after sixty of them. Connections take
//! turns too (`turns`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::edge::budgets::{Bounds, Client};
use crate::edge::door::{Door, door};
use crate::edge::grpc::authority::AuthorityRewriter;
use crate::edge::grpc::unary;
use crate::edge::grpc::unary::Services;
use crate::edge::peer::RemoteAddress;
use crate::edge::places::{Place, Places};
use crate::edge::proxy_header;
use crate::edge::remoting::{Remoting, connection as classic};
use crate::edge::turns::Turn;
use crate::env::panic::contained;
use crate::model::HostPort;

/// Connections accepted and not yet taken by their thread.
const ACCEPTED_MAX: usize = 1024;
/// Time for the first byte and the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client may send that nobody has read yet, on a stream and on its connection; HTTP/2 begins with the least.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const WINDOW_BYTES_LEAST: u32 = 64 * 1024 - 1;
/// Windows of all connections: new ones are smaller the more there are.
const WINDOWS_BYTES: u64 = 128 * 1024 * 1024;
/// Every waiting poll is an open stream.
const STREAMS_MAX: u32 = 10_000;
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TLS_FIRST_BYTE: u8 = 0x16;
/// A frame of the classic protocol begins with its length, of 16 MiB at most; HTTP/2 begins with a letter.
const CLASSIC_FIRST_BYTES: std::ops::RangeInclusive<u8> = 0..=1;
/// A stop checks this often whether the threads have ended.
const STOP_STEP: Duration = Duration::from_millis(10);
/// Time between the timers of [`keep_a_timer`]; shorter than any deadline of a request.
const TIMER_EVERY: Duration = Duration::from_secs(1);

/// What the ports speak.
#[derive(Clone)]
pub struct Security {
    /// TLS, if it is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether plaintext is served too.
    pub allows_plaintext: bool,
}

/// What is served. Cheap to clone.
#[derive(Clone)]
pub struct Protocols {
    pub grpc: Services,
    pub classic: Remoting,
}

/// Makes the runtime of a thread.
pub type NewRuntime = fn() -> io::Result<tokio::runtime::Runtime>;

/// The front end: its threads and ports.
pub struct FrontEnd {
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Tasks on the caller's thread.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Binds a port, so that a port in use is known before anything starts.
pub fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((host, port)).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", HostPort { host: host.to_owned(), port }))
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl FrontEnd {
    /// Serves on bound ports with `threads` threads of its own, each on a runtime of its own; with none, in the
    /// `LocalSet` it is called in.
    pub fn start(
        ports: Vec<std::net::TcpListener>,
        threads: usize,
        runtime: NewRuntime,
        bounds: Bounds,
        security: Security,
        protocols: Protocols,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        for number in 0..threads.max(1) {
            let (connections, taken) = mpsc::channel(ACCEPTED_MAX);
            workers.push(connections);
            let shared = Shared {
                security: security.clone(),
                protocols: protocols.clone(),
                bounds: bounds.clone(),
                stop: stop.clone(),
            };
            let worker = Worker { taken, shared };
            if threads == 0 {
                tasks.spawn_local(worker.run());
            } else {
                handles.push(thread(format!("front-end-{number}"), runtime, worker.run())?);
            }
        }
        let accepting = accept_all(ports, workers, bounds.places, stop.clone());
        if threads == 0 {
            tasks.spawn_local(accepting);
        } else {
            handles.push(thread("accept".to_owned(), runtime, accepting)?);
        }
        tasks.close();
        Ok(Self { threads: handles, tasks, stop })
    }

    /// Takes no more requests, and waits for those in flight for `limit` at most.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        let threads_end = async {
            while self.threads.iter().any(|thread| !thread.is_finished()) {
                tokio::time::sleep(STOP_STEP).await;
            }
        };
        // Late or not, the node stops.
        let _ = tokio::time::timeout(limit, futures_util::future::join(threads_end, self.tasks.wait())).await;
    }
}

/// A thread that does this work and nothing else.
fn thread(
    name: String,
    runtime: NewRuntime,
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = runtime()?;
    std::thread::Builder::new().name(name).spawn(move || tokio::task::LocalSet::new().block_on(&runtime, work))
}

async fn accept_all(
    ports: Vec<std::net::TcpListener>,
    workers: Vec<mpsc::Sender<Accepted>>,
    places: Places,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    for port in ports {
        let accepting = accept(port, workers.clone(), places.clone());
        tasks.spawn_local(stop.clone().run_until_cancelled_owned(accepting));
    }
    tasks.close();
    tasks.wait().await;
}

/// A connection on its way to its thread. Not a tokio stream: the thread that accepted it would go on polling that.
type Accepted = (std::net::TcpStream, SocketAddr, Place);

async fn accept(port: std::net::TcpListener, workers: Vec<mpsc::Sender<Accepted>>, places: Places) {
    let listener = match TcpListener::from_std(port) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a client port cannot be served"),
    };
    let mut turn = 0;
    loop {
        let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        match accepted {
            Ok((stream, peer)) => {
                // Without a place it is closed at once: in a queue it would wait for its own deadline.
                let Ok(place) = places.take(peer) else { continue };
                turn = (turn + 1) % workers.len();
                if workers[turn].send((stream, peer, place)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Worker {
    taken: mpsc::Receiver<Accepted>,
    shared: Shared,
}

/// What connections share.
#[derive(Clone)]
struct Shared {
    security: Security,
    protocols: Protocols,
    bounds: Bounds,
    stop: CancellationToken,
}

impl Worker {
    async fn run(self) {
        let (tasks, (door, line)) = (TaskTracker::new(), door());
        let _timer = AbortOnDropHandle::new(tokio::spawn(keep_a_timer()));
        let stop = &self.shared.stop;
        let begin = |(stream, peer, place): Accepted| {
            let (door, shared) = (door.clone(), self.shared.clone());
            tasks.spawn_local(async move {
                // What panics here ends its connection, and no other.
                if let Ok(Err(error)) = contained(serve(stream, peer, door, shared)).await {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                drop(place);
            });
        };
        line.let_through(self.taken, stop, begin).await;
        tasks.close();
        tasks.wait().await;
    }
}

/// Keeps one timer due soon. tokio wakes a thread, by a write to a file and one more poll, for each new timer that is due
/// before all others, and every request has a deadline: with this timer, theirs never come first.
async fn keep_a_timer() {
    loop {
        tokio::time::sleep(TIMER_EVERY).await;
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(stream: std::net::TcpStream, peer: SocketAddr, door: Door, shared: Shared) -> Result<(), Failure> {
    let client = shared.bounds.budgets.client(peer);
    let mut stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let from = tokio::time::timeout(HANDSHAKE_TIMEOUT, proxy_header::take(&mut stream)).await??;
    let peer = from.unwrap_or(peer);
    let mut first = [0];
    if tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    match shared.security.tls.clone() {
        Some(tls) if first[0] == TLS_FIRST_BYTE => {
            let secure = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await??;
            // Its buffer has room for the one byte that is looked at: all else is read past it.
            let mut secure = BufReader::with_capacity(1, secure);
            let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, secure.fill_buf()).await??.first().copied();
            let Some(first) = first else { return Ok(()) };
            speak(first, door.of(secure), peer, client, shared).await
        }
        _ if shared.security.allows_plaintext => speak(first[0], door.of(stream), peer, client, shared).await,
        _ => Err("plaintext is not served on this port (tls.server.mode=enforcing)".into()),
    }
}

/// Serves the protocol that a connection begins with.
async fn speak(
    first: u8,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    client: Client,
    shared: Shared,
) -> Result<(), Failure> {
    let Shared { protocols, bounds, stop, .. } = shared;
    if CLASSIC_FIRST_BYTES.contains(&first) {
        return Ok(classic::serve(io, peer, client, protocols.classic, stop).await?);
    }
    let window = window(bounds.places.counts().open);
    connection(AuthorityRewriter::of(io), peer, client, window, protocols.grpc, stop).await
}

/// The window of one of so many connections.
fn window(open: u64) -> u32 {
    let share = u32::try_from(WINDOWS_BYTES / open.max(1)).unwrap_or(u32::MAX);
    share.clamp(WINDOW_BYTES_LEAST, CONNECTION_WINDOW_BYTES)
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    client: Client,
    window: u32,
    services: Services,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let peer = RemoteAddress { text: peer.to_string().into(), answers: Some(client.answers().clone()) };
    let of_requests = client.clone();
    let service = service_fn(move |request| unary::serve(services.clone(), peer.clone(), of_requests.clone(), request));
    let turn = Turn::default();
    let mut http = hyper::server::conn::http2::Builder::new(OnThisThread);
    http.timer(TokioTimer::new())
        // As gRPC's own servers: nobody reads it.
        .auto_date_header(false)
        .initial_stream_window_size(window.min(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(window)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(turn.of(io)), service);
    let mut connection = std::pin::pin!(connection);
    let mut takes_nothing = std::pin::pin!(client.takes_nothing());
    let given_up = || Err("the client takes none of its answers".into());
    tokio::select! {
        result = turn.run(connection.as_mut()) => return Ok(result?),
        () = takes_nothing.as_mut() => return given_up(),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        result = turn.run(connection) => Ok(result?),
        () = takes_nothing => given_up(),
    }
}

/// Runs a connection's requests where the connection is.
#[derive(Clone)]
struct OnThisThread;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, request: F) {
        tokio::task::spawn_local(contained(request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p20_windows_are_smaller_the_more_connections_there_are() {
        assert_eq!([1, 32, 33, 100_000].map(window), [4 << 20, 4 << 20, (128 << 20) / 33, WINDOW_BYTES_LEAST]);
        assert_eq!(window(0), CONNECTION_WINDOW_BYTES);
    }
}
