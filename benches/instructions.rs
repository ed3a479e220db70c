//! GatherBuffer of the hot path, done `n` times, for counting their instructions: `scripts/instructions.sh`.
//!
//! Everything is fixed: no clock, no randomness, no disk, one thread.
#![allow(clippy::unwrap_used, reason = "a measurement that fails panics")]

#[path = "../tests/fixture/machine.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod machine;

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use machine::{Machine, group, plain_message, topic};
use prost::Message as _;
use raftmq::edge::grpc::incoming;
use raftmq::edge::rules::message::MessageLimits;
use raftmq::env::fault::sim::SimDisk;
use raftmq::machine::command::{Ack, Command, CreateTopic, Subscribe};
use raftmq::model::limits::BODY_BYTES_MAX;
use raftmq::model::{
    GroupId, LogIndex, MessageType, Millis, NodeId, Permission, QueueOffset, ReceiptHandle, TagFilter, Term, Timestamp,
    TopicId, TopicType,
};
use raftmq::proto::v2;
use raftmq::store::log::record;
use raftmq::store::log::record::{Record, RecordKind};
use raftmq::store::log::{CommitLog, FlushMode, LogOwner, Options};

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const BATCH: usize = 32;
const BODY_BYTES: usize = 1024;
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// One segment that these records just fill: what is left empty is looked through at a start, too.
fn one_segment(records: u64) -> u64 {
    records * (BODY_BYTES as u64 + 128) + 64 * 1024
}

fn request(messages: usize) -> Bytes {
    let message = |number: usize| v2::Message {
        topic: Some(v2::Resource { resource_namespace: String::new(), name: "orders".into() }),
        user_properties: [("shop".to_owned(), "7".to_owned())].into(),
        system_properties: Some(v2::SystemProperties {
            message_id: format!("01{number:030}"),
            keys: vec![format!("order-{number}")],
            born_host: "host".into(),
            ..Default::default()
        }),
        body: vec![7; BODY_BYTES].into(),
    };
    v2::SendMessageRequest { messages: (0..messages).map(message).collect() }.encode_to_vec().into()
}

fn record(index: u64, bytes: usize) -> Record {
    let body = vec![7; bytes].into();
    Record { term: Term(1), node: NodeId(1), index: LogIndex(index), kind: RecordKind::Batch, body }
}

/// A log on a disk in memory.
fn open(disk: &SimDisk, segment_bytes: u64) -> CommitLog {
    let owner = LogOwner { cluster: "c".into(), group: "g".into(), node: NodeId(1) };
    let options =
        Options { segment_bytes, tail_cache_bytes: 1024, flush: FlushMode::Sync, open_files_max: 8, has_peers: false };
    let on_fatal = Box::new(|error: &raftmq::store::Error| panic!("{error}"));
    CommitLog::open(Arc::new(disk.mount()), Path::new("/log"), &owner, options, on_fatal).unwrap()
}

/// Writes `n` records in one group and closes the log.
fn append(disk: &SimDisk, segment_bytes: u64, n: u64) {
    let log = open(disk, segment_bytes);
    let (told, done) = std::sync::mpsc::channel();
    let records = (1..=n).map(|index| record(index, BODY_BYTES)).collect();
    log.append(records, Box::new(move |result| told.send(result).unwrap())).unwrap();
    done.recv().unwrap().unwrap();
}

/// A machine with a topic of eight queues and a group.
fn started() -> Machine {
    let mut machine = Machine::default();
    let create = CreateTopic {
        topic: topic("orders"),
        topic_type: TopicType::Only(MessageType::Normal),
        queues: 8,
        permission: Permission::READ_WRITE,
        retention: None,
    };
    machine.apply(&Command::CreateTopic(create));
    machine.apply(&Command::Subscribe(Subscribe {
        group: group("g"),
        topics: vec![topic("orders")],
        create: Some(16),
    }));
    machine
}

fn send_32(machine: &mut Machine) {
    let messages: Vec<_> = (0..BATCH).map(|number| plain_message(&number.to_string(), None)).collect();
    machine.now += 1;
    machine.send(TOPIC, &messages);
}

fn pop_32(machine: &mut Machine) -> Vec<ReceiptHandle> {
    let plan = machine.plan(TOPIC, GROUP, &TagFilter::All);
    let granted = machine.grant(TOPIC, GROUP, BATCH as u32, 60_000, None, plan).unwrap();
    let mut handles = Vec::new();
    for lease in granted {
        for bit in (0..64).filter(|bit| lease.messages.0 >> bit & 1 == 1) {
            let (queue, offset) = (lease.queue, QueueOffset(lease.first.0 + bit));
            handles.push(ReceiptHandle { group: GROUP, topic: TOPIC, queue, offset, lease: lease.lease });
        }
    }
    assert_eq!(handles.len(), BATCH);
    handles
}

fn work(name: &str, n: u64) {
    match name {
        "decode-send-1" | "decode-send-32" => {
            let request = request(if name == "decode-send-1" { 1 } else { BATCH });
            let limits = MessageLimits { body_bytes_max: BODY_BYTES_MAX, delay_max: Millis(0), now: Timestamp(0) };
            for _ in 0..n {
                let request = v2::SendMessageRequest::decode(request.clone()).unwrap();
                std::hint::black_box(incoming::send(request, limits, "peer", "").unwrap());
            }
        }
        "encode-record-32KiB" => {
            let record = record(1, BATCH * BODY_BYTES);
            let mut out = BytesMut::new();
            for _ in 0..n {
                out.clear();
                record::encode_wire(&record, &mut out);
            }
        }
        "apply-send-32" => {
            let mut machine = started();
            (0..n).for_each(|_| send_32(&mut machine));
        }
        "pop-32" => {
            let mut machine = started();
            (0..n).for_each(|_| {
                send_32(&mut machine);
                pop_32(&mut machine);
            });
        }
        "ack-32" => {
            let mut machine = started();
            (0..n).for_each(|_| {
                send_32(&mut machine);
                let handles = pop_32(&mut machine);
                machine.apply(&Command::Ack(Ack { handles }));
            });
        }
        "append-1KiB" => append(&SimDisk::default(), SEGMENT_BYTES, n),
        // A start reads the last segment only: all records are in one.
        "append-to-one-1KiB" => append(&SimDisk::default(), one_segment(n), n),
        "recover-1KiB" => {
            let disk = SimDisk::default();
            append(&disk, one_segment(n), n);
            assert_eq!(open(&disk, one_segment(n)).last().unwrap().index, LogIndex(n));
        }
        _ => panic!("no piece of work is called {name}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [name, n] => work(name, n.parse().unwrap()),
        // `cargo test --benches` and the like start it without; there is nothing to time.
        _ => eprintln!("usage: instructions NAME N; see scripts/instructions.sh"),
    }
}
