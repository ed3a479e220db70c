//! What this node says of itself to name servers.
//!
//! The form is RocketMQ's: one broker name with its topics, which is the name that the node has in routes. With it goes what
//! raftmq's name servers read instead: the node, its group as it sees it, and the topics as they are.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::Error;
use crate::edge::remoting::context::Remoting;
use crate::edge::remoting::route::{all_queues, group};
use crate::model::{HostPort, MemberName, Unwritable};
use crate::namesrv::REPORT_TOPICS_MAX;
use crate::namesrv::route::Group;
use crate::proto::remoting::registration::{
    DataVersion, NodeReport, Registration, TopicConfig, TopicQueues, TopicTable,
};
use crate::proto::remoting::route_data::QueueData;
use crate::proto::remoting::{Fields, RequestCode};

/// RocketMQ's name servers take no first report with one topic; they know this one.
const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The name that the node has in routes.
    name: String,
    node: NodeReport,
    /// Topics that are not in it, because name servers take no more.
    pub left_out: usize,
}

impl Report {
    /// As things are; `None` while this node knows no leader: it may be cut off from the others, and what it said last
    /// holds for a while.
    pub fn now(remoting: &Remoting) -> Result<Option<Self>, Error> {
        let leadership = *remoting.broker.leadership().borrow();
        if leadership.leader.is_none() {
            return Ok(None);
        }
        let settings = remoting.node.settings();
        let group = group(remoting)?;
        let mut topics = all_queues(remoting)?;
        let left_out = topics.len().saturating_sub(REPORT_TOPICS_MAX);
        if left_out > 0 {
            topics = topics.into_iter().take(REPORT_TOPICS_MAX).collect();
        }
        let own = settings.name;
        let clients = HostPort::parse(&settings.store_host);
        let address = clients.map(|clients| HostPort { port: settings.listen_port, ..clients });
        let node = NodeReport {
            cluster: settings.cluster.clone(),
            broker_name: settings.broker_name.clone(),
            member: own.to_string(),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            term: leadership.term.0,
            leads: leadership.is_self,
            answering: group.nodes.iter().map(|(node, _)| node.to_string()).collect(),
            topics,
            group_is_unwritable: group.unwritable.group,
            unwritable: group.unwritable.members.iter().map(MemberName::to_string).collect(),
            ordered_topics: remoting.broker.ordered_topics()?.into_iter().collect(),
        };
        Ok(Some(Self { name: group.name_of(own), node, left_out }))
    }

    /// Whether RocketMQ's name servers would have to be told that the node has another name now.
    pub fn has_name_of(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// The fields of a registration, or of its end.
    pub fn fields(&self, code: RequestCode) -> Fields {
        let mut fields = Fields::default();
        fields.put("brokerName", &self.name);
        fields.put("brokerAddr", &self.node.address);
        fields.put("clusterName", &self.node.cluster);
        fields.put("brokerId", 0);
        if code == RequestCode::RegisterBroker {
            fields.put("haServerAddr", &self.node.address);
            fields.put("compressed", false);
            fields.put("bodyCrc32", 0);
        }
        fields
    }

    /// The body of a registration. `counter` and `began_at` make its version differ from all before.
    pub fn body(&self, counter: u64, began_at: u64) -> Bytes {
        let table = TopicTable {
            data_version: DataVersion { counter, state_version: self.node.term, timestamp: began_at },
            topic_config_table: self.rocketmq_topics(),
        };
        let registration = Registration {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: table,
            raftmq: Some(self.node.clone()),
        };
        serde_json::to_vec(&registration).expect("plain structs with keys of texts").into()
    }

    fn rocketmq_topics(&self) -> BTreeMap<String, TopicConfig> {
        let NodeReport { cluster, broker_name, member, group_is_unwritable, unwritable, .. } = &self.node;
        let member = MemberName::parse(member).expect("written by this node");
        let nodes = self.node.answering.iter().filter_map(|name| MemberName::parse(name.as_str()));
        let unwritable = Unwritable {
            group: *group_is_unwritable,
            members: unwritable.iter().filter_map(|name| MemberName::parse(name)).collect(),
        };
        let nodes = nodes.map(|node| (node, String::new())).collect();
        let group = Group { cluster, broker_name, nodes, unwritable };
        let config = |name: &String, topic: TopicQueues| {
            // Left out, RocketMQ's name servers would keep it as it was.
            let nothing = || (!group.unwritable.may_write(member)).then(QueueData::default);
            let queues = group.queues_at(member, topic).or_else(nothing)?;
            let config = TopicConfig {
                topic_name: name.clone(),
                perm: queues.perm,
                read_queue_nums: queues.read_queue_nums,
                write_queue_nums: queues.write_queue_nums,
                topic_filter_type: "SINGLE_TAG".to_owned(),
                ..TopicConfig::default()
            };
            Some((name.clone(), config))
        };
        let mut topics: BTreeMap<_, _> =
            self.node.topics.iter().filter_map(|(name, topic)| config(name, *topic)).collect();
        topics.entry(SELF_TEST_TOPIC.to_owned()).or_insert_with(|| TopicConfig {
            topic_name: SELF_TEST_TOPIC.to_owned(),
            topic_filter_type: "SINGLE_TAG".to_owned(),
            ..TopicConfig::default()
        });
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(member: &str) -> Report {
        let topics = BTreeMap::from([("T".to_owned(), TopicQueues { count: 4, perm: 6, all_names_read: false })]);
        let node = NodeReport {
            cluster: "C".into(),
            broker_name: "b".into(),
            member: member.into(),
            address: "10.0.0.1:10911".into(),
            term: 5,
            leads: true,
            answering: vec!["n1".into(), "n0".into()],
            topics,
            ..NodeReport::default()
        };
        Report { name: "b".into(), node, left_out: 0 }
    }

    #[test]
    fn rocketmq_s_name_servers_read_which_queues_the_node_has_under_its_name() {
        for (member, expected) in [("n0", (6, 4, 4)), ("n1", (2, 0, 4))] {
            let registration: Registration = serde_json::from_slice(&report(member).body(3, 7)).unwrap();
            let table = registration.topic_config_serialize_wrapper;
            assert_eq!(table.data_version, DataVersion { counter: 3, state_version: 5, timestamp: 7 });
            let topic = &table.topic_config_table["T"];
            assert_eq!((topic.perm, topic.read_queue_nums, topic.write_queue_nums), expected);
            assert_eq!(table.topic_config_table.len(), 2, "they take no first report with one topic");
            assert_eq!(registration.raftmq, Some(report(member).node));
        }
    }

    #[test]
    fn rocketmq_s_name_servers_hear_which_names_producers_are_not_to_use() {
        for (member, expected) in [("n0", (6, 4, 4)), ("n1", (0, 0, 0))] {
            let mut report = report(member);
            report.node.unwritable = vec!["n1".into()];
            let registration: Registration = serde_json::from_slice(&report.body(3, 7)).unwrap();
            let topics = registration.topic_config_serialize_wrapper.topic_config_table;
            let topic = &topics["T"];
            assert_eq!((topic.perm, topic.read_queue_nums, topic.write_queue_nums), expected, "{member}");
        }
    }

    #[test]
    fn the_fields_of_a_report_are_those_that_rocketmq_asks_for() {
        let fields = report("n0").fields(RequestCode::RegisterBroker);
        for (name, value) in
            [("brokerName", "b"), ("brokerAddr", "10.0.0.1:10911"), ("clusterName", "C"), ("brokerId", "0")]
        {
            assert_eq!(fields.get(name), Some(value));
        }
        assert_eq!(report("n0").fields(RequestCode::UnregisterBroker).get("haServerAddr"), None);
    }
}
