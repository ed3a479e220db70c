//! What an open page costs a node with many names: run by hand, against a build to be measured.
//!
//! `cargo test --release --test it -- --ignored --nocapture dashboard::cost`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::live::Listener;
use crate::fixture::cluster::Cluster;
use crate::fixture::http::get;
use crate::fixture::many;
use crate::fixture::many::{GROUPS, TOPICS, usage};

const MEASURED: Duration = Duration::from_secs(30);
/// As `ui/api.js` has it.
const EVERY: Duration = Duration::from_secs(2);
const COST_TIMES: u32 = 50;

/// What each page reads again and again, beside the samples.
const PAGES: [(&str, &[&str]); 6] = [
    ("nobody looks", &[]),
    ("overview", &["overview", "events?limit=6"]),
    ("topics", &["topics?limit=50"]),
    ("groups", &["groups?limit=50"]),
    ("group", &["group?name=group-7", "counts?group=group-7"]),
    ("topic", &["topic?name=topic-7", "counts?topic=topic-7"]),
];

/// Reads as a page does until it is told to stop; how often.
fn look(address: &str, reads: &[&str], stop: &AtomicBool) -> u32 {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut worked = Duration::ZERO;
        for path in reads {
            let answer = get(address, &format!("/ui/api/{path}"));
            assert_eq!(answer.code, 200, "{path}");
            let head = answer.head.to_lowercase();
            // A build that does not say it is looked at as often as can be.
            let micros =
                head.split_once("x-raftmq-worked-us: ").map_or("0", |(_, after)| after.lines().next().unwrap());
            worked += Duration::from_micros(micros.parse().unwrap());
        }
        times += 1;
        let until = Instant::now() + EVERY.max(worked * COST_TIMES);
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    times
}

/// Looks at the node for a while, if there is anything to read; its share of a core, in percent, and how often it was read.
fn share(cluster: &Cluster, node: usize, reads: &[&str]) -> (f64, u32) {
    let address = cluster.http_address(node);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let looking = (!reads.is_empty()).then(|| {
            threads.spawn(|| {
                let mut listener = Listener::open(&address);
                while !stop.load(Ordering::Relaxed) {
                    listener.sample();
                }
            });
            threads.spawn(|| look(&address, reads, &stop))
        });
        // The first look finds what waits in all groups.
        std::thread::sleep(Duration::from_secs(5));
        let (before, _) = usage(cluster.process_id(node));
        std::thread::sleep(MEASURED);
        let (after, _) = usage(cluster.process_id(node));
        stop.store(true, Ordering::Relaxed);
        let times = looking.map_or(0, |looking| looking.join().unwrap());
        ((after - before) / MEASURED.as_secs_f64() * 100.0, times)
    })
}

#[test]
#[ignore = "takes minutes, and measures; run by hand"]
fn what_a_page_on_each_node_costs_with_ten_thousand_topics_and_a_thousand_groups() {
    let cluster = Cluster::start();
    many::fill(&cluster);
    let leader = cluster.wait_for_leader();
    eprintln!("{TOPICS} topics, {GROUPS} groups, n{leader} leads; percent of a core on each node, and looks in 35 s");
    let mut idle = [0.0; 3];
    for (page, reads) in PAGES {
        let shares = std::thread::scope(|threads| {
            let all = [0, 1, 2].map(|node| {
                let cluster = &cluster;
                threads.spawn(move || share(cluster, node, reads))
            });
            all.map(|one| one.join().unwrap())
        });
        if reads.is_empty() {
            idle = shares.map(|(share, _)| share);
        }
        let row = [0, 1, 2].map(|node| {
            let (share, times) = shares[node];
            format!("n{node} {share:.2} (+{:.2}, {times})", share - idle[node])
        });
        eprintln!("{page}: {}", row.join("  "));
    }
}
