//! Consumers, and the check of what they got: every acknowledged message once, in order, intact.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::Error;
use crate::bench::body;
use crate::bench::connection::{Polled, code_name};
use crate::bench::driver::Driver;
use crate::bench::load::LoadState;
use crate::bench::plan::Acks;
use crate::bench::tally::{SentMessage, Tally, micros};
use crate::proto::v2;

/// Most mistakes reported of one run.
const MISTAKES_MAX: usize = 5;
/// Pause after a failed poll.
const PAUSE: Duration = Duration::from_millis(50);

/// What the consumers of a run share.
pub(super) struct Basket {
    pub shared: Arc<LoadState>,
    pub acks: Acks,
    pub batch: u32,
    /// Messages of this run got so far.
    pub got: AtomicU64,
    /// Messages got so far, of other runs too: those stored earlier are received first.
    pub seen: AtomicU64,
    /// Cancelled when nothing more is awaited: polls are called off, acks are not.
    pub done: CancellationToken,
}

/// One message of this run as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrived {
    /// Hash of the topic's name.
    pub topic: u64,
    pub queue: i32,
    pub offset: i64,
    pub worker: u32,
    pub sequence: u32,
}

/// What one consumer has to show.
#[derive(Default)]
pub(super) struct Catch {
    pub arrived: Vec<Arrived>,
    /// Messages whose body is not what was sent.
    pub damaged: u64,
    /// Messages that came before their time.
    pub early: u64,
    /// Acks the server did not take.
    pub acks_failed: u64,
}

/// Receives and acks until nothing more is awaited.
pub(super) async fn consume(
    mut connection: Driver,
    number: usize,
    basket: Arc<Basket>,
    tally: Rc<RefCell<Tally>>,
    catch: Rc<RefCell<Catch>>,
) {
    let mut turn = number;
    loop {
        turn += 1;
        let asked = Instant::now();
        let Some(polled) = basket.done.run_until_cancelled(connection.receive(turn, basket.batch)).await else {
            return;
        };
        let polled = match polled {
            Ok(polled) => polled,
            Err(reason) => {
                tally.borrow_mut().failed(format!("poll: {reason}"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if polled.messages.is_empty() {
            if polled.code != v2::Code::MessageNotFound as i32 && polled.code != v2::Code::Ok as i32 {
                tally.borrow_mut().failed(format!("poll: {}", code_name(polled.code)));
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        let handles = take(polled, asked, &basket, &tally, &catch);
        let asked = Instant::now();
        let count = handles.len();
        let taken = ack(&mut connection, handles, basket.acks).await;
        catch.borrow_mut().acks_failed += count.saturating_sub(taken) as u64;
        if basket.shared.phase.is_measured() {
            let mut tally = tally.borrow_mut();
            tally.received += taken as u64;
            tally.ack_us.saturating_record(micros(asked.elapsed()));
        }
    }
}

fn take(
    polled: Polled,
    asked: Instant,
    basket: &Basket,
    tally: &RefCell<Tally>,
    catch: &RefCell<Catch>,
) -> Vec<v2::AckMessageEntry> {
    let now = Instant::now();
    let now_us = match basket.shared.delay {
        Some(_) => (basket.shared.wall)().0 * 1000,
        None => micros(now.duration_since(basket.shared.started)),
    };
    let is_measured = basket.shared.phase.is_measured();
    let (mut tally, mut catch) = (tally.borrow_mut(), catch.borrow_mut());
    if is_measured {
        tally.poll_us.saturating_record(micros(now.duration_since(asked)));
    }
    let mut handles = Vec::with_capacity(polled.messages.len());
    let mut own = 0;
    for message in polled.messages {
        let topic = hash(&message.topic.unwrap_or_default().name);
        let system = message.system_properties.unwrap_or_default();
        handles.push(v2::AckMessageEntry {
            message_id: system.message_id.clone(),
            receipt_handle: system.receipt_handle.unwrap_or_default(),
            lite_topic: None,
        });
        let ours = format!("01{:016X}", basket.shared.run);
        if !system.message_id.starts_with(&ours) {
            continue;
        }
        own += 1;
        let Some(proof) = body::read(&message.body).filter(|proof| proof.run == basket.shared.run) else {
            catch.damaged += 1;
            continue;
        };
        let (worker, sequence) = (proof.worker, proof.sequence);
        let offset = system.queue_offset.unwrap_or(-1);
        catch.arrived.push(Arrived { topic, queue: system.queue_id, offset, worker, sequence });
        let is_delayed = basket.shared.delay.is_some();
        catch.early += u64::from(is_delayed && now_us < proof.stamp_us);
        if is_measured || is_delayed {
            tally.end_to_end_us.saturating_record(now_us.saturating_sub(proof.stamp_us).max(1));
        }
    }
    basket.seen.fetch_add(handles.len() as u64, Ordering::Relaxed);
    if own > 0 {
        basket.got.fetch_add(own, Ordering::Relaxed);
    }
    handles
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

async fn ack(connection: &mut Driver, handles: Vec<v2::AckMessageEntry>, acks: Acks) -> usize {
    match acks {
        Acks::Together => connection.ack(handles).await.unwrap_or(0),
        Acks::Singly => {
            let mut taken = 0;
            for handle in handles {
                taken += connection.ack(vec![handle]).await.unwrap_or(0);
            }
            taken
        }
    }
}

/// Compares what was sent with what arrived; the number of messages that arrived.
pub(super) fn check(sent: &[SentMessage], catches: Vec<Catch>) -> Result<u64, Error> {
    let mut wrong = Vec::new();
    let damaged: u64 = catches.iter().map(|catch| catch.damaged).sum();
    if damaged > 0 {
        wrong.push(format!("{damaged} messages came with another body than was sent"));
    }
    let early: u64 = catches.iter().map(|catch| catch.early).sum();
    if early > 0 {
        wrong.push(format!("{early} messages came before their time"));
    }
    let mut arrived: Vec<Arrived> = catches.into_iter().flat_map(|catch| catch.arrived).collect();
    arrived.sort_unstable();
    let mut last: BTreeMap<(u64, i32, u32), u32> = BTreeMap::new();
    let mut place = None;
    let mut seen: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for one in &arrived {
        let here = Some((one.topic, one.queue, one.offset));
        if std::mem::replace(&mut place, here) == here {
            wrong.push(format!("queue {} offset {} came twice", one.queue, one.offset));
        }
        if !seen.entry(one.worker).or_default().insert(one.sequence) {
            wrong.push(format!("message {} of worker {} lies at two places", one.sequence, one.worker));
        }
        let before = last.insert((one.topic, one.queue, one.worker), one.sequence);
        if before.is_some_and(|before| before > one.sequence) {
            wrong.push(format!("queue {}: worker {}'s message {} overtaken", one.queue, one.worker, one.sequence));
        }
    }
    for log in sent {
        let unknown: BTreeSet<u32> = log.unknown.iter().copied().collect();
        let nothing = BTreeSet::new();
        let seen = seen.get(&log.worker).unwrap_or(&nothing);
        let lost: Vec<u32> = (0..log.next).filter(|one| !seen.contains(one) && !unknown.contains(one)).collect();
        if let Some(first) = lost.first() {
            wrong.push(format!("{} messages of worker {} are lost, the first is {first}", lost.len(), log.worker));
        }
    }
    if wrong.is_empty() {
        return Ok(arrived.len() as u64);
    }
    let count = wrong.len();
    wrong.truncate(MISTAKES_MAX);
    Err(Error::Mismatch(format!("{count} mistakes: {}", wrong.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(next: u32, unknown: &[u32]) -> Vec<SentMessage> {
        vec![SentMessage { worker: 0, next, unknown: unknown.to_vec() }]
    }

    fn catch(arrived: &[(i32, i64, u32)]) -> Vec<Catch> {
        let arrived = arrived.iter().map(|(queue, offset, sequence)| Arrived {
            topic: 0,
            queue: *queue,
            offset: *offset,
            worker: 0,
            sequence: *sequence,
        });
        vec![Catch { arrived: arrived.collect(), ..Default::default() }]
    }

    #[test]
    fn what_arrives_once_and_in_order_passes_in_whatever_order_it_was_received() {
        assert_eq!(check(&sent(3, &[]), catch(&[(1, 0, 1), (0, 1, 2), (0, 0, 0)])).unwrap(), 3);
        assert_eq!(check(&sent(3, &[1]), catch(&[(0, 0, 0), (0, 1, 2)])).unwrap(), 2, "unknown may be missing");
    }

    #[test]
    fn the_same_place_in_another_topic_is_another_place() {
        let mut two = catch(&[(0, 0, 0), (0, 0, 1)]);
        two[0].arrived[1].topic = 1;
        assert_eq!(check(&sent(2, &[]), two).unwrap(), 2);
    }

    #[test]
    fn loss_repetition_disorder_and_damage_void_the_run() {
        let mistakes = |sent: Vec<SentMessage>, catches| check(&sent, catches).unwrap_err().to_string();
        assert!(mistakes(sent(2, &[]), catch(&[(0, 0, 0)])).contains("lost"));
        assert!(mistakes(sent(1, &[]), catch(&[(0, 0, 0), (0, 1, 0)])).contains("two places"));
        assert!(mistakes(sent(1, &[]), catch(&[(0, 0, 0), (0, 0, 0)])).contains("came twice"));
        assert!(mistakes(sent(2, &[]), catch(&[(0, 0, 1), (0, 1, 0)])).contains("overtaken"));
        let damaged = vec![Catch { damaged: 1, ..Default::default() }];
        assert!(mistakes(sent(0, &[]), damaged).contains("another body"));
        let early = vec![Catch { early: 1, ..Default::default() }];
        assert!(mistakes(sent(0, &[]), early).contains("before their time"));
    }
}
