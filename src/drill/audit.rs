//! What an operator sees: the offsets during the drill, and everything that each replica has after it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, Node, got, hash, poll, request};
use crate::drill::history::{Applied, Event, Got, Offsets, OperationKind, Phase};
use crate::drill::not_done::not_done;
use crate::proto::admin;

const OFFSETS_EVERY: Duration = Duration::from_millis(250);
/// Longer than an audit takes.
const AUDIT_LEASE: Duration = Duration::from_secs(3600);
const DIGEST_WITHIN: Duration = Duration::from_secs(10);
/// Retention goes on for a while after the last message, and each of its entries is one that not all replicas have yet.
const COMPARE_WITHIN: Duration = Duration::from_secs(60);
/// Damage is repaired within this, once it was found.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Dead letters read at once.
const LETTERS: u32 = 256;

impl Clients {
    /// Reads the offsets, nodes taking turns, until `end`.
    pub async fn watch_offsets(&self, end: CancellationToken) {
        let mut turn = 0;
        while end.run_until_cancelled(tokio::time::sleep(OFFSETS_EVERY)).await.is_some() {
            turn += 1;
            let _open = self.gate.open().await;
            self.offsets(turn).await;
        }
    }

    /// The offsets as the node has them whose turn it is, and how many messages the group has not settled.
    async fn offsets(&self, turn: usize) -> Option<(BTreeMap<u32, Offsets>, u64)> {
        let node = self.node(turn);
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new("operator", ph, OperationKind::QueryOff) };
        let asked = self.recorder.record(head(Phase::Inv));
        let describe = admin::DescribeGroupRequest { name: self.group.to_string() };
        let answer = node.admin.clone().describe_group(request(describe, "operator", ANSWER_WITHIN)).await;
        let Ok(answer) = answer else {
            self.recorder.record(Event { of: Some(asked), ..head(Phase::Info) });
            return None;
        };
        let positions = answer.into_inner().positions;
        let lag = positions.iter().map(|position| position.lag).sum();
        let offsets = |position: &admin::GroupPosition| {
            (position.queue, Offsets { max: position.max_offset, group: position.group_offset })
        };
        let offs: BTreeMap<u32, Offsets> = positions.iter().map(offsets).collect();
        self.recorder.record(Event { of: Some(asked), offs: offs.clone(), ..head(Phase::Ok) });
        Some((offs, lag))
    }

    /// Waits until the group has settled everything; false if it does not come to that.
    pub async fn drained(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut turn = 0;
        while Instant::now() < until {
            turn += 1;
            if self.offsets(turn).await.is_some_and(|(_, lag)| lag == 0) {
                self.recorder.record(Event::new("operator", Phase::Ok, OperationKind::Drained));
                return true;
            }
            tokio::time::sleep(OFFSETS_EVERY).await;
        }
        self.recorder.record(Event::new("operator", Phase::Info, OperationKind::Drained));
        false
    }

    /// Reads everything these replicas have, each from its own log, and the dead letters.
    pub async fn audit(&self, running: &[usize], within: Duration) {
        let mut audits = JoinSet::new();
        for node in running.iter().map(|node| self.nodes[*node].clone()) {
            let own = self.clone();
            audits.spawn_local(async move {
                own.dead_letters_of(&node).await;
                own.audit_of(&node, within).await;
            });
        }
        while audits.join_next().await.is_some() {}
    }

    /// Reads the digests of these replicas until all were read at one and the same entry, or for too long.
    pub async fn compare(&self, running: &[usize]) {
        let until = Instant::now() + COMPARE_WITHIN;
        let mut is_equal = false;
        while !is_equal && Instant::now() < until {
            let digests = join_all(running.iter().map(|node| self.digest_of(&self.nodes[*node]))).await;
            is_equal = digests.iter().all(|index| index.is_some() && *index == digests[0]);
            if !is_equal {
                tokio::time::sleep(OFFSETS_EVERY).await;
            }
        }
    }

    /// The entry that a replica's digest is of.
    async fn digest_of(&self, node: &Node) -> Option<u64> {
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new("operator", ph, OperationKind::Digest) };
        let asked = self.recorder.record(head(Phase::Inv));
        let call = request(admin::StateDigestRequest {}, "operator", DIGEST_WITHIN);
        let answer = node.admin.clone().state_digest(call).await.ok().map(|answer| answer.into_inner());
        let applied =
            answer.map(|answer| Applied { index: answer.applied, content: answer.content, running: answer.running });
        let ph = if applied.is_some() { Phase::Ok } else { Phase::Info };
        self.recorder.record(Event { of: Some(asked), applied, ..head(ph) });
        applied.map(|applied| applied.index)
    }

    /// Waits until a node's log has no damage left; records whether anything was repaired.
    pub async fn healed(&self, node: usize) -> io::Result<()> {
        let until = Instant::now() + HEALED_WITHIN;
        while Instant::now() < until {
            let call = request(admin::ClusterStatusRequest {}, "nemesis", ANSWER_WITHIN);
            let status = self.nodes[node].admin.clone().cluster_status(call).await;
            let nodes = status.map(|status| status.into_inner().nodes).unwrap_or_default();
            let own = nodes.into_iter().find(|seen| seen.node == self.nodes[node].name);
            // Of an older build, or a node that does not answer yet.
            let Some(damage) = own.and_then(|node| node.damage) else {
                tokio::time::sleep(OFFSETS_EVERY).await;
                continue;
            };
            if damage.damaged_segments == 0 && !damage.lacks_tail {
                let is_repaired = damage.repaired_entries + damage.rebuilt_segments > 0;
                let ph = if is_repaired { Phase::Ok } else { Phase::Info };
                let node = Some(self.nodes[node].name.clone());
                self.recorder.record(Event { node, ..Event::new("operator", ph, OperationKind::Rot) });
                return Ok(());
            }
            tokio::time::sleep(OFFSETS_EVERY).await;
        }
        Err(not_done(format!("the log of {} is not whole after {HEALED_WITHIN:?}", self.nodes[node].name)))
    }

    async fn dead_letters_of(&self, node: &Node) {
        let head = |ph| Event {
            node: Some(node.name.clone()),
            group: Some(self.group.to_string()),
            ..Event::new("operator", ph, OperationKind::DeadLetters)
        };
        let asked = self.recorder.record(head(Phase::Inv));
        let (mut msgs, mut from_offset) = (Vec::new(), 0);
        let ph = loop {
            let list = admin::ListDeadLettersRequest { group: self.group.to_string(), from_offset, limit: LETTERS };
            let answer = node.admin.clone().list_dead_letters(request(list, "operator", ANSWER_WITHIN)).await;
            let Ok(answer) = answer.map(|answer| answer.into_inner()) else { break Phase::Info };
            msgs.extend(answer.messages.iter().map(dead_letter));
            from_offset = answer.next_offset;
            if from_offset >= answer.end_offset {
                break Phase::Ok;
            }
        };
        self.recorder.record(Event { of: Some(asked), msgs, ..head(ph) });
    }

    async fn audit_of(&self, node: &Node, within: Duration) {
        let name = self.auditor(node);
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new(&name, ph, OperationKind::Audit) };
        let asked = self.recorder.record(head(Phase::Inv));
        let until = Instant::now() + within;
        let mut msgs = Vec::new();
        let is_whole = loop {
            let describe = admin::DescribeTopicRequest { name: self.topic.to_string() };
            let described = node.admin.clone().describe_topic(request(describe, &name, ANSWER_WITHIN)).await;
            let stored = described.ok().and_then(|answer| answer.into_inner().topic).map(|topic| topic.messages);
            if stored.is_some_and(|stored| stored <= msgs.len() as u64) {
                break true;
            }
            if Instant::now() >= until {
                break false;
            }
            while let Ok((messages, true)) = poll(node, &name, &self.topic, &name, AUDIT_LEASE).await {
                if messages.is_empty() {
                    break;
                }
                msgs.extend(messages.iter().map(got));
                if stored.is_some_and(|stored| stored <= msgs.len() as u64) {
                    break;
                }
            }
        };
        let ph = if is_whole { Phase::Ok } else { Phase::Info };
        self.recorder.record(Event { of: Some(asked), msgs, ..head(ph) });
    }
}

/// A dead letter, at the place where it died.
fn dead_letter(message: &admin::StoredMessage) -> Got {
    let origin = message.origin.clone().unwrap_or_default();
    Got {
        mid: message.message_id.clone(),
        q: origin.queue(),
        off: origin.offset(),
        att: origin.attempts,
        h: hash(&message.body),
    }
}
