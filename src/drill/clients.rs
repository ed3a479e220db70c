//! The clients of a drill: how they reach the nodes, and what all of their requests share.
//!
//! Every request goes to one node and is made once: a client that retried would hide what the node did.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Address, Endpoints};
use crate::drill::history::{Got, Phase, Recorder};
use crate::proto::admin;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;
use crate::proto::v2::receive_message_response::Content;

const CONNECT_WITHIN: Duration = Duration::from_millis(300);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(5);
const POLL_BATCH: i32 = 16;
/// The drill's messages are read again at its end.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Deliveries of a message to the group, before it is a dead letter.
pub(super) const ATTEMPTS_MAX: u32 = 4;

/// One node as clients see it.
#[derive(Clone)]
pub(super) struct Node {
    pub name: String,
    pub messaging: MessagingServiceClient<Channel>,
    pub admin: AdminClient<Channel>,
}

/// The clients of a drill. Made on the runtime that runs them.
#[derive(Clone)]
pub struct Clients {
    pub(super) nodes: Vec<Node>,
    /// Topic and group of the drill.
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) recorder: Arc<Recorder>,
    /// Half messages that were left open and about which nobody was asked yet.
    pub(super) open: Arc<Mutex<BTreeSet<String>>>,
    pub(super) gate: Gate,
}

/// Holds up the clients of a drill, and says who serves them. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Gate {
    /// Whoever writes holds everybody up: requests are made by readers.
    lock: Arc<RwLock<()>>,
    /// The number of the only node there is, after 0.
    only: Arc<AtomicUsize>,
}

impl Gate {
    /// Until requests may be made; none is in flight when it is closed.
    pub async fn open(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().await
    }

    /// Waits until no request is in flight; none is made until the guard is dropped.
    pub async fn close(&self) -> OwnedRwLockWriteGuard<()> {
        self.lock.clone().write_owned().await
    }

    /// From now on this node alone is asked.
    pub fn ask_only(&self, node: usize) {
        self.only.store(node + 1, Ordering::Relaxed);
    }
}

/// Where the nodes of the cluster behind an address serve clients, n0 first.
pub async fn nodes_behind(address: &Address) -> io::Result<Vec<Address>> {
    let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("{address}: {error}"));
    let channel = Endpoint::from_shared(format!("http://{address}")).map_err(|error| failed(&error))?.connect_lazy();
    let call = request(admin::ClusterStatusRequest {}, "nemesis", ANSWER_WITHIN);
    let status = AdminClient::new(channel).cluster_status(call).await.map_err(|status| failed(&status.message()))?;
    let mut nodes = status.into_inner().nodes;
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    let names: Vec<_> = nodes.iter().map(|node| node.node.as_str()).collect();
    if names != ["n0", "n1", "n2"] || nodes.iter().any(|node| node.role == "unreachable") {
        return Err(failed(&format!("a drill hurts the nodes n0, n1 and n2, all of them up; here are {names:?}")));
    }
    let parse = |node: admin::Node| Endpoints::parse(&node.address).map_err(|error| failed(&error));
    nodes.into_iter().map(|node| Ok(parse(node)?.addresses()[0].clone())).collect()
}

impl Clients {
    /// Connects when first used; `topic` names what is made for the drill.
    pub fn new(addresses: &[Address], topic: &str, recorder: Arc<Recorder>) -> Result<Self, tonic::transport::Error> {
        let mut nodes = Vec::new();
        for (number, address) in addresses.iter().enumerate() {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(CONNECT_WITHIN)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_timeout(Duration::from_secs(1))
                .keep_alive_while_idle(true);
            let channel = endpoint.connect_lazy();
            nodes.push(Node {
                name: format!("n{number}"),
                messaging: MessagingServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
                admin: AdminClient::new(channel),
            });
        }
        let group = format!("{topic}-group").into();
        Ok(Self { nodes, topic: topic.into(), group, recorder, open: Arc::default(), gate: Gate::default() })
    }

    /// The node whose turn it is.
    pub(super) fn node(&self, turn: usize) -> &Node {
        let only = self.gate.only.load(Ordering::Relaxed);
        let number = only.checked_sub(1).unwrap_or(turn % self.nodes.len());
        &self.nodes[number]
    }

    /// The leader, if one says that it leads and `count` nodes answer.
    pub async fn leader(&self, count: usize) -> Option<usize> {
        for node in &self.nodes {
            let call = request(admin::ClusterStatusRequest {}, "nemesis", Duration::from_secs(1));
            let Ok(status) = node.admin.clone().cluster_status(call).await else { continue };
            let status = status.into_inner();
            let answering = status.nodes.iter().filter(|node| node.role != "unreachable").count();
            let named = status.leader?.strip_prefix('n')?.parse().ok()?;
            return (answering >= count).then_some(named);
        }
        None
    }

    /// Makes the topic and the group.
    pub async fn create_topic_and_group(&self) -> Result<(), tonic::Status> {
        let (mut admin, within) = (self.nodes[0].admin.clone(), Duration::from_secs(5));
        let create = admin::CreateTopicRequest {
            name: self.topic.to_string(),
            r#type: "MIXED".to_owned(),
            queues: 4,
            retention_ms: KEPT_MS,
        };
        admin.create_topic(request(create, "nemesis", within)).await?;
        let create = admin::CreateGroupRequest {
            name: self.group.to_string(),
            retries_max: Some(ATTEMPTS_MAX - 1),
            consume_from: "first".to_owned(),
            ..Default::default()
        };
        admin.create_group(request(create, "nemesis", within)).await.map(drop)
    }

    /// Has the group's dead letters kept as long as the messages, if there are any yet.
    pub async fn keep_dead_letters(&self) {
        let name = format!("%DLQ%{}", self.group);
        for node in &self.nodes {
            let update =
                admin::UpdateTopicRequest { name: name.clone(), retention_ms: Some(KEPT_MS), ..Default::default() };
            if node.admin.clone().update_topic(request(update, "nemesis", ANSWER_WITHIN)).await.is_ok() {
                break;
            }
        }
    }

    /// The group that reads everything from one node.
    pub(super) fn auditor(&self, node: &Node) -> String {
        format!("{}-audit-{}", self.topic, node.name)
    }

    /// Removes what was made for the drill.
    pub async fn clean_up(&self) -> Result<(), tonic::Status> {
        let mut admin = self.nodes[0].admin.clone();
        let within = Duration::from_secs(5);
        let topic = admin::DeleteTopicRequest { name: self.topic.to_string() };
        admin.delete_topic(request(topic, "nemesis", within)).await?;
        let dead_letters = admin::DeleteTopicRequest { name: format!("%DLQ%{}", self.group) };
        match admin.delete_topic(request(dead_letters, "nemesis", within)).await {
            Err(status) if status.code() != tonic::Code::NotFound => return Err(status),
            _ => {}
        }
        for name in self.nodes.iter().map(|node| self.auditor(node)).chain([self.group.to_string()]) {
            match admin.delete_group(request(admin::DeleteGroupRequest { name }, "nemesis", within)).await {
                Err(status) if status.code() != tonic::Code::NotFound => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }
}

pub(super) fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

pub(super) fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

pub(super) fn request<T>(message: T, client: &str, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("x-mq-client-id", client), ("x-mq-language", "RUST"), ("x-mq-client-version", "5.0.7")] {
        if let Ok(value) = value.parse() {
            request.metadata_mut().insert(name, value);
        }
    }
    request.set_timeout(within);
    request
}

/// What a code says of the fate: certainly not done, or unknown.
pub(super) fn failure(code: Code) -> Phase {
    let is_definite = matches!(code, Code::HaNotAvailable) || (40_000..50_000).contains(&(code as i32));
    if is_definite { Phase::Fail } else { Phase::Info }
}

/// What an answer says of the outcome.
pub(super) fn outcome(code: Result<Code, tonic::Status>) -> (Phase, Option<i32>) {
    match code {
        Ok(Code::Ok) => (Phase::Ok, Some(Code::Ok as i32)),
        Ok(code) => (failure(code), Some(code as i32)),
        Err(_) => (Phase::Info, None),
    }
}

pub(super) fn got(message: &v2::Message) -> Got {
    let system = message.system_properties.clone().unwrap_or_default();
    Got {
        mid: system.message_id,
        q: u32::try_from(system.queue_id).unwrap_or(u32::MAX),
        off: system.queue_offset.and_then(|offset| u64::try_from(offset).ok()).unwrap_or(u64::MAX),
        att: system.delivery_attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0),
        h: hash(&message.body),
    }
}

/// One long poll: its messages, and whether the answer was whole.
pub(super) async fn poll(
    node: &Node,
    client: &str,
    topic: &str,
    group: &str,
    lease: Duration,
) -> Result<(Vec<v2::Message>, bool), Phase> {
    let receive = v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(v2::MessageQueue { topic: Some(resource(topic)), id: -1, ..Default::default() }),
        batch_size: POLL_BATCH,
        invisible_duration: Some(duration(lease)),
        long_polling_timeout: Some(duration(POLL)),
        ..Default::default()
    };
    let answer = node.messaging.clone().receive_message(request(receive, client, POLL + ANSWER_WITHIN)).await;
    let mut items = answer.map_err(|_| Phase::Info)?.into_inner();
    let mut messages = Vec::new();
    loop {
        match items.message().await {
            Ok(Some(item)) => match item.content {
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::Status(status)) => match status.code() {
                    Code::Ok | Code::MessageNotFound => {}
                    code => return Err(failure(code)),
                },
                Some(Content::DeliveryTimestamp(_)) | None => {}
            },
            Ok(None) => return Ok((messages, true)),
            Err(_) => return Ok((messages, false)),
        }
    }
}
