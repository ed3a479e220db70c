//! What an operator sees: the offsets during the drill, and everything that each replica has after it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, Node, got, poll, request};
use crate::drill::history::{Event, Offsets, OperationKind, Phase};
use crate::proto::admin;

const OFFSETS_EVERY: Duration = Duration::from_millis(250);
const AUDIT_LEASE: Duration = Duration::from_secs(120);
const AUDIT_WITHIN: Duration = Duration::from_secs(60);

impl Clients {
    /// Reads the offsets, nodes taking turns, until `end`.
    pub async fn watch_offsets(&self, end: CancellationToken) {
        let mut turn = 0;
        while end.run_until_cancelled(tokio::time::sleep(OFFSETS_EVERY)).await.is_some() {
            turn += 1;
            self.offsets(turn % self.nodes.len()).await;
        }
    }

    /// The offsets as one node has them, and how many messages the group has not settled.
    async fn offsets(&self, node: usize) -> Option<(BTreeMap<u32, Offsets>, u64)> {
        let node = &self.nodes[node];
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
            if self.offsets(turn % self.nodes.len()).await.is_some_and(|(_, lag)| lag == 0) {
                self.recorder.record(Event::new("operator", Phase::Ok, OperationKind::Drained));
                return true;
            }
            tokio::time::sleep(OFFSETS_EVERY).await;
        }
        self.recorder.record(Event::new("operator", Phase::Info, OperationKind::Drained));
        false
    }

    /// Reads everything these replicas have, each from its own log.
    pub async fn audit(&self, running: &[usize]) {
        let mut audits = JoinSet::new();
        for node in running.iter().map(|node| self.nodes[*node].clone()) {
            let own = self.clone();
            audits.spawn_local(async move { own.audit_of(&node).await });
        }
        while audits.join_next().await.is_some() {}
    }

    async fn audit_of(&self, node: &Node) {
        let name = self.auditor(node);
        let head = |ph| Event { node: Some(node.name.clone()), ..Event::new(&name, ph, OperationKind::Audit) };
        let asked = self.recorder.record(head(Phase::Inv));
        let until = Instant::now() + AUDIT_WITHIN;
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
