//! What a drill found, for people: gaps, a timeline in text and one as a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::drill::check::{Checked, Seen, Verdict};
use crate::drill::history::{Event, OperationKind, Phase};

/// Schema of the JSON document.
pub const SCHEMA: &str = "raftmq.drill.v1";
/// The gap of a fault begins within this time.
const GAP_WITHIN_US: u64 = 6_000_000;
/// Faults this close to each other are one.
const TOGETHER_US: u64 = 100_000;
/// Acknowledged sends are counted over this length in the pictures.
const STEP_US: u64 = 100_000;

/// One fault and what clients saw of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultSeen {
    /// Seconds since the drill began, in thousandths.
    pub at_ms: u64,
    pub node: String,
    /// `kill`, `pause`, `isolate`, `stop`, `clock-…`, `hostile-peers`.
    pub kind: String,
    /// Whether it led.
    pub led: bool,
    /// Whether another node was away at the same time, so that no majority was left.
    pub lost_majority: bool,
    /// Longest time without an acknowledged send from then on, milliseconds.
    pub gap_ms: u64,
}

/// Quantiles of gaps, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    pub count: u64,
    /// Median.
    pub p50_ms: u64,
    /// 99 of 100 are not above it.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// Those of a second or longer.
    pub from_1s: u64,
}

/// What several drills can be added up by: numbers of each come to those of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Drills that were true, false and unknown.
    pub verdicts: [usize; 3],
    pub seconds: u64,
    pub faults: usize,
    /// Faults that left a majority, and the gaps of those that were a second or longer.
    pub with_majority: u64,
    pub gaps_from_1s: u64,
    /// Sends acknowledged, with unknown fate, refused.
    pub sends: [usize; 3],
    pub redeliveries: usize,
    #[serde(flatten)]
    pub seen: Seen,
    pub lost: usize,
    pub duplicated: usize,
    pub redelivered_after_ack: usize,
    /// Violations of all rules together.
    pub violations: usize,
}

/// The whole result.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    pub version: &'static str,
    pub machine: String,
    pub scenario: String,
    /// Decides what a random drill does.
    pub seed: u64,
    /// What the drill could not do as asked.
    pub notes: Vec<String>,
    /// What the checker says.
    #[serde(flatten)]
    pub checked: Checked,
    /// Of faults that hit a leader and left a majority.
    pub gaps: Gaps,
    /// By kind of fault and whom it hit: `kill leader`, `pause follower`, `stop majority`.
    pub gaps_by_kind: BTreeMap<String, Gaps>,
    pub sums: Sums,
    pub faults: Vec<FaultSeen>,
}

/// The faults of a history with their gaps.
pub fn faults(history: &[Event]) -> Vec<FaultSeen> {
    let acknowledged = acknowledged(history);
    let faults: Vec<&Event> = history.iter().filter(|event| event.f == OperationKind::Fault).collect();
    // What clients saw after the next fault counts for that one.
    let next = |fault: &Event| faults.iter().map(|next| next.t).find(|next| *next > fault.t + TOGETHER_US);
    let without_majority = without_majority(history);
    faults
        .iter()
        .map(|fault| FaultSeen {
            at_ms: fault.t / 1000,
            node: fault.node.clone().unwrap_or_default(),
            kind: fault.kind.clone().unwrap_or_default(),
            led: fault.led == Some(true),
            lost_majority: without_majority.contains(&fault.i),
            gap_ms: gap(&acknowledged, fault.t, next(fault).unwrap_or(u64::MAX)) / 1000,
        })
        .collect()
}

/// The numbers of the faults that were not healed while there was another one.
fn without_majority(history: &[Event]) -> BTreeSet<u64> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let mut together = BTreeSet::new();
    for event in history {
        let Some(node) = event.node.as_deref() else { continue };
        match event.f {
            OperationKind::Fault => drop(open.insert(node, event.i)),
            OperationKind::Heal => drop(open.remove(node)),
            _ => {}
        }
        if open.len() >= 2 {
            together.extend(open.values());
        }
    }
    together
}

/// When sends were acknowledged, in order.
fn acknowledged(history: &[Event]) -> Vec<u64> {
    let mut times: Vec<u64> = history
        .iter()
        .filter(|event| matches!(event.f, OperationKind::Send | OperationKind::SendTxn) && event.ph == Phase::Ok)
        .map(|event| event.t)
        .collect();
    times.sort_unstable();
    times
}

fn gap(acknowledged: &[u64], from: u64, to: u64) -> u64 {
    let first = acknowledged.partition_point(|at| *at < from).saturating_sub(1);
    let within = |pair: &&[u64]| pair[0] < to.min(from + GAP_WITHIN_US);
    // A gap that goes on after the next fault counts for that one from there on.
    // And what an earlier fault had begun counts from this one on.
    let gap = |pair: &[u64]| pair[1].min(to).saturating_sub(pair[0].max(from));
    acknowledged[first..].windows(2).take_while(within).map(gap).max().unwrap_or(0)
}

/// Quantiles over the faults that hit a leader and left a majority.
pub fn gaps(faults: &[FaultSeen]) -> Gaps {
    gaps_of(faults.iter().filter(|fault| fault.led && !fault.lost_majority))
}

/// By kind of fault and whom it hit.
pub fn gaps_by_kind(faults: &[FaultSeen]) -> BTreeMap<String, Gaps> {
    let mut kinds: BTreeMap<String, Vec<&FaultSeen>> = BTreeMap::new();
    for fault in faults {
        kinds.entry(format!("{} {}", fault.kind, fault.whom())).or_default().push(fault);
    }
    kinds.into_iter().map(|(kind, faults)| (kind, gaps_of(faults.into_iter()))).collect()
}

fn gaps_of<'a>(faults: impl Iterator<Item = &'a FaultSeen>) -> Gaps {
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 3_600_000, 3).expect("valid bounds");
    let mut from_1s = 0;
    for fault in faults {
        histogram.saturating_record(fault.gap_ms);
        from_1s += u64::from(fault.gap_ms >= 1000);
    }
    Gaps {
        count: histogram.len(),
        p50_ms: histogram.value_at_quantile(0.5),
        p99_ms: histogram.value_at_quantile(0.99),
        max_ms: histogram.max(),
        from_1s,
    }
}

impl FaultSeen {
    /// `leader`, `follower`, or `majority` if it left none.
    fn whom(&self) -> &'static str {
        match (self.lost_majority, self.led) {
            (true, _) => "majority",
            (false, true) => "leader",
            (false, false) => "follower",
        }
    }
}

impl Sums {
    pub fn of(history: &[Event], checked: &Checked, faults: &[FaultSeen]) -> Self {
        let with_majority = gaps_of(faults.iter().filter(|fault| !fault.lost_majority));
        let is = |verdict| usize::from(checked.verdict == verdict);
        Self {
            verdicts: [is(Verdict::True), is(Verdict::False), is(Verdict::Unknown)],
            seconds: history.last().map_or(0, |event| event.t / 1_000_000),
            faults: faults.len(),
            with_majority: with_majority.count,
            gaps_from_1s: with_majority.from_1s,
            sends: checked.sends,
            redeliveries: checked.redeliveries,
            seen: checked.seen,
            lost: checked.lost,
            duplicated: checked.duplicated,
            redelivered_after_ack: checked.redelivered_after_ack,
            violations: checked.broken.iter().filter(|(rule, _)| *rule != "V").map(|(_, count)| count).sum(),
        }
    }
}

/// The gaps by kind as lines of text.
pub fn gap_table(kinds: &BTreeMap<String, Gaps>) -> String {
    let mut text =
        format!("{:<24} {:>5} {:>8} {:>8} {:>8}  1 s or more\n", "gap after", "n", "p50 ms", "p99 ms", "max ms");
    for (kind, gaps) in kinds {
        let Gaps { count, p50_ms, p99_ms, max_ms, from_1s } = gaps;
        writeln!(text, "{kind:<24} {count:>5} {p50_ms:>8} {p99_ms:>8} {max_ms:>8}  {from_1s}")
            .expect("text takes any text");
    }
    text
}

/// Acknowledged sends per [`STEP_US`].
fn rates(history: &[Event]) -> Vec<u32> {
    let acknowledged = acknowledged(history);
    let mut rates = vec![0; acknowledged.last().map_or(0, |last| (last / STEP_US) as usize + 1)];
    for at in acknowledged {
        rates[(at / STEP_US) as usize] += 1;
    }
    rates
}

/// The times each node was hurt, as (node, from, to, kind, led).
fn hurts(history: &[Event]) -> Vec<(&str, u64, u64, &str, bool)> {
    let end = history.last().map_or(0, |event| event.t);
    let mut open: BTreeMap<&str, (u64, &str, bool)> = BTreeMap::new();
    let mut hurts = Vec::new();
    for event in history {
        let (Some(node), Some(kind)) = (event.node.as_deref(), event.kind.as_deref()) else { continue };
        match event.f {
            OperationKind::Fault => drop(open.insert(node, (event.t, kind, event.led == Some(true)))),
            OperationKind::Heal => {
                if let Some((from, kind, led)) = open.remove(node) {
                    hurts.push((node, from, event.t, kind, led));
                }
            }
            _ => {}
        }
    }
    hurts.extend(open.into_iter().map(|(node, (from, kind, led))| (node, from, end, kind, led)));
    hurts
}

/// The faults and gaps as lines of text.
pub fn timeline(faults: &[FaultSeen]) -> String {
    let mut text = String::new();
    for fault in faults {
        let (seconds, millis) = (fault.at_ms / 1000, fault.at_ms % 1000);
        let line = format!("{seconds:>4}.{millis:03}  {:<8} {} {:<8}", fault.kind, fault.node, fault.whom());
        writeln!(text, "{line}  gap {:>5} ms  {}", fault.gap_ms, bar(fault.gap_ms)).expect("text takes any text");
    }
    text
}

fn bar(gap_ms: u64) -> String {
    "#".repeat(usize::try_from(gap_ms / 50).unwrap_or(usize::MAX).min(60))
}

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;
const ROW: f64 = 26.0;
const CHART: f64 = 120.0;

/// The timeline as a picture: what was done to each node, and how many sends were acknowledged.
pub fn svg(history: &[Event]) -> String {
    let rates = rates(history);
    let (steps, most) = (rates.len().max(1), rates.iter().copied().max().unwrap_or(1).max(1));
    let length_us = steps as f64 * STEP_US as f64;
    let x = |at: u64| LEFT + (at as f64 / length_us).min(1.0) * (WIDTH - LEFT - 10.0);
    let mut nodes: Vec<&str> = hurts(history).into_iter().map(|(node, ..)| node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let height = 40.0 + nodes.len() as f64 * ROW + CHART + 30.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">Failover drill: faults (red: the leader), and sends acknowledged per 100 ms</text>\n"
    );
    let mut add = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    for (row, node) in nodes.iter().enumerate() {
        let y = 34.0 + row as f64 * ROW;
        add(format!("<text x=\"10\" y=\"{:.0}\">{node}</text>", y + 13.0));
        add(format!(
            "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{:.0}\" height=\"16\" fill=\"#dfeadf\"/>",
            WIDTH - LEFT - 10.0
        ));
        for (_, from, to, kind, led) in hurts(history).into_iter().filter(|(of, ..)| of == node) {
            let colour = if led { "#c0392b" } else { "#e8a13a" };
            let width = (x(to) - x(from)).max(2.0);
            add(format!(
                "<rect x=\"{:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"><title>{kind}</title></rect>",
                x(from)
            ));
        }
    }
    let base = 34.0 + nodes.len() as f64 * ROW + CHART;
    let width = (WIDTH - LEFT - 10.0) / steps as f64;
    for (step, rate) in rates.iter().enumerate() {
        let tall = f64::from(*rate) / f64::from(most) * (CHART - 10.0);
        add(format!(
            "<rect x=\"{:.2}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{tall:.1}\" fill=\"#3b6ea5\"/>",
            LEFT + step as f64 * width,
            base - tall,
            (width * 0.9).max(0.2)
        ));
    }
    add(format!("<text x=\"10\" y=\"{:.0}\">{most}</text>", base - CHART + 20.0));
    add(format!("<line x1=\"{LEFT}\" y1=\"{base}\" x2=\"{}\" y2=\"{base}\" stroke=\"black\"/>", WIDTH - 10.0));
    let seconds = length_us / 1e6;
    let every =
        [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0].into_iter().find(|every| seconds / every <= 15.0).unwrap_or(300.0);
    let mut at = 0.0;
    while at < seconds {
        add(format!("<text x=\"{:.0}\" y=\"{:.0}\">{at:.0} s</text>", x((at * 1e6) as u64), base + 16.0));
        at += every;
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(t: u64, ph: Phase, f: OperationKind) -> Event {
        Event { t, ..Event::new("x", ph, f) }
    }

    #[test]
    fn the_gap_of_a_fault_is_the_longest_wait_for_an_acknowledgement_after_it() {
        let mut history: Vec<Event> =
            [0, 100, 200, 900, 950, 9_000].map(|ms| event(ms * 1000, Phase::Ok, OperationKind::Send)).into();
        let fault = Event {
            node: Some("n1".into()),
            kind: Some("kill".into()),
            led: Some(true),
            ..event(250_000, Phase::Info, OperationKind::Fault)
        };
        history.push(fault);
        let seen = faults(&history);
        assert_eq!(seen[0].gap_ms, 8_050, "the wait that began within six seconds counts whole");
        assert_eq!(gaps(&seen).count, 1);
        history.retain(|event| event.t != 9_000_000);
        assert_eq!(faults(&history)[0].gap_ms, 650, "from the fault on");
        assert!(timeline(&faults(&history)).contains("kill     n1 leader"));
        assert_eq!(gaps_by_kind(&seen)["kill leader"].from_1s, 1);
        let picture = svg(&history);
        assert!(
            picture.starts_with("<svg") && picture.ends_with("</svg>\n") && picture.contains("<title>kill</title>")
        );
    }

    #[test]
    fn a_fault_beside_another_one_left_no_majority_and_is_counted_apart() {
        let at = |i: u64, t: u64, f, node: &str| Event {
            i,
            node: Some(node.into()),
            kind: Some("stop".into()),
            led: Some(node == "n0"),
            ..event(t, Phase::Info, f)
        };
        let (fault, heal) = (OperationKind::Fault, OperationKind::Heal);
        let history = vec![
            at(0, 0, fault, "n0"),
            at(1, 1_000_000, heal, "n0"),
            at(2, 2_000_000, fault, "n0"),
            at(3, 2_010_000, fault, "n1"),
            at(4, 5_000_000, heal, "n0"),
            at(5, 5_000_000, heal, "n1"),
            at(6, 7_000_000, fault, "n1"),
        ];
        let kinds = gaps_by_kind(&faults(&history));
        let counts: Vec<_> = kinds.iter().map(|(kind, gaps)| (kind.as_str(), gaps.count)).collect();
        assert_eq!(counts, [("stop follower", 1), ("stop leader", 1), ("stop majority", 2)]);
        assert_eq!(gaps(&faults(&history)).count, 1);
    }
}
