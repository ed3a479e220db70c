//! Is this node alive, and is it ready? Alive: its loops turn, so there is no use in starting it again. Ready: it knows a
//! leader, is up to date, can write and is not stopping, so that clients are served well here.
//!
//! A disk that failed is no check: it ends the process (D18).

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::edge::http::pulse::Pulse;
use crate::model::{LogIndex, RoomState};
use crate::node::{Node, ReplicaStatus};

/// Raft's thread beats every second. A disk that is slow may stop it for a while.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// A node that has applied all but so many of the committed entries is up to date: less than a second at full load.
const BEHIND_MAX: u64 = 1000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Live,
    Ready,
    Both,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Both => "healthz",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: &'static str,
    passed: bool,
    text: String,
}

fn check(name: &'static str, passed: bool, text: impl Into<String>) -> Check {
    Check { name, passed, text: text.into() }
}

/// All that was looked at for one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checks {
    kind: Kind,
    checks: Vec<Check>,
}

impl Checks {
    /// Looks; without a node it is still starting.
    pub fn of(kind: Kind, node: Option<&Node>, pulse: &Pulse) -> Self {
        let mut checks = Vec::new();
        if kind != Kind::Ready {
            checks.push(loops(pulse));
        }
        if kind != Kind::Live {
            match node {
                None => checks.push(check("started", false, "the node is starting: its log says what it waits for")),
                Some(node) => {
                    checks.push(check("started", true, "yes"));
                    checks.extend(readiness(&node.own_status(), node.stopping().is_cancelled()));
                }
            }
        }
        Self { kind, checks }
    }

    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// What failed, or with `is_verbose` everything.
    pub fn to_text(&self, is_verbose: bool) -> String {
        let mut text = String::new();
        for check in self.checks.iter().filter(|check| is_verbose || !check.passed) {
            let mark = if check.passed { '+' } else { '-' };
            // Into a text nothing can fail.
            let _ = writeln!(text, "[{mark}] {}: {}", check.name, check.text);
        }
        let word = if self.passed() { "passed" } else { "failed" };
        if text.is_empty() { "ok\n".to_owned() } else { format!("{text}{} {word}\n", self.kind.name()) }
    }

    pub fn to_json(&self) -> Value {
        let status = if self.passed() { "ok" } else { "failed" };
        let one = |check: &Check| json!({"name": check.name, "ok": check.passed, "text": check.text});
        json!({"kind": self.kind.name(), "status": status, "checks": self.checks.iter().map(one).collect::<Vec<_>>()})
    }
}

fn loops(pulse: &Pulse) -> Check {
    match pulse.silent_for() {
        None => check("raft thread", true, "it is starting"),
        Some(silent) => {
            let text = format!("last seen at work {} ms ago, at most {SILENT_MAX:?}", silent.as_millis());
            check("raft thread", silent < SILENT_MAX, text)
        }
    }
}

fn readiness(status: &ReplicaStatus, is_stopping: bool) -> [Check; 4] {
    let leader = match status.leader {
        Some(leader) => check("leader", true, format!("{leader}, term {}", status.term)),
        None => check("leader", false, "none is known, or it has no majority; look at the other nodes and the network"),
    };
    let behind = status.committed.0.saturating_sub(status.applied.0);
    let LogIndex(applied) = status.applied;
    let up_to_date = match &status.catching_up {
        Some(_) => {
            check("up to date", false, "it catches up by a snapshot; raftmq cluster members shows how far it is")
        }
        None => {
            let text = format!("entry {applied} applied, {behind} behind what is committed, at most {BEHIND_MAX}");
            check("up to date", behind <= BEHIND_MAX, text)
        }
    };
    let disk = match status.room {
        Some(room) => {
            let mib = room.free / (1024 * 1024);
            check("disk", room.state < RoomState::Full, format!("{}, {mib} MiB free", room.state.name()))
        }
        None => check("disk", true, "not looked at yet"),
    };
    let is_leaving = is_stopping || status.leaving;
    let stopping = check("not stopping", !is_leaving, if is_leaving { "it is about to stop" } else { "yes" });
    [leader, up_to_date, disk, stopping]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_and_one_that_fails_fails_all() {
        let of = |passed| Checks {
            kind: Kind::Ready,
            checks: vec![check("leader", passed, "n1"), check("disk", true, "ok")],
        };
        assert_eq!(of(true).to_text(false), "ok\n");
        assert_eq!(of(true).to_text(true), "[+] leader: n1\n[+] disk: ok\nreadyz passed\n");
        assert_eq!(of(false).to_text(false), "[-] leader: n1\nreadyz failed\n");
        assert_eq!(of(false).to_json()["checks"][0]["ok"], false);
        assert_eq!(of(true).to_json()["status"], "ok");
    }
}
