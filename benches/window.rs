//! What the window of message ids costs: sends are applied to a machine over RocksDB, at an even pace of machine time.
//!
//! `cargo bench --bench window -- FOLDER VERSION MESSAGES PER_ENTRY MINUTES`: so many messages in so many minutes, at a
//! cluster version (4: the window of the last 262,144 messages; 5: ten minutes). Prints CPU time of the whole process for each
//! message, RocksDB's own threads included, by tenths of the messages; then what it costs to send old ids again and to start.
//! With the folder of an earlier run and the same numbers: only what it costs to start, in a process of its own.
#![allow(clippy::unwrap_used, reason = "a measurement that fails panics")]
#![allow(clippy::disallowed_methods, reason = "it measures time and memory of the process")]
#![allow(clippy::print_stdout, reason = "what it measures is printed")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raftmq::machine::command::{Command, CreateTopic, Placement, Send};
use raftmq::machine::{self, Batch, Outcome, Proposal, Recent, Stage, Stored};
use raftmq::model::{
    BodyEncoding, LogIndex, Message, MessageType, Permission, Timestamp, TopicId, TopicName, TopicType,
};
use raftmq::store::kv::Kv;
use raftmq::store::kv::rocks::RocksKv;
use raftmq::store::kv::value_cache::ValueCache;

/// As the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: TopicId = TopicId(1);
/// As nodes have by default.
const STATE_BYTES: usize = 96 * 1024 * 1024;
const STATE_FILES: u32 = 128;
const START: u64 = 1_700_000_000_000;

struct Window {
    kv: ValueCache,
    recent: Recent,
    index: u64,
    now: u64,
}

fn message(id: u64) -> Message {
    Message {
        message_id: format!("01{id:032X}"),
        message_type: MessageType::Normal,
        body_encoding: BodyEncoding::Identity,
        body: Bytes::from_static(b"body"),
        tag: None,
        keys: Vec::new(),
        properties: Vec::new(),
        born_at: Timestamp(0),
        born_host: String::new(),
        message_group: None,
        delivery_at: None,
        trace_context: None,
        priority: None,
        recovery_after: None,
        classic: None,
        body_md5: None,
    }
}

impl Window {
    fn apply(&mut self, proposals: &[Proposal]) -> Vec<Outcome> {
        self.index += 1;
        let body = Batch::encode(Timestamp(self.now), proposals.iter());
        let mut stage = Stage::new(&self.kv).unwrap();
        let outcomes = machine::apply(&mut stage, &mut self.recent, LogIndex(self.index), body).unwrap();
        self.kv.write(stage.finish().unwrap().0).unwrap();
        outcomes
    }

    fn command(&mut self, command: &Command) {
        self.apply(&[Proposal { command: command.encode(), messages: Vec::new() }]);
    }

    fn send(&mut self, ids: impl Iterator<Item = u64>) -> Vec<Stored> {
        let messages: Vec<Bytes> = ids.map(|id| message(id).encode()).collect();
        let (tag_hashes, placement) = (vec![0; messages.len()], Placement::Now);
        let send = Send { topic: TOPIC, message_type: MessageType::Normal, tag_hashes, placement };
        match self.apply(&[Proposal { command: Command::Send(send).encode(), messages }]).pop() {
            Some(Outcome::Sent(stored)) => stored,
            other => panic!("not sent: {other:?}"),
        }
    }
}

/// CPU seconds of the process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// What a run has to do.
#[derive(Clone, Copy)]
struct Load {
    version: u32,
    messages: u64,
    per_entry: u64,
    minutes: u64,
}

impl Load {
    fn entries(self) -> u64 {
        self.messages / self.per_entry
    }

    /// When an entry is sent.
    fn at(self, entry: u64) -> u64 {
        START + entry * self.minutes * 60_000 / self.entries()
    }
}

fn open(folder: &Path) -> ValueCache {
    let kv: Arc<dyn Kv> = Arc::new(RocksKv::open(folder, STATE_BYTES, STATE_FILES).unwrap());
    machine::state::references::rebuild(&*kv).unwrap();
    ValueCache::new(kv)
}

fn send_all(kv: ValueCache, load: Load) -> ValueCache {
    let Load { version, messages, per_entry, minutes } = load;
    let mut window = Window { kv, recent: Recent::default(), index: 0, now: START };
    window.command(&Command::RaiseClusterVersion { to: version });
    window.command(&Command::CreateTopic(CreateTopic {
        topic: TopicName::parse("t").unwrap(),
        topic_type: TopicType::Only(MessageType::Normal),
        queues: 8,
        permission: Permission::READ_WRITE,
        retention: None,
    }));
    let (entries, began) = (load.entries(), Instant::now());
    let mut longest = 0.0_f64;
    for tenth in 0..10 {
        let (before, from) = (cpu(), Instant::now());
        for entry in entries * tenth / 10..entries * (tenth + 1) / 10 {
            window.now = load.at(entry);
            let start = Instant::now();
            window.send(entry * per_entry..(entry + 1) * per_entry);
            longest = longest.max(start.elapsed().as_secs_f64());
        }
        let sent = (entries / 10 * per_entry) as f64;
        println!(
            "tenth {tenth}: {:.0} ns CPU per message, {:.0} ns wall, longest entry {:.1} ms, RSS {} MiB",
            (cpu() - before) * 1e9 / sent,
            from.elapsed().as_secs_f64() * 1e9 / sent,
            longest * 1e3,
            memory("VmRSS:"),
        );
        longest = 0.0;
    }
    println!("all: {:.1} s, {:.1} s CPU, most RSS {} MiB", began.elapsed().as_secs_f64(), cpu(), memory("VmHWM:"));
    println!("state: {} MiB", window.kv.facts().table_bytes >> 20);
    for (what, back) in [("newest", 10_000), ("a minute old", messages / minutes), ("oldest", messages / minutes * 9)] {
        let first = messages / per_entry * per_entry - back;
        let start = Instant::now();
        let before: Vec<Stored> =
            (0..100).flat_map(|number| window.send(first + number * 64..first + number * 64 + 1)).collect();
        println!("again, {what}: {:.0} us each, {:?}", start.elapsed().as_secs_f64() * 1e4, before[0]);
    }
    window.kv.flush().unwrap();
    window.kv
}

fn start(kv: ValueCache, load: Load) {
    let start = Instant::now();
    let recent = Recent::load(&kv).unwrap();
    println!("loaded in {:.0} ms, RSS {} MiB", start.elapsed().as_secs_f64() * 1e3, memory("VmRSS:"));
    // More entries than there were, and ids that no process sent.
    let fresh = u64::from(std::process::id()) << 40;
    let mut window = Window { kv, recent, index: load.entries() + 1000, now: load.at(load.entries() - 1) };
    for round in 0..5 {
        let (start, count) = (Instant::now(), 100 << (2 * round));
        let mut longest = 0.0_f64;
        for entry in 0..count {
            let first = fresh + load.messages * round + entry * 100;
            let start = Instant::now();
            window.send(first..first + 100);
            longest = longest.max(start.elapsed().as_secs_f64());
        }
        println!(
            "{count} entries of 100 after the start: {:.2} ms each, longest {:.1} ms, RSS {} MiB",
            start.elapsed().as_secs_f64() * 1e3 / count as f64,
            longest * 1e3,
            memory("VmRSS:")
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    match &arguments[1..] {
        [folder, numbers @ ..] if numbers.len() == 4 => {
            let [version, messages, per_entry, minutes] = [0, 1, 2, 3].map(|at: usize| numbers[at].parse().unwrap());
            let load = Load { version: u32::try_from(version).unwrap(), messages, per_entry, minutes };
            let (folder, is_new) = (Path::new(folder), !Path::new(folder).exists());
            let kv = open(folder);
            start(if is_new { send_all(kv, load) } else { kv }, load);
        }
        // `cargo test --benches` and the like start it without; there is nothing to time.
        _ => eprintln!("usage: window FOLDER VERSION MESSAGES PER_ENTRY MINUTES"),
    }
}
