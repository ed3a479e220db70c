//! Service goes on while a majority lives, and without one nobody is told a lie.

use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::calls::send;
use crate::fixture::cluster::{BINARY, Cluster};
use crate::fixture::messages::message;
use crate::fixture::requests::{by_tag, queue, resource};
use crate::fixture::wire::{CALL, Wire};

#[test]
fn service_goes_on_with_one_node_down_and_waits_with_two() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let leader = cluster.wait_for_leader();
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.kill(first);
    let send = |id: &str, timeout| {
        let wire = Wire::connect(&cluster.address(leader), "producer");
        let sent = runtime.block_on(wire.within(timeout).send(vec![message("t", id, id)]));
        sent.unwrap().status.unwrap().code()
    };
    assert_eq!(send("one down", Duration::from_secs(3)), Code::Ok);
    cluster.kill(second);
    let started = Instant::now();
    let wire = Wire::connect(&cluster.address(leader), "producer");
    let refused = runtime.block_on(wire.send(vec![message("t", "two down", "x")])).unwrap();
    let code = refused.status.unwrap().code();
    assert!(matches!(code, Code::HaNotAvailable | Code::ProxyTimeout), "P16: {code:?} must tell to try again");
    assert!(started.elapsed() < Duration::from_secs(3), "the answer comes before the deadline");
    cluster.start_node(second);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let wire = Wire::connect(&cluster.address(leader), "producer");
        let sent = runtime.block_on(wire.send(vec![message("t", "back", "x")])).unwrap();
        if sent.status.unwrap().code() == Code::Ok {
            break;
        }
        assert!(Instant::now() < until, "no send succeeds after a majority is back\n{}", cluster.logs());
    }
}

#[test]
fn p1_a_leader_cut_off_from_its_followers_acknowledges_nothing() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let leader = cluster.wait_for_leader();
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.signal(follower, "STOP");
    }
    let wire = Wire::connect(&cluster.address(leader), "producer");
    let hasty = wire.within(Duration::from_secs(1));
    let cut = |number| message("t", &format!("cut {number}"), "x");
    let codes: Vec<_> = (0..5)
        .map(|number| {
            let sent = runtime.block_on(hasty.send(vec![cut(number)]));
            sent.map(|response| response.status.unwrap().code())
        })
        .collect();
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.signal(follower, "CONT");
    }
    assert!(codes.iter().all(|code| !matches!(code, Ok(Code::Ok))), "{codes:?}");
    cluster.wait_for_leader();
    let sent = runtime.block_on(wire.send(vec![message("t", "healed", "x")])).unwrap();
    assert_eq!(sent.status.unwrap().code(), Code::Ok);
}

#[test]
fn p14_a_node_that_cannot_know_says_so_and_never_that_a_topic_is_missing() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let [alone, other] = [(leader + 1) % 3, (leader + 2) % 3];
    // Down while a topic is made, and then without the others.
    cluster.kill(alone);
    cluster.raftmq_ok(&["topic", "create", "unseen"]);
    cluster.kill(leader);
    cluster.kill(other);
    cluster.start_node(alone);
    let runtime = runtime();
    let _entered = runtime.enter();
    let until = Instant::now() + Duration::from_secs(10);
    let wire = Wire::connect(&cluster.address(alone), "producer");
    let code = loop {
        match runtime.block_on(wire.within(Duration::from_secs(4)).send(vec![message("unseen", "id", "x")])) {
            Ok(response) => break response.status.unwrap().code(),
            Err(status) => assert!(Instant::now() < until, "{status}\n{}", cluster.logs()),
        }
    };
    assert_eq!(code, Code::HaNotAvailable);
    // Whoever leads next has the topic in its log, applied or not: it is never missed.
    cluster.start_node(other);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let sent = runtime.block_on(wire.within(Duration::from_secs(4)).send(vec![message("unseen", "id", "x")]));
        match sent.map(|response| response.status.unwrap().code()) {
            Ok(Code::Ok) => break,
            Ok(code) => assert_eq!(code, Code::HaNotAvailable),
            Err(status) => eprintln!("not yet: {status}"),
        }
        assert!(Instant::now() < until, "no send succeeds\n{}", cluster.logs());
    }
}

#[test]
fn a_node_told_to_stop_ends_cleanly_and_service_goes_on() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    // A poll that waits and the session beside it must not hold the node up.
    let runtime = runtime();
    let _entered = runtime.enter();
    let wire = Wire::connect(&cluster.address(leader), "consumer");
    let polling = runtime.spawn(async move { wire.receive("g", "t", 1, Duration::from_secs(20)).await });
    std::thread::sleep(Duration::from_millis(300));
    cluster.signal(leader, "TERM");
    let (status, messages) = runtime.block_on(polling).unwrap().unwrap();
    assert_eq!((status.code(), messages.len()), (Code::MessageNotFound, 0), "the poll ends with an answer");
    assert_eq!(cluster.wait_for_end(leader), Some(0), "{}", cluster.logs());
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["produce", "t", "--count", "10"]);
}

#[test]
fn p14_p16_a_node_without_a_quorum_says_so_and_no_poll_is_empty() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "9"]);
    let alone = cluster.wait_for_leader();
    cluster.kill((alone + 1) % 3);
    cluster.kill((alone + 2) % 3);
    let runtime = runtime();
    let _entered = runtime.enter();
    // Two of the longest election timeouts are 600 ms; a machine that is busy takes longer.
    let until = Instant::now() + Duration::from_secs(5);
    let output = loop {
        let output = cluster.raftmq(&["-o", "json", "cluster", "status"]);
        match output.status.code() {
            Some(5) => break output,
            code => assert!(Instant::now() < until, "{code:?}\n{}", cluster.logs()),
        }
    };
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = &status["nodes"][alone];
    assert_eq!((own["role"].as_str(), own["state"].as_str()), (Some("no quorum"), Some("no quorum")), "{status}");
    assert_eq!(status["leader"], serde_json::Value::Null);
    let wire = Wire::connect(&cluster.address(alone), "consumer");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.address(alone))).unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.connect_lazy());
    let answer = runtime.block_on(health.check(tonic_health::pb::HealthCheckRequest { service: String::new() }));
    let serving = answer.unwrap().into_inner().status();
    assert_eq!(serving, tonic_health::pb::health_check_response::ServingStatus::NotServing);
    let polled = runtime.block_on(wire.within(Duration::from_secs(8)).receive("g", "t", 1, Duration::from_secs(5)));
    let (status, messages) = polled.unwrap();
    assert_eq!((status.code(), messages.len()), (Code::HaNotAvailable, 0), "P14: {status:?}");
    let consumed = cluster.raftmq(&["consume", "t", "--group", "g", "--max", "9"]);
    assert_eq!(consumed.status.code(), Some(5), "{}", String::from_utf8_lossy(&consumed.stderr));
    for node in 1..3 {
        cluster.start_node((alone + node) % 3);
    }
    cluster.wait_for_leader();
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "9"]);
    assert_eq!(all.lines().count(), 9);
}

/// The code of a pull of all that a topic's first queue has.
async fn pull(wire: &Wire, topic: &str) -> Code {
    use raftmq::proto::v2::pull_message_response::Content;
    let request = v2::PullMessageRequest {
        group: Some(resource("reader")),
        message_queue: queue(topic),
        batch_size: 1,
        filter_expression: by_tag("*"),
        ..Default::default()
    };
    let mut items = wire.raw().pull_message(wire.request(request)).await.unwrap().into_inner();
    match items.message().await.unwrap().unwrap().content {
        Some(Content::Status(status)) => status.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn p14_a_node_that_is_cut_off_serves_no_pulls() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
    let runtime = runtime();
    let _entered = runtime.enter();
    let leader = cluster.wait_for_leader();
    let [alone, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let wire = cluster.wire(alone).within(CALL);
    runtime.block_on(send(&wire, message("t", "m", "m")));
    // The node that answered need not have applied it yet.
    let until = Instant::now() + CALL;
    while runtime.block_on(pull(&wire, "t")) != Code::Ok {
        assert!(Instant::now() < until, "the message is not here\n{}", cluster.logs());
    }
    for node in [leader, other] {
        cluster.signal(node, "STOP");
    }
    std::thread::sleep(Duration::from_secs(1));
    let code = runtime.block_on(pull(&wire.within(Duration::from_secs(4)), "t"));
    for node in [leader, other] {
        cluster.signal(node, "CONT");
    }
    assert_eq!(code, Code::HaNotAvailable, "it cannot know whether the topic is still there");
    cluster.wait_for_leader();
    assert_eq!(runtime.block_on(pull(&wire, "t")), Code::Ok);
    cluster.raftmq_ok(&["topic", "delete", "t", "--yes"]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(runtime.block_on(pull(&wire, "t")), Code::TopicNotFound, "a second after it was deleted");
}

#[test]
fn p14_a_node_that_lags_denies_no_topic_that_was_created_again() {
    let cluster = Cluster::start();
    let leader = cluster.wait_for_leader();
    let lagging = (leader + 1) % 3;
    let runtime = runtime();
    let _entered = runtime.enter();
    let wire = cluster.wire(lagging).within(CALL);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    runtime.block_on(send(&wire, message("t", "first", "m")));
    let addresses =
        (0..3).filter(|node| *node != lagging).map(|node| cluster.address(node)).collect::<Vec<_>>().join(";");
    let on_others = |args: &[&str]| {
        let done = std::process::Command::new(BINARY).args(["-n", &addresses]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    };
    for turn in 0..3 {
        cluster.signal(lagging, "STOP");
        on_others(&["topic", "delete", "t", "--yes"]);
        on_others(&["topic", "create", "t"]);
        // The request waits for the node as the entries do.
        let (client, id) = (wire.clone(), format!("m{turn}"));
        let sending = runtime.spawn(async move { client.send(vec![message("t", &id, "m")]).await });
        std::thread::sleep(Duration::from_millis(100));
        cluster.signal(lagging, "CONT");
        let status = runtime.block_on(sending).unwrap().unwrap().status.unwrap();
        assert!(matches!(status.code(), Code::Ok | Code::HaNotAvailable), "{status:?}");
        runtime.block_on(send(&wire, message("t", &format!("again{turn}"), "m")));
    }
}
