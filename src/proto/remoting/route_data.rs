//! Where clients find a topic, and the nodes of a cluster: bodies in JSON.
//!
//! Source: remoting §2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a queue may be used for.
pub const PERM_INHERIT: i32 = 1;
/// See [`PERM_INHERIT`].
pub const PERM_WRITE: i32 = 1 << 1;
/// See [`PERM_INHERIT`].
pub const PERM_READ: i32 = 1 << 2;

/// The answer to the question for a topic's route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteData {
    pub broker_datas: Vec<BrokerData>,
    /// Of no use since RocketMQ 4; clients expect it.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    pub queue_datas: Vec<QueueData>,
    /// Which queues producers in order use: broker names with their queues, `b0:4;b1:4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
}

/// Under which addresses a broker name is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// By id; clients send to 0 only. Every client family reads ids as texts.
    pub broker_addrs: BTreeMap<u64, String>,
    pub broker_name: String,
    pub cluster: String,
    pub enable_acting_master: bool,
}

/// The queues of a topic under a broker name: 0 to their number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    pub broker_name: String,
    pub perm: i32,
    pub read_queue_nums: u32,
    pub topic_sys_flag: i32,
    pub write_queue_nums: u32,
}

/// The answer to the question for all brokers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    pub cluster_addr_table: BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_written_as_every_client_reads_them() {
        let broker = BrokerData {
            broker_addrs: BTreeMap::from([(0, "10.0.0.1:10911".to_owned())]),
            broker_name: "b0".into(),
            cluster: "C".into(),
            ..BrokerData::default()
        };
        let queues = QueueData {
            broker_name: "b0".into(),
            perm: PERM_READ | PERM_WRITE,
            read_queue_nums: 4,
            write_queue_nums: 4,
            ..QueueData::default()
        };
        let route = RouteData { broker_datas: vec![broker.clone()], queue_datas: vec![queues], ..RouteData::default() };
        let expected = concat!(
            r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"b0","cluster":"C","enableActingMaster":false}],"#,
            r#""filterServerTable":{},"#,
            r#""queueDatas":[{"brokerName":"b0","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#
        );
        assert_eq!(serde_json::to_string(&route).unwrap(), expected);
        assert_eq!(serde_json::from_str::<RouteData>(expected).unwrap(), route);
        let cluster = ClusterInfo {
            broker_addr_table: BTreeMap::from([("b0".to_owned(), broker)]),
            cluster_addr_table: BTreeMap::from([("C".to_owned(), vec!["b0".to_owned()])]),
        };
        let text = serde_json::to_string(&cluster).unwrap();
        assert!(text.ends_with(r#""clusterAddrTable":{"C":["b0"]}}"#), "{text}");
    }
}
