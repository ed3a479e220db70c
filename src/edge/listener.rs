//! The client ports: accepts connections, tells TLS from plaintext by the first byte, and serves HTTP/2
//! on current-thread runtimes, connections taking turns (D22).
//!
//! tonic's services are called from hyper's connections directly; tonic's own transport is not used.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::service::Routes;
use tower::ServiceExt;

use super::authority::Mended;

/// Open connections of one node.
const CONNECTIONS_MAX: usize = 10_000;
/// Connections accepted and not yet taken by their thread.
const ACCEPTED_MAX: usize = 1024;
/// Time for the first byte and the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Every waiting poll is an open stream.
const STREAMS_MAX: u32 = 10_000;
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const TLS_FIRST_BYTE: u8 = 0x16;
/// How often a front-end thread looks up though nothing happens; shorter than what requests wait for.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Peer(pub Arc<str>);

/// What the ports speak.
#[derive(Clone)]
pub struct Security {
    /// TLS, if it is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether plaintext is served too.
    pub allows_plaintext: bool,
}

/// The front end: its threads and ports.
pub struct FrontEnd {
    threads: Vec<std::thread::JoinHandle<()>>,
    stop: CancellationToken,
}

/// Binds a port, so that a port in use is known before anything starts.
pub fn bind(host: &str, port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((host, port))
        .map_err(|error| io::Error::new(error.kind(), format!("{host}:{port}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl FrontEnd {
    /// Serves on bound ports with `threads` threads.
    pub fn start(
        ports: Vec<std::net::TcpListener>,
        threads: usize,
        security: Security,
        routes: Routes,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut workers = Vec::new();
        let mut handles = Vec::new();
        for number in 0..threads {
            let (connections, taken) = mpsc::channel(ACCEPTED_MAX);
            workers.push(connections);
            let worker = Worker { taken, security: security.clone(), routes: routes.clone(), stop: stop.clone() };
            let name = format!("front-end-{number}");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || runtime.block_on(worker.run());
            handles.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        let (accept_stop, runtime) =
            (stop.clone(), tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        let accept = move || {
            runtime.block_on(async {
                let tasks = TaskTracker::new();
                for port in ports {
                    let accepting = accept(port, workers.clone(), room.clone());
                    tasks.spawn(accept_stop.clone().run_until_cancelled_owned(accepting));
                }
                tasks.close();
                tasks.wait().await;
            });
        };
        handles.push(std::thread::Builder::new().name("accept".to_owned()).spawn(accept)?);
        Ok(Self { threads: handles, stop })
    }

    /// Takes no more requests and gives those under way until `limit`. Blocks.
    pub fn stop(self, limit: Duration) {
        self.stop.cancel();
        let until = std::time::Duration::ZERO + limit;
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while waited < until && self.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(step);
            waited += step;
        }
    }
}

/// A connection between the threads: a tokio stream would go on being polled by the thread that accepted it.
type Accepted = (std::net::TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(port: std::net::TcpListener, workers: Vec<mpsc::Sender<Accepted>>, room: Arc<Semaphore>) {
    let listener = match TcpListener::from_std(port) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a client port cannot be served"),
    };
    let mut turn = 0;
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        match accepted {
            Ok((stream, peer)) => {
                turn = (turn + 1) % workers.len();
                if workers[turn].send((stream, peer, permit)).await.is_err() {
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
    security: Security,
    routes: Routes,
    stop: CancellationToken,
}

impl Worker {
    async fn run(mut self) {
        let tasks = TaskTracker::new();
        let _looking_up = AbortOnDropHandle::new(tokio::spawn(look_up()));
        while let Some(Some((stream, peer, permit))) = self.stop.run_until_cancelled(self.taken.recv()).await {
            let (security, routes, stop) = (self.security.clone(), self.routes.clone(), self.stop.clone());
            tasks.spawn(async move {
                if let Err(error) = serve(stream, peer, security, routes, stop).await {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                drop(permit);
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// Every request has a deadline. tokio wakes a thread, by a write to a file and one more look at what has come, for
/// each timer that is due before all others: as long as this one is, none of theirs is.
async fn look_up() {
    loop {
        tokio::time::sleep(LOOK_UP_EVERY).await;
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: std::net::TcpStream,
    peer: SocketAddr,
    security: Security,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let mut first = [0];
    if tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    match security.tls {
        Some(tls) if first[0] == TLS_FIRST_BYTE => {
            let secure = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await??;
            connection(TokioIo::new(Mended::new(secure)), peer, routes, stop).await
        }
        _ if security.allows_plaintext => connection(TokioIo::new(Mended::new(stream)), peer, routes, stop).await,
        _ => Err("plaintext is not served on this port (tls.server.mode=enforcing)".into()),
    }
}

async fn connection<I>(io: I, peer: SocketAddr, routes: Routes, stop: CancellationToken) -> Result<(), Failure>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let peer: Arc<str> = peer.to_string().into();
    let service = routes.prepare().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer.clone()));
        request.map(tonic::body::Body::new)
    });
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let mut connection = std::pin::pin!(http.serve_connection(io, TowerToHyperService::new(service)));
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
