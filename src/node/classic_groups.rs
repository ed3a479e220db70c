//! The classic consumers of a group as all nodes see them together.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::model::{GroupName, TopicName};
use crate::node::classic_members::{Seen, question, read_answer};
use crate::node::{Node, VersionedSubscription};

impl Node {
    /// The ids of a group's classic consumers, as those nodes see them that answer.
    pub async fn classic_consumers(&self, group: &GroupName) -> Vec<String> {
        let mut all: BTreeSet<String> = self.heartbeat_clients.ids(group).into_iter().collect();
        all.extend(self.seen_elsewhere(group).await.into_iter().flat_map(|seen| seen.client_ids));
        all.into_iter().collect()
    }

    /// What a group of classic consumers subscribed to in a topic, at least as new as `version` if any node knows it so.
    pub async fn classic_subscription(
        &self,
        group: &GroupName,
        topic: &TopicName,
        version: i64,
    ) -> Option<VersionedSubscription> {
        let is_new = |known: &VersionedSubscription| known.version >= version;
        let known = self.heartbeat_clients.subscription(group, topic);
        if known.as_ref().is_some_and(is_new) {
            return known;
        }
        if let Some(believed) = self.believed.get(group, topic, Instant::now()).filter(is_new) {
            return Some(believed);
        }
        let elsewhere = self.seen_elsewhere(group).await.into_iter().flat_map(|seen| seen.subscriptions);
        let of_topic = elsewhere.filter(|elsewhere| elsewhere.subscription.topic == *topic);
        let newest = known.into_iter().chain(of_topic).max_by_key(|known| known.version)?;
        if is_new(&newest) {
            self.believed.put(group, topic, newest.clone(), Instant::now());
        }
        Some(newest)
    }

    /// All other nodes are asked at once; one that does not answer sees nobody.
    async fn seen_elsewhere(&self, group: &GroupName) -> Vec<Seen> {
        let members = self.replica.members();
        let others = members.all().map(|member| member.node).filter(|node| *node != self.replica.node());
        let question = question(group);
        let answers = others.map(async |node| self.replica.ask(node, question.clone()).await);
        join_all(answers).await.into_iter().flatten().filter_map(|answer| read_answer(answer).ok()).collect()
    }
}
