//! Addresses of a cluster and the channels to them: who is asked, with which headers, and who next.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::service_fn;

use crate::model::Timestamp;

use crate::client::error::{Error, Unreachable};
use crate::client::tls::Tls;

const PORT_DEFAULT: u16 = 8081;
const ADDRESSES_MAX: usize = 64;
/// What programs say that they are: it is among the events of what they did.
const AGENT: &str = concat!("raftmq/", env!("CARGO_PKG_VERSION"));
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Host and port of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address; IPv6 without brackets.
    pub host: String,
    /// gRPC port.
    pub port: u16,
}

/// Why a text is not a list of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing in it.
    #[error("no address given; expected HOST:PORT[;HOST:PORT]")]
    Empty,
    /// More than anyone needs.
    #[error("more than {ADDRESSES_MAX} addresses")]
    TooMany,
    /// Not host and port.
    #[error("'{0}' is not HOST:PORT")]
    Unreadable(String),
}

/// The addresses of one cluster, in the order they are tried; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<Address>);

impl Address {
    /// From `host`, `host:port`, `[ipv6]:port`, each perhaps after `http://` or `https://`. The port defaults to 8081.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let unreadable = || AddressError::Unreadable(text.to_owned());
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .unwrap_or(text)
            .trim_end_matches('/');
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or_else(unreadable)?;
            if !host.contains(':') {
                return Err(unreadable());
            }
            match after {
                "" => (host, None),
                after => (host, Some(after.strip_prefix(':').ok_or_else(unreadable)?)),
            }
        } else {
            match rest.split_once(':') {
                None => (rest, None),
                // More than one colon without brackets: address and port cannot be separated.
                Some((_, port)) if port.contains(':') => return Err(unreadable()),
                Some((host, port)) => (host, Some(port)),
            }
        };
        let is_host_letter = |letter: char| letter.is_ascii_alphanumeric() || ".-_:".contains(letter);
        if host.is_empty() || !host.chars().all(is_host_letter) {
            return Err(unreadable());
        }
        let port = match port {
            None => PORT_DEFAULT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(unreadable)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Endpoints {
    /// From addresses separated by `;` or `,`; repeated ones are kept once.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut addresses = Vec::new();
        for part in text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty()) {
            let address = Address::parse(part)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(AddressError::TooMany);
        }
        if addresses.is_empty() { Err(AddressError::Empty) } else { Ok(Self(addresses)) }
    }

    /// The addresses in order.
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }

    /// These addresses and one more at the end, unless it is there already.
    pub fn with(mut self, address: Address) -> Self {
        if !self.0.contains(&address) {
            self.0.push(address);
        }
        self
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(";")?;
            }
            write!(f, "{address}")?;
        }
        Ok(())
    }
}

/// What the client cannot know by itself: who it is, what time it is and whom to trust.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Host name; letters that do not fit a header are left out.
    pub host: String,
    /// Process id.
    pub process_id: u32,
    /// Random; differs between two clients of one process. Its low six bytes go into message ids.
    pub unique: u64,
    /// Reads the wall clock.
    pub now: fn() -> Timestamp,
    /// How TLS is spoken; without it plaintext is.
    pub tls: Option<Tls>,
}

struct Node {
    address: String,
    channel: Channel,
}

/// Channels to the nodes of one cluster. Cheap to share behind an `Arc`; connects at the first request.
pub struct Connection {
    nodes: Vec<Node>,
    preferred: AtomicUsize,
    requests: AtomicU64,
    identity: ClientIdentity,
    client_id: String,
    timeout: Duration,
}

impl Connection {
    /// Prepares channels to `endpoints`; must be called inside a tokio runtime. Nothing is dialled yet.
    ///
    /// * Units: `timeout` bounds each request, all nodes it goes to included.
    pub fn new(endpoints: &Endpoints, timeout: Duration, identity: ClientIdentity) -> Result<Self, AddressError> {
        let nodes = endpoints
            .addresses()
            .iter()
            .map(|address| {
                let address = address.to_string();
                let endpoint = Endpoint::from_shared(format!("http://{address}"))
                    .map_err(|_| AddressError::Unreadable(address.clone()))?
                    .user_agent(AGENT)
                    .map_err(|_| AddressError::Unreadable(address.clone()))?
                    .connect_timeout(CONNECT_WITHIN)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
                    .keep_alive_timeout(KEEP_ALIVE_EVERY)
                    .keep_alive_while_idle(true)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
                let channel = match identity.tls.clone() {
                    None => endpoint.connect_lazy(),
                    Some(tls) => endpoint.connect_with_connector_lazy(service_fn(move |to| tls.clone().connect(to))),
                };
                Ok(Node { channel, address })
            })
            .collect::<Result<Vec<_>, AddressError>>()?;
        let host: String = identity.host.chars().filter(char::is_ascii_graphic).collect();
        let client_id = format!("{host}@{}@0@{:x}", identity.process_id, identity.unique);
        Ok(Self { nodes, preferred: AtomicUsize::new(0), requests: AtomicU64::new(0), identity, client_id, timeout })
    }

    pub fn identity(&self) -> &ClientIdentity {
        &self.identity
    }

    /// The text of `x-mq-client-id`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The bound of each request.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Changes when another node is asked first.
    pub(super) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.nodes.len()
    }

    /// Asks another node first from now on, if there is another.
    pub fn prefer_next(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    /// A request with RocketMQ's headers and a deadline.
    pub(super) fn request<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(timeout);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let metadata = request.metadata_mut();
        metadata.insert("x-mq-language", MetadataValue::from_static("RUST"));
        metadata.insert("x-mq-client-version", MetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        metadata.insert("x-mq-protocol", MetadataValue::from_static("v2"));
        for (name, text) in
            [("x-mq-client-id", self.client_id.clone()), ("x-mq-request-id", format!("{}#{number}", self.client_id))]
        {
            let value = MetadataValue::try_from(text).expect("the client id is made of visible ASCII letters");
            metadata.insert(name, value);
        }
        request
    }

    /// Asks the preferred node, and the others in turn while nobody answers or the answer is UNAVAILABLE.
    ///
    /// * Errors: the refusal of a node weighs more than the silence of the others, because it says more.
    pub(super) async fn call<T, Attempt, Reply>(&self, timeout: Duration, attempt: Attempt) -> Result<T, Error>
    where
        Attempt: Fn(Channel) -> Reply,
        Reply: Future<Output = Result<T, Status>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + timeout;
        let mut unreachable = Vec::new();
        let mut unavailable = None;
        for step in 0..self.nodes.len() {
            let node = &self.nodes[first.wrapping_add(step) % self.nodes.len()];
            let timed_out = || Error::TimedOut { address: node.address.clone(), after: timeout };
            let Ok(answer) = tokio::time::timeout_at(deadline, attempt(node.channel.clone())).await else {
                self.prefer(first.wrapping_add(step + 1));
                return Err(timed_out());
            };
            match answer {
                Ok(answer) => {
                    self.prefer(first.wrapping_add(step));
                    return Ok(answer);
                }
                Err(status) => match kind(&status) {
                    Kind::Transport => {
                        tracing::info!(address = %node.address, reason = %reason(&status), "node not reached");
                        unreachable.push(Unreachable { address: node.address.clone(), reason: reason(&status) });
                    }
                    Kind::TimedOut => {
                        self.prefer(first.wrapping_add(step + 1));
                        return Err(timed_out());
                    }
                    Kind::Unavailable => unavailable = Some(status),
                    Kind::Final => return Err(Error::Status(status)),
                },
            }
        }
        Err(unavailable.map_or(Error::Connect(unreachable), Error::Status))
    }

    /// Repeats what is retryable, at other nodes and with growing pauses, for as long as `length` lasts.
    pub(super) async fn persist<T, Attempt, Reply>(&self, length: Duration, mut attempt: Attempt) -> Result<T, Error>
    where
        Attempt: FnMut() -> Reply,
        Reply: Future<Output = Result<T, Error>>,
    {
        let mut patience = Patience::new(length);
        loop {
            match attempt().await {
                Err(error) if error.is_retryable() && patience.pause(self, &error).await => {}
                other => return other,
            }
        }
    }

    fn prefer(&self, at: usize) {
        self.preferred.store(at % self.nodes.len(), Ordering::Relaxed);
    }
}

/// How long to go on trying, with pauses that grow.
pub(super) struct Patience {
    deadline: tokio::time::Instant,
    pause: Duration,
}

impl Patience {
    /// Patience for `length` from now.
    pub(super) fn new(length: Duration) -> Self {
        Self { deadline: tokio::time::Instant::now() + length, pause: PAUSE_FIRST }
    }

    /// Waits before the next attempt, which goes to another node; false when there is no time for one.
    pub(super) async fn pause(&mut self, connection: &Connection, error: &Error) -> bool {
        if tokio::time::Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tracing::info!(%error, "trying again");
        connection.prefer_next();
        tokio::time::sleep(self.pause).await;
        self.pause = PAUSE_MAX.min(self.pause * 2);
        true
    }
}

enum Kind {
    Transport,
    TimedOut,
    Unavailable,
    Final,
}

/// Separates statuses that our own transport made from those a server sent: only the former have a source.
fn kind(status: &Status) -> Kind {
    match status.code() {
        tonic::Code::DeadlineExceeded => Kind::TimedOut,
        // tonic's own timer, which runs beside ours.
        tonic::Code::Cancelled if status.message() == "Timeout expired" => Kind::TimedOut,
        _ if status.source().is_some() => Kind::Transport,
        tonic::Code::Unavailable => Kind::Unavailable,
        _ => Kind::Final,
    }
}

/// The innermost cause, which names the trouble.
fn reason(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v2;
    use crate::proto::v2::messaging_service_client::MessagingServiceClient;

    fn identity() -> ClientIdentity {
        ClientIdentity { host: "hö st".into(), process_id: 7, unique: 0xABC, now: || Timestamp(0), tls: None }
    }

    #[test]
    fn endpoints_are_separated_by_semicolon_or_comma() {
        let endpoints = Endpoints::parse("a:1; b:2,[::1]:3 ;c;a:1").unwrap();
        assert_eq!(endpoints.to_string(), "a:1;b:2;[::1]:3;c:8081");
        assert_eq!(Endpoints::parse("http://n0:8081/;https://n1").unwrap().to_string(), "n0:8081;n1:8081");
        assert_eq!(Endpoints::parse(" ; "), Err(AddressError::Empty));
        for wrong in ["a:", "a:0", "a:65536", "a:b", ":1", "::1", "[::1", "[a]:1", "a b:1", "a/b:1"] {
            assert_eq!(Endpoints::parse(wrong), Err(AddressError::Unreadable(wrong.into())), "{wrong}");
        }
    }

    #[tokio::test]
    async fn requests_carry_rocketmq_s_headers_and_a_new_id_each() {
        let endpoints = Endpoints::parse("127.0.0.1:1").unwrap();
        let connection = Connection::new(&endpoints, Duration::from_secs(1), identity()).unwrap();
        let first = connection.request((), Duration::from_secs(1));
        let second = connection.request((), Duration::from_secs(1));
        let text =
            |request: &Request<()>, name: &str| request.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text(&first, "x-mq-client-id"), "hst@7@0@abc");
        assert_eq!(text(&first, "x-mq-language"), "RUST");
        assert_ne!(text(&first, "x-mq-request-id"), text(&second, "x-mq-request-id"));
        assert!(first.metadata().contains_key("grpc-timeout"));
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_answer_and_is_reported_for_each_node() {
        // Ports that were free a moment ago: nobody listens.
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoints = Endpoints::parse(&format!("{};{}", free(), free())).unwrap();
        let connection = Connection::new(&endpoints, Duration::from_secs(5), identity()).unwrap();
        let connection = &connection;
        let answer = connection
            .call(Duration::from_secs(5), |channel| async move {
                let request = connection.request(v2::HeartbeatRequest::default(), Duration::from_secs(5));
                MessagingServiceClient::new(channel).heartbeat(request).await
            })
            .await;
        match answer {
            Err(Error::Connect(nodes)) => {
                assert_eq!(nodes.len(), 2);
                assert!(nodes[0].reason.contains("refused"), "{}", nodes[0].reason);
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn retryable_refusals_are_repeated_until_patience_ends_and_others_are_not() {
        let endpoints = Endpoints::parse("127.0.0.1:1").unwrap();
        let connection = Connection::new(&endpoints, Duration::from_secs(1), identity()).unwrap();
        let mut attempts = 0;
        let answer: Result<(), Error> = connection
            .persist(Duration::from_millis(300), || {
                attempts += 1;
                async { Err(Error::Status(Status::unavailable("no leader"))) }
            })
            .await;
        assert!(answer.is_err());
        // Pauses of 20, 40, 80 and perhaps 160 ms; a busy machine has time for fewer.
        assert!((2..=5).contains(&attempts), "{attempts}");
        attempts = 0;
        let answer: Result<(), Error> = connection
            .persist(Duration::from_millis(300), || {
                attempts += 1;
                async { Err(Error::Status(Status::not_found("t"))) }
            })
            .await;
        assert!(answer.is_err());
        assert_eq!(attempts, 1);
    }
}
