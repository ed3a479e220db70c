//! What clients see of a node's death, by the protocol alone: how long no send was acknowledged, what was lost, and
//! what was delivered again although its ack had been answered `OK`.
//!
//! Sends on a schedule and two consumers for each address; nothing is tried twice, so an address whose node is dead,
//! or refuses, fails its share and no more.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::Error;
use crate::bench::body::{BYTES_MIN, Filler, Proof, read};
use crate::bench::connection::{Connection, Purpose, code_name, stored};
use crate::bench::load::message;
use crate::bench::report::failures;
use crate::bench::tally::micros;
use crate::client::{Address, Endpoints};
use crate::env::process::{self, Signal};
use crate::proto::v2;

/// Short enough that what was not acknowledged is delivered again within the run.
const INVISIBLE: Duration = Duration::from_secs(10);
const CONSUMERS_PER_ADDRESS: usize = 2;
const POLL_BATCH: u32 = 16;
/// Pause of a consumer whose poll failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A death to be watched.
#[derive(Debug, Clone)]
pub struct FailoverPlan {
    /// Who is driven.
    pub endpoints: Endpoints,
    /// An existing topic for NORMAL messages.
    pub topic: String,
    /// An existing group.
    pub group: String,
    /// Messages a second over all addresses.
    pub rate: u32,
    /// Bytes of a body.
    pub size: usize,
    /// The process that listens there is killed with SIGKILL.
    pub victim: Address,
    /// Load before the kill.
    pub before: Duration,
    /// Load after it.
    pub after: Duration,
    /// How long consumers go on, at least; longer than leases last.
    pub settle: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `raftmq.bench_failover.v1`.
    pub schema: &'static str,
    /// Sends.
    pub sent: u64,
    /// Of those, answered `OK`.
    pub acknowledged: u64,
    /// Longest time between two such answers.
    pub gap_ms: f64,
    /// Acknowledged messages that did not come until the end of the run.
    pub lost: u64,
    /// Different messages received.
    pub received: u64,
    /// Acks answered `OK` in the ten seconds before the kill.
    pub settled_before: u64,
    /// Of those, messages that were delivered again after that answer.
    pub settled_before_came_again: u64,
    /// Of all acks answered `OK`, messages that were delivered again after that answer.
    pub came_again: u64,
    /// What failed, and how often.
    pub failures: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Seen {
    acknowledged: BTreeMap<u32, Instant>,
    received: BTreeSet<u32>,
    settled: BTreeMap<u32, Instant>,
    came_again: BTreeSet<u32>,
    failures: BTreeMap<String, u64>,
}

type Notes = Rc<RefCell<Seen>>;

impl Seen {
    fn failed(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }

    fn report(self, sent: u32, killed_at: Instant) -> Report {
        let mut answers: Vec<Instant> = self.acknowledged.values().copied().collect();
        answers.sort_unstable();
        let gap = answers.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        let before = |at: &Instant| *at < killed_at && *at + Duration::from_secs(10) >= killed_at;
        let settled_before: BTreeSet<u32> =
            self.settled.iter().filter(|(_, at)| before(at)).map(|(message, _)| *message).collect();
        Report {
            schema: "raftmq.bench_failover.v1",
            sent: sent.into(),
            acknowledged: answers.len() as u64,
            gap_ms: gap.as_secs_f64() * 1000.0,
            lost: self.acknowledged.keys().filter(|message| !self.received.contains(message)).count() as u64,
            received: self.received.len() as u64,
            settled_before: settled_before.len() as u64,
            settled_before_came_again: settled_before.intersection(&self.came_again).count() as u64,
            came_again: self.came_again.len() as u64,
            failures: self.failures,
        }
    }
}

/// Kills a node under load; blocks until everything has settled.
pub fn run(plan: &FailoverPlan) -> Result<Report, Error> {
    let machine = |error: std::io::Error| Error::Machine(error.to_string());
    let victim = process::listener_of(plan.victim.port).ok_or_else(|| {
        Error::Machine(format!("no process of this machine that we may see listens on {}", plan.victim))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(machine)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, drive(plan, victim))
}

async fn drive(plan: &FailoverPlan, victim: u32) -> Result<Report, Error> {
    let run = crate::env::rng::random_u64();
    let open = async |number: usize, consumes: bool| {
        let addresses = plan.endpoints.addresses();
        let purpose = Purpose {
            address: &addresses[number % addresses.len()],
            topic: &plan.topic,
            group: &plan.group,
            client_id: format!("failover@{run:x}@{number}@{consumes}"),
            consumes,
            invisible: INVISIBLE,
        };
        Connection::open(purpose).await
    };
    let count = plan.endpoints.addresses().len();
    let (mut senders, mut sessions) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (connection, session) = open(number, false).await?;
        senders.push(connection);
        sessions.push(session);
    }
    let (seen, done) = (Notes::default(), CancellationToken::new());
    let mut consumers = tokio::task::JoinSet::new();
    for number in 0..count * CONSUMERS_PER_ADDRESS {
        let (connection, session) = open(number, true).await?;
        sessions.push(session);
        consumers.spawn_local(consume(connection, number, run, seen.clone(), done.clone()));
    }
    let started = Instant::now();
    let killed_at = started + plan.before;
    let kill = async {
        tokio::time::sleep_until(killed_at).await;
        process::signal(victim, Signal::Kill).map_err(|error| Error::Machine(error.to_string()))
    };
    let sent = Rc::new(RefCell::new(0));
    let (killed, ()) =
        tokio::join!(kill, produce(plan, run, senders, killed_at + plan.after, seen.clone(), sent.clone()));
    killed?;
    tokio::time::sleep(plan.settle).await;
    done.cancel();
    while consumers.join_next().await.is_some() {}
    let sent = *sent.borrow();
    let seen = std::mem::take(&mut *seen.borrow_mut());
    Ok(seen.report(sent, killed_at))
}

async fn produce(
    plan: &FailoverPlan,
    run: u64,
    connections: Vec<Connection>,
    until: Instant,
    seen: Notes,
    sent: Rc<RefCell<u32>>,
) {
    let filler = Filler::new(plan.size.max(BYTES_MIN));
    let started = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / plan.rate);
    while Instant::now() < until {
        ticks.tick().await;
        let sequence = *sent.borrow();
        *sent.borrow_mut() += 1;
        let mut connection = connections[sequence as usize % connections.len()].clone();
        let queue =
            connection.writable.get(sequence as usize / connections.len() % connection.writable.len().max(1)).copied();
        let proof = Proof { run, worker: 0, sequence, stamp_us: micros(started.elapsed()) };
        let born = crate::env::clock::wall();
        let message = message(&connection.topic(), proof, queue.unwrap_or_default(), (born, None), &filler);
        let seen = seen.clone();
        requests.spawn_local(async move {
            let (taken, failure) = stored(&connection.send(vec![message]).await, 1);
            let mut seen = seen.borrow_mut();
            if taken == 1 {
                seen.acknowledged.insert(sequence, Instant::now());
            } else {
                seen.failed(format!("send: {failure}"));
            }
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

async fn consume(mut connection: Connection, number: usize, run: u64, seen: Notes, done: CancellationToken) {
    let mut turn = number;
    loop {
        turn += 1;
        let Some(polled) = done.run_until_cancelled(connection.receive(turn, POLL_BATCH)).await else { return };
        let failure = match polled {
            Ok(polled) if !polled.messages.is_empty() => {
                for message in polled.messages {
                    settle(&mut connection, message, run, &seen).await;
                }
                continue;
            }
            Ok(polled) if polled.code == v2::Code::MessageNotFound as i32 || polled.code == v2::Code::Ok as i32 => {
                continue;
            }
            Ok(polled) => code_name(polled.code),
            Err(status) => format!("gRPC {:?}", status.code()),
        };
        seen.borrow_mut().failed(format!("poll: {failure}"));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn settle(connection: &mut Connection, message: v2::Message, run: u64, seen: &Notes) {
    let sequence = read(&message.body).filter(|proof| proof.run == run).map(|proof| proof.sequence);
    if let Some(sequence) = sequence {
        let mut seen = seen.borrow_mut();
        seen.received.insert(sequence);
        if seen.settled.contains_key(&sequence) {
            seen.came_again.insert(sequence);
        }
    }
    let system = message.system_properties.unwrap_or_default();
    let entry = v2::AckMessageEntry {
        message_id: system.message_id,
        receipt_handle: system.receipt_handle.unwrap_or_default(),
        lite_topic: None,
    };
    let taken = connection.ack(vec![entry]).await;
    let mut seen = seen.borrow_mut();
    match (taken, sequence) {
        (Ok(1), Some(sequence)) => {
            seen.settled.entry(sequence).or_insert_with(Instant::now);
        }
        (Ok(1), None) => {}
        (Ok(_), _) => seen.failed("ack: refused".to_owned()),
        (Err(status), _) => seen.failed(format!("ack: gRPC {:?}", status.code())),
    }
}

/// The report in words.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "gap: {:.0} ms without an acknowledged send\nsent: {}, acknowledged {}, lost {}\nreceived: {}; of {} acks answered OK in the 10 s \
         before the kill {} messages came again, of all acks {}\n",
        report.gap_ms,
        report.sent,
        report.acknowledged,
        report.lost,
        report.received,
        report.settled_before,
        report.settled_before_came_again,
        report.came_again,
    );
    if !report.failures.is_empty() {
        text.push_str(&format!("failed: {}\n", failures(&report.failures)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_a_loss_and_a_message_that_comes_again_are_seen() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let seen = Seen {
            acknowledged: BTreeMap::from([(0, at(0)), (1, at(100)), (2, at(450)), (3, at(500))]),
            received: BTreeSet::from([0, 1, 3]),
            settled: BTreeMap::from([(0, at(50)), (1, at(300)), (3, at(600))]),
            came_again: BTreeSet::from([0, 3]),
            failures: BTreeMap::new(),
        };
        let report = seen.report(5, at(200));
        assert_eq!((report.sent, report.acknowledged, report.lost, report.received), (5, 4, 1, 3));
        assert_eq!((report.gap_ms.round(), report.settled_before), (350.0, 1));
        assert_eq!((report.settled_before_came_again, report.came_again), (1, 2));
    }
}
