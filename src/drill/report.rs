//! What a drill found, for people: gaps, a timeline in text and one as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::drill::check::Checked;
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
    /// `kill`, `pause`, `isolate`, `stop`.
    pub kind: String,
    /// Whether it led.
    pub led: bool,
    /// Longest time without an acknowledged send from then on, milliseconds.
    pub gap_ms: u64,
}

/// Quantiles of the gaps of faults that hit a leader, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    pub count: u64,
    /// Median.
    pub p50_ms: u64,
    /// 99 of 100 are not above it.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
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
    /// Of faults that hit a leader.
    pub gaps: Gaps,
    pub faults: Vec<FaultSeen>,
}

/// The faults of a history with their gaps.
pub fn faults(history: &[Event]) -> Vec<FaultSeen> {
    let acknowledged = acknowledged(history);
    let faults: Vec<&Event> = history.iter().filter(|event| event.f == OperationKind::Fault).collect();
    // What clients saw after the next fault counts for that one.
    let next = |fault: &Event| faults.iter().map(|next| next.t).find(|next| *next > fault.t + TOGETHER_US);
    faults
        .iter()
        .map(|fault| FaultSeen {
            at_ms: fault.t / 1000,
            node: fault.node.clone().unwrap_or_default(),
            kind: fault.kind.clone().unwrap_or_default(),
            led: fault.led == Some(true),
            gap_ms: gap(&acknowledged, fault.t, next(fault).unwrap_or(u64::MAX)) / 1000,
        })
        .collect()
}

/// When sends were acknowledged, in order.
fn acknowledged(history: &[Event]) -> Vec<u64> {
    let mut times: Vec<u64> = history
        .iter()
        .filter(|event| event.f == OperationKind::Send && event.ph == Phase::Ok)
        .map(|event| event.t)
        .collect();
    times.sort_unstable();
    times
}

fn gap(acknowledged: &[u64], from: u64, to: u64) -> u64 {
    let first = acknowledged.partition_point(|at| *at < from).saturating_sub(1);
    let within = |pair: &&[u64]| pair[0] < to.min(from + GAP_WITHIN_US);
    // A gap that goes on after the next fault counts for that one from there on.
    acknowledged[first..].windows(2).take_while(within).map(|pair| pair[1].min(to) - pair[0]).max().unwrap_or(0)
}

/// Quantiles over the faults that hit a leader.
pub fn gaps(faults: &[FaultSeen]) -> Gaps {
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 3_600_000, 3).expect("valid bounds");
    for fault in faults.iter().filter(|fault| fault.led) {
        histogram.saturating_record(fault.gap_ms);
    }
    Gaps {
        count: histogram.len(),
        p50_ms: histogram.value_at_quantile(0.5),
        p99_ms: histogram.value_at_quantile(0.99),
        max_ms: histogram.max(),
    }
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
        let who = if fault.led { "leader" } else { "follower" };
        let (seconds, millis) = (fault.at_ms / 1000, fault.at_ms % 1000);
        let line = format!("{seconds:>4}.{millis:03}  {:<8} {} {who:<8}", fault.kind, fault.node);
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
        assert_eq!(faults(&history)[0].gap_ms, 700);
        assert!(timeline(&faults(&history)).contains("kill     n1 leader"));
        let picture = svg(&history);
        assert!(
            picture.starts_with("<svg") && picture.ends_with("</svg>\n") && picture.contains("<title>kill</title>")
        );
    }
}
