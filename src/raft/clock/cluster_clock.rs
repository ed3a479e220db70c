//! The cluster's clock on this node: where machine time is now.
//!
//! Every node keeps it, so that a new leader goes on where the last one was. It starts at the machine's time as applied
//! and runs with the monotonic clock. A comparison of clocks corrects it:
//!
//! * by up to [`SLEW_PPM`] at any time, so a lease of ten seconds is wrong by 50 ms at most;
//! * by a step ahead, when the node starts, or when a majority of several nodes stays ahead by more than
//!   [`STEP_AHEAD_MS`]: then monotonic time stood still here (a virtual machine was suspended);
//! * never back: if it is ahead by more than [`SHIFT_MS`], machine time is shifted against the time of day
//!   (`machine/state/clock`), by a command of the leader.
//!
//! Hot path: every batch asks it, every entry tells it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::env::clock::Clock;
use crate::machine::state::clock::{MachineClock, STEP_MAX};
use crate::machine::state::view::View;
use crate::model::{Millis, Timestamp};
use crate::raft::error::StartError;
use crate::store::kv::Kv;

/// Most that the clock runs faster or slower than monotonic time, in millionths.
const SLEW_PPM: i64 = 5000;
/// A difference is to be gone after so many milliseconds, if the slew is enough.
const SLEW_OVER_MS: i64 = 30_000;
/// A majority that is ahead by more than this is followed in one step.
const STEP_AHEAD_MS: i64 = 500;
/// If the clock is ahead of a majority by more than this, machine time is shifted.
const SHIFT_MS: i64 = 1000;
/// Comparisons in a row that must ask for a step or a shift.
const SAME_RESULTS: u32 = 3;
/// A leader that was just started lets its first batch wait this long until clocks were compared.
const COMPARED_WITHIN: Duration = Duration::from_secs(1);

/// The stamp of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) struct Stamp {
    /// Machine time.
    pub at: Timestamp,
    /// If the batch must begin with a clock command, because the machine would not follow so far or has to be shifted: the
    /// shift.
    pub clock_command: Option<Millis>,
}

struct State {
    /// The clock was at `anchor` (microseconds) when monotonic time was `anchored_at`.
    anchor: u64,
    anchored_at: Duration,
    slew_ppm: i64,
    /// The clock was taken from this node's own, because no entry was applied, and nothing was timed by it yet.
    is_guess: bool,
    /// As last applied here.
    machine: MachineClock,
    /// Comparisons in a row that found the clock too far behind, and too far ahead.
    behind: u32,
    ahead: u32,
    /// Whether every node knows the clock command.
    may_command: bool,
    /// What was agreed on last: time of day and monotonic time.
    agreed: Option<(Timestamp, Duration)>,
    /// What a leader's next batch has to say: the shift that is needed.
    wanted: Option<Millis>,
}

/// The cluster's clock on this node.
pub struct ClusterClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Whether machine time is not the time of day.
    is_shifted: AtomicBool,
    /// Whether clocks were compared since the start, or nobody waits for it any more.
    compared: watch::Sender<bool>,
}

impl ClusterClock {
    /// Goes on from the machine's time in the state.
    ///
    /// * Errors: [`StartError::Storage`] if it cannot be read.
    pub fn open(clock: Arc<dyn Clock>, state: &dyn Kv) -> Result<Self, StartError> {
        let machine = View::new(state).clock().map_err(|failure| StartError::Storage(io::Error::other(failure)))?;
        Ok(Self::start(clock, machine))
    }

    /// Goes on from the machine's time. A state without any begins at this node's time of day.
    fn start(clock: Arc<dyn Clock>, machine: MachineClock) -> Self {
        let is_guess = machine.now() == Timestamp(0);
        let at = if is_guess { clock.wall() } else { machine.now() };
        let is_shifted = AtomicBool::new(machine.shift() > Millis(0));
        let state = State {
            anchor: micros(at),
            anchored_at: clock.mono(),
            slew_ppm: 0,
            is_guess,
            machine,
            behind: 0,
            ahead: 0,
            may_command: false,
            agreed: None,
            wanted: None,
        };
        Self { clock, state: Mutex::new(state), is_shifted, compared: watch::Sender::new(false) }
    }

    /// Where machine time is now, here and on every node: to be compared with what is due.
    pub fn machine_now(&self) -> Timestamp {
        let mono = self.clock.mono();
        Timestamp(self.state.lock().now(mono) / 1000)
    }

    /// The time of day at a machine time, to be shown.
    pub fn wall_of(&self, at: Timestamp) -> Timestamp {
        // Hot path: of every message that is delivered.
        if self.is_shifted.load(Ordering::Relaxed) { self.state.lock().machine.wall_of(at) } else { at }
    }

    /// An entry was applied and left the machine's clock so.
    pub(in crate::raft) fn applied(&self, machine: &MachineClock) {
        let mono = self.clock.mono();
        let mut state = self.state.lock();
        state.machine.follow(machine);
        self.is_shifted.store(machine.shift() > Millis(0), Ordering::Relaxed);
        if state.wanted.is_some_and(|shift| machine.is_bounded() && shift <= machine.shift()) {
            state.wanted = None;
        }
        let before = state.now(mono);
        if micros(machine.now()) > before || state.is_guess {
            state.anchor(mono, micros(machine.now()));
            // A log that ran ahead is applied after the start: what comes next must not be timed by that.
            if let Some(ahead_ms) = state.ahead_ms(mono).filter(|ahead_ms| *ahead_ms > SHIFT_MS) {
                state.want_shift(ahead_ms);
            }
        }
    }

    /// How long ago the machine's time was what it is, as last applied here.
    pub(in crate::raft) fn since_applied(&self) -> Millis {
        let mono = self.clock.mono();
        let state = self.state.lock();
        Timestamp(state.now(mono) / 1000).since(state.machine.now())
    }

    /// The stamp for a batch. Right after the start it waits a moment for a comparison: what a leader that was down grants
    /// before it knows for how long would end early.
    pub(in crate::raft) async fn stamp(&self) -> Stamp {
        if !*self.compared.borrow() {
            let mut compared = self.compared.subscribe();
            let is_compared = compared.wait_for(|compared| *compared);
            // Nobody else may answer, or in an older build's words: then the time goes on from where it was.
            let _ = tokio::time::timeout_at(Instant::now() + COMPARED_WITHIN, is_compared).await;
            self.compared.send_replace(true);
        }
        let mono = self.clock.mono();
        let mut state = self.state.lock();
        state.is_guess = false;
        let at = Timestamp(state.now(mono) / 1000);
        let is_far = state.machine.is_bounded() && at.since(state.machine.now()).0 > STEP_MAX.0 / 2;
        Stamp { at, clock_command: state.wanted.or_else(|| is_far.then(|| state.machine.shift())) }
    }

    /// The shift of the clock command that a leader has to propose, if one is needed and allowed.
    pub(in crate::raft) fn wanted(&self) -> Option<Millis> {
        self.state.lock().wanted
    }

    /// Whether clocks were compared since the start, or nobody waits for it any more.
    pub(in crate::raft) fn is_compared(&self) -> bool {
        *self.compared.borrow()
    }

    /// A majority agrees on this time of day. Only of several `nodes` may it step the clock of a node that runs.
    ///
    /// `may_command` says that every node knows the clock command; those of an older build would end at it. Once it was
    /// used, that is so.
    pub(in crate::raft) fn compare(&self, wall: Timestamp, nodes: usize, may_command: bool) {
        let is_first = !*self.compared.borrow();
        let mono = self.clock.mono();
        let mut state = self.state.lock();
        let now = state.now(mono);
        state.anchor(mono, now);
        (state.agreed, state.may_command) = (Some((wall, mono)), may_command);
        let ahead_ms = state.ahead_ms(mono).unwrap_or(0);
        state.behind = if ahead_ms < -STEP_AHEAD_MS && nodes > 1 { state.behind + 1 } else { 0 };
        state.ahead = if ahead_ms > SHIFT_MS { state.ahead + 1 } else { 0 };
        state.slew_ppm = ahead_ms.saturating_mul(-1_000_000 / SLEW_OVER_MS).clamp(-SLEW_PPM, SLEW_PPM);
        let shift = state.machine.shift();
        let is_wanted = state.wanted.take().is_some_and(|wanted| wanted > shift);
        let is_guess = std::mem::take(&mut state.is_guess);
        if is_guess || (is_first && ahead_ms < 0) || state.behind >= SAME_RESULTS {
            let aim = micros(state.machine.machine_of(wall));
            state.anchor(mono, aim);
            (state.slew_ppm, state.behind) = (0, 0);
            if ahead_ms < -STEP_AHEAD_MS && !is_guess {
                tracing::info!(ms = -ahead_ms, "cluster time stepped ahead to what the nodes' clocks agree on");
            }
        } else if state.ahead >= SAME_RESULTS || (state.ahead > 0 && (is_first || is_wanted)) {
            state.want_shift(ahead_ms);
        }
        if !state.machine.is_bounded() && may_command && state.wanted.is_none() {
            state.wanted = Some(shift);
        }
        drop(state);
        if is_first {
            self.compared.send_replace(true);
        }
    }

    /// No time is agreed on: the clock runs on with monotonic time alone.
    pub(in crate::raft) fn run_alone(&self) {
        let mono = self.clock.mono();
        let mut state = self.state.lock();
        let now = state.now(mono);
        state.anchor(mono, now);
        (state.slew_ppm, state.behind, state.ahead) = (0, 0, 0);
        (state.agreed, state.wanted) = (None, None);
    }
}

/// The time of day by the cluster's clock: for sessions and what is shown.
impl Clock for ClusterClock {
    fn wall(&self) -> Timestamp {
        let mono = self.clock.mono();
        let state = self.state.lock();
        let now = Timestamp(state.now(mono) / 1000);
        state.machine.wall_of(now)
    }

    fn mono(&self) -> Duration {
        self.clock.mono()
    }
}

impl State {
    /// Microseconds of machine time.
    fn now(&self, mono: Duration) -> u64 {
        let elapsed = i128::try_from(mono.saturating_sub(self.anchored_at).as_micros()).unwrap_or(i128::MAX);
        let slewed = elapsed.saturating_add(elapsed.saturating_mul(i128::from(self.slew_ppm)) / 1_000_000);
        self.anchor.saturating_add(u64::try_from(slewed).unwrap_or(u64::MAX))
    }

    /// What the clock is ahead of the agreed time.
    fn ahead_ms(&self, mono: Duration) -> Option<i64> {
        let (wall, agreed_at) = self.agreed?;
        let aim = micros(self.machine.machine_of(wall.plus(mono.saturating_sub(agreed_at).into())));
        Some(i64::try_from((i128::from(self.now(mono)) - i128::from(aim)) / 1000).unwrap_or(i64::MAX))
    }

    /// Machine time is to be shifted by so much more, if every node knows how.
    fn want_shift(&mut self, ahead_ms: i64) {
        // What remains is not to be slewed while the command is on its way.
        self.slew_ppm = 0;
        if self.machine.is_bounded() || self.may_command {
            self.wanted = Some(Millis(self.machine.shift().0.saturating_add(ahead_ms.unsigned_abs())));
        }
    }

    fn anchor(&mut self, mono: Duration, at: u64) {
        (self.anchor, self.anchored_at) = (at, mono);
    }
}

fn micros(at: Timestamp) -> u64 {
    at.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::clock::ManualClock;

    const START: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600_000;

    /// As entries left it; eras are the machine times from which on it is ahead by so much.
    fn machine(now: u64, eras: &[(u64, u64)]) -> MachineClock {
        let eras = eras.iter().flat_map(|(since, shift)| [*since, *shift]);
        let bytes: Vec<u8> = std::iter::once(now).chain(eras).flat_map(u64::to_be_bytes).collect();
        MachineClock::decode(Some(bytes.into())).unwrap()
    }

    fn bounded(now: u64) -> MachineClock {
        machine(now, &[(0, 0)])
    }

    /// A node whose own clocks are simulated; its time of day is never asked but at the start.
    fn node(machine: MachineClock) -> (Arc<ManualClock>, ClusterClock) {
        let own = Arc::new(ManualClock::new(Timestamp(START)));
        let clock = ClusterClock::start(own.clone(), machine);
        (own, clock)
    }

    #[test]
    fn p21_it_goes_on_from_the_machine_s_time_whatever_this_node_s_clock_says() {
        for machine in [START - HOUR, START + 70 * 365 * 24 * HOUR] {
            let (own, clock) = node(bounded(machine));
            own.advance(Millis(1500));
            assert_eq!(clock.machine_now(), Timestamp(machine + 1500));
        }
        let (own, fresh) = node(MachineClock::default());
        assert_eq!(fresh.machine_now(), Timestamp(START), "a new cluster begins at the time of day");
        // It was not new: the log is applied after the start.
        fresh.applied(&bounded(START - HOUR));
        own.advance(Millis(5));
        assert_eq!(fresh.machine_now(), Timestamp(START - HOUR + 5));
        let (_, fresh) = node(MachineClock::default());
        fresh.compare(Timestamp(START - HOUR), 3, true);
        assert_eq!(fresh.machine_now(), Timestamp(START - HOUR), "the others know better");
    }

    #[test]
    fn p21_the_first_comparison_steps_ahead_and_later_ones_slew() {
        let (own, clock) = node(bounded(START - 2 * HOUR));
        clock.compare(Timestamp(START), 3, true);
        assert_eq!(clock.wanted(), None);
        assert_eq!(clock.machine_now(), Timestamp(START), "the cluster was down for two hours");
        // One that is 300 ms ahead is approached, by 0.5 % at most.
        for second in 1..=10 {
            own.advance(Millis(1000));
            clock.compare(Timestamp(START + second * 1000 + 300), 3, true);
        }
        let ahead = clock.machine_now().since(Timestamp(START + 10_000));
        assert!((40..=50).contains(&ahead.0), "{ahead}");
        // And from behind: it goes on all the same.
        let before = clock.machine_now();
        clock.compare(Timestamp(before.0 - 300), 3, true);
        own.advance(Millis(1000));
        assert_eq!(clock.machine_now().since(before), Millis(995));
    }

    #[test]
    fn p21_a_majority_that_stays_ahead_is_followed_in_a_step_but_no_node_alone() {
        for (nodes, expected) in [(3, START + HOUR + 3000), (1, START + 3010)] {
            let (own, clock) = node(bounded(START));
            clock.compare(Timestamp(START), nodes, true);
            for second in 1..=3 {
                own.advance(Millis(1000));
                clock.compare(Timestamp(START + HOUR + second * 1000), nodes, true);
            }
            assert_eq!(clock.machine_now(), Timestamp(expected), "{nodes} nodes");
        }
        // Once is not enough.
        let (own, clock) = node(bounded(START));
        clock.compare(Timestamp(START), 3, true);
        for wall in [START + HOUR, START, START + HOUR, START] {
            clock.compare(Timestamp(wall), 3, true);
        }
        own.advance(Millis(1000));
        assert_eq!(clock.machine_now(), Timestamp(START + 1000));
    }

    #[tokio::test]
    async fn p8_p21_a_poisoned_machine_goes_on_at_its_pace_and_is_shifted() {
        let poison = START + 70 * 365 * 24 * HOUR;
        // As an older build left it: one number, no bounds.
        let (own, clock) = node(machine(poison, &[]));
        clock.compare(Timestamp(START), 3, false);
        assert_eq!(clock.wanted(), None, "a node of an older build would end at the command");
        for _ in 0..3 {
            clock.compare(Timestamp(START), 3, true);
        }
        let shift = clock.wanted().unwrap();
        assert_eq!(shift, Millis(poison - START));
        assert_eq!(clock.stamp().await.clock_command, Some(shift), "the next batch says so first");
        own.advance(Millis(10));
        clock.applied(&machine(poison + 10, &[(0, 0), (poison + 10, shift.0)]));
        assert_eq!(clock.machine_now(), Timestamp(poison + 10), "leases go on");
        assert_eq!(clock.wall(), Timestamp(START + 10), "and users see the time of day");
        own.advance(Millis(10_000));
        clock.compare(Timestamp(START + 10_010), 3, true);
        assert_eq!(clock.wanted(), None);
        assert_eq!(clock.machine_now(), Timestamp(poison + 10_010));
    }

    #[tokio::test]
    async fn p21_a_log_that_ran_ahead_and_is_applied_after_the_first_comparison_is_shifted_at_once() {
        let (_, clock) = node(bounded(START));
        clock.compare(Timestamp(START), 3, false);
        clock.applied(&bounded(START + HOUR));
        assert_eq!(clock.stamp().await.clock_command, Some(Millis(HOUR)));
        clock.compare(Timestamp(START), 3, false);
        assert_eq!(clock.stamp().await.clock_command, Some(Millis(HOUR)), "until it is done");
        // The entry that shifts it may follow in the log.
        clock.applied(&machine(START + HOUR, &[(0, 0), (START + HOUR, HOUR)]));
        assert_eq!(clock.stamp().await, Stamp { at: Timestamp(START + HOUR), clock_command: None });
    }

    #[test]
    fn p21_what_was_applied_is_never_ahead_of_the_clock() {
        let (_, clock) = node(bounded(START));
        clock.applied(&bounded(START + 700));
        assert_eq!(clock.machine_now(), Timestamp(START + 700), "a leader was ahead of this node");
        clock.applied(&bounded(START + 100));
        assert_eq!(clock.machine_now(), Timestamp(START + 700));
    }

    #[tokio::test]
    async fn p21_a_batch_far_ahead_of_the_machine_says_that_it_is_meant() {
        let (own, clock) = node(bounded(START));
        clock.compare(Timestamp(START), 3, true);
        own.advance(Millis(STEP_MAX.0 / 2));
        assert_eq!(clock.stamp().await.clock_command, None);
        own.advance(Millis(1));
        let stamp = clock.stamp().await;
        assert_eq!(stamp, Stamp { at: Timestamp(START + STEP_MAX.0 / 2 + 1), clock_command: Some(Millis(0)) });
        // Nodes of an older build would end at the command.
        let (own, clock) = node(machine(START, &[]));
        own.advance(Millis(9 * HOUR));
        assert_eq!(clock.stamp().await.clock_command, None);
    }

    #[tokio::test]
    async fn p8_the_first_batch_after_a_start_waits_for_a_comparison_and_not_for_ever() {
        let (_, clock) = node(bounded(START - HOUR));
        let clock = Arc::new(clock);
        let comparing = clock.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            comparing.compare(Timestamp(START), 3, true);
        });
        assert_eq!(clock.stamp().await.at, Timestamp(START), "not an hour ago: what it grants would end at once");

        let (_, alone) = node(bounded(START - HOUR));
        let asked = Instant::now();
        assert_eq!(alone.stamp().await.at, Timestamp(START - HOUR));
        assert!(asked.elapsed() >= COMPARED_WITHIN);
        assert!(alone.is_compared(), "only once");
    }
}
