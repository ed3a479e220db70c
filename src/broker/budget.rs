//! Bytes that clients may hold of a node's memory: a budget for all of them, a share of it for each address, and one for each
//! connection. They are taken before what they stand for is read, and given back when it is gone (P20, D237).
//!
//! Hot path: taking and giving back are additions to three numbers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// An address may hold one part in so many of all, a connection one in so many.
const ADDRESS_PART: u64 = 2;
const CONNECTION_PART: u64 = 4;

/// A node's budget for one kind of bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<OfNode>);

#[derive(Debug)]
struct OfNode {
    /// What the bytes are for.
    what: &'static str,
    level: Level,
    addresses: Mutex<HashMap<IpAddr, Arc<Level>>>,
    refused: AtomicU64,
}

/// What is held of some bytes, and who waits for some.
#[derive(Debug)]
struct Level {
    whose: &'static str,
    most: u64,
    held: AtomicU64,
    waiting: AtomicU32,
    freed: Notify,
}

/// One connection's share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Share(Arc<OfConnection>);

#[derive(Debug)]
struct OfConnection {
    node: Arc<OfNode>,
    of_address: Arc<Level>,
    own: Level,
    address: IpAddr,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: Share,
    bytes: u64,
}

/// Bytes that are not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too busy: {whose} {held} of {most} bytes of memory for {what}, and wants {wanted} more; try again later")]
pub struct NoBytes {
    whose: &'static str,
    what: &'static str,
    held: u64,
    most: u64,
    wanted: u64,
}

impl Level {
    fn new(whose: &'static str, most: u64) -> Self {
        Self { whose, most, held: AtomicU64::new(0), waiting: AtomicU32::new(0), freed: Notify::new() }
    }

    fn take(&self, bytes: u64) -> bool {
        // In one step: what somebody takes for a moment and gives back in vain would refuse, or leave waiting, whom it fits.
        let sum = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        // In one order with a waiter's: it counts itself, then looks once more.
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    fn is_overdrawn(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.most
    }
}

impl Budget {
    /// A budget of so many bytes for all clients.
    pub fn new(what: &'static str, most: u64) -> Self {
        let level = Level::new("clients hold", most);
        Self(Arc::new(OfNode { what, level, addresses: Mutex::default(), refused: AtomicU64::new(0) }))
    }

    /// The share of a new connection from an address.
    pub fn share(&self, address: IpAddr) -> Share {
        let most = self.0.level.most;
        let new = || Arc::new(Level::new("this address holds", most / ADDRESS_PART));
        let of_address = self.0.addresses.lock().entry(address).or_insert_with(new).clone();
        let own = Level::new("this connection holds", most / CONNECTION_PART);
        Share(Arc::new(OfConnection { node: self.0.clone(), of_address, own, address }))
    }

    /// What all clients hold.
    pub fn held(&self) -> u64 {
        self.0.level.held.load(Ordering::Relaxed)
    }

    pub fn most(&self) -> u64 {
        self.0.level.most
    }

    /// How often somebody was refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        let mut addresses = self.node.addresses.lock();
        // The map's own, and this one's.
        if Arc::strong_count(&self.of_address) <= 2 {
            addresses.remove(&self.address);
        }
    }
}

impl Share {
    fn levels(&self) -> [&Level; 3] {
        [&self.0.own, &self.0.of_address, &self.0.node.level]
    }

    fn try_take(&self, bytes: u64) -> Result<(), &Level> {
        let levels = self.levels();
        for (at, level) in levels.iter().enumerate() {
            if !level.take(bytes) {
                for taken in &levels[..at] {
                    taken.give_back(bytes);
                }
                return Err(level);
            }
        }
        Ok(())
    }

    fn refusal(&self, level: &Level, wanted: u64) -> NoBytes {
        self.0.node.refused.fetch_add(1, Ordering::Relaxed);
        let held = level.held.load(Ordering::Relaxed);
        NoBytes { whose: level.whose, what: self.0.node.what, held, most: level.most, wanted }
    }

    /// Takes bytes if they are there; who gets none may wait for them.
    pub fn try_hold(&self, bytes: u64) -> Option<Held> {
        self.try_take(bytes).is_ok().then(|| Held { share: self.clone(), bytes })
    }

    /// Takes bytes, or says whose are used up.
    pub fn take(&self, bytes: u64) -> Result<Held, NoBytes> {
        match self.try_take(bytes) {
            Ok(()) => Ok(Held { share: self.clone(), bytes }),
            Err(level) => Err(self.refusal(level, bytes)),
        }
    }

    /// As [`Self::take`], but waits until `until` for what others give back.
    pub async fn take_until(&self, bytes: u64, until: Instant) -> Result<Held, NoBytes> {
        loop {
            let Err(level) = self.try_take(bytes) else { return Ok(Held { share: self.clone(), bytes }) };
            // More than it may ever have.
            if bytes > level.most {
                return Err(self.refusal(level, bytes));
            }
            let _waiting = Waiting::at(level);
            let mut freed = pin!(level.freed.notified());
            freed.as_mut().enable();
            // Given back before it waited.
            if self.try_take(bytes).is_ok() {
                return Ok(Held { share: self.clone(), bytes });
            }
            if timeout_at(until, freed).await.is_err() {
                return Err(self.refusal(level, bytes));
            }
            // There may be enough for one more who waits.
            if self.try_take(bytes).is_ok() {
                level.freed.notify_one();
                return Ok(Held { share: self.clone(), bytes });
            }
        }
    }

    /// Takes bytes that are there already, whatever is left: what is over is missing for others.
    pub fn take_anyway(&self, bytes: u64) -> Held {
        for level in self.levels() {
            level.held.fetch_add(bytes, Ordering::Relaxed);
        }
        Held { share: self.clone(), bytes }
    }

    /// Refuses whoever holds more than there is: of the connection's and its address's, and of all if it holds some itself.
    pub fn check(&self) -> Result<(), NoBytes> {
        let [own, of_address, of_node] = self.levels();
        let holds_some = own.held.load(Ordering::Relaxed) > 0;
        let overdrawn = [own, of_address].into_iter().chain(holds_some.then_some(of_node));
        match overdrawn.into_iter().find(|level| level.is_overdrawn()) {
            Some(level) => Err(self.refusal(level, 0)),
            None => Ok(()),
        }
    }
}

impl Held {
    /// So many more of the same share.
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        let is_taken = self.share.try_take(bytes).is_ok();
        self.bytes += if is_taken { bytes } else { 0 };
        is_taken
    }

    /// As [`Self::try_grow`], or says whose are used up.
    pub fn grow(&mut self, bytes: u64) -> Result<(), NoBytes> {
        match self.share.try_take(bytes) {
            Ok(()) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(level) => Err(self.share.refusal(level, bytes)),
        }
    }

    /// Gives some of them back.
    pub fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        for level in self.share.levels() {
            level.give_back(bytes);
        }
    }

    /// As [`Self::try_grow`], waiting for what others give back.
    pub async fn grow_until(&mut self, bytes: u64, until: Instant) -> Result<(), NoBytes> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        let mut more = self.share.take_until(bytes, until).await?;
        self.bytes += std::mem::take(&mut more.bytes);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for level in self.share.levels() {
            level.give_back(self.bytes);
        }
    }
}

/// One who waits for bytes.
struct Waiting<'a>(&'a Level);

impl<'a> Waiting<'a> {
    fn at(level: &'a Level) -> Self {
        level.waiting.fetch_add(1, Ordering::SeqCst);
        Self(level)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test]
    async fn p20_a_connection_gets_a_quarter_an_address_half_and_others_the_rest() {
        let budget = Budget::new("tests", 100);
        let of_a: Vec<Share> = (0..3).map(|_| budget.share(address(1))).collect();
        let mut held = vec![of_a[0].take(25).unwrap()];
        let refused = of_a[0].take(1).err().unwrap().to_string();
        assert_eq!(
            refused,
            "too busy: this connection holds 25 of 25 bytes of memory for tests, and wants 1 more; try again later"
        );
        held.push(of_a[1].take(25).unwrap());
        assert!(of_a[2].take(1).err().unwrap().to_string().contains("this address holds 50 of 50"));
        let of_others: Vec<Share> = [2, 2, 3].into_iter().map(|last| budget.share(address(last))).collect();
        held.push(of_others[0].take(25).unwrap());
        held.push(of_others[1].take(25).unwrap());
        assert!(of_others[2].take(1).err().unwrap().to_string().contains("clients hold 100 of 100"));
        assert_eq!((budget.held(), budget.refused()), (100, 3));
        drop(held);
        assert_eq!(budget.held(), 0);
        drop(of_others[2].take(25).unwrap());
        drop((of_a, of_others));
        assert!(budget.0.addresses.lock().is_empty(), "an address without connections is forgotten");
    }

    #[tokio::test]
    async fn p20_who_waits_gets_what_others_give_back_and_each_only_once() {
        let budget = Budget::new("tests", 100);
        let (one, other) = (budget.share(address(1)), budget.share(address(1)));
        let held = one.take(25).unwrap();
        let (mut first, mut second) =
            (Box::pin(one.take_until(20, now() + FOREVER)), Box::pin(one.take_until(5, now() + FOREVER)));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        // Another connection gives back what does not help.
        drop(other.take(25).unwrap());
        assert!(first.as_mut().now_or_never().is_none());
        drop(held);
        let first = first.await.unwrap();
        let second = second.await.unwrap();
        assert_eq!(budget.held(), 25);
        drop((first, second));
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn p20_what_never_fits_and_what_comes_too_late_is_refused() {
        let budget = Budget::new("tests", 100);
        let share = budget.share(address(1));
        assert!(share.take_until(26, now() + FOREVER).await.is_err(), "at once");
        let mut held = share.take(20).unwrap();
        assert!(share.take_until(6, now()).await.is_err());
        assert!(!held.try_grow(6));
        assert!(held.try_grow(5));
        assert!(share.check().is_ok());
        let more = share.take_anyway(1);
        assert!(share.check().is_err());
        drop((held, more));
        assert_eq!(budget.held(), 0);
        assert!(share.check().is_ok());
    }

    const FOREVER: std::time::Duration = std::time::Duration::from_secs(3600);
}
