//! Key-values and write permissions (remoting §3.1): kept by the brokers, whoever is asked, and whatever is started anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftmq::proto::remoting::key_value_table::KeyValueTable;
use raftmq::proto::remoting::{Fields, Frame, RequestCode, ResponseCode};
use raftmq::proto::v2::Permission;

use super::route::{Row, wait_for_route};
use crate::fixture::calls;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::name_server::NameServer;

const SUCCESS: i32 = ResponseCode::Success as i32;

fn fields<const N: usize>(all: [(&'static str, &str); N]) -> Fields {
    all.into_iter().collect()
}

async fn ask<const N: usize>(address: &str, code: RequestCode, all: [(&'static str, &str); N]) -> Frame {
    Classic::connect(address).await.ask(code, fields(all), b"").await
}

/// A value, or the code of the refusal.
async fn value(address: &str, key: &str) -> Result<String, i32> {
    let found = ask(address, RequestCode::GetKvConfig, [("namespace", "ORDER_TOPIC_CONFIG"), ("key", key)]).await;
    match found.header.code {
        SUCCESS => Ok(found.header.fields.text("value").unwrap().to_owned()),
        code => Err(code),
    }
}

async fn list(address: &str, namespace: &str) -> Result<Vec<(String, String)>, i32> {
    let found = ask(address, RequestCode::GetKvlistByNamespace, [("namespace", namespace)]).await;
    match found.header.code {
        SUCCESS => Ok(serde_json::from_slice::<KeyValueTable>(&found.body).unwrap().table.into_iter().collect()),
        code => Err(code),
    }
}

async fn put(address: &str, key: &str, value: &str) -> i32 {
    let all = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", key), ("value", value)];
    ask(address, RequestCode::PutKvConfig, all).await.header.code
}

async fn delete(address: &str, key: &str) -> i32 {
    let all = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", key)];
    ask(address, RequestCode::DeleteKvConfig, all).await.header.code
}

/// How many topics a name has another permission in now, or the code of the refusal.
async fn permit(address: &str, code: RequestCode, name: &str) -> Result<usize, i32> {
    let answer = ask(address, code, [("brokerName", name)]).await;
    let count = if code == RequestCode::AddWritePermOfBroker { "addTopicCount" } else { "wipeTopicCount" };
    match answer.header.code {
        SUCCESS => Ok(answer.header.fields.number(count).unwrap()),
        code => Err(code),
    }
}

const WIPE: RequestCode = RequestCode::WipeWritePermOfBroker;
const ADD: RequestCode = RequestCode::AddWritePermOfBroker;
const NONE: i32 = ResponseCode::QueryNotFound as i32;

#[test]
fn key_values_are_the_same_at_every_node_and_name_server_and_outlive_all_of_them() {
    let mut name_server = NameServer::start_with(&["orderMessageEnable=true"]);
    let at = name_server.address();
    with_cluster(&[&format!("namesrvAddr={at}")], &[("t", "NORMAL")], async |mut cluster: Cluster| {
        wait_for_name_server(&at).await;
        assert_eq!((value(&at, "t").await, list(&at, "ORDER_TOPIC_CONFIG").await), (Err(NONE), Err(NONE)));
        assert_eq!(delete(&at, "t").await, SUCCESS, "of what is not there");
        assert_eq!(put(&at, "t", "Test00:1").await, SUCCESS);
        assert_eq!(put(&cluster.address(1), "t", "Test00:8").await, SUCCESS);
        assert_eq!(put(&cluster.address(2), "u", "ü \"").await, SUCCESS);
        let both = [("t".to_owned(), "Test00:8".to_owned()), ("u".to_owned(), "ü \"".to_owned())];
        for address in [at.clone(), cluster.address(0), cluster.address(1), cluster.address(2)] {
            assert_eq!(value(&address, "t").await.as_deref(), Ok("Test00:8"), "{address}");
            assert_eq!(list(&address, "ORDER_TOPIC_CONFIG").await.as_deref(), Ok(&both[..]), "{address}");
            assert_eq!((value(&address, "v").await, list(&address, "o").await), (Err(NONE), Err(NONE)));
        }
        // A name server that is to say so tells clients in which queues there is order.
        let until = Instant::now() + Duration::from_secs(20);
        while Classic::connect(&at).await.route("t").await.unwrap().order_topic_conf.as_deref() != Some("Test00:8") {
            assert!(Instant::now() < until, "{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let events = cluster.raftmq_ok(&["cluster", "events"]);
        assert!(events.contains("key-value-put") && events.contains("ORDER_TOPIC_CONFIG u"), "{events}");
        out_of_bounds(&at, &cluster.address(0)).await;
        // A leader and a name server that die, and then all nodes at once.
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        name_server.start_again();
        wait_for_name_server(&at).await;
        assert_eq!(list(&at, "ORDER_TOPIC_CONFIG").await.as_deref(), Ok(&both[..]), "{}", cluster.logs());
        assert_eq!(delete(&at, "u").await, SUCCESS);
        (0..3).for_each(|node| cluster.kill(node));
        (0..3).for_each(|node| cluster.start_node(node));
        (0..3).for_each(|node| cluster.wait_until_serving(node));
        cluster.wait_for_leader();
        for node in 0..3 {
            assert_eq!(list(&cluster.address(node), "ORDER_TOPIC_CONFIG").await.as_deref(), Ok(&both[..1]));
        }
    });
}

async fn wait_for_name_server(at: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while value(at, "t").await == Err(ResponseCode::ServiceNotAvailable as i32) {
        assert!(Instant::now() < until, "no broker reports to {at}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn out_of_bounds(at: &str, node: &str) {
    for address in [at, node] {
        for (key, value) in [("", "v"), (&"k".repeat(256)[..], "v"), ("k", &"v".repeat(1025)[..]), ("k", "a\nb")] {
            assert_eq!(put(address, key, value).await, ResponseCode::InvalidParameter as i32, "{address} {key}");
        }
        let nameless = ask(address, RequestCode::PutKvConfig, [("key", "k"), ("value", "v")]).await.header;
        assert_eq!(nameless.code, ResponseCode::InvalidParameter as i32);
        assert!(nameless.remark.unwrap().contains("'namespace' is missing"));
    }
}

#[test]
fn a_broker_name_without_write_permission_is_in_no_producer_s_route_until_it_has_it_again() {
    let name_server = NameServer::start();
    let at = name_server.address();
    with_cluster(&[&format!("namesrvAddr={at}")], &[("t", "NORMAL")], async |mut cluster: Cluster| {
        let row = |name: &str, node: usize, perm, read, write| {
            (name.to_owned(), cluster.listen_address(node), perm, read, write)
        };
        let all = [row("Test00", 0, 6, 8, 8), row("Test00-n1", 1, 2, 0, 8), row("Test00-n2", 2, 2, 0, 8)];
        let without_n1 = [row("Test00", 0, 6, 8, 8), row("Test00-n2", 2, 2, 0, 8)];
        let without_host = [row("Test00", 0, 4, 8, 0), row("Test00-n2", 2, 2, 0, 8)];
        let read_only = [row("Test00", 0, 4, 8, 0)];
        let everywhere = [at.clone(), cluster.address(0), cluster.address(1), cluster.address(2)];
        routes(&everywhere, &all, &cluster).await;
        // TBW102 and t; the second time nothing is new, as when a tool tells several name servers.
        assert_eq!(permit(&at, WIPE, "Test00-n1").await, Ok(2));
        assert_eq!(permit(&cluster.address(2), WIPE, "Test00-n1").await, Ok(0));
        routes(&everywhere, &without_n1, &cluster).await;
        let both = Permission::ReadWrite;
        grpc_routes(&cluster, &[("Test00-n0", both), ("Test00-n1", Permission::Read), ("Test00-n2", both)]).await;
        // Of the node that has the group's own name, and of the group.
        assert_eq!(permit(&cluster.address(1), WIPE, "Test00-n0").await, Ok(2));
        routes(&everywhere, &without_host, &cluster).await;
        assert_eq!(permit(&at, WIPE, "Test00").await, Ok(2));
        routes(&everywhere, &read_only, &cluster).await;
        for address in [&at, &cluster.address(0)] {
            for unknown in ["Test01", "Test00-n7", "Test00-", ""] {
                let refused = permit(address, WIPE, unknown).await;
                assert_eq!(refused, Err(ResponseCode::BrokerNotExist as i32), "{address} '{unknown}'");
            }
            let nameless = ask(address, WIPE, []).await.header.code;
            assert_eq!(nameless, ResponseCode::InvalidParameter as i32);
        }
        // It outlives the leader, and all nodes.
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        cluster.wait_for_leader();
        assert_eq!(permit(&at, ADD, "Test00-n0").await, Ok(2), "{}", cluster.logs());
        (0..3).for_each(|node| cluster.kill(node));
        (0..3).for_each(|node| cluster.start_node(node));
        cluster.wait_for_leader();
        routes(&everywhere, &read_only, &cluster).await;
        assert_eq!(permit(&at, ADD, "Test00").await, Ok(2));
        assert_eq!(permit(&at, ADD, "Test00").await, Ok(0));
        routes(&everywhere, &without_n1, &cluster).await;
        assert_eq!(permit(&at, ADD, "Test00-n1").await, Ok(2));
        routes(&everywhere, &all, &cluster).await;
    });
}

async fn routes(addresses: &[String], expected: &[Row], cluster: &Cluster) {
    for address in addresses {
        wait_for_route(address, "t", expected, || cluster.logs()).await;
    }
}

/// Each broker with the permission of its queues, as gRPC clients see it from every node.
async fn grpc_routes(cluster: &Cluster, expected: &[(&str, Permission)]) {
    for node in 0..3 {
        let (_, queues) = calls::route(&cluster.wire(node), "t", None).await;
        let found = queues.into_iter().map(|queue| (queue.broker.clone().unwrap().name, queue.permission()));
        let found: BTreeMap<_, _> = found.collect();
        let expected: BTreeMap<_, _> = expected.iter().map(|(name, may)| ((*name).to_owned(), *may)).collect();
        assert_eq!(found, expected, "from n{node}");
    }
}
