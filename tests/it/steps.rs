//! What one step of Raft's thread costs at most: the triggers of A6 at their largest, each applied to a state on RocksDB. An
//! entry is applied in one step, and between two of them others have their turn (`raft/state_machine`).
//!
//! `cargo test --release --test it -- --ignored --nocapture steps::` prints the table of `docs/benchmarks.md`.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftmq::machine::command::{
    Ack, Candidate, Command, CreateTopic, Grant, OffsetMove, Placement, Prolong, Send, SetGroupOffsets, Subscribe,
};
use raftmq::machine::outcome::Outcome;
use raftmq::machine::state::view::View;
use raftmq::machine::{self, Batch, Proposal, Recent, Stage, newest_version};
use raftmq::model::{
    GroupId, LogIndex, MessageType, Millis, Permission, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId,
    TopicType,
};
use raftmq::store::kv::Kv;
use raftmq::store::kv::catalog_cache::CatalogCache;
use raftmq::store::kv::rocks::RocksKv;
use raftmq::store::kv::value_cache::ValueCache;

use crate::fixture::machine::{group, plain_message, topic};

const GROUP: GroupId = GroupId(1);
const MILLION: usize = 1 << 20;
const MEMORY_BYTES: usize = 64 * 1024 * 1024;
const OPEN_FILES_MAX: u32 = 256;
const STEP_MAX: Duration = Duration::from_millis(20);

/// What this thread had of a processor.
fn cpu_of_thread() -> Duration {
    // The kernel adds up what a thread had when it gives the processor away.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

struct Node {
    hot: ValueCache,
    catalog: Arc<CatalogCache>,
    recent: Recent,
    index: u64,
    now: u64,
    /// Of each entry since the last look.
    steps: Vec<(Duration, Duration)>,
    _folder: tempfile::TempDir,
}

impl Node {
    fn new(version: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kv: Arc<dyn Kv> = Arc::new(RocksKv::open(folder.path(), MEMORY_BYTES, OPEN_FILES_MAX).unwrap());
        machine::state::references::rebuild(&*kv).unwrap();
        let catalog = Arc::new(CatalogCache::new(kv));
        let (hot, recent) = (ValueCache::new(catalog.clone()), Recent::default());
        let mut node = Self { hot, catalog, recent, index: 0, now: 0, steps: Vec::new(), _folder: folder };
        node.apply(&Command::RaiseClusterVersion { to: version });
        node
    }

    fn entry(&mut self, proposals: &[Proposal]) -> Vec<Outcome> {
        let body = Batch::encode(Timestamp(self.now), proposals.iter());
        self.index += 1;
        let (cpu, wall) = (cpu_of_thread(), Instant::now());
        let mut stage = Stage::new(&self.hot).unwrap();
        let outcomes = machine::apply(&mut stage, &mut self.recent, LogIndex(self.index), body).unwrap();
        self.hot.write(stage.finish().unwrap().0).unwrap();
        self.steps.push((cpu_of_thread() - cpu, wall.elapsed()));
        outcomes
    }

    fn all(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let proposal = |command: &Command| Proposal { command: command.encode(), messages: Vec::new() };
        self.entry(&commands.iter().map(proposal).collect::<Vec<_>>())
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.all(std::slice::from_ref(command)).pop().unwrap()
    }

    fn create(&mut self, name: &str, queues: u32) -> TopicId {
        let topic_type = TopicType::Only(MessageType::Normal);
        let permission = Permission::READ_WRITE;
        let create = CreateTopic { topic: topic(name), topic_type, queues, permission, retention: None };
        let Outcome::TopicCreated(id) = self.apply(&Command::CreateTopic(create)) else { panic!("it is new") };
        id
    }

    fn subscribe(&mut self, names: &[String], retries: u32) {
        let topics = names.iter().map(|name| topic(name)).collect();
        let subscribe = Subscribe { group: group("g"), topics, create: Some(retries) };
        assert_eq!(self.apply(&Command::Subscribe(subscribe)), Outcome::GroupCreated(GROUP));
    }

    /// Messages in all queues of a topic, and leases of so many of them each until `until`.
    fn lease(&mut self, topic: TopicId, queues: u32, leases: usize, messages: u8, until: u64) -> Vec<ReceiptHandle> {
        let body = plain_message("b", None);
        for _ in 0..(leases * usize::from(messages)).div_ceil(1024) {
            let message = |number: usize| {
                let message_id = format!("{}-{number}", self.index);
                raftmq::model::Message { message_id, ..body.clone() }.encode()
            };
            let command = Command::Send(Send {
                topic,
                message_type: MessageType::Normal,
                tag_hashes: vec![0; 1024],
                placement: Placement::Now,
            });
            let messages = (0..1024).map(message).collect();
            self.entry(&[Proposal { command: command.encode(), messages }]);
        }
        let mut handles = Vec::new();
        let mut queue = 0;
        while handles.len() < leases {
            let candidate = |number: usize| Candidate::Any {
                queue: QueueId((queue + number as u32) % queues),
                first: QueueOffset(0),
                count: messages,
                bytes: 1 << 20,
            };
            let candidates = (0..256).map(candidate).collect();
            queue = (queue + 256) % queues;
            let grant = Command::Grant(Grant {
                group: GROUP,
                topic,
                limit: u32::MAX,
                invisible_for: Millis(until - self.now),
                client: "client".to_owned(),
                renew: true,
                token: self.index,
                attempt_of: 0,
                candidates,
            });
            let Outcome::Granted(granted) = self.apply(&grant) else { panic!("a grant is answered") };
            assert!(!granted.is_empty(), "there are messages");
            handles.extend(granted.iter().map(|granted| ReceiptHandle {
                group: GROUP,
                topic,
                queue: granted.queue,
                offset: granted.first,
                lease: granted.lease,
            }));
        }
        handles
    }

    fn tick_on(&mut self) {
        while self.apply(&Command::Tick) == (Outcome::Ticked { more: true }) {}
    }

    /// Prints what the entries took since the last look.
    fn report(&mut self, trigger: &str, version: u32) -> Duration {
        let steps = std::mem::take(&mut self.steps);
        let mut cpus: Vec<Duration> = steps.iter().map(|(cpu, _)| *cpu).collect();
        cpus.sort();
        let (median, cpu) = (cpus[cpus.len() / 2], cpus[cpus.len() - 1]);
        let mut wall: Vec<Duration> = steps.iter().map(|(_, wall)| *wall).collect();
        wall.sort();
        let p999 = wall[(wall.len() * 999 / 1000).min(wall.len() - 1)];
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("| {trigger} | {version} | {} | {:.1} | {:.1} | {:.1} |", steps.len(), ms(median), ms(cpu), ms(p999));
        cpu
    }
}

fn reset(topic: TopicId, queues: u32) -> Command {
    let offsets = (0..queues).map(|queue| (QueueId(queue), QueueOffset(0))).collect();
    Command::SetGroupOffsets(SetGroupOffsets { topic, group: GROUP, offsets, how: OffsetMove::Reset })
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number}")).collect()
}

/// Runs every trigger; the longest step of each.
fn run(version: u32) -> Vec<(&'static str, Duration)> {
    let mut longest = Vec::new();
    let mut add = |node: &mut Node, trigger| longest.push((trigger, node.report(trigger, version)));
    let one = ["t".to_owned()];

    let mut node = Node::new(version);
    let dead = node.create("t", 16);
    node.subscribe(&one, 0);
    node.lease(dead, 16, 1024, 64, 1000);
    node.steps.clear();
    node.now = 2000;
    node.tick_on();
    add(&mut node, "1,024 leases × 64 become dead letters");

    let mut node = Node::new(version);
    let id = node.create("t", 1024);
    node.subscribe(&one, 100);
    let handles = node.lease(id, 1024, MILLION, 1, 60_000);
    node.steps.clear();
    for leases in handles.chunks(256 * 3).take(40) {
        let prolong = |leases: &[ReceiptHandle]| {
            Command::Prolong(Prolong { leases: leases.to_vec(), invisible_for: Millis(60_000) })
        };
        node.now += 1;
        let commands: Vec<Command> = leases.chunks(256).map(prolong).collect();
        node.all(&commands);
    }
    add(&mut node, "renewals of three nodes, 256 leases each");
    for handles in handles.chunks(2048).take(20) {
        let acks: Vec<Command> = handles.iter().map(|handle| Command::Ack(Ack { handles: vec![*handle] })).collect();
        node.all(&acks);
    }
    add(&mut node, "2,048 acks of one message each in an entry");
    node.now = 61_000;
    node.tick_on();
    add(&mut node, "a million leases end");
    node.apply(&reset(id, 1024));
    node.tick_on();
    add(&mut node, "a reset of a million leases that wait for redelivery");

    let mut node = Node::new(version);
    let id = node.create("t", 1024);
    node.subscribe(&one, 100);
    node.lease(id, 1024, MILLION, 1, 60_000);
    node.steps.clear();
    node.apply(&Command::DeleteGroup { group: group("g") });
    node.tick_on();
    add(&mut node, "a group with a million leases is deleted");

    let mut node = Node::new(version);
    let topics = MILLION / 1024;
    for name in names(topics) {
        node.create(&name, 1024);
    }
    node.steps.clear();
    let mut missing = names(topics);
    while !missing.is_empty() {
        node.subscribe(&missing, 5);
        let catalog = node.catalog.clone();
        let view = View::new(&*catalog);
        missing.retain(|name| {
            let (id, _) = view.topic(&topic(name)).unwrap().unwrap();
            !view.is_subscribed(id, GROUP).unwrap()
        });
        missing.truncate(1024);
    }
    add(&mut node, "a group subscribes to 1,024 topics × 1,024 queues");
    node.apply(&Command::DeleteGroup { group: group("g") });
    node.tick_on();
    add(&mut node, "that group is deleted");
    let deletes: Vec<Command> = names(topics).iter().map(|name| Command::DeleteTopic { topic: topic(name) }).collect();
    node.all(&deletes);
    node.tick_on();
    add(&mut node, "those topics are deleted");
    longest
}

#[test]
#[ignore = "measures for minutes; see the header"]
fn the_triggers_at_their_largest() {
    println!("| trigger | cluster version | entries | median step, ms of CPU | longest | p99.9 of the steps, ms |");
    println!("|---|---|---|---|---|---|");
    if std::env::var_os("STEPS_BEFORE").is_some() {
        run(newest_version() - 1);
    }
    let longest = run(newest_version());
    let too_long: Vec<_> = longest.iter().filter(|(_, step)| *step > STEP_MAX).collect();
    assert!(too_long.is_empty(), "{too_long:?} take more than {STEP_MAX:?} of CPU");
}
