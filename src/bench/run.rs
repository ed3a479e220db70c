//! One run: threads, connections and workers, the window, and the drain.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bench::Error;
use crate::bench::body::{BYTES_MIN, Filler};
use crate::bench::classic::PullOffsets;
use crate::bench::connection::Purpose;
use crate::bench::drain;
use crate::bench::drain::{Basket, Catch};
use crate::bench::driver::{Driver, Session};
use crate::bench::load;
use crate::bench::load::{LoadState, Pace, Phase};
use crate::bench::plan::{RunKind, RunPlan};
use crate::bench::report::{Report, Settings, Used};
use crate::bench::tally::Tally;

/// A drain in which nothing comes for this long is over. Longer than a poll, and than RocketMQ's revive.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Longer than any drain takes, so that nothing comes back while it is checked.
const INVISIBLE: Duration = Duration::from_secs(120);
/// Requests in flight while a receive run is filled.
const PREFILL_IN_FLIGHT: usize = 64;

/// Makes a run; blocks until it is checked.
pub fn run(plan: &RunPlan) -> Result<Report, Error> {
    let crew = Crew::new(plan);
    let servers = plan.servers()?;
    match plan.what {
        RunKind::Send => crew.send(&servers),
        RunKind::Receive => crew.receive(&servers),
        RunKind::EndToEnd => crew.end_to_end(&servers),
    }
}

struct Crew<'a> {
    plan: &'a RunPlan,
    run: u64,
    started: Instant,
    /// Of consumers over the classic protocol.
    offsets: Arc<PullOffsets>,
}

/// What the threads of one stage do.
struct Stage {
    shared: Arc<LoadState>,
    in_flight: usize,
    basket: Option<Arc<Basket>>,
    /// Dropped by the last sender that ends: whoever has the other end hears that.
    sending: Option<mpsc::Sender<Infallible>>,
}

/// What the window saw.
struct Measured {
    length: Duration,
    servers: Used,
    client: Used,
}

impl<'a> Crew<'a> {
    fn new(plan: &'a RunPlan) -> Self {
        Self { plan, run: crate::env::rng::random_u64(), started: Instant::now(), offsets: Arc::default() }
    }

    fn shared(&self, pace: Pace, batch: usize, budget: Option<u64>) -> Arc<LoadState> {
        Arc::new(LoadState {
            run: self.run,
            started: self.started,
            wall: crate::env::clock::wall,
            phase: Phase::default(),
            pace,
            budget: budget.map(AtomicU64::new),
            stored: AtomicU64::new(0),
            filler: Filler::new(self.plan.size.max(BYTES_MIN)),
            batch,
            delay: self.plan.delay,
        })
    }

    fn basket(&self, shared: &Arc<LoadState>) -> Arc<Basket> {
        Arc::new(Basket {
            shared: shared.clone(),
            acks: self.plan.acks,
            batch: self.plan.receive_batch,
            got: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            done: CancellationToken::new(),
        })
    }

    fn pace(&self) -> Pace {
        self.plan.rate.map_or(Pace::Closed, |rate| Pace::at_rate(rate, self.plan.batch))
    }

    fn send(&self, servers: &[u32]) -> Result<Report, Error> {
        let shared = self.shared(self.pace(), self.plan.batch, None);
        let stage = Stage { shared: shared.clone(), in_flight: self.plan.in_flight, basket: None, sending: None };
        let (window, tally, _) = self.stage(stage, || self.window(&shared, servers))?;
        let arrived = if self.plan.verifies { Some(self.drain(&tally)?) } else { None };
        self.report(window?, tally, arrived, servers)
    }

    fn receive(&self, servers: &[u32]) -> Result<Report, Error> {
        let filling = self.shared(Pace::Closed, self.plan.batch, Some(self.plan.count));
        let stage = Stage { shared: filling, in_flight: PREFILL_IN_FLIGHT, basket: None, sending: None };
        let ((), sent, _) = self.stage(stage, || ())?;
        let awaited = known(&sent);
        let shared = self.shared(Pace::Closed, 1, Some(0));
        let basket = self.basket(&shared);
        let stage = Stage { shared: shared.clone(), in_flight: 0, basket: Some(basket.clone()), sending: None };
        let measure = || {
            let before = (Instant::now(), Used::of(servers)?, Used::of_self()?);
            shared.phase.measure();
            wait_for(&basket, awaited);
            shared.phase.end();
            let length = before.0.elapsed();
            let servers = Used::of(servers)?.since(&before.1);
            Ok::<_, Error>(Measured { length, servers, client: Used::of_self()?.since(&before.2) })
        };
        let (window, mut tally, catches) = self.stage(stage, measure)?;
        let arrived = drain::check(&sent.sent, catches)?;
        tally.messages = tally.received;
        tally.latency_us = tally.poll_us.clone();
        self.report(window?, tally, Some(arrived), servers)
    }

    fn end_to_end(&self, servers: &[u32]) -> Result<Report, Error> {
        let shared = self.shared(self.pace(), self.plan.batch, None);
        let basket = self.basket(&shared);
        let (sending, senders) = mpsc::channel();
        let stage = Stage {
            shared: shared.clone(),
            in_flight: self.plan.in_flight,
            basket: Some(basket.clone()),
            sending: Some(sending),
        };
        let measure = || {
            let window = self.window(&shared, servers);
            // Every send has a deadline. Before all are answered nobody knows how much is to come.
            let ended = senders.recv();
            debug_assert!(ended.is_err(), "nothing is said but that it is over");
            std::thread::sleep(self.plan.delay.unwrap_or_default());
            wait_for(&basket, shared.stored.load(Ordering::Relaxed));
            window
        };
        let (window, tally, catches) = self.stage(stage, measure)?;
        let arrived = drain::check(&tally.sent, catches)?;
        self.report(window?, tally, Some(arrived), servers)
    }

    /// Warm-up, then the window; the workers end with it.
    fn window(&self, shared: &LoadState, servers: &[u32]) -> Result<Measured, Error> {
        std::thread::sleep(self.plan.warm_up);
        let before = (Instant::now(), Used::of(servers)?, Used::of_self()?);
        shared.phase.measure();
        std::thread::sleep(self.plan.window);
        shared.phase.end();
        let length = before.0.elapsed();
        let servers = Used::of(servers)?.since(&before.1);
        Ok(Measured { length, servers, client: Used::of_self()?.since(&before.2) })
    }

    /// Receives everything the run has sent, and checks it.
    fn drain(&self, tally: &Tally) -> Result<u64, Error> {
        let shared = self.shared(Pace::Closed, 1, Some(0));
        let basket = self.basket(&shared);
        let awaited = known(tally);
        let stage = Stage { shared, in_flight: 0, basket: Some(basket.clone()), sending: None };
        let ((), _, catches) = self.stage(stage, || wait_for(&basket, awaited))?;
        drain::check(&tally.sent, catches)
    }

    /// Runs the threads of a stage; `control` runs beside them once all are connected, and ends them.
    fn stage<T>(&self, mut stage: Stage, control: impl FnOnce() -> T) -> Result<(T, Tally, Vec<Catch>), Error> {
        let threads = self.plan.threads.max(1);
        let ready = Arc::new(std::sync::Barrier::new(threads + 1));
        let sending = stage.sending.take();
        let stage = &stage;
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    let (ready, sending) = (ready.clone(), sending.clone());
                    scope.spawn(move || self.thread((thread, threads), stage, sending, &ready))
                })
                .collect();
            drop(sending);
            ready.wait();
            let controlled = control();
            if let Some(basket) = &stage.basket {
                basket.done.cancel();
            }
            let (mut tally, mut catches) = (Tally::default(), Vec::new());
            for handle in handles {
                let ended = handle.join().map_err(|_| Error::Machine("a driver thread panicked".to_owned()))?;
                let (own, caught) = ended?;
                tally.add(own);
                catches.extend(caught);
            }
            Ok((controlled, tally, catches))
        })
    }

    /// One thread: its share of the connections, senders and consumers, on a runtime of its own.
    fn thread(
        &self,
        (thread, threads): (usize, usize),
        stage: &Stage,
        sending: Option<mpsc::Sender<Infallible>>,
        ready: &std::sync::Barrier,
    ) -> Result<(Tally, Vec<Catch>), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Machine(format!("no runtime: {error}")));
        let local = tokio::task::LocalSet::new();
        let prepared = match &runtime {
            Ok(runtime) => local.block_on(runtime, self.connections(thread, threads, stage)),
            Err(_) => Ok(Vec::new()),
        };
        ready.wait();
        let (runtime, connections) = (runtime?, prepared?);
        local.block_on(&runtime, self.drive((thread, threads), stage, sending, connections))
    }

    async fn connections(&self, thread: usize, threads: usize, stage: &Stage) -> Result<Vec<Opened>, Error> {
        let addresses = self.plan.endpoints.addresses();
        let mut connections = Vec::new();
        for number in (thread..self.plan.connections.max(threads)).step_by(threads) {
            let purpose = Purpose {
                address: &addresses[number % addresses.len()],
                topic: &self.plan.topics[number % self.plan.topics.len()],
                group: &self.plan.group,
                client_id: format!("bench@{:x}@{number}@{}", self.run, stage.basket.is_some()),
                consumes: stage.basket.is_some(),
                invisible: INVISIBLE,
            };
            connections.push(Driver::open(self.plan.protocol, purpose, number, &self.offsets).await?);
        }
        Ok(connections)
    }

    async fn drive(
        &self,
        (thread, threads): (usize, usize),
        stage: &Stage,
        sending: Option<mpsc::Sender<Infallible>>,
        connections: Vec<Opened>,
    ) -> Result<(Tally, Vec<Catch>), Error> {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in (thread..stage.in_flight).step_by(threads) {
            let connection = connections[(number / threads) % connections.len()].0.clone();
            let worker = u32::try_from(number).unwrap_or(u32::MAX);
            let (work, sending) =
                (load::work(connection, worker, stage.shared.clone(), tally.clone()), sending.clone());
            tasks.spawn_local(async move {
                work.await;
                drop(sending);
            });
        }
        drop(sending);
        let catch = Rc::new(RefCell::new(Catch::default()));
        if let Some(basket) = &stage.basket {
            for number in (thread..self.plan.consumers.max(threads)).step_by(threads) {
                let connection = connections[(number / threads) % connections.len()].0.clone();
                tasks.spawn_local(drain::consume(connection, number, basket.clone(), tally.clone(), catch.clone()));
            }
        }
        while tasks.join_next().await.is_some() {}
        drop(connections);
        let (tally, catch) = (std::mem::take(&mut *tally.borrow_mut()), std::mem::take(&mut *catch.borrow_mut()));
        Ok((tally, vec![catch]))
    }

    fn report(&self, window: Measured, tally: Tally, arrived: Option<u64>, servers: &[u32]) -> Result<Report, Error> {
        let settings = Settings::of(self.plan);
        Report::new(settings, window.length, tally, arrived, window.servers, window.client, servers.len())
    }
}

/// A connection and its session.
type Opened = (Driver, Session);

/// Messages that are stored for certain.
fn known(tally: &Tally) -> u64 {
    tally.sent.iter().map(|sent| u64::from(sent.next) - sent.unknown.len() as u64).sum()
}

/// Waits until as many messages came, or none for a long time.
fn wait_for(basket: &Basket, awaited: u64) {
    let step = Duration::from_millis(2);
    let (mut before, mut idle) = (0, Duration::ZERO);
    loop {
        if basket.got.load(Ordering::Relaxed) >= awaited || idle > IDLE_MAX {
            return;
        }
        let seen = basket.seen.load(Ordering::Relaxed);
        idle = if seen == before { idle + step } else { Duration::ZERO };
        before = seen;
        std::thread::sleep(step);
    }
}
