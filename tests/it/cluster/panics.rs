//! Panics that are planted: outside of a client's request they end the node, and the others go on; inside of one they end
//! the request.

use std::time::{Duration, Instant};

use raftmq::proto::v2::Code;

use super::runtime;
use crate::fixture::calls::send;
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::message;
use crate::fixture::wire::CALL;

/// Of `raftmq broker` after a panic.
const PANICKED: Option<i32> = Some(101);

#[test]
fn p17_a_node_whose_log_thread_panics_ends_at_once_and_service_goes_on() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    // The others would panic too if they had the bug.
    cluster.kill(leader);
    let follower = cluster.wait_for_leader();
    cluster.start_node_planted(leader, &[], "log-thread-panics");
    cluster.wait_until_serving(leader);
    let runtime = runtime();
    let _entered = runtime.enter();
    // It is led, or leads: either way its log thread writes this.
    let [wire, planted] = [follower, leader].map(|node| cluster.wire(node).within(CALL));
    runtime.block_on(send(&planted, message("t", "before", "x")));
    let sent = Instant::now();
    runtime.block_on(send(&wire, message("t", "log-thread-panics", "x")));
    assert_eq!(cluster.wait_for_end(leader), PANICKED, "{}", cluster.logs());
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    let log = cluster.log_of(leader);
    let last = log.lines().last().unwrap_or_default();
    let words = ["ERROR", "cannot go on", "thread 'commit-log' panicked at src/store/log/writer.rs", "as planted"];
    assert!(words.iter().all(|word| last.contains(word)), "{last}");
    runtime.block_on(send(&wire, message("t", "after", "x")));
}

#[test]
fn p17_a_panic_in_a_client_s_request_fails_that_request_and_nothing_else() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.kill(0);
    cluster.start_node_planted(0, &[], "request-panics");
    cluster.wait_until_serving(0);
    let runtime = runtime();
    let _entered = runtime.enter();
    let wire = cluster.wire(0).within(CALL);
    runtime.block_on(async {
        send(&wire, message("t", "before", "x")).await;
        let failed = wire.send(vec![message("t", "request-panics", "x")]).await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::Internal, "{failed}");
        let failed = wire.receive("request-panics", "t", 1, CALL).await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::Internal, "{failed}");
        send(&wire, message("t", "after", "x")).await;
        let (status, _) = wire.receive("g", "t", 1, CALL).await.unwrap();
        assert_eq!(status.code(), Code::Ok);
    });
    let log = cluster.log_of(0);
    assert_eq!(log.matches("a client's request was given up").count(), 2, "{log}");
}
