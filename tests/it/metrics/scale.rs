//! What metrics cost: run by hand, against a build to be measured.
//!
//! `cargo test --release --test it -- --ignored --nocapture metrics::scale`

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use raftmq::proto::admin::admin_client::AdminClient;
use raftmq::proto::admin::{CreateGroupRequest, CreateTopicRequest};
use raftmq::proto::v2;
use tonic::Code;

use super::names;
use crate::fixture::cluster::{Cluster, free_ports};
use crate::fixture::requests::{queue, resource};

/// Calls under way at once while topics and groups are made.
const IN_FLIGHT: usize = 32;
const TOPICS: usize = 10_000;
const GROUPS: usize = 1_000;
/// Topics that each group is subscribed to.
const SUBSCRIPTIONS: usize = 10;

/// CPU time in seconds, and memory in MiB.
fn usage(process_id: u32) -> (f64, f64) {
    let usage = raftmq::env::process::usage(process_id).unwrap();
    (usage.cpu_us as f64 / 1e6, usage.resident_bytes as f64 / 1048576.0)
}

/// Scrapes a node several times: the slowest answer, and the bytes of the last.
fn slowest(address: &str, scrapes: usize) -> (Duration, usize) {
    let (mut slowest, mut bytes) = (Duration::ZERO, 0);
    for _ in 0..scrapes {
        let began = Instant::now();
        bytes = names::scrape(address).len();
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    (slowest, bytes)
}

#[test]
#[ignore = "takes minutes, and measures; run by hand"]
fn what_scrapes_cost_with_ten_thousand_topics_and_a_thousand_groups() {
    let cluster = Cluster::start();
    let leader = cluster.leader().unwrap();
    let address = cluster.http_address(leader);
    eprintln!("empty: slowest of 10 scrapes {:?}, {} bytes", slowest(&address, 10).0, slowest(&address, 1).1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.address(leader))).unwrap();
        let admin = AdminClient::new(channel.connect().await.unwrap());
        let wire = cluster.wire(leader).within(Duration::from_secs(60));
        let topics = stream::iter(0..TOPICS).map(|number| {
            let mut admin = admin.clone();
            async move {
                let request = CreateTopicRequest {
                    name: format!("topic-{number}"),
                    r#type: "NORMAL".into(),
                    queues: 8,
                    ..Default::default()
                };
                // A machine under load may have an election meanwhile.
                while admin.create_topic(request.clone()).await.is_err_and(|error| error.code() == Code::Unavailable) {}
            }
        });
        topics.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
        let groups = stream::iter(0..GROUPS).map(|number| {
            let mut admin = admin.clone();
            async move {
                let request = CreateGroupRequest { name: format!("group-{number}"), ..Default::default() };
                while admin.create_group(request.clone()).await.is_err_and(|error| error.code() == Code::Unavailable) {}
            }
        });
        groups.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
        let subscriptions = stream::iter(0..GROUPS * SUBSCRIPTIONS).map(|number| {
            let wire = wire.clone();
            async move {
                let topic = format!("topic-{number}");
                let request = v2::UpdateOffsetRequest {
                    group: Some(resource(&format!("group-{}", number / SUBSCRIPTIONS))),
                    message_queue: queue(&topic),
                    offset: 0,
                };
                wire.raw().update_offset(wire.request(request)).await.unwrap();
            }
        });
        subscriptions.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
        let sends = stream::iter(0..TOPICS).map(|number| {
            let wire = wire.clone();
            let message = crate::fixture::messages::message(&format!("topic-{number}"), &format!("m{number}"), "body");
            async move { wire.send(vec![message]).await.unwrap() }
        });
        sends.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await;
    });
    // There may have been an election meanwhile.
    let leader = cluster.wait_for_leader();
    let address = cluster.http_address(leader);
    let before = usage(cluster.process_id(leader));
    // The first finds what waits; it takes longer than a scrape waits.
    names::scrape(&address);
    std::thread::sleep(Duration::from_secs(10));
    let (took, bytes) = slowest(&address, 20);
    let text = names::scrape(&address);
    let found = names::sum(&text, "raftmq_metrics_took_seconds", &[]);
    let rows = text.lines().filter(|line| line.starts_with("rocketmq_consumer_lag_messages{")).count();
    let elections = names::sum(&text, "raftmq_raft_elections_total", &[]);
    eprintln!(
        "{TOPICS} topics, {GROUPS} groups, {rows} groups in topics: slowest of 20 scrapes {took:?}, {bytes} bytes; finding \
         what waits took {found:?} s; elections {elections:?}; memory {:.1} -> {:.1} MiB",
        before.1,
        usage(cluster.process_id(leader)).1
    );
}

#[test]
#[ignore = "takes a minute, and measures; run by hand"]
fn what_an_idle_node_pays_for_metrics() {
    const MEASURED: Duration = Duration::from_secs(20);
    let port = free_ports("127.0.0.1", 1)[0];
    // With an address that is in use, unset: no port for HTTP, so neither thread nor pages.
    let held = std::net::TcpListener::bind("127.0.0.1:5557");
    for with_http in [false, true] {
        let setting = format!("metricsPromExporterPort={port}");
        let settings: Vec<String> = with_http.then_some(setting).into_iter().collect();
        let ports = free_ports("127.0.0.1", 3);
        let own = [
            "bindAddress=127.0.0.1".to_owned(),
            format!("grpcServerPort={}", ports[0]),
            format!("listenPort={}", ports[1]),
            format!("dLegerPeers=n0-127.0.0.1:{}", ports[2]),
        ];
        let mut node = crate::fixture::node::Node::start(&[&own, settings.as_slice()].concat());
        node.wait_for("ready");
        std::thread::sleep(Duration::from_secs(5));
        let (cpu, memory) = usage(node.process_id());
        std::thread::sleep(MEASURED);
        let (cpu_after, _) = usage(node.process_id());
        let share = (cpu_after - cpu) / MEASURED.as_secs_f64() * 100.0;
        eprintln!("HTTP {with_http}: {memory:.1} MiB, {share:.2} % of a core, nobody scrapes");
        if with_http {
            let address = format!("127.0.0.1:{port}");
            let until = Instant::now() + MEASURED;
            while Instant::now() < until {
                names::scrape(&address);
                std::thread::sleep(Duration::from_secs(5));
            }
            let (cpu_scraped, memory) = usage(node.process_id());
            let share = (cpu_scraped - cpu_after) / MEASURED.as_secs_f64() * 100.0;
            eprintln!("HTTP scraped every 5 s: {memory:.1} MiB, {share:.2} % of a core");
        }
    }
    drop(held);
}
