//! The ports of a name server: takes connections, and forgets what does not hold any more.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::namesrv::connection::{IDLE_MAX, serve};
use crate::namesrv::table::{ConnectionNumber, Table};

/// Open connections; more wait until one ends.
const CONNECTIONS_MAX: usize = 10_000;
/// Pause after a failed accept (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// A TLS handshake must be done in this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A frame begins with 0 or 1.
const TLS_FIRST_BYTE: u8 = 0x16;

/// One name server.
pub struct NameServer {
    table: Mutex<Table>,
    /// Its configuration, as tools see it.
    settings: String,
    connections_max: usize,
    /// For clients that speak it; others are served in plaintext on the same port.
    tls: Option<Arc<ServerConfig>>,
}

impl NameServer {
    pub fn new(settings: String) -> Self {
        Self { table: Mutex::default(), settings, connections_max: CONNECTIONS_MAX, tls: None }
    }

    /// `orderMessageEnable`: routes say what tools said of the order of topics.
    pub fn showing_order(self) -> Self {
        self.table.lock().shows_order = true;
        self
    }

    /// Clients may speak TLS.
    pub fn speaking_tls(self, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { tls, ..self }
    }

    /// Serves a bound port until it is dropped; within a tokio runtime.
    pub async fn serve(self: Arc<Self>, port: TcpListener) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(port)?;
        let room = Arc::new(Semaphore::new(self.connections_max));
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
        let mut first = [0];
        if timeout(IDLE_MAX, stream.peek(&mut first)).await?? == 0 {
            return Ok(());
        }
        match &self.tls {
            Some(tls) if first[0] == TLS_FIRST_BYTE => {
                let accepting = TlsAcceptor::from(tls.clone()).accept(stream);
                let secure = timeout(HANDSHAKE_TIMEOUT, accepting).await??;
                serve(secure, IDLE_MAX, &self.table, &self.settings, number).await
            }
            _ => serve(stream, IDLE_MAX, &self.table, &self.settings, number).await,
        }
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

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::proto::remoting::registration::{NodeReport, Registration};
    use crate::proto::remoting::{FRAME_BYTES_MAX, Fields, Frame, Header, HeaderType, RequestCode};

    async fn ask(client: &mut TcpStream, code: RequestCode, body: Vec<u8>) -> Frame {
        let header = Header::request(code as i32, 1, Fields::default());
        let asked = Frame { header_type: HeaderType::Json, header, body: Bytes::from(body) };
        client.write_all(&asked.encode().unwrap()).await.unwrap();
        let mut read = BytesMut::new();
        loop {
            if let Some(frame) = Frame::take(&mut read, FRAME_BYTES_MAX).unwrap() {
                return frame;
            }
            assert!(client.read_buf(&mut read).await.unwrap() > 0);
        }
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_the_end_of_another_and_a_report_ends_with_its_own() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        port.set_nonblocking(true).unwrap();
        let address = port.local_addr().unwrap();
        let server = Arc::new(NameServer { connections_max: 1, ..NameServer::new(String::new()) });
        let _serving = AbortOnDropHandle::new(tokio::spawn(server.clone().serve(port)));
        let mut first = TcpStream::connect(address).await.unwrap();
        let report = NodeReport {
            cluster: "C".into(),
            broker_name: "b".into(),
            member: "n0".into(),
            address: "a:1".into(),
            ..NodeReport::default()
        };
        let body = serde_json::to_vec(&Registration { raftmq: Some(report), ..Registration::default() }).unwrap();
        assert_eq!(ask(&mut first, RequestCode::RegisterBroker, body).await.header.code, 0);
        assert_eq!(server.table.lock().nodes_count(), 1);
        let mut second = TcpStream::connect(address).await.unwrap();
        let asked = ask(&mut second, RequestCode::GetBrokerClusterInfo, Vec::new());
        let mut asked = std::pin::pin!(asked);
        assert!(timeout(Duration::from_millis(200), &mut asked).await.is_err(), "there is no room for it");
        drop(first);
        let clusters = asked.await;
        assert_eq!(clusters.body, r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#.as_bytes());
    }
}
