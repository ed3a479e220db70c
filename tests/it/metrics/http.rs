//! The HTTP port: health, limits, and what becomes of a port that is in use.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::fixture::cluster::{Cluster, free_ports};
use crate::fixture::http::{ask, get};
use crate::fixture::node::Node;

/// More than a node keeps open.
const CONNECTIONS: usize = 80;

#[test]
fn p16_health_over_http_tells_ready_from_alive_and_cannot_be_kept_from_others() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader().unwrap();
    for node in 0..3 {
        let address = cluster.http_address(node);
        let is_ready = || get(&address, "/readyz").code == 200;
        let until = Instant::now() + Duration::from_secs(10);
        while !is_ready() {
            assert!(Instant::now() < until, "{}", get(&address, "/healthz?verbose").body);
        }
        assert_eq!(get(&address, "/livez").body, "ok\n");
        let all = get(&address, "/healthz?verbose");
        for line in ["[+] raft thread: ", "[+] started: ", "[+] leader: n", "[+] up to date: entry ", "[+] disk: ok"] {
            assert!(all.body.contains(line), "{line}: {}", all.body);
        }
        assert!(all.body.ends_with("[+] not stopping: yes\nhealthz passed\n"), "{}", all.body);
        let json: serde_json::Value = serde_json::from_str(&get(&address, "/readyz?format=json").body).unwrap();
        assert_eq!(json["status"], "ok", "{json}");
        let metrics = get(&address, "/metrics").body;
        let leads = format!(
            "raftmq_raft_is_leader{{cluster=\"TestCluster\",node_type=\"broker\",node_id=\"Test00\",peer_id=\"n{node}\"}} {}\n",
            u8::from(node == leader)
        );
        assert!(metrics.contains(&leads), "{leads}{metrics}");
    }

    let address = cluster.http_address(leader);
    assert_eq!(get(&address, "/nothing").code, 404);
    let post = ask(&address, "POST /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((post.code, post.head.to_lowercase().contains("allow: get, head")), (405, true), "{}", post.head);
    let head = ask(&address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.code, head.body.as_str()), (200, ""), "{}", head.head);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    assert!(matches!(ask(&address, &long).code, 0 | 400..500), "a request without end is no request");
    // Half a request each, and more of them than there may be: whoever comes later is served all the same.
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost").unwrap();
            stream
        })
        .collect();
    assert_eq!(get(&address, "/livez").code, 200);
    drop(held);

    (0..3).filter(|node| *node != leader).for_each(|node| cluster.kill(node));
    let until = Instant::now() + Duration::from_secs(10);
    while get(&address, "/readyz").code != 503 {
        assert!(Instant::now() < until, "a node without a majority is ready");
    }
    assert!(get(&address, "/readyz").body.contains("[-] leader: none is known"), "{}", get(&address, "/readyz").body);
    assert_eq!(get(&address, "/livez").code, 200, "to start it again would help nobody");
}

#[test]
fn p16_probes_never_stop_a_node_however_many_there_are() {
    /// On each connection; a look that held on to a lock of Raft's stopped a node after some five thousand in all.
    const PROBES: usize = 5000;
    let cluster = Cluster::start();
    let address = cluster.http_address(cluster.leader().unwrap());
    let probe = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for number in 0..PROBES {
            (&stream).write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                let read = reader.read_line(&mut line);
                assert!(read.is_ok_and(|bytes| bytes > 0), "no answer to probe {number}");
                let value =
                    line.to_lowercase().strip_prefix("content-length: ").map(|value| value.trim().parse().unwrap());
                length = value.unwrap_or(length);
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(probe))));
    assert_eq!(get(&address, "/livez").code, 200);
}

#[test]
fn a_port_for_http_in_use_ends_a_start_only_if_somebody_chose_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = free_ports("127.0.0.1", 3);
    let settings = |http: &[String]| {
        let own = [
            "bindAddress=127.0.0.1".to_owned(),
            format!("grpcServerPort={}", ports[0]),
            format!("listenPort={}", ports[1]),
            format!("dLegerPeers=n0-127.0.0.1:{}", ports[2]),
        ];
        [&own, http].concat()
    };
    let chosen = format!("metricsPromExporterPort={}", held.local_addr().unwrap().port());
    let (code, line) = Node::refused(&settings(&[chosen]));
    assert_eq!((code, line.contains("in use")), (Some(10), true), "{line}");
    // Ours, or another node's on this machine.
    let _default = std::net::TcpListener::bind("127.0.0.1:5557");
    let mut node = Node::start(&settings(&[]));
    node.wait_for("port 5557 is in use and metricsPromExporterPort is not set");
    node.wait_for("ready");
}
