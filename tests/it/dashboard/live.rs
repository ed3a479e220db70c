//! What is sent to those who look: every second, to a bounded number, and nothing while nobody does.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::reads::read;
use crate::fixture::cluster::Cluster;
use crate::fixture::http::get;

/// As many as a node takes.
const LISTENERS: usize = 16;

/// A page that is open.
pub struct Listener(BufReader<TcpStream>);

impl Listener {
    pub fn open(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /ui/api/live HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut listener = Self(BufReader::new(stream));
        let head = listener.line_with("HTTP/1.1 ");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        listener
    }

    fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before {word}");
            if line.contains(word) {
                return line;
            }
        }
    }

    pub fn sample(&mut self) -> Value {
        let line = self.line_with("data: ");
        let sample = line.trim().strip_prefix("data: ").unwrap_or_else(|| panic!("not a sample: {line:?}"));
        serde_json::from_str(sample).unwrap()
    }
}

#[test]
fn every_node_sends_the_whole_cluster_to_a_bounded_number_and_a_dead_leader_is_seen() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader().unwrap();
    let watched = (leader + 1) % 3;
    let address = cluster.http_address(watched);
    let mut first = Listener::open(&address);
    let sample = first.sample();
    assert_eq!(sample["node"], format!("n{watched}"));
    assert_eq!(sample["cluster"]["leader"], format!("n{leader}"));
    assert_eq!(sample["cluster"]["nodes"].as_array().unwrap().len(), 3);
    let later = first.sample();
    assert!(later["at_ms"].as_u64() > sample["at_ms"].as_u64(), "{later}");

    let others: Vec<Listener> = (1..LISTENERS).map(|_| Listener::open(&address)).collect();
    let refused = get(&address, "/ui/api/live");
    assert_eq!((refused.code, refused.body.contains("16 pages are open")), (503, true), "{}", refused.body);
    assert_eq!(get(&address, "/livez").code, 200, "probes are answered all the same");
    drop(others);
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&address).is_ok_and(|mut stream| {
        write!(stream, "GET /ui/api/live HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        !line.contains("200")
    }) {
        assert!(Instant::now() < until, "places of those who went are not given to others");
        std::thread::sleep(Duration::from_millis(50));
    }

    cluster.kill(leader);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let sample = first.sample();
        let now = &sample["cluster"];
        let dead = now["nodes"].as_array().unwrap().iter().find(|row| row["node"] == format!("n{leader}")).unwrap();
        if dead["state"] == "down" && now["leader"].is_string() && now["leader"] != format!("n{leader}") {
            break;
        }
        assert!(Instant::now() < until, "{sample}");
    }
    let changes = read(&cluster, watched, "leaders");
    let led: Vec<&Value> = changes["changes"].as_array().unwrap().iter().map(|change| &change["leader"]).collect();
    assert_ne!(led.last(), led.first(), "{changes}");
    assert!(led.contains(&&Value::from(format!("n{leader}"))), "{changes}");
}
