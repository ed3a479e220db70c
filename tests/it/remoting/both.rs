//! One broker, two protocols: messages of all kinds, by chance, are sent over one and read over the other, as RocketMQ's own
//! proxy gives them (remoting §7.2, remoting §5).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use raftmq::proto::remoting::{Fields, OffsetId, RequestCode, StoredMessage, put_property, read_properties};
use raftmq::proto::v2;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::send::{fields, place};
use crate::fixture::calls;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::{message, millis_of, now_millis, system, timestamp};
use crate::fixture::requests::{poll, seconds};
use crate::fixture::wire::{CALL, Wire};

const SEED: u64 = 20_261_130;
const MESSAGES: usize = 60;
const QUEUES: i32 = 8;
const FROM_GRPC: &str = "from-grpc";
const FROM_CLASSIC: &str = "from-classic";
const COMES: Duration = Duration::from_secs(60);

/// What kind of message it is, beside what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Fifo,
    Delay,
    Committed,
    RolledBack,
}

/// A message as both protocols can say it.
#[derive(Debug, Clone)]
struct Plain {
    id: String,
    kind: Kind,
    body: Vec<u8>,
    is_packed: bool,
    tag: Option<String>,
    keys: Vec<String>,
    properties: BTreeMap<String, String>,
    group: Option<String>,
    trace: Option<String>,
    deliver_at: Option<i64>,
    born_at: i64,
}

fn text(random: &mut StdRng) -> String {
    let letters: Vec<char> = "abcXYZ019 _-%|&=;äß中文😀".chars().collect();
    let inner: String =
        (0..random.random_range(0..8)).map(|_| letters[random.random_range(0..letters.len())]).collect();
    format!("t{inner}")
}

fn some<T>(random: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    random.random_bool(0.5).then(|| make(random))
}

impl Plain {
    fn any(random: &mut StdRng, number: usize) -> Self {
        let kinds = [Kind::Normal, Kind::Fifo, Kind::Delay, Kind::Committed, Kind::RolledBack];
        let kind = kinds[random.random_range(0..kinds.len())];
        let word = |random: &mut StdRng| text(random).replace([' ', '|'], "_");
        let bytes = random.random_range(1..3000);
        Self {
            id: if random.random_bool(0.7) { format!("{number:032X}") } else { format!("m-{number}") },
            kind,
            // Half of it packs well.
            body: (0..bytes).map(|at| if at % 2 == 0 { 7 } else { random.random() }).collect(),
            is_packed: random.random_bool(0.3),
            tag: some(random, word),
            keys: (0..random.random_range(0..4)).map(|_| word(random)).collect(),
            properties: (0..random.random_range(0..5)).map(|_| (text(random), text(random))).collect(),
            group: (kind == Kind::Fifo).then(|| word(random)),
            trace: some(random, text),
            deliver_at: (kind == Kind::Delay).then(|| now_millis() + random.random_range(-500..1500)),
            born_at: 1_700_000_000_000 + random.random_range(0..1_000_000),
        }
    }

    fn comes(&self) -> bool {
        self.kind != Kind::RolledBack
    }

    fn packed_by<W: Write>(&self, encoder: W, finish: impl FnOnce(W) -> Vec<u8>) -> Bytes {
        let mut encoder = encoder;
        encoder.write_all(&self.body).unwrap();
        finish(encoder).into()
    }

    async fn send_grpc(&self, wire: &Wire) {
        let mut sent = message(FROM_GRPC, &self.id, "");
        sent.user_properties.clone_from(&self.properties);
        let system = sent.system_properties.as_mut().unwrap();
        system.tag.clone_from(&self.tag);
        system.keys.clone_from(&self.keys);
        system.message_group.clone_from(&self.group);
        system.trace_context.clone_from(&self.trace);
        system.delivery_timestamp = self.deliver_at.map(timestamp);
        system.born_timestamp = Some(timestamp(self.born_at));
        system.born_host = "10.1.2.3".into();
        if matches!(self.kind, Kind::Committed | Kind::RolledBack) {
            system.set_message_type(v2::MessageType::Transaction);
        }
        sent.body = self.body.clone().into();
        if self.is_packed {
            system.set_body_encoding(v2::Encoding::Gzip);
            let gzip = GzEncoder::new(Vec::new(), Compression::fast());
            sent.body = self.packed_by(gzip, |encoder| encoder.finish().unwrap());
        }
        let entry = calls::send(wire, sent).await;
        let resolution = match self.kind {
            Kind::Committed => v2::TransactionResolution::Commit,
            Kind::RolledBack => v2::TransactionResolution::Rollback,
            Kind::Normal | Kind::Fifo | Kind::Delay => return,
        };
        assert_eq!(calls::end(wire, FROM_GRPC, &entry.transaction_id, resolution).await, v2::Code::Ok);
    }

    async fn send_classic(&self, client: &mut Classic, queue: i32, attempts: i32) {
        let mut properties = String::new();
        let mut put = |name: &str, value: &str| put_property(&mut properties, name, value).unwrap();
        self.properties.iter().for_each(|(name, value)| put(name, value));
        put("UNIQ_KEY", &self.id);
        put("TAGS", self.tag.as_deref().unwrap_or_default());
        put("KEYS", &self.keys.join(" "));
        put("__SHARDINGKEY", self.group.as_deref().unwrap_or_default());
        put("TRACE_CONTEXT", self.trace.as_deref().unwrap_or_default());
        put("WAIT", "true");
        put("TIMER_DELIVER_MS", &self.deliver_at.map(|at| at.to_string()).unwrap_or_default());
        let is_half = matches!(self.kind, Kind::Committed | Kind::RolledBack);
        if is_half {
            put("TRAN_MSG", "true");
            put("PGROUP", "producers");
        }
        let mut sent = fields(FROM_CLASSIC, queue, &properties);
        sent.put("g", self.born_at);
        sent.put("f", i32::from(self.is_packed) | if is_half { 4 } else { 0 });
        sent.put("j", attempts);
        let body = if self.is_packed {
            let zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            self.packed_by(zlib, |encoder| encoder.finish().unwrap())
        } else {
            self.body.clone().into()
        };
        let answer = client.ask(RequestCode::SendMessageV2, sent, &body).await;
        let (used, table) = place(&answer);
        assert_eq!(used, queue);
        if is_half {
            let id: OffsetId = answer.header.fields.text("msgId").unwrap().parse().unwrap();
            let mut end: Fields = [("producerGroup", "producers"), ("msgId", &self.id)].into_iter().collect();
            end.put("commitLogOffset", id.physical_offset);
            end.put("tranStateTableOffset", table);
            end.put("commitOrRollback", if self.kind == Kind::Committed { 8 } else { 12 });
            assert_eq!(client.ask(RequestCode::EndTransaction, end, b"").await.header.code, 0);
        }
    }

    /// What a classic client reads of it, after a gRPC client sent it.
    fn check_classic(&self, read: &StoredMessage) {
        let mut expected = self.properties.clone();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                expected.insert(name.to_owned(), value);
            }
        };
        put("UNIQ_KEY", Some(self.id.clone()));
        put("MSG_REGION", Some("DefaultRegion".to_owned()));
        put("TAGS", self.tag.clone());
        put("KEYS", Some(self.keys.join(" ")).filter(|keys| !keys.is_empty()));
        put("__SHARDINGKEY", self.group.clone());
        put("TRACE_CONTEXT", self.trace.clone());
        put("TIMER_DELIVER_MS", self.deliver_at.map(|at| at.to_string()));
        let found: BTreeMap<String, String> =
            read_properties(&read.properties).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(found, expected, "{self:?}");
        // A body that gRPC packed is plain: its form is not one of theirs.
        assert_eq!((&read.body[..], read.system_flags & 1), (&self.body[..], 0), "{}", self.id);
        let committed = if self.kind == Kind::Committed { 8 } else { 0 };
        assert_eq!((read.system_flags & 12, read.topic.as_str()), (committed, FROM_GRPC), "{}", self.id);
        assert_eq!((read.born_at, read.born_host.ip().to_string().as_str()), (self.born_at, "10.1.2.3"));
        assert_eq!(read.prepared_offset, if self.kind == Kind::Committed { read.physical_offset } else { 0 });
        assert!(self.deliver_at.is_none_or(|at| read.stored_at >= at), "before its time: {}", self.id);
    }

    /// What a gRPC client reads of it, after a classic client sent it as tried again so often.
    fn check_grpc(&self, read: &v2::Message, queue: i32, attempts: i32) {
        let mut expected = self.properties.clone();
        if let Some(group) = &self.group {
            expected.insert("__SHARDINGKEY".to_owned(), group.clone());
        }
        assert_eq!(read.user_properties, expected, "{self:?}");
        let system = system(read);
        assert_eq!((&system.tag, &system.keys, &system.message_group), (&self.tag, &self.keys, &self.group));
        assert_eq!((&system.trace_context, system.queue_id), (&self.trace, queue), "{}", self.id);
        assert_eq!(system.delivery_attempt, Some(attempts + 1));
        assert_eq!((millis_of(system.born_timestamp.unwrap()), system.born_host.as_str()), (self.born_at, "127.0.0.1"));
        assert_eq!(system.delivery_timestamp.map(millis_of), self.deliver_at);
        let body = match system.body_encoding() {
            v2::Encoding::Gzip => {
                let mut body = Vec::new();
                ZlibDecoder::new(&read.body[..]).read_to_end(&mut body).unwrap();
                body
            }
            _ => read.body.to_vec(),
        };
        assert_eq!((system.body_encoding() == v2::Encoding::Gzip, &body), (self.is_packed, &self.body), "{}", self.id);
        let kind = match self.kind {
            Kind::Normal => v2::MessageType::Normal,
            Kind::Fifo => v2::MessageType::Fifo,
            Kind::Delay => v2::MessageType::Delay,
            Kind::Committed | Kind::RolledBack => v2::MessageType::Transaction,
        };
        assert_eq!(system.message_type(), kind, "{}", self.id);
    }
}

async fn pull_all(client: &mut Classic) -> Vec<StoredMessage> {
    let mut all = Vec::new();
    for queue in 0..QUEUES {
        let mut next = 0;
        loop {
            let mut pull: Fields =
                [("consumerGroup", "g"), ("topic", FROM_GRPC), ("maxMsgNums", "32"), ("sysFlag", "4")]
                    .into_iter()
                    .collect();
            pull.put("queueId", queue);
            pull.put("queueOffset", next);
            let answer = client.ask(RequestCode::PullMessage, pull, b"").await;
            let messages = StoredMessage::read_all(answer.body).unwrap();
            if messages.is_empty() {
                break;
            }
            next += messages.len() as i64;
            all.extend(messages);
        }
    }
    all
}

async fn grpc_to_classic(cluster: &Cluster, random: &mut StdRng) {
    let sent: Vec<Plain> = (0..MESSAGES).map(|number| Plain::any(random, number)).collect();
    let wires = cluster.wires_within(CALL);
    for (plain, wire) in sent.iter().zip(wires.iter().cycle()) {
        plain.send_grpc(wire).await;
    }
    let mut client = Classic::connect(&cluster.address(2)).await;
    let until = Instant::now() + COMES;
    let expected = sent.iter().filter(|plain| plain.comes()).count();
    let mut read = pull_all(&mut client).await;
    while read.len() < expected {
        assert!(Instant::now() < until, "{} of {expected} messages", read.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
        read = pull_all(&mut client).await;
    }
    assert_eq!(read.len(), expected);
    let id = |read: &StoredMessage| {
        read_properties(&read.properties).find(|(name, _)| *name == "UNIQ_KEY").map(|(_, value)| value.to_owned())
    };
    for plain in sent.iter().filter(|plain| plain.comes()) {
        let found = read.iter().find(|read| id(read).as_deref() == Some(&plain.id));
        plain.check_classic(found.expect("what was sent is read"));
    }
}

async fn classic_to_grpc(cluster: &Cluster, random: &mut StdRng) {
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(Classic::connect(&cluster.address(node)).await);
    }
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let plain = Plain::any(random, 1000 + number);
        let (queue, attempts) = (random.random_range(0..QUEUES), random.random_range(0..3));
        plain.send_classic(&mut clients[number % 3], queue, attempts).await;
        sent.push((plain, queue, attempts));
    }
    let request = v2::ReceiveMessageRequest { invisible_duration: Some(seconds(120)), ..poll("g", FROM_CLASSIC) };
    let mut read = BTreeMap::new();
    let until = Instant::now() + COMES;
    let expected = sent.iter().filter(|(plain, ..)| plain.comes()).count();
    let wire = &cluster.wires_within(CALL)[1];
    while read.len() < expected {
        assert!(Instant::now() < until, "{} of {expected} messages", read.len());
        for message in calls::receive(wire, request.clone()).await {
            let id = system(&message).message_id.clone();
            assert!(sent.iter().all(|(plain, ..)| plain.comes() || plain.id != id), "{id} was rolled back");
            read.insert(id, message);
        }
    }
    for (plain, queue, attempts) in sent.iter().filter(|(plain, ..)| plain.comes()) {
        plain.check_grpc(&read[&plain.id], *queue, *attempts);
    }
}

#[test]
fn what_one_protocol_sends_the_other_receives() {
    let settings = ["defaultTopicQueueNums=8"];
    let mut random = StdRng::seed_from_u64(SEED);
    with_cluster(&settings, &[(FROM_GRPC, "MIXED"), (FROM_CLASSIC, "MIXED")], async |cluster| {
        grpc_to_classic(&cluster, &mut random).await;
        classic_to_grpc(&cluster, &mut random).await;
    });
}
