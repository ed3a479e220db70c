//! Where clients find a topic, and all nodes: what RocketMQ's name servers answer, answered by every node.
//!
//! A classic client sends to the address with id 0 of a broker name and asks for a route anew every thirty seconds only, so
//! one name alone would be half a minute of errors when its node dies. Therefore the group's own broker name, which reads and
//! writes, is at one node, the *host*; every other node that answers has a write-only name of its own (D187). A producer whose
//! node dies goes on with another name at once. All names have the same queues: any node serves every queue.
//!
//! Source: remoting §9.

use std::collections::BTreeMap;

use crate::broker::{Deadline, Error};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::remoting::host::host;
use crate::edge::rules;
use crate::model::HostPort;
use crate::node::NodeAddress;
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::route_data::{
    BrokerData, ClusterInfo, PERM_INHERIT, PERM_READ, PERM_WRITE, QueueData, RouteData,
};

/// Producers ask for its route when a topic has none, and send as it says: the topic is made by the first send.
const DEFAULT_TOPIC: &str = "TBW102";
/// The topic of the messages that a group could not consume at once. Its route is there before it: consumers ask for it before
/// their first heartbeat.
const RETRY_PREFIX: &str = "%RETRY%";
const RETRY_QUEUES: u32 = 1;

/// The queues of a topic, as its route shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Queues {
    count: u32,
    /// Bits of [`QueueData::perm`].
    perm: i32,
    /// Whether all names are for reading as well.
    all_names_read: bool,
}

pub(super) async fn of_topic(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let name = request.header.fields.text("topic")?;
    let queues = queues_of(remoting, name).await?;
    let nodes = remoting.node.routes().of_reachable()?;
    let settings = remoting.node.settings();
    Ok(Answer::json(&route(&settings.cluster, &settings.broker_name, &nodes, queues)))
}

async fn queues_of(remoting: &Remoting, name: &str) -> Result<Queues, Refused> {
    let read_write = PERM_READ | PERM_WRITE;
    if name == DEFAULT_TOPIC && remoting.settings.creates_topics {
        // Java takes the number of its read queues, of each name.
        let count = remoting.settings.topic_queues;
        return Ok(Queues { count, perm: PERM_INHERIT | read_write, all_names_read: true });
    }
    // A reserved name is no topic, for clients of both kinds.
    let topic =
        rules::names::topic("", name).map_err(|invalid| Refused::new(ResponseCode::TopicNotExist, invalid.text))?;
    match remoting.broker.find_topic(&topic, Deadline::NONE).await {
        Ok(topic) => {
            let perm = i32::from(topic.permission.0) & read_write;
            Ok(Queues { count: topic.queues, perm, all_names_read: false })
        }
        Err(Error::TopicNotFound(_)) if name.starts_with(RETRY_PREFIX) => {
            Ok(Queues { count: RETRY_QUEUES, perm: read_write, all_names_read: false })
        }
        Err(error) => Err(error.into()),
    }
}

/// The route of a topic over the nodes that answer, in any order.
fn route(cluster: &str, broker_name: &str, nodes: &[NodeAddress], queues: Queues) -> RouteData {
    let mut route = RouteData::default();
    let host = host(nodes);
    for node in nodes {
        let is_host = Some(node) == host;
        let (perm, name) = if is_host {
            (queues.perm, broker_name.to_owned())
        } else if queues.all_names_read {
            (queues.perm, alias(broker_name, node))
        } else {
            (queues.perm & PERM_WRITE, alias(broker_name, node))
        };
        if perm == 0 && !is_host {
            continue;
        }
        let of = |bit| if perm & bit == 0 { 0 } else { queues.count };
        route.queue_datas.push(QueueData {
            broker_name: name.clone(),
            perm,
            read_queue_nums: of(PERM_READ),
            topic_sys_flag: 0,
            write_queue_nums: of(PERM_WRITE),
        });
        route.broker_datas.push(broker(cluster, name, [node]));
    }
    route
}

/// The write-only name of a node. It is the member's: a replacement keeps it.
fn alias(broker_name: &str, node: &NodeAddress) -> String {
    format!("{broker_name}-{}", node.id.name())
}

fn broker<'a>(cluster: &str, name: String, nodes: impl IntoIterator<Item = &'a NodeAddress>) -> BrokerData {
    let address = |node: &NodeAddress| HostPort { host: node.host.clone(), port: node.grpc_port }.to_string();
    BrokerData {
        broker_addrs: (0..).zip(nodes.into_iter().map(address)).collect(),
        broker_name: name,
        cluster: cluster.to_owned(),
        enable_acting_master: false,
    }
}

/// All nodes under the group's own name, the host first: what tools know as a master and its slaves.
pub(super) fn cluster(remoting: &Remoting) -> Result<Answer, Refused> {
    let nodes = remoting.node.routes().of_reachable()?;
    let settings = remoting.node.settings();
    Ok(Answer::json(&cluster_info(&settings.cluster, &settings.broker_name, nodes)))
}

fn cluster_info(cluster: &str, broker_name: &str, mut nodes: Vec<NodeAddress>) -> ClusterInfo {
    nodes.sort_by_key(|node| node.id.name());
    let name = broker_name.to_owned();
    ClusterInfo {
        broker_addr_table: BTreeMap::from([(name.clone(), broker(cluster, name.clone(), &nodes))]),
        cluster_addr_table: BTreeMap::from([(cluster.to_owned(), vec![name])]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemberName, NodeId};

    fn node(name: u32, number: u32) -> NodeAddress {
        let id = NodeId::later_of(MemberName(name), number);
        NodeAddress { id, host: format!("10.0.0.{name}"), grpc_port: 8081 }
    }

    fn shown(route: &RouteData) -> Vec<(String, String, i32, u32, u32)> {
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
        let queues = Queues { count: 4, perm: 6, all_names_read: false };
        let row = |name: &str, address: &str, perm, read, write| (name.into(), address.into(), perm, read, write);
        let all = shown(&route("C", "b", &[node(2, 5), node(1, 0), node(0, 0)], queues));
        let host = row("b", "10.0.0.0:8081", 6, 4, 4);
        let (first, second) = (row("b-n1", "10.0.0.1:8081", 2, 0, 4), row("b-n2", "10.0.0.2:8081", 2, 0, 4));
        assert_eq!(all, [host, first, second.clone()]);
        let without_host = shown(&route("C", "b", &[node(2, 5), node(1, 0)], queues));
        assert_eq!(without_host, [row("b", "10.0.0.1:8081", 6, 4, 4), second]);
    }

    #[test]
    fn the_names_of_a_topic_that_is_not_written_or_not_read_say_so() {
        let nodes = [node(0, 0), node(1, 0)];
        let of = |perm, all_names_read| shown(&route("C", "b", &nodes, Queues { count: 4, perm, all_names_read }));
        let rows = |rows: Vec<(String, String, i32, u32, u32)>| {
            rows.into_iter().map(|(name, _, perm, read, write)| (name, perm, read, write)).collect::<Vec<_>>()
        };
        assert_eq!(rows(of(4, false)), [("b".into(), 4, 4, 0)]);
        assert_eq!(rows(of(2, false)), [("b".into(), 2, 0, 4), ("b-n1".into(), 2, 0, 4)]);
        assert_eq!(rows(of(0, false)), [("b".into(), 0, 0, 0)]);
        assert_eq!(rows(of(7, true)), [("b".into(), 7, 4, 4), ("b-n1".into(), 7, 4, 4)]);
    }

    #[test]
    fn tools_see_one_broker_whose_master_is_the_host() {
        let info = cluster_info("C", "b", vec![node(2, 0), node(0, 3)]);
        let expected = BTreeMap::from([(0, "10.0.0.0:8081".to_owned()), (1, "10.0.0.2:8081".to_owned())]);
        assert_eq!(info.broker_addr_table["b"].broker_addrs, expected);
        assert_eq!(info.cluster_addr_table["C"], ["b"]);
    }
}
