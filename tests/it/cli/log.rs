//! The log of a node: its file, its level at run time, and a folder that cannot be written.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::cluster::{BINARY, free_ports};
use crate::fixture::node::Node;

const FILE: &str = "logs/rocketmqlogs/broker.log";

/// Settings of a node alone, and its address.
fn alone(own: &[&str]) -> (Vec<String>, String) {
    let [peer, grpc, listen] = <[u16; 3]>::try_from(free_ports("127.0.0.1", 3)).unwrap();
    let settings = [
        format!("dLegerPeers=n0-127.0.0.1:{peer}"),
        format!("grpcServerPort={grpc}"),
        format!("listenPort={listen}"),
        "bindAddress=127.0.0.1".to_owned(),
    ];
    (settings.into_iter().chain(own.iter().map(|own| (*own).to_owned())).collect(), format!("127.0.0.1:{grpc}"))
}

fn raftmq(address: &str, args: &[&str]) -> String {
    let output = Command::new(BINARY).args(["-n", address]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ends(node: &mut Node) {
    node.signal("TERM");
    node.wait_for("stopped");
}

#[test]
fn a_node_s_lines_are_in_a_file_and_their_level_changes_while_it_runs() {
    let (settings, address) = alone(&["brokerClusterName=Shop", "slowRequestMs=1"]);
    let mut node = Node::start(&settings);
    node.wait_for("ready");
    let ready = node.log().lines().find(|line| line.contains(" ready ")).unwrap_or_default().to_owned();
    let peers = &settings[0]["dLegerPeers=".len()..];
    for words in ["node=n0", "cluster=\"Shop\"", "group=\"RaftNode00\"", &format!("clients={address}"), peers] {
        assert!(ready.contains(words), "{words}: {ready}");
    }
    let level = || raftmq(&address, &["debug", "log-level"]);
    assert!(level().contains("n0    info   info"), "{}", level());
    // A connection that ends in the middle of nothing is a line of debug.
    let hang_up = || {
        use std::io::Write;
        std::net::TcpStream::connect(&address).unwrap().write_all(b"nonsense nonsense nonsense\r\n\r\n").unwrap();
    };
    hang_up();
    raftmq(&address, &["debug", "log-level", "debug", "--for", "2s"]);
    hang_up();
    node.wait_for(" DEBUG ");
    assert!(!node.log().split("the log level was changed").next().unwrap().contains(" DEBUG "), "{}", node.log());
    node.wait_for("the log level is the configured one again");
    assert!(level().contains("n0    info   info"), "{}", level());
    // With a bound that every request of this build is above.
    raftmq(&address, &["topic", "create", "t"]);
    raftmq(&address, &["produce", "t", "--count", "20", "--batch", "1"]);
    node.wait_for("a request was slow");
    let slow = node.log().lines().find(|line| line.contains("a request was slow")).unwrap_or_default().to_owned();
    for part in ["kind=", "took=", "queued=", "committed=", "synced_here=", "applied=", "answered="] {
        assert!(slow.contains(part), "{part}: {slow}");
    }
    ends(&mut node);
    let until = Instant::now() + Duration::from_secs(10);
    while node.text_of(FILE) != node.log() {
        assert!(Instant::now() < until, "{}\n--- and stderr\n{}", node.text_of(FILE), node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_log_folder_that_cannot_be_written_stops_nothing_and_is_said() {
    // Below a file there is no folder.
    let (settings, address) = alone(&["logFormat=json", "logHome=/proc/version"]);
    let mut node = Node::start(&settings);
    node.wait_for("\"message\":\"ready\"");
    node.wait_for("the log file cannot be written: lines go to stderr");
    raftmq(&address, &["topic", "create", "t"]);
    assert!(node.log().lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{}", node.log());
    assert_eq!(node.log().matches("cannot be written").count(), 1, "{}", node.log());
    ends(&mut node);
}
