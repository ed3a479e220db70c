//! What every processor works with: the node and its shard, the settings, and the connection that asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::broker::{AnswerRoom, Broker, ClientInfo, InRoom, Operator};
use crate::edge::budgets::Client;
use crate::edge::remoting::commits::Commits;
use crate::edge::remoting::store_host::StoreHost;
use crate::edge::remoting::unpacking::Unpacking;
use crate::model::Millis;
use crate::node::{ConnectionNumber, Node, Notice};
use crate::proto::remoting::Header;

/// Notices that a connection has not passed on yet.
const CHANGES_MAX: usize = 256;

/// Pulls of a connection whose messages were read and are not with the client yet; all others wait with nothing in their hands.
const PULLS_READ_MAX: usize = 32;

/// Settings of the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotingSettings {
    /// `maxMessageSize`.
    pub body_bytes_max: usize,
    /// `timerMaxDelaySec`.
    pub delay_max: Millis,
    /// `autoCreateTopicEnable`; true for this protocol if nobody set it.
    pub creates_topics: bool,
    /// `defaultTopicQueueNums`.
    pub topic_queues: u32,
    /// `traceOn`: whether clients that would write traces do.
    pub traces: bool,
}

/// The protocol over a node. Cheap to clone.
#[derive(Clone)]
pub struct Remoting {
    pub(super) node: Arc<Node>,
    /// The node's shard.
    pub(super) broker: Arc<Broker>,
    pub(super) settings: Arc<RemotingSettings>,
    pub(super) store_host: Arc<StoreHost>,
    pub(super) commits: Arc<Commits>,
    pub(super) unpacking: Unpacking,
    connections: Arc<AtomicU64>,
}

/// A request on its connection.
pub(super) struct Request {
    pub header: Header,
    pub body: Bytes,
}

/// What the requests of one connection share.
pub(super) struct Connection {
    pub remoting: Remoting,
    pub number: ConnectionNumber,
    pub peer: SocketAddr,
    /// Takes what is to be said to its clients.
    pub changes: mpsc::Sender<Notice>,
    /// Cancelled when the connection ends or the node stops: what waits for messages ends then.
    pub ending: CancellationToken,
    /// What its client may hold of the node's memory.
    pub client: Client,
    /// For what pulls read, until the client takes it.
    pub room: AnswerRoom,
}

impl Remoting {
    pub fn new(node: Arc<Node>, settings: RemotingSettings) -> Self {
        Self {
            broker: node.broker().clone(),
            node,
            settings: Arc::new(settings),
            store_host: Arc::default(),
            commits: Arc::default(),
            unpacking: Unpacking::default(),
            connections: Arc::default(),
        }
    }

    /// Has the offsets that clients commit put into the log, until the node stops.
    pub async fn keep_commits(self) {
        self.commits.keep(self.broker, self.node.stopping().clone()).await;
    }

    /// A connection, with what is to be said to its clients.
    pub(super) fn connected(&self, peer: SocketAddr, client: Client) -> (Connection, mpsc::Receiver<Notice>) {
        let number = ConnectionNumber(self.connections.fetch_add(1, Ordering::Relaxed));
        let (changes, changed) = mpsc::channel(CHANGES_MAX);
        let places = Some(Arc::new(Semaphore::new(PULLS_READ_MAX)));
        let room = AnswerRoom { places, share: client.answers().clone() };
        let ending = self.node.stopping().child_token();
        (Connection { remoting: self.clone(), number, peer, changes, ending, client, room }, changed)
    }
}

impl Connection {
    /// Room for an answer that is no pull's.
    pub async fn room_of_one(&self) -> InRoom {
        AnswerRoom { places: None, share: self.client.answers().clone() }.enter().await
    }

    /// Who asks for what only operators ask for.
    pub fn operator(&self) -> Operator {
        Operator { address: self.peer.ip().to_string(), tool: "remoting".into() }
    }

    /// A client of this connection, as a header says it.
    pub fn client(&self, client_id: &str, header: &Header) -> ClientInfo {
        ClientInfo {
            client_id: client_id.to_owned(),
            language: header.language.name().to_owned(),
            version: header.version.to_string(),
            address: self.peer.to_string(),
        }
    }
}

impl Connection {
    /// It ends; its clients are in no group any more.
    pub fn ended(&self) {
        self.ending.cancel();
        self.remoting.node.heartbeat_clients().connection_ended(self.number);
        self.remoting.node.heartbeat_producers().connection_ended(self.number);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A heartbeat may have come in while it ended.
        self.ended();
    }
}
