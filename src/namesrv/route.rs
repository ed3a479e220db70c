//! What classic clients and tools see of a group: the route of a topic, and the group's nodes.
//!
//! A classic client sends to the address with id 0 of a broker name and asks for a route anew every thirty seconds only, so
//! one name alone would be half a minute of errors when its node dies. Therefore the group's own broker name, which reads and
//! writes, is at one node, the *host*; every other node that answers has a write-only name of its own (D187). A producer whose
//! node dies goes on with another name at once. All names have the same queues: any node serves every queue.
//!
//! Source: remoting §9.

use crate::model::{MemberName, Unwritable};
use crate::proto::remoting::registration::TopicQueues;
use crate::proto::remoting::route_data::{
    BrokerData, ClusterInfo, PERM_INHERIT, PERM_READ, PERM_WRITE, QueueData, RouteData,
};

/// The topic of the messages that a group could not consume at once. Its route is there before it: consumers ask for it before
/// their first heartbeat.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// The queues of a topic that is not there yet, and has a route nevertheless.
pub const RETRY_QUEUES: TopicQueues = TopicQueues { count: 1, perm: PERM_READ | PERM_WRITE, all_names_read: false };
/// Producers ask for its route when a topic has none, and send as it says: the topic is made by the first send.
pub const DEFAULT_TOPIC: &str = "TBW102";

/// The queues of the topic for answers ([`is_reply_topic`]), which is never made: answers are not stored.
pub const REPLY_QUEUES: TopicQueues = RETRY_QUEUES;

/// Whether a topic is the one to which consumers of a cluster send their answers to messages.
pub fn is_reply_topic(name: &str, cluster: &str) -> bool {
    name.strip_suffix("_REPLY_TOPIC") == Some(cluster)
}

/// The queues of [`DEFAULT_TOPIC`], where topics are made so. Java takes the number of its read queues, of each name.
pub fn default_topic(count: u32) -> TopicQueues {
    TopicQueues { count, perm: PERM_INHERIT | PERM_READ | PERM_WRITE, all_names_read: true }
}

/// A group with its nodes that answer, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    pub cluster: &'a str,
    pub broker_name: &'a str,
    /// Each with its address.
    pub nodes: Vec<(MemberName, String)>,
    pub unwritable: Unwritable,
}

/// Which member of a group a broker name of its routes means, whoever is host: `Some(None)` is the group, `None` neither.
pub fn member_of(broker_name: &str, name: &str) -> Option<Option<MemberName>> {
    if name == broker_name {
        return Some(None);
    }
    let member = name.strip_prefix(broker_name)?.strip_prefix('-')?;
    MemberName::parse(member).map(Some)
}

impl Group<'_> {
    /// The node under the group's own name: of those that answer the first by its member's name, so that all say the same
    /// without asking each other, and a change of the leader changes nothing.
    pub fn host(&self) -> Option<MemberName> {
        self.nodes.iter().map(|(name, _)| *name).min()
    }

    /// The broker name that a node has in routes. It is the member's: a replacement keeps it.
    pub fn name_of(&self, node: MemberName) -> String {
        if Some(node) == self.host() { self.broker_name.to_owned() } else { format!("{}-{node}", self.broker_name) }
    }

    /// The queues of a topic under a node's name; `None` if the topic is not there.
    pub fn queues_at(&self, node: MemberName, topic: TopicQueues) -> Option<QueueData> {
        let is_host = Some(node) == self.host();
        let perm = if is_host || topic.all_names_read { topic.perm } else { topic.perm & PERM_WRITE };
        let perm = if self.unwritable.may_write(node) { perm } else { perm & !PERM_WRITE };
        if perm == 0 && !is_host {
            return None;
        }
        let of = |bit| if perm & bit == 0 { 0 } else { topic.count };
        Some(QueueData {
            broker_name: self.name_of(node),
            perm,
            read_queue_nums: of(PERM_READ),
            topic_sys_flag: 0,
            write_queue_nums: of(PERM_WRITE),
        })
    }

    /// Adds where a topic is in this group.
    pub fn add_to_route(&self, route: &mut RouteData, topic: TopicQueues) {
        for (node, address) in &self.nodes {
            if let Some(queues) = self.queues_at(*node, topic) {
                route.broker_datas.push(self.broker(queues.broker_name.clone(), [address]));
                route.queue_datas.push(queues);
            }
        }
    }

    /// Adds all nodes under the group's own name, the host first: what tools know as a master and its slaves.
    pub fn add_to_cluster(&self, info: &mut ClusterInfo) {
        if self.nodes.is_empty() {
            return;
        }
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort();
        let name = self.broker_name.to_owned();
        let broker = self.broker(name.clone(), nodes.into_iter().map(|(_, address)| address));
        info.broker_addr_table.insert(name.clone(), broker);
        info.cluster_addr_table.entry(self.cluster.to_owned()).or_default().push(name);
    }

    fn broker<'a>(&self, name: String, addresses: impl IntoIterator<Item = &'a String>) -> BrokerData {
        BrokerData {
            broker_addrs: (0..).zip(addresses.into_iter().cloned()).collect(),
            broker_name: name,
            cluster: self.cluster.to_owned(),
            enable_acting_master: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(nodes: &[u32]) -> Group<'static> {
        let node = |name: &u32| (MemberName(*name), format!("10.0.0.{name}:10911"));
        let unwritable = Unwritable::default();
        Group { cluster: "C", broker_name: "b", nodes: nodes.iter().map(node).collect(), unwritable }
    }

    fn shown(group: &Group<'_>, topic: TopicQueues) -> Vec<(String, String, i32, u32, u32)> {
        let mut route = RouteData::default();
        group.add_to_route(&mut route, topic);
        let mut rows = Vec::new();
        for (broker, queues) in route.broker_datas.iter().zip(&route.queue_datas) {
            assert_eq!((&broker.broker_name, broker.broker_addrs.len()), (&queues.broker_name, 1));
            let QueueData { broker_name, perm, read_queue_nums, write_queue_nums, .. } = queues.clone();
            rows.push((broker_name, broker.broker_addrs[&0].clone(), perm, read_queue_nums, write_queue_nums));
        }
        rows.sort();
        rows
    }

    #[test]
    fn one_name_reads_and_writes_and_every_other_node_writes() {
        let queues = TopicQueues { count: 4, perm: 6, all_names_read: false };
        let row = |name: &str, address: &str, perm, read, write| (name.into(), address.into(), perm, read, write);
        let host = row("b", "10.0.0.0:10911", 6, 4, 4);
        let (first, second) = (row("b-n1", "10.0.0.1:10911", 2, 0, 4), row("b-n2", "10.0.0.2:10911", 2, 0, 4));
        assert_eq!(shown(&group(&[2, 1, 0]), queues), [host, first, second.clone()]);
        assert_eq!(shown(&group(&[2, 1]), queues), [row("b", "10.0.0.1:10911", 6, 4, 4), second]);
    }

    #[test]
    fn the_names_of_a_topic_that_is_not_written_or_not_read_say_so() {
        let of = |perm, all_names_read| {
            let rows = shown(&group(&[0, 1]), TopicQueues { count: 4, perm, all_names_read });
            rows.into_iter().map(|(name, _, perm, read, write)| (name, perm, read, write)).collect::<Vec<_>>()
        };
        assert_eq!(of(4, false), [("b".into(), 4, 4, 0)]);
        assert_eq!(of(2, false), [("b".into(), 2, 0, 4), ("b-n1".into(), 2, 0, 4)]);
        assert_eq!(of(0, false), [("b".into(), 0, 0, 0)]);
        assert_eq!(of(7, true), [("b".into(), 7, 4, 4), ("b-n1".into(), 7, 4, 4)]);
    }

    #[test]
    fn a_name_without_write_permission_is_read_and_one_that_is_written_only_is_left_out() {
        let of = |unwritable: Unwritable, topic| {
            let rows = shown(&Group { unwritable, ..group(&[0, 1, 2]) }, topic);
            rows.into_iter().map(|(name, _, perm, read, write)| (name, perm, read, write)).collect::<Vec<_>>()
        };
        let member = |number| Unwritable { group: false, members: [MemberName(number)].into() };
        let all = || Unwritable { group: true, ..Unwritable::default() };
        let (topic, default) = (TopicQueues { count: 4, perm: 6, all_names_read: false }, default_topic(4));
        let row = |name: &str, perm, read, write| (name.to_owned(), perm, read, write);
        let (first, second) = (row("b-n1", 2, 0, 4), row("b-n2", 2, 0, 4));
        assert_eq!(of(member(1), topic), [row("b", 6, 4, 4), second.clone()]);
        assert_eq!(of(member(0), topic), [row("b", 4, 4, 0), first, second]);
        assert_eq!(of(all(), topic), [row("b", 4, 4, 0)]);
        assert_eq!(of(all(), default), [row("b", 5, 4, 0), row("b-n1", 5, 4, 0), row("b-n2", 5, 4, 0)]);
    }

    #[test]
    fn a_broker_name_is_the_group_s_or_a_member_s() {
        let n1 = MemberName(1);
        for (name, means) in [("b", Some(None)), ("b-n1", Some(Some(n1))), ("b-1", None), ("bn1", None), ("c", None)] {
            assert_eq!(member_of("b", name), means, "{name}");
        }
    }

    #[test]
    fn tools_see_one_broker_whose_master_is_the_host() {
        let mut info = ClusterInfo::default();
        group(&[2, 0]).add_to_cluster(&mut info);
        group(&[]).add_to_cluster(&mut info);
        let addresses: Vec<_> = info.broker_addr_table["b"].broker_addrs.clone().into_iter().collect();
        assert_eq!(addresses, [(0, "10.0.0.0:10911".to_owned()), (1, "10.0.0.2:10911".to_owned())]);
        assert_eq!(info.cluster_addr_table["C"], ["b"]);
    }
}
