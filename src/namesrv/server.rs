//! The ports of a name server: takes connections, and forgets what does not hold any more.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::namesrv::connection::{IDLE_MAX, serve};
use crate::namesrv::table::{ConnectionNumber, Table};

/// Open connections; more wait until one ends.
const CONNECTIONS_MAX: usize = 10_000;
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// One name server.
pub struct NameServer {
    table: Mutex<Table>,
    /// Its configuration, as tools see it.
    settings: String,
}

impl NameServer {
    pub fn new(settings: String) -> Self {
        Self { table: Mutex::default(), settings }
    }

    /// Serves a bound port until it is dropped; within a tokio runtime.
    pub async fn serve(self: Arc<Self>, port: TcpListener) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(port)?;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = TaskTracker::new();
        let mut number: ConnectionNumber = 0;
        let mut expiring = tokio::time::interval(EXPIRE_EVERY);
        loop {
            let permit = room.clone().acquire_owned();
            let accepted = async {
                let permit = permit.await.expect("it is never closed");
                (listener.accept().await, permit)
            };
            tokio::select! {
                _ = expiring.tick() => {
                    let gone = self.table.lock().expire(Instant::now());
                    gone.iter().for_each(|node| tracing::warn!(node, "a broker reported nothing for two minutes: it is left out"));
                }
                (accepted, permit) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        number += 1;
                        let (server, number) = (self.clone(), number);
                        connections.spawn(async move {
                            if let Err(error) = server.served(stream, number).await {
                                tracing::debug!(%peer, %error, "connection ended");
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn served(&self, stream: TcpStream, number: ConnectionNumber) -> std::io::Result<()> {
        let _ended = Ended { server: self, number };
        stream.set_nodelay(true)?;
        serve(stream, IDLE_MAX, &self.table, &self.settings, number).await
    }
}

/// A connection, at whose end what was reported over it holds no more, however it ends.
struct Ended<'a> {
    server: &'a NameServer,
    number: ConnectionNumber,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let gone = self.server.table.lock().connection_ended(self.number);
        gone.iter().for_each(|node| tracing::info!(node, "the connection of a broker ended: it is left out"));
    }
}
