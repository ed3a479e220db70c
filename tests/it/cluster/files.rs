//! A node that may open few files only, and clients that would take them all.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::runtime;
use crate::fixture::cluster::{BINARY, Cluster};
use crate::metrics::names::{scrape, sum};

/// What these nodes need for themselves: `openFilesMax` and what `edge/places` adds to it.
const NEEDED: u64 = 64 + 256;
const PLACES: u64 = 100;

/// Connects from an address of its own, and sends the first bytes of HTTP/2 that hold a connection.
async fn hold(from: &str, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let stream = socket.connect(to).await.ok()?;
    stream.writable().await.ok()?;
    stream.try_write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").ok()?;
    // The server's settings come at once, or the connection is closed.
    stream.readable().await.ok()?;
    let held = stream.try_read(&mut [0; 9]).is_ok_and(|count| count > 0);
    held.then_some(stream)
}

#[test]
fn p20_connections_never_take_the_files_that_a_node_needs() {
    let mut cluster = Cluster::start_with(&["openFilesMax=64"]);
    let limit = format!("--nofile={0}:{0}", NEEDED + PLACES);
    let node = cluster.leader().unwrap_or_default();
    let id = cluster.process_id(node).to_string();
    assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let address = cluster.address(node).parse().unwrap();
    runtime().block_on(async {
        let mut held = Vec::new();
        for from in ["127.0.0.2", "127.0.0.3"] {
            let mut of_address = 0;
            for _ in 0..PLACES {
                let connection = tokio::time::timeout(Duration::from_secs(30), hold(from, address)).await.unwrap();
                of_address += u64::from(connection.is_some());
                held.extend(connection);
            }
            // The others are those of this test's own commands and of nobody else.
            assert!((PLACES / 2 - 5..=PLACES / 2).contains(&of_address), "{from} got {of_address}");
        }
        let shown = |name: &str| sum(&scrape(&cluster.http_address(node)), name, &[]).unwrap() as usize;
        assert!(shown("raftmq_client_connections") >= held.len(), "{} are open", held.len());
        assert!(shown("raftmq_client_connections_refused_total") >= 2);
        // This node lives on and has files to work with, also when what it has in memory is flushed.
        cluster.raftmq_ok(&["produce", "t", "--count", "200"]);
        drop(held);
    });
    assert!(cluster.is_running(node), "{}", cluster.log_of(node));
    assert!(cluster.log_of(node).contains("connections are refused: this address has"), "{}", cluster.log_of(node));
    let again = Command::new(BINARY).args(["-n", &address.to_string(), "produce", "t", "again"]).status().unwrap();
    assert!(again.success(), "{}", cluster.log_of(node));
}

#[test]
fn p20_a_node_that_could_open_no_file_ends_with_the_code_that_says_so() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let node = (cluster.wait_for_leader() + 1) % 3;
    let id = cluster.process_id(node).to_string();
    // Far below what it has open: the next segment of its log cannot be opened.
    assert!(Command::new("prlimit").args(["--pid", &id, "--nofile=8:8"]).status().unwrap().success());
    cluster.raftmq_ok(&["produce", "t", "--count", "4000", "--size", "1KiB"]);
    assert_eq!(cluster.wait_for_end(node), Some(14), "{}", cluster.log_of(node));
    assert!(cluster.log_of(node).contains("it may not open more files: raise the limit"), "{}", cluster.log_of(node));
    // Its files are whole: with more files it comes back.
    cluster.start_node(node);
    cluster.wait_until_serving(node);
}

#[test]
fn a_start_with_too_few_files_is_refused_with_a_code_of_its_own() {
    let cluster = Cluster::prepare(&[]);
    let folder = cluster.folder_of(0);
    let output = Command::new("prlimit")
        .args(["--nofile=300:300", BINARY, "broker", "-D", &format!("storePathRootDir={folder}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(14), "{said}");
    assert!(said.contains("may have 300 files open, and needs 576 with openFilesMax=256; raise the limit"), "{said}");
}
