//! Routes and assignments: rows that every client can use, the same from every node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{assignments, know_each_other, route};
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::requests::{endpoints, name, resource};
use crate::fixture::wire::{CALL, Wire};

#[test]
fn routes_name_every_node_with_one_address_each() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        let until = Instant::now() + Duration::from_secs(10);
        let rows = loop {
            let port = cluster.address(0).rsplit_once(':').unwrap().1.parse().unwrap();
            let dialled = endpoints(v2::AddressScheme::IPv4, &[("127.0.0.1", port)]);
            let (code, rows) = route(&wire, "t", Some(dialled)).await;
            assert_eq!(code, Code::Ok);
            // The other nodes' addresses are learnt in the first second.
            if rows.len() == 24 || Instant::now() > until {
                break rows;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(rows.len(), 24);
        let mut names = BTreeMap::new();
        for row in rows {
            let broker = row.broker.clone().unwrap();
            let addresses = broker.endpoints.unwrap().addresses;
            assert_eq!((broker.id, addresses.len(), row.permission()), (0, 1, v2::Permission::ReadWrite));
            assert_eq!(row.accept_message_types, [i32::from(v2::MessageType::Normal)]);
            names.entry((broker.name, addresses[0].port)).or_insert_with(Vec::new).push(row.id);
        }
        assert_eq!(names.len(), 3);
        assert!(names.values().all(|ids| *ids == (0..8).collect::<Vec<_>>()), "{names:?}");
        assert_eq!(route(&wire, "nope", None).await.0, Code::TopicNotFound);
    });
}

#[test]
fn c25_06_routes_hold_only_rows_a_client_can_use() {
    let topics = [("t", "NORMAL"), ("steps", "FIFO"), ("later", "DELAY"), ("deals", "TRANSACTION")];
    with_cluster(&[], &topics, async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["group", "create", "g"]);
        let types = [
            ("t", v2::MessageType::Normal),
            ("steps", v2::MessageType::Fifo),
            ("later", v2::MessageType::Delay),
            ("deals", v2::MessageType::Transaction),
        ];
        for wire in &wires {
            know_each_other(wire, "t").await;
            for (topic, kind) in types {
                let (code, rows) = route(wire, topic, None).await;
                assert_eq!(code, Code::Ok);
                let mut queues = BTreeMap::new();
                for row in rows {
                    let broker = row.broker.clone().unwrap();
                    assert_eq!((broker.id, row.permission()), (0, v2::Permission::ReadWrite), "{topic}");
                    assert_eq!(row.accept_message_types, [i32::from(kind)], "{topic}");
                    assert_eq!(name(&row.topic), topic);
                    queues.entry(broker.name).or_insert_with(Vec::new).push(row.id);
                }
                // Each queue once for each name, from 0, and no replica of it.
                assert_eq!(queues.len(), 3, "{topic}");
                assert!(queues.values().all(|ids| *ids == (0..8).collect::<Vec<_>>()), "{topic}: {queues:?}");
                let rows = assignments(wire, topic, None).await;
                assert_eq!(rows.len(), 3, "{topic}");
                for row in rows {
                    assert_eq!(row.broker.as_ref().unwrap().id, 0);
                    assert_eq!((row.id, row.permission()), (-1, v2::Permission::ReadWrite), "{topic}");
                    assert!(!row.accept_message_types.contains(&0), "{topic}");
                }
            }
            // Nobody sends dead letters: the one topic that may only be read.
            let (code, rows) = route(wire, "%DLQ%g", None).await;
            assert_eq!(code, Code::Ok);
            assert_ne!(rows, []);
            assert!(rows.iter().all(|row| row.permission() == v2::Permission::Read), "{rows:?}");
        }
    });
}

/// The endpoints of all rows a client gets that dialled these.
async fn told_endpoints(wire: &Wire, dialled: Option<v2::Endpoints>) -> Vec<v2::Endpoints> {
    let mut rows = route(wire, "t", dialled.clone()).await.1;
    rows.extend(assignments(wire, "t", dialled).await);
    assert_eq!(rows.len(), 3 * 8 + 3);
    rows.into_iter().map(|row| row.broker.unwrap().endpoints.unwrap()).collect()
}

/// Whether every client can use them: one address, by name or in IPv4, as the scheme says (contract §8.3).
fn is_usable(endpoints: &v2::Endpoints) -> bool {
    let [address] = &endpoints.addresses[..] else { return false };
    let scheme = match address.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => return false,
        Err(_) => v2::AddressScheme::DomainName,
    };
    endpoints.scheme() == scheme && !address.host.is_empty() && (1..=65_535).contains(&address.port)
}

fn port_of(cluster: &Cluster, node: usize) -> i32 {
    cluster.address(node).rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn c25_07_endpoints_hold_one_address_whatever_was_dialled() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let [a, b, c] = [0, 1, 2].map(|node| port_of(&cluster, node));
        let (ipv4, domain) = (v2::AddressScheme::IPv4, v2::AddressScheme::DomainName);
        let dialled = [
            None,
            Some(endpoints(ipv4, &[("127.0.0.1", a)])),
            Some(endpoints(ipv4, &[("127.0.0.1", a), ("127.0.0.1", b), ("127.0.0.1", c)])),
            Some(endpoints(ipv4, &[("192.0.2.7", 80), ("192.0.2.8", 80)])),
            Some(endpoints(domain, &[("localhost", b)])),
            Some(endpoints(domain, &[("mq.example.com", 8081)])),
            Some(endpoints(domain, &[("a.example.com", 8081), ("b.example.com", 8081)])),
        ];
        for wire in &wires {
            know_each_other(wire, "t").await;
            for dialled in &dialled {
                for endpoints in told_endpoints(wire, dialled.clone()).await {
                    assert!(is_usable(&endpoints), "{endpoints:?} for {dialled:?}");
                }
            }
        }
    });
}

#[test]
fn c25_07_endpoints_hold_no_ipv6_address_even_if_one_was_dialled() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        know_each_other(&wires[0], "t").await;
        let dialled = endpoints(v2::AddressScheme::IPv6, &[("::1", port_of(&cluster, 0))]);
        for endpoints in told_endpoints(&wires[0], Some(dialled)).await {
            assert!(is_usable(&endpoints), "{endpoints:?}");
        }
    });
}

#[test]
fn assignments_are_the_same_from_every_node_also_while_one_is_down() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first_answer = |cluster: &Cluster, node: usize| {
        let _entered = runtime.enter();
        let wire = cluster.wire(node);
        let request =
            v2::QueryAssignmentRequest { topic: Some(resource("t")), group: Some(resource("g")), ..Default::default() };
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = runtime.block_on(wire.raw().query_assignment(wire.request(request.clone())));
            if let Ok(answer) = answer.map(tonic::Response::into_inner) {
                break answer;
            }
            assert!(Instant::now() < until, "n{node} does not answer\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let assigned = |cluster: &Cluster, node: usize| {
        let broker = |row: v2::Assignment| row.message_queue.unwrap().broker.unwrap();
        let brokers = first_answer(cluster, node).assignments.into_iter().map(broker);
        brokers.map(|broker| (broker.name, broker.endpoints)).collect::<Vec<_>>()
    };
    let eventually = |cluster: &Cluster, what: &str, is_so: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < until, "{what}\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    eventually(&cluster, "the nodes learn of each other", &|| (0..3).all(|node| assigned(&cluster, node).len() == 3));
    let all = assigned(&cluster, 0);
    assert!(assigned(&cluster, 1) == all && assigned(&cluster, 2) == all);
    // n0 moves while n1 is down; what n1 knew of it is not told before n1 has caught up.
    cluster.kill(1);
    cluster.kill(0);
    cluster.start_node_with(0, &["brokerIP1=localhost"]);
    eventually(&cluster, "n2 hears of the move", &|| !assigned(&cluster, 2).is_empty() && assigned(&cluster, 2) != all);
    let moved = assigned(&cluster, 2);
    cluster.kill(0);
    cluster.kill(2);
    cluster.start_node(1);
    assert_eq!(first_answer(&cluster, 1).status.unwrap().code(), Code::HaNotAvailable);
    cluster.start_node(2);
    eventually(&cluster, "n1 hears of the move", &|| !assigned(&cluster, 1).is_empty());
    assert_eq!(assigned(&cluster, 1), moved);
}
