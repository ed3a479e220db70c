//! Routes (remoting §9): one name that reads and writes, a write-only one for every other node that answers, the same from
//! every node.

use std::time::{Duration, Instant};

use raftmq::proto::remoting::ResponseCode;
use raftmq::proto::remoting::route_data::RouteData;

use crate::fixture::classic::Classic;
use crate::fixture::cluster::{Cluster, with_cluster};

/// Routes follow in two probes of a second; this is for a loaded machine.
const FOLLOWS: Duration = Duration::from_secs(60);

/// A name with its address, permission, and queues to read and to write.
pub type Row = (String, String, i32, u32, u32);

/// Each name with its address, permission and queues, sorted.
fn rows(route: &RouteData) -> Vec<Row> {
    let mut rows = Vec::new();
    for queues in &route.queue_datas {
        let broker = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name).unwrap();
        assert_eq!(broker.cluster, "TestCluster");
        let address = broker.broker_addrs[&0].clone();
        let name = queues.broker_name.clone();
        rows.push((name, address, queues.perm, queues.read_queue_nums, queues.write_queue_nums));
    }
    rows.sort();
    rows
}

/// Waits until a node gives this route.
async fn wait_for(cluster: &Cluster, node: usize, topic: &str, expected: &[Row]) {
    wait_for_route(&cluster.address(node), topic, expected, || cluster.logs()).await;
}

/// Waits until this route is answered at an address.
pub async fn wait_for_route(address: &str, topic: &str, expected: &[Row], logs: impl Fn() -> String) {
    let until = Instant::now() + FOLLOWS;
    loop {
        let found = Classic::connect(address).await.route(topic).await.map(|route| rows(&route));
        if found.as_deref() == Ok(expected) {
            return;
        }
        assert!(Instant::now() < until, "{address}: {found:?} instead of {expected:?}\n{}", logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn every_node_gives_the_same_route_and_leaves_dead_ones_out() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        let row = |name: &str, node: usize, perm, read, write| {
            (name.to_owned(), cluster.listen_address(node), perm, read, write)
        };
        let all = [row("Test00", 0, 6, 8, 8), row("Test00-n1", 1, 2, 0, 8), row("Test00-n2", 2, 2, 0, 8)];
        let retry = [row("Test00", 0, 6, 1, 1), row("Test00-n1", 1, 2, 0, 1), row("Test00-n2", 2, 2, 0, 1)];
        let default = [row("Test00", 0, 7, 8, 8), row("Test00-n1", 1, 7, 8, 8), row("Test00-n2", 2, 7, 8, 8)];
        let without_host = [row("Test00", 1, 6, 8, 8), row("Test00-n2", 2, 2, 0, 8)];
        for node in 0..3 {
            wait_for(&cluster, node, "t", &all).await;
            wait_for(&cluster, node, "%RETRY%nobody", &retry).await;
            wait_for(&cluster, node, "TBW102", &default).await;
            let mut client = Classic::connect(&cluster.address(node)).await;
            for missing in ["missing", "SCHEDULE_TOPIC_XXXX", "a b"] {
                assert_eq!(client.route(missing).await, Err(ResponseCode::TopicNotExist as i32), "{missing}");
            }
        }
        cluster.kill(0);
        for node in 1..3 {
            wait_for(&cluster, node, "t", &without_host).await;
            let info = Classic::connect(&cluster.address(node)).await.cluster_info().await;
            let addresses: Vec<_> = info.broker_addr_table["Test00"].broker_addrs.values().cloned().collect();
            assert_eq!(addresses, [cluster.listen_address(1), cluster.listen_address(2)]);
        }
    });
}

#[test]
fn without_automatic_topics_there_is_no_default_one() {
    with_cluster(&["autoCreateTopicEnable=false"], &[], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        assert_eq!(client.route("TBW102").await, Err(ResponseCode::TopicNotExist as i32));
    });
}
