//! What a broker says of itself to a name server, and lists of names that name servers answer: bodies in JSON.
//!
//! A report has RocketMQ's form, so that its name servers take it as well. What those need not know is an object of our
//! own beside it, which they pass over and ours alone reads.
//!
//! Source: remoting §3.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The body of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registration {
    pub filter_server_list: Vec<String>,
    /// For RocketMQ's name servers.
    pub topic_config_serialize_wrapper: TopicTable,
    /// For ours; a broker that is not raftmq has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raftmq: Option<NodeReport>,
}

/// The topics under one broker name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicTable {
    pub data_version: DataVersion,
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

/// Differs whenever the topics do; RocketMQ takes no report of a lower `state_version` in the place of another broker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    pub counter: u64,
    pub state_version: u64,
    pub timestamp: u64,
}

/// One topic under one broker name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    pub topic_name: String,
    pub perm: i32,
    pub read_queue_nums: u32,
    pub write_queue_nums: u32,
    pub topic_filter_type: String,
    pub topic_sys_flag: i32,
    pub order: bool,
}

/// A node as it says of itself, and its group as it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    pub cluster: String,
    pub broker_name: String,
    /// The member's name, such as `n1`.
    pub member: String,
    /// Where classic clients reach it.
    pub address: String,
    pub term: u64,
    /// Whether it leads its group.
    pub leads: bool,
    /// Names of the members that answer it, itself among them.
    pub answering: Vec<String>,
    pub topics: BTreeMap<String, TopicQueues>,
    /// Whether producers are not to use the group at all.
    pub group_is_unwritable: bool,
    /// Names of the members that producers are not to use.
    pub unwritable: Vec<String>,
    /// What tools said of the order of topics: broker names with their queues.
    pub ordered_topics: BTreeMap<String, String>,
}

/// The queues of a topic in a group, as routes show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueues {
    pub count: u32,
    /// Bits of a queue's permission.
    pub perm: i32,
    /// Whether every broker name of the group is for reading as well.
    pub all_names_read: bool,
}

/// Names of topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    pub topic_list: Vec<String>,
    /// A broker that knows more of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_rocketmq_s_form_and_what_it_does_not_say_is_passed_over() {
        let config = TopicConfig {
            topic_name: "T".into(),
            perm: 6,
            read_queue_nums: 4,
            write_queue_nums: 4,
            topic_filter_type: "SINGLE_TAG".into(),
            ..TopicConfig::default()
        };
        let table = TopicTable {
            data_version: DataVersion { counter: 1, state_version: 5, timestamp: 7 },
            topic_config_table: BTreeMap::from([("T".to_owned(), config)]),
        };
        let registration = Registration { topic_config_serialize_wrapper: table, ..Registration::default() };
        let text = serde_json::to_string(&registration).unwrap();
        let expected = concat!(
            r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"stateVersion":5,"timestamp":7},"#,
            r#""topicConfigTable":{"T":{"topicName":"T","perm":6,"readQueueNums":4,"writeQueueNums":4,"#,
            r#""topicFilterType":"SINGLE_TAG","topicSysFlag":0,"order":false}}}}"#
        );
        assert_eq!(text, expected);
        let with_more = text.replace(r#""order":false"#, r#""order":false,"attributes":{"a":"b"}"#);
        assert_eq!(serde_json::from_str::<Registration>(&with_more).unwrap(), registration);
        let list = TopicList { topic_list: vec!["T".into()], broker_addr: None };
        assert_eq!(serde_json::to_string(&list).unwrap(), r#"{"topicList":["T"]}"#);
    }
}
