//! A real cluster: three processes of the real binary on free ports of this machine, in a temporary
//! folder, gone when the test ends.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::messaging_service_client::MessagingServiceClient;
use tonic::transport::{Channel, Endpoint};

pub const BINARY: &str = env!("CARGO_BIN_EXE_raftmq");
const START_TIMEOUT: Duration = Duration::from_secs(30);
const END_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Cluster {
    folder: tempfile::TempDir,
    nodes: BTreeMap<usize, Option<Child>>,
    ports: Vec<Ports>,
    settings: Vec<String>,
}

#[derive(Clone, Copy)]
struct Ports {
    grpc: u16,
    listen: u16,
    peer: u16,
}

/// Ports that are free now, held together until all are known so that none comes twice.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

impl Cluster {
    /// Three nodes with a leader.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further settings.
    pub fn start_with(settings: &[&str]) -> Self {
        let free = free_ports(9);
        let ports = free.chunks(3).map(|ports| Ports { grpc: ports[0], listen: ports[1], peer: ports[2] }).collect();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut cluster = Self { folder: tempfile::tempdir().unwrap(), nodes: BTreeMap::new(), ports, settings };
        for node in 0..3 {
            cluster.start_node(node);
        }
        cluster.wait_for_leader();
        cluster
    }

    /// `dLegerPeers` of these nodes.
    pub fn peers(&self, nodes: &[usize]) -> String {
        let peer = |node: &usize| format!("n{node}-127.0.0.1:{}", self.ports[*node].peer);
        format!("dLegerPeers={}", nodes.iter().map(peer).collect::<Vec<_>>().join(";"))
    }

    pub fn start_node(&mut self, node: usize) {
        self.start_node_with(node, &[]);
    }

    /// Starts a node with settings of its own beside the others.
    pub fn start_node_with(&mut self, node: usize, own: &[&str]) {
        let ports = self.ports[node];
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder.path().join(format!("n{node}.log")));
        let settings = [
            "brokerClusterName=TestCluster".to_owned(),
            "brokerName=Test00".to_owned(),
            "bindAddress=127.0.0.1".to_owned(),
            self.peers(&[0, 1, 2]),
            format!("dLegerSelfId=n{node}"),
            format!("grpcServerPort={}", ports.grpc),
            format!("listenPort={}", ports.listen),
            format!("storePathRootDir={}", self.folder.path().join(format!("n{node}")).display()),
            "mappedFileSizeCommitLog=1MiB".to_owned(),
        ];
        let mut command = Command::new(BINARY);
        command.arg("broker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        for setting in settings.iter().chain(&self.settings).map(String::as_str).chain(own.iter().copied()) {
            command.args(["-D", setting]);
        }
        self.nodes.insert(node, Some(command.spawn().unwrap()));
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes.get_mut(&node).and_then(Option::take) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, node: usize, signal: &str) {
        let child = self.nodes[&node].as_ref().unwrap();
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Removes what a stopped node has on disk.
    pub fn wipe(&self, node: usize) {
        std::fs::remove_dir_all(self.folder_of(node)).unwrap();
    }

    /// Waits for a node that is to end by itself; its exit code.
    pub fn wait_for_end(&mut self, node: usize) -> Option<i32> {
        let mut child = self.nodes.get_mut(&node).and_then(Option::take).unwrap();
        let until = Instant::now() + END_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() >= until {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("n{node} did not end in {END_TIMEOUT:?}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The data folder of a node.
    pub fn folder_of(&self, node: usize) -> String {
        self.folder.path().join(format!("n{node}")).display().to_string()
    }

    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node].grpc)
    }

    /// The port RocketMQ calls `listenPort`.
    pub fn listen_address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node].listen)
    }

    pub fn endpoints(&self) -> String {
        (0..self.ports.len()).map(|node| self.address(node)).collect::<Vec<_>>().join(";")
    }

    /// Runs the binary against the cluster.
    pub fn raftmq(&self, args: &[&str]) -> Output {
        Command::new(BINARY).args(["-n", &self.endpoints()]).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs the binary, which must succeed; its stdout.
    pub fn raftmq_ok(&self, args: &[&str]) -> String {
        let output = self.raftmq(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "raftmq {args:?}: {:?}\n{stderr}", output.status.code());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The leader as some living node knows it.
    pub fn leader(&self) -> Option<usize> {
        let output = self.raftmq(&["-o", "json", "--timeout", "1s", "cluster", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let name = status["leader"].as_str()?.strip_prefix('n')?.parse().ok()?;
        // A node that just died may still be named.
        self.nodes.get(&name)?.as_ref().map(|_| name)
    }

    pub fn wait_for_leader(&self) -> usize {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(leader) = self.leader() {
                return leader;
            }
            assert!(Instant::now() < until, "no leader in {START_TIMEOUT:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything a node logged.
    pub fn log_of(&self, node: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("n{node}.log"))).unwrap_or_default()
    }

    /// The last lines of every node's log, for failures.
    pub fn logs(&self) -> String {
        let read = |node: &usize| {
            let text = self.log_of(*node);
            let lines: Vec<_> = text.lines().filter(|line| !line.contains("config key")).collect();
            format!("--- n{node}\n{}\n", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        self.nodes.keys().map(read).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.ports.len() {
            self.kill(node);
        }
    }
}

/// A plain gRPC client of one node, with the headers every official client sends.
#[derive(Clone)]
pub struct Wire {
    client: MessagingServiceClient<Channel>,
    client_id: String,
}

impl Wire {
    pub fn connect(address: &str, client_id: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.connect_timeout(Duration::from_millis(200)).tcp_nodelay(true);
        Self::over(endpoint.connect_lazy(), client_id)
    }

    /// Over a connection made otherwise.
    pub fn over(channel: Channel, client_id: &str) -> Self {
        let client = MessagingServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        Self { client, client_id: client_id.to_owned() }
    }

    pub fn request<T>(&self, message: T, timeout: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in
            [("x-mq-client-id", self.client_id.as_str()), ("x-mq-language", "RUST"), ("x-mq-client-version", "5.0.3")]
        {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request.set_timeout(timeout);
        request
    }

    pub async fn send(
        &self,
        messages: Vec<v2::Message>,
        timeout: Duration,
    ) -> Result<v2::SendMessageResponse, tonic::Status> {
        let request = self.request(v2::SendMessageRequest { messages }, timeout);
        Ok(self.client.clone().send_message(request).await?.into_inner())
    }

    /// The status and the messages of one poll.
    pub async fn receive(
        &self,
        group: &str,
        topic: &str,
        batch: i32,
        wait: Duration,
    ) -> Result<(v2::Status, Vec<v2::Message>), tonic::Status> {
        let request = v2::ReceiveMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(v2::MessageQueue { topic: Some(resource(topic)), ..Default::default() }),
            batch_size: batch,
            invisible_duration: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            long_polling_timeout: Some(prost_types::Duration { seconds: wait.as_secs() as i64, nanos: 0 }),
            ..Default::default()
        };
        self.receive_with(request, wait + Duration::from_secs(3)).await
    }

    pub async fn receive_with(
        &self,
        request: v2::ReceiveMessageRequest,
        timeout: Duration,
    ) -> Result<(v2::Status, Vec<v2::Message>), tonic::Status> {
        use v2::receive_message_response::Content;
        let request = self.request(request, timeout);
        let mut items = self.client.clone().receive_message(request).await?.into_inner();
        let (mut status, mut messages) = (None, Vec::new());
        while let Some(item) = items.message().await? {
            match item.content {
                Some(Content::Status(first)) => status = Some(first),
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::DeliveryTimestamp(_)) => {}
                None => panic!("an item without content"),
            }
        }
        Ok((status.expect("the first item is the status"), messages))
    }

    pub async fn ack(
        &self,
        group: &str,
        topic: &str,
        handles: Vec<(String, String)>,
    ) -> Result<v2::AckMessageResponse, tonic::Status> {
        let entry = |(message_id, receipt_handle)| v2::AckMessageEntry { message_id, receipt_handle, lite_topic: None };
        let entries = handles.into_iter().map(entry).collect();
        let request = v2::AckMessageRequest { group: Some(resource(group)), topic: Some(resource(topic)), entries };
        let request = self.request(request, Duration::from_secs(3));
        Ok(self.client.clone().ack_message(request).await?.into_inner())
    }

    pub async fn change_invisible(
        &self,
        group: &str,
        topic: &str,
        handle: &str,
        seconds: i64,
    ) -> Result<v2::ChangeInvisibleDurationResponse, tonic::Status> {
        let request = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            receipt_handle: handle.to_owned(),
            invisible_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let request = self.request(request, Duration::from_secs(3));
        Ok(self.client.clone().change_invisible_duration(request).await?.into_inner())
    }

    pub fn raw(&self) -> MessagingServiceClient<Channel> {
        self.client.clone()
    }
}

pub fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

pub fn message(topic: &str, id: &str, body: &str) -> v2::Message {
    v2::Message {
        topic: Some(resource(topic)),
        user_properties: BTreeMap::new(),
        system_properties: Some(v2::SystemProperties { message_id: id.to_owned(), ..Default::default() }),
        body: body.to_owned().into(),
    }
}

/// The id, receipt handle and attempt of a delivery.
pub fn delivered(message: &v2::Message) -> (String, String, i32) {
    let system = message.system_properties.as_ref().unwrap();
    (system.message_id.clone(), system.receipt_handle.clone().unwrap(), system.delivery_attempt.unwrap())
}
