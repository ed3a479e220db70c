//! TLS and plaintext on the client ports (contract §1.1, contract §1.3): four of the official clients speak TLS unless
//! told otherwise, and accept any certificate.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use crate::fixture::calls::{code, take};
use crate::fixture::cluster::{BINARY, Cluster, with_cluster};
use crate::fixture::messages::{KIB_16, MIB_4, having, ids, message, sorted};
use crate::fixture::requests::poll;
use crate::fixture::tls::connect;
use crate::fixture::wire::{CALL, Wire};

/// What a send over TLS and one in plaintext are answered; `None` where the connection is refused.
async fn sent(cluster: &Cluster, node: usize) -> [Option<Code>; 2] {
    let send = async |wire: Wire| {
        let sent = wire.send(vec![message("t", "id", "b")]).await;
        sent.ok().map(|answer| answer.status.unwrap().code())
    };
    let secure = match connect(cluster.address(node)).await {
        Ok(channel) => send(Wire::over(channel, "secure")).await,
        Err(_) => None,
    };
    [secure, send(Wire::connect(&cluster.address(node), "plain")).await]
}

#[test]
fn tls_and_plaintext_are_served_on_one_port_unless_told_otherwise() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(sent(&cluster, 0)), [Some(Code::Ok), Some(Code::Ok)]);
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|file| format!("{}-{file}", cluster.folder_of(0)));
    std::fs::write(&chain, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let files = [format!("tls.server.certPath={chain}"), format!("tls.server.keyPath={key}")];
    for (mode, expected) in [("enforcing", [Some(Code::Ok), None]), ("disabled", [None, Some(Code::Ok)])] {
        cluster.kill(0);
        cluster.start_node_with(0, &[&format!("tls.server.mode={mode}"), &files[0], &files[1]]);
        // The node answers nobody in plaintext when it enforces TLS, so the others are asked.
        let until = Instant::now() + Duration::from_secs(10);
        let mut found = runtime.block_on(sent(&cluster, 0));
        while found != expected && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            found = runtime.block_on(sent(&cluster, 0));
        }
        assert_eq!(found, expected, "{mode}\n{}", cluster.logs());
        if mode == "enforcing" {
            assert_commands_speak_tls(&cluster.address(0), Path::new(&chain));
        }
    }
}

/// To a node with this certificate that takes no plaintext.
fn assert_commands_speak_tls(address: &str, chain: &Path) {
    let run = |options: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(BINARY);
        command.args(["-n", address, "--timeout", "20s"]).args(options).args(["topic", "list"]);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, said) = run(&[], &[]);
    assert!(exit == Some(4) && said.contains("--tls-insecure (tls.server.mode=enforcing needs it)"), "{said}");
    assert_eq!(run(&["--tls-insecure"], &[]).0, Some(0));
    assert_eq!(run(&[], &[("RAFTMQ_TLS_INSECURE", "true")]).0, Some(0));
    assert_eq!(run(&["--tls-ca", chain.to_str().unwrap()], &[]), (Some(0), String::new()));
    // Whose certificate nobody vouches for is not believed.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = chain.with_file_name("other.pem");
    std::fs::write(&file, other.cert.pem()).unwrap();
    let (exit, said) = run(&["--tls-ca", file.to_str().unwrap()], &[]);
    assert!(exit == Some(4) && said.contains("invalid peer certificate"), "{exit:?} {said}");
}

#[test]
fn c25_15_large_sends_pass_over_tls_and_in_plaintext_on_one_port() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let secure = connect(cluster.address(0)).await.unwrap();
        let wires = [Wire::over(secure, "secure"), Wire::connect(&cluster.address(0), "plain")];
        let wires = wires.map(|wire| wire.within(CALL));
        for (wire, id) in wires.iter().zip(["secure", "plain"]) {
            let mut large = having("t", id, [("k", &"v".repeat(KIB_16 - 1))]);
            large.body = vec![b'b'; MIB_4].into();
            assert_eq!(code(wire, large).await, Code::Ok, "{id}");
        }
        for (wire, group) in wires.iter().zip(["secure", "plain"]) {
            let got = take(std::slice::from_ref(wire), &poll(group, "t"), 2).await;
            assert_eq!(sorted(ids(&got)), ["plain", "secure"]);
            assert!(got.iter().all(|message| message.body.len() == MIB_4), "{group}");
        }
    });
}
