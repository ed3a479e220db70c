//! The node's clients as its shard sees them: those of this node by its sessions, consumers also by asking the other
//! nodes. Classic consumers send heartbeats to every node, so none is asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use crate::broker::{Clients, GroupConsumer, OrphanedTransaction};
use crate::model::{GroupName, NodeId};
use crate::node::consumer_ids;
use crate::node::consumers::read_answer;
use crate::node::{HeartbeatClients, HeartbeatProducers, Sessions};
use crate::raft::Replica;

pub(super) struct NodeClients {
    pub sessions: Arc<Sessions>,
    pub producers: Arc<HeartbeatProducers>,
    pub heartbeat_clients: Arc<HeartbeatClients>,
    /// Asks the other nodes.
    pub replica: Replica,
}

impl Clients for NodeClients {
    fn is_alive(&self, client_id: &str) -> bool {
        self.sessions.is_alive(client_id)
    }

    fn ask_producer(&self, transaction: &OrphanedTransaction, turn: u64) -> bool {
        if transaction.message.classic.is_some() {
            let group = transaction.producer_group();
            return group.is_some_and(|group| self.producers.ask(&group, transaction, turn));
        }
        self.sessions.ask_producer(transaction, turn)
    }

    fn consumers_of<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Vec<(NodeId, GroupConsumer)>> {
        let all = async {
            let mut all = self.over_grpc(group).await;
            let own = self.replica.node();
            all.extend(self.heartbeat_clients.consumers(group).into_iter().map(|consumer| (own, consumer)));
            all
        };
        all.boxed()
    }

    fn consumer_counts(&self) -> BoxFuture<'_, BTreeMap<GroupName, u32>> {
        let all = async {
            let members = self.replica.members();
            let answers = members.all().map(|member| member.node).map(async |node| {
                if node == self.replica.node() {
                    return self.sessions.consumer_ids();
                }
                let answer = self.replica.ask(node, consumer_ids::question()).await;
                answer.and_then(|answer| consumer_ids::read_answer(answer).ok()).unwrap_or_default()
            });
            let mut ids: BTreeMap<GroupName, BTreeSet<u64>> = BTreeMap::new();
            for (group, seen) in join_all(answers).await.into_iter().flatten() {
                ids.entry(group).or_default().extend(seen);
            }
            let mut counts = self.heartbeat_clients.counts();
            for (group, ids) in ids {
                *counts.entry(group).or_default() += u32::try_from(ids.len()).unwrap_or(u32::MAX);
            }
            counts
        };
        all.boxed()
    }
}

impl NodeClients {
    /// The consumers of a group that lease messages.
    pub async fn over_grpc(&self, group: &GroupName) -> Vec<(NodeId, GroupConsumer)> {
        let members = self.replica.members();
        let answers = members.all().map(|member| member.node).map(async |node| {
            if node == self.replica.node() {
                return (node, self.sessions.consumers(group));
            }
            let answer = self.replica.ask(node, group.as_str().to_owned().into()).await;
            (node, answer.and_then(|answer| read_answer(answer).ok()).unwrap_or_default())
        });
        let mut by_client: BTreeMap<String, (NodeId, GroupConsumer)> = BTreeMap::new();
        for (node, consumers) in join_all(answers).await {
            for consumer in consumers {
                let known = by_client.get(&consumer.client.client_id);
                if known.is_none_or(|(_, known)| known.seen_at < consumer.seen_at) {
                    by_client.insert(consumer.client.client_id.clone(), (node, consumer));
                }
            }
        }
        by_client.into_values().collect()
    }
}
