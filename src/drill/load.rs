//! What clients do during a drill, and what they hear: senders on a schedule, consumers that ack, give back,
//! forget or dawdle, an operator who looks at the offsets, and the audit at the end.
//!
//! Every request goes to one node and is made once: a client that retried would hide what the node did.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Address, Endpoints};
use crate::drill::history::{Event, Got, Offsets, OperationKind, Phase, Recorder};
use crate::proto::admin;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;
use crate::proto::v2::receive_message_response::Content;

const CONNECT_WITHIN: Duration = Duration::from_millis(300);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Shortest lease the protocol allows.
const LEASE: Duration = Duration::from_secs(10);
const AUDIT_LEASE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_secs(5);
const POLL_BATCH: i32 = 16;
const CONSUMERS_PER_NODE: usize = 2;
const PAUSE: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Sends under way at most; beyond it the schedule waits.
const SENDS_MAX: usize = 4096;
const AUDIT_WITHIN: Duration = Duration::from_secs(60);

/// One node as clients see it.
#[derive(Clone)]
struct Node {
    name: String,
    messaging: MessagingServiceClient<Channel>,
    admin: AdminClient<Channel>,
}

/// The clients of a drill. Made on the runtime that runs them.
#[derive(Clone)]
pub struct Clients {
    nodes: Vec<Node>,
    /// Topic and group of the drill.
    topic: Arc<str>,
    group: Arc<str>,
    recorder: Arc<Recorder>,
    sent: Arc<AtomicU64>,
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

fn request<T>(message: T, client: &str, within: Duration) -> Request<T> {
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
fn failure(code: Code) -> Phase {
    let is_definite = matches!(code, Code::HaNotAvailable) || (40_000..50_000).contains(&(code as i32));
    if is_definite { Phase::Fail } else { Phase::Info }
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
        Ok(Self { nodes, topic: topic.into(), group, recorder, sent: Arc::default() })
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

    /// Makes the topic.
    pub async fn create_topic(&self) -> Result<(), tonic::Status> {
        let create = admin::CreateTopicRequest { name: self.topic.to_string(), r#type: "NORMAL".to_owned(), queues: 4 };
        let call = request(create, "nemesis", Duration::from_secs(5));
        self.nodes[0].admin.clone().create_topic(call).await.map(|_| ())
    }

    fn auditor(&self, node: &Node) -> String {
        format!("{}-audit-{}", self.topic, node.name)
    }

    /// Removes what was made for the drill.
    pub async fn clean_up(&self) -> Result<(), tonic::Status> {
        let mut admin = self.nodes[0].admin.clone();
        let within = Duration::from_secs(5);
        let topic = admin::DeleteTopicRequest { name: self.topic.to_string() };
        admin.delete_topic(request(topic, "nemesis", within)).await?;
        for name in self.nodes.iter().map(|node| self.auditor(node)).chain([self.group.to_string()]) {
            match admin.delete_group(request(admin::DeleteGroupRequest { name }, "nemesis", within)).await {
                Err(status) if status.code() != tonic::Code::NotFound => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends `rate` messages a second, nodes taking turns, until told to end; waits for the last answers.
    pub async fn produce(&self, rate: u32, end: CancellationToken) {
        let started = Instant::now();
        let free: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut lanes = 0;
        let mut sends = JoinSet::new();
        for number in 0u64.. {
            let at = started + Duration::from_micros(number * 1_000_000 / u64::from(rate));
            if end.run_until_cancelled(tokio::time::sleep_until(at)).await.is_none() {
                break;
            }
            while sends.try_join_next().is_some() {}
            if sends.len() >= SENDS_MAX {
                sends.join_next().await;
            }
            // A producer sends one message after the other; one that waits is no help to the schedule.
            let lane = free.lock().pop().unwrap_or_else(|| {
                lanes += 1;
                lanes - 1
            });
            let (own, free) = (self.clone(), free.clone());
            sends.spawn_local(async move {
                own.send(&format!("prod-{lane}"), number).await;
                free.lock().push(lane);
            });
        }
        while sends.join_next().await.is_some() {}
    }

    async fn send(&self, producer: &str, number: u64) {
        let node = &self.nodes[number as usize % self.nodes.len()];
        let mid = format!("01D{:013X}{:016X}", hash(producer.as_bytes()) >> 12, number);
        let body = format!("{mid}/{}", "x".repeat((number % 7 * 150) as usize));
        let asked = self.recorder.record(Event {
            node: Some(node.name.clone()),
            mid: Some(mid.clone()),
            h: Some(hash(body.as_bytes())),
            ..Event::new(producer, Phase::Inv, OperationKind::Send)
        });
        let message = v2::Message {
            topic: Some(resource(&self.topic)),
            user_properties: BTreeMap::new(),
            system_properties: Some(v2::SystemProperties { message_id: mid, ..Default::default() }),
            body: body.into(),
        };
        let call = request(v2::SendMessageRequest { messages: vec![message] }, producer, ANSWER_WITHIN);
        let (ph, code, off) = match node.messaging.clone().send_message(call).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let code = answer.status.as_ref().map_or(Code::Unspecified, |status| status.code());
                let off = answer.entries.first().and_then(|entry| u64::try_from(entry.offset).ok());
                match code {
                    Code::Ok => (Phase::Ok, Some(code as i32), off),
                    code => (failure(code), Some(code as i32), None),
                }
            }
            // Below the protocol nobody can tell how far it came.
            Err(_) => (Phase::Info, None, None),
        };
        if ph == Phase::Ok {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        self.recorder.record(Event { of: Some(asked), code, off, ..Event::new(producer, ph, OperationKind::Send) });
    }

    /// Receives and settles until told to end.
    pub async fn consume(&self, end: CancellationToken) {
        let mut tasks = JoinSet::new();
        for number in 0..self.nodes.len() * CONSUMERS_PER_NODE {
            let (own, end) = (self.clone(), end.clone());
            tasks.spawn_local(async move { own.consumer(number, end).await });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn consumer(&self, number: usize, end: CancellationToken) {
        let name = format!("cons-{number}");
        let node = &self.nodes[number % self.nodes.len()];
        let mut late = JoinSet::new();
        while !end.is_cancelled() {
            let asked = self.recorder.record(Event {
                node: Some(node.name.clone()),
                group: Some(self.group.to_string()),
                inv_ms: Some(LEASE.as_millis() as u64),
                ..Event::new(&name, Phase::Inv, OperationKind::Recv)
            });
            let polled = poll(node, &name, &self.topic, &self.group, LEASE).await;
            let event = |ph, msgs| Event { of: Some(asked), msgs, ..Event::new(&name, ph, OperationKind::Recv) };
            match polled {
                Ok((messages, true)) => {
                    self.recorder.record(event(Phase::Ok, messages.iter().map(got).collect()));
                    for message in messages {
                        self.settle(node, &name, message, &mut late).await;
                    }
                }
                // A stream that broke may have brought some of its messages.
                Ok((messages, false)) => {
                    self.recorder.record(event(Phase::Info, messages.iter().map(got).collect()));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(ph) => {
                    self.recorder.record(event(ph, Vec::new()));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        while late.join_next().await.is_some() {}
    }

    /// Most are acked at once; some are given back, some left to their lease, some acked late. What comes
    /// again is acked.
    async fn settle(&self, node: &Node, name: &str, message: v2::Message, late: &mut JoinSet<()>) {
        let got = got(&message);
        let handle = message.system_properties.and_then(|system| system.receipt_handle).unwrap_or_default();
        match hash(got.mid.as_bytes()) % 100 {
            0..5 if got.att == 1 => self.give_back(node, name, got.mid, handle).await,
            5..8 if got.att == 1 => {}
            8..16 if got.att == 1 => {
                let (own, node, name) = (self.clone(), node.clone(), name.to_owned());
                late.spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    own.ack(&node, &name, got.mid, handle).await;
                });
            }
            _ => self.ack(node, name, got.mid, handle).await,
        }
    }

    async fn ack(&self, node: &Node, name: &str, mid: String, receipt_handle: String) {
        let head =
            |ph, f| Event { group: Some(self.group.to_string()), mid: Some(mid.clone()), ..Event::new(name, ph, f) };
        let asked =
            self.recorder.record(Event { node: Some(node.name.clone()), ..head(Phase::Inv, OperationKind::Ack) });
        let entry = v2::AckMessageEntry { message_id: mid.clone(), receipt_handle, lite_topic: None };
        let ack = v2::AckMessageRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            entries: vec![entry],
        };
        let answer = node.messaging.clone().ack_message(request(ack, name, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let event = told(code);
        self.recorder.record(Event { of: Some(asked), code: event.1, ..head(event.0, OperationKind::Ack) });
    }

    async fn give_back(&self, node: &Node, name: &str, mid: String, receipt_handle: String) {
        let head = |ph| Event {
            group: Some(self.group.to_string()),
            mid: Some(mid.clone()),
            ..Event::new(name, ph, OperationKind::Renew)
        };
        let asked =
            self.recorder.record(Event { node: Some(node.name.clone()), inv_ms: Some(1000), ..head(Phase::Inv) });
        let change = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            receipt_handle,
            invisible_duration: Some(duration(Duration::from_secs(1))),
            message_id: mid.clone(),
            ..Default::default()
        };
        let answer = node.messaging.clone().change_invisible_duration(request(change, name, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let event = told(code);
        self.recorder.record(Event { of: Some(asked), code: event.1, ..head(event.0) });
    }

    /// Looks at the offsets, nodes taking turns, until told to end.
    pub async fn look(&self, end: CancellationToken) {
        let mut turn = 0;
        while end.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            turn += 1;
            self.offsets(turn % self.nodes.len()).await;
        }
    }

    /// The offsets as a node tells them; also how many messages the group has not settled.
    async fn offsets(&self, node: usize) -> Option<(BTreeMap<u32, Offsets>, u64)> {
        let node = &self.nodes[node];
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new("operator", ph, OperationKind::QueryOff) };
        let asked = self.recorder.record(head(Phase::Inv));
        let describe = admin::DescribeGroupRequest { name: self.group.to_string() };
        let answer = node.admin.clone().describe_group(request(describe, "operator", ANSWER_WITHIN)).await;
        let Ok(answer) = answer else {
            self.recorder.record(Event { of: Some(asked), ..head(Phase::Info) });
            return None;
        };
        let positions = answer.into_inner().positions;
        let lag = positions.iter().map(|position| position.lag).sum();
        let offsets = |position: &admin::GroupPosition| {
            (position.queue, Offsets { max: position.max_offset, group: position.group_offset })
        };
        let offs: BTreeMap<u32, Offsets> = positions.iter().map(offsets).collect();
        self.recorder.record(Event { of: Some(asked), offs: offs.clone(), ..head(Phase::Ok) });
        Some((offs, lag))
    }

    /// Waits until the group has settled everything; false if it does not come to that.
    pub async fn drained(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut turn = 0;
        while Instant::now() < until {
            turn += 1;
            if self.offsets(turn % self.nodes.len()).await.is_some_and(|(_, lag)| lag == 0) {
                self.recorder.record(Event::new("operator", Phase::Ok, OperationKind::Drained));
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.recorder.record(Event::new("operator", Phase::Info, OperationKind::Drained));
        false
    }

    /// Reads everything these replicas have, each from its own log.
    pub async fn audit(&self, running: &[usize]) {
        let mut audits = JoinSet::new();
        for node in running.iter().map(|node| self.nodes[*node].clone()) {
            let own = self.clone();
            audits.spawn_local(async move { own.audit_of(&node).await });
        }
        while audits.join_next().await.is_some() {}
    }

    async fn audit_of(&self, node: &Node) {
        let name = self.auditor(node);
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new(&name, ph, OperationKind::Audit) };
        let asked = self.recorder.record(head(Phase::Inv));
        let until = Instant::now() + AUDIT_WITHIN;
        let mut msgs = Vec::new();
        let is_whole = loop {
            let describe = admin::DescribeTopicRequest { name: self.topic.to_string() };
            let described = node.admin.clone().describe_topic(request(describe, &name, ANSWER_WITHIN)).await;
            let stored = described.ok().and_then(|answer| answer.into_inner().topic).map(|topic| topic.messages);
            if stored.is_some_and(|stored| stored <= msgs.len() as u64) {
                break true;
            }
            if Instant::now() >= until {
                break false;
            }
            while let Ok((messages, true)) = poll(node, &name, &self.topic, &name, AUDIT_LEASE).await {
                if messages.is_empty() {
                    break;
                }
                msgs.extend(messages.iter().map(got));
                if stored.is_some_and(|stored| stored <= msgs.len() as u64) {
                    break;
                }
            }
        };
        let ph = if is_whole { Phase::Ok } else { Phase::Info };
        self.recorder.record(Event { of: Some(asked), msgs, ..head(ph) });
    }
}

fn told(code: Result<Code, tonic::Status>) -> (Phase, Option<i32>) {
    match code {
        Ok(Code::Ok) => (Phase::Ok, Some(Code::Ok as i32)),
        Ok(code) => (failure(code), Some(code as i32)),
        Err(_) => (Phase::Info, None),
    }
}

fn got(message: &v2::Message) -> Got {
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
async fn poll(
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
