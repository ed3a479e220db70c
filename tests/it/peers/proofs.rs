//! How peers prove who they are: a secret that all know, or certificates.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::fixture::cluster::Cluster;

/// A secret of three nodes; the last one may have another.
fn secrets(folder: &Path) -> [PathBuf; 2] {
    ["a secret that the nodes share", "another secret of somebody"].map(|secret| {
        let path = folder.join(&secret[..7]);
        std::fs::write(&path, secret).unwrap();
        path
    })
}

fn wait_for_line(cluster: &Cluster, node: usize, what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !cluster.log_of(node).contains(what) {
        assert!(Instant::now() < until, "no {what:?}\n{}", cluster.log_of(node));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn p16_a_node_with_another_secret_is_kept_out_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = secrets(folder.path()).map(|path| format!("peerSecretPath={}", path.display()));
    let mut cluster = Cluster::prepare(&[]);
    cluster.start_node_with(0, &[&own]);
    cluster.start_node_with(1, &[&own]);
    cluster.start_node_with(2, &[&other]);
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
    wait_for_line(&cluster, 2, "did not prove that it knows this node's peerSecret");
    wait_for_line(&cluster, 0, "peerSecret or certificate differ");
    assert!(!cluster.log_of(0).contains("is taken for the node it says"), "no word of a trusted network");
    // With the right one it takes part.
    cluster.kill(2);
    cluster.start_node_with(2, &[&own]);
    cluster.kill(1);
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
}

/// Certificates of an authority for names.
fn certificates(folder: &Path, names: &[&str]) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![(*name).to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn tls(folder: &Path, name: &str) -> Vec<String> {
    vec![
        format!("peerTlsCertPath={}", folder.join(format!("{name}.pem")).display()),
        format!("peerTlsKeyPath={}", folder.join(format!("{name}.key")).display()),
        format!("peerTlsTrustCertPath={}", folder.join("ca.pem").display()),
    ]
}

fn start(cluster: &mut Cluster, node: usize, settings: &[String]) {
    cluster.start_node_with(node, &settings.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn p16_nodes_with_certificates_serve_and_only_under_their_own_names() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), &["n0", "n1", "n2"]);
    let mut cluster = Cluster::prepare(&[]);
    for node in 0..3 {
        start(&mut cluster, node, &tls(folder.path(), &format!("n{node}")));
    }
    let leader = cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "200", "--size", "2000"]);
    cluster.kill(leader);
    let next = cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "200"]);
    assert_eq!(all.lines().count(), 200);
    // A certificate of the same authority for another name is none for this node, nor is no certificate.
    let other = format!("n{next}");
    start(&mut cluster, leader, &tls(folder.path(), &other));
    wait_for_line(&cluster, next, "did not prove it");
    cluster.kill(leader);
    cluster.start_node(leader);
    wait_for_line(&cluster, next, "does not begin as TLS");
    cluster.kill(leader);
    start(&mut cluster, leader, &tls(folder.path(), &format!("n{leader}")));
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
}
