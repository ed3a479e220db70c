//! What metrics cost: run by hand, against a build to be measured.
//!
//! `cargo test --release --test it -- --ignored --nocapture metrics::scale`

use std::time::{Duration, Instant};

use super::names;
use crate::fixture::cluster::{Cluster, free_ports};
use crate::fixture::many;
use crate::fixture::many::{GROUPS, TOPICS, usage};

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
    many::fill(&cluster);
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
