//! Name servers (remoting §3): what brokers report, and where routes move.

use std::process::{Command, Output, Stdio};

use raftmq::proto::remoting::registration::TopicList;
use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};

use super::route::{Row, wait_for_route};
use crate::fixture::classic::Classic;
use crate::fixture::cluster::{BINARY, Cluster, free_ports, with_cluster};
use crate::fixture::name_server::NameServer;
use crate::fixture::node::Node;
use crate::fixture::tls;

fn raftmq(name_server: &NameServer, args: &[&str]) -> Output {
    Command::new(BINARY).args(["-n", &name_server.address()]).args(args).stdin(Stdio::null()).output().unwrap()
}

async fn topics(client: &mut Classic, code: RequestCode, fields: Fields) -> Vec<String> {
    let answer = client.ask(code, fields, b"").await;
    assert_eq!(answer.header.code, 0, "{answer:?}");
    serde_json::from_slice::<TopicList>(&answer.body).unwrap().topic_list
}

#[test]
fn a_name_server_knows_what_the_brokers_know_and_moves_routes_with_them() {
    let mut name_server = NameServer::start();
    let at = name_server.address();
    // The second one is never there: nobody waits for it.
    let setting = format!("namesrvAddr={at};127.0.0.1:9");
    with_cluster(&[&setting], &[("t", "NORMAL")], async |mut cluster: Cluster| {
        let row = |name: &str, node: usize, perm, read, write| {
            (name.to_owned(), cluster.listen_address(node), perm, read, write)
        };
        let all = [row("Test00", 0, 6, 8, 8), row("Test00-n1", 1, 2, 0, 8), row("Test00-n2", 2, 2, 0, 8)];
        let retry = [row("Test00", 0, 6, 1, 1), row("Test00-n1", 1, 2, 0, 1), row("Test00-n2", 2, 2, 0, 1)];
        let default = [row("Test00", 0, 7, 8, 8), row("Test00-n1", 1, 7, 8, 8), row("Test00-n2", 2, 7, 8, 8)];
        let without_host = [row("Test00", 1, 6, 8, 8), row("Test00-n2", 2, 2, 0, 8)];
        for (topic, expected) in [("t", &all), ("%RETRY%nobody", &retry), ("TBW102", &default)] {
            wait_for_route(&at, topic, expected, || cluster.logs()).await;
        }
        for address in [at.clone(), cluster.address(1)] {
            let mut client = Classic::connect(&address).await;
            assert_eq!(client.route("missing").await, Err(ResponseCode::TopicNotExist as i32));
            let of_cluster = |name: &str| [("cluster", name)].into_iter().collect();
            for (code, fields, expected) in [
                (RequestCode::GetAllTopicListFromNameserver, Fields::default(), &["TBW102", "t"][..]),
                (RequestCode::GetTopicsByCluster, of_cluster("TestCluster"), &["TBW102", "t"]),
                (RequestCode::GetTopicsByCluster, of_cluster("Other"), &[]),
                (RequestCode::GetSystemTopicListFromNs, Fields::default(), &["Test00", "TestCluster"]),
                (RequestCode::GetUnitTopicList, Fields::default(), &[]),
            ] {
                assert_eq!(topics(&mut client, code, fields).await, expected, "{address} {code:?}");
            }
        }
        // Commands find the nodes through it, and what they make is reported at once.
        let created = raftmq(&name_server, &["topic", "create", "u"]);
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        wait_for_route(&at, "u", &all, || cluster.logs()).await;
        // It keeps nothing, and needs nothing.
        name_server.start_again();
        wait_for_route(&at, "t", &all, || cluster.logs()).await;
        cluster.kill(0);
        wait_for_route(&at, "t", &without_host, || cluster.logs()).await;
        cluster.start_node(0);
        wait_for_route(&at, "t", &all, || cluster.logs()).await;
        cluster.signal(0, "TERM");
        wait_for_route(&at, "t", &without_host, || cluster.logs()).await;
        cluster.wait_for_end(0);
        cluster.start_node(0);
        wait_for_route(&at, "t", &all, || cluster.logs()).await;
        let leader = cluster.wait_for_leader();
        cluster.kill(leader);
        let mut left = [0, 1, 2].into_iter().filter(|node| *node != leader);
        let (host, other) = (left.next().unwrap(), left.next().unwrap());
        let expected = [
            (String::from("Test00"), cluster.listen_address(host), 6, 8, 8),
            (format!("Test00-n{other}"), cluster.listen_address(other), 2, 0, 8),
        ];
        wait_for_route(&at, "t", &expected, || cluster.logs()).await;
        two_groups(&name_server, &cluster, &expected).await;
    });
}

#[test]
fn a_name_server_speaks_tls_and_plaintext_on_one_port() {
    let name_server = NameServer::start();
    let at = name_server.address();
    with_cluster(&[&format!("namesrvAddr={at}")], &[("t", "NORMAL")], async |cluster: Cluster| {
        let row = |name: &str, node: usize, perm, read, write| {
            (name.to_owned(), cluster.listen_address(node), perm, read, write)
        };
        let all = [row("Test00", 0, 6, 8, 8), row("Test00-n1", 1, 2, 0, 8), row("Test00-n2", 2, 2, 0, 8)];
        wait_for_route(&at, "t", &all, || cluster.logs()).await;
        let plain = Classic::connect(&at).await.route("t").await.unwrap();
        let mut secure = Classic::over(tls::connect_plainly(&at).await);
        assert_eq!(secure.route("t").await.unwrap(), plain);
        // What goes on to the brokers comes back the same way.
        let fields = [("namespace", "N"), ("key", "k"), ("value", "v")].into_iter().collect();
        assert_eq!(secure.ask(RequestCode::PutKvConfig, fields, b"").await.header.code, 0);
    });
    let plain_only = NameServer::start_with(&["tls.server.mode=disabled"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(Classic::connect(&plain_only.address()).await.cluster_info().await.broker_addr_table.is_empty());
        assert!(tls::try_connect_plainly(&plain_only.address()).await.is_err());
    });
}

/// A second group of the same cluster reports to the same name server.
async fn two_groups(name_server: &NameServer, cluster: &Cluster, first: &[Row]) {
    let ports = free_ports("127.0.0.1", 4);
    let mut second = Node::start(&[
        "brokerClusterName=TestCluster".to_owned(),
        "brokerName=Test01".to_owned(),
        "bindAddress=127.0.0.1".to_owned(),
        format!("dLegerPeers=n0-127.0.0.1:{}", ports[3]),
        format!("grpcServerPort={}", ports[0]),
        format!("listenPort={}", ports[1]),
        format!("metricsPromExporterPort={}", ports[2]),
        format!("namesrvAddr={}", name_server.address()),
    ]);
    second.wait_for("ready");
    let grpc = format!("127.0.0.1:{}", ports[0]);
    let created = Command::new(BINARY).args(["-n", &grpc, "topic", "create", "t", "--queues", "3"]).output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let listen = format!("127.0.0.1:{}", ports[1]);
    let mut both = first.to_vec();
    both.push(("Test01".to_owned(), listen.clone(), 6, 3, 3));
    wait_for_route(&name_server.address(), "t", &both, || cluster.logs() + &second.log()).await;
    let info = Classic::connect(&name_server.address()).await.cluster_info().await;
    assert_eq!(info.cluster_addr_table["TestCluster"], ["Test00", "Test01"]);
    // A command is for one group.
    let status = raftmq(name_server, &["cluster", "status"]);
    let said = String::from_utf8_lossy(&status.stderr);
    assert_eq!((status.status.code(), said.contains(&format!("raftmq -n '{listen}'"))), (Some(2), true), "{said}");
}
