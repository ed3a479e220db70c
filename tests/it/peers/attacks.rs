//! What whoever reaches the port for peers can try (P16): none of it stops the cluster.

use prost::Message;
use raftmq::machine::command::{Placement, Send};
use raftmq::machine::{Command, Proposal};
use raftmq::model::{MessageType, TopicId};
use raftmq::proto::peer as proto;
use raftmq::proto::peer::answer::Answer;
use raftmq::proto::peer::call::Call;
use raftmq::proto::peer::forward_reply::Result as Reply;

use crate::fixture::cluster::Cluster;
use crate::fixture::peer::{Claim, MAGIC, PeerLink, facts_of};

/// A link to the leader in the name of a follower, whose disk the program has asked for.
fn as_a_follower(cluster: &Cluster, leader: usize, purpose: proto::Purpose) -> PeerLink {
    as_another(cluster, (leader + 1) % 3, leader, purpose)
}

fn as_another(cluster: &Cluster, follower: usize, leader: usize, purpose: proto::Purpose) -> PeerLink {
    let facts = facts_of(&cluster.peer_address(follower), Claim { from: leader as u64, to: follower as u64 });
    let claim = Claim { from: follower as u64, to: leader as u64 };
    let (link, welcome) = PeerLink::greet(&cluster.peer_address(leader), &claim.hello(purpose), facts).unwrap();
    assert_eq!(welcome.refusal, "");
    link
}

/// Messages go in and come out, and every process is the one that was started.
fn assert_serves(cluster: &mut Cluster, group: &str) {
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["produce", "t", "--count", "20"]);
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", group, "--max", "20"]);
    assert_eq!(all.lines().count(), 20);
    for node in 0..3 {
        assert!(cluster.is_running(node), "n{node} ended\n{}", cluster.logs());
    }
}

#[test]
fn p16_commands_that_no_node_could_apply_are_refused_before_the_log() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let mut link = as_a_follower(&cluster, leader, proto::Purpose::Forward);
    let lies = Command::Send(Send {
        topic: TopicId(1),
        message_type: MessageType::Normal,
        tag_hashes: vec![0; 3],
        placement: Placement::Now,
    });
    let newer = vec![2, 250, 1, 2, 3].into();
    let proposals = [
        Proposal { command: vec![1, 2, 3].into(), messages: Vec::new() }.encode(),
        Proposal { command: newer, messages: Vec::new() }.encode(),
        Proposal { command: lies.encode(), messages: Vec::new() }.encode(),
        Proposal { command: Command::Tick.encode(), messages: vec![vec![0; 3].into()] }.encode(),
        vec![0xff; 40].into(),
    ];
    for (id, proposal) in (0..).zip(proposals) {
        link.send(&proto::ForwardFrame { id, proposals: vec![proposal] }).unwrap();
        let reply: proto::ForwardReply = link.receive().unwrap();
        assert_eq!(reply.id, id);
        assert!(matches!(reply.result, Some(Reply::Unusable(_))), "{:?}", reply.result);
    }
    // The link goes on, for what is in order.
    let tick = Proposal { command: Command::Tick.encode(), messages: Vec::new() }.encode();
    link.send(&proto::ForwardFrame { id: 9, proposals: vec![tick] }).unwrap();
    let reply: proto::ForwardReply = link.receive().unwrap();
    assert!(matches!(reply.result, Some(Reply::Outcomes(_))), "{:?}", reply.result);
    assert_serves(&mut cluster, "g");
    for node in 0..3 {
        cluster.kill(node);
        cluster.start_node(node);
    }
    assert_serves(&mut cluster, "g2");
}

#[test]
fn p16_a_term_beyond_all_elections_is_not_believed() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let from = (leader as u64 + 1) % 3;
    let vote = Some(proto::Vote { term: u64::MAX, node: from, committed: false });
    let leads = Some(proto::Vote { term: u64::MAX - 1, node: from, committed: true });
    let call = || proto::VoteCall { vote, last: None, leader_transfer: true };
    let heartbeat = proto::AppendFrame { vote: leads, ..proto::AppendFrame::default() };
    let transfer = proto::TransferCall { from_leader: leads, to_node: leader as u64, last: None };
    let calls =
        [Call::Vote(call()), Call::PreVote(call()), Call::Heartbeat(heartbeat.clone()), Call::Transfer(transfer)];
    let mut link = as_a_follower(&cluster, leader, proto::Purpose::Control);
    for (id, call) in (0..).zip(calls) {
        link.send(&proto::Call { id, call: Some(call) }).unwrap();
        let answer: proto::Answer = link.receive().unwrap();
        let Some(Answer::Refused(reason)) = answer.answer else { panic!("{:?}", answer.answer) };
        assert!(reason.contains("more than 1048576 above"), "{reason}");
    }
    // Nor is a vote that a node sends in the name of another.
    let vote = Some(proto::Vote { term: 9, node: from + 1, committed: false });
    let of_another = proto::VoteCall { vote, last: None, leader_transfer: true };
    link.send(&proto::Call { id: 9, call: Some(Call::Vote(of_another)) }).unwrap();
    let answer: proto::Answer = link.receive().unwrap();
    assert!(matches!(&answer.answer, Some(Answer::Refused(reason)) if reason.contains("sent a vote of")), "{answer:?}");
    let mut link = as_a_follower(&cluster, leader, proto::Purpose::Append);
    link.send(&heartbeat).unwrap();
    assert!(link.receive::<proto::AppendAck>().is_err(), "the link ends");
    assert_serves(&mut cluster, "g");
    let status = cluster.json(&["cluster", "status"]);
    assert!(status["nodes"][0]["term"].as_u64().unwrap() < 1000, "{status}");
}

#[test]
fn p22_whoever_has_just_got_a_vote_has_time_to_lead() {
    // So long has a node time to make use of a vote.
    let cluster = Cluster::start_with(&["raftElectionTimeoutMinMs=30000", "raftElectionTimeoutMaxMs=60000"]);
    let voter = cluster.wait_for_leader();
    let (one, other) = ((voter + 1) % 3, (voter + 2) % 3);
    let ask = |from: usize, term, is_real: bool| {
        let vote = Some(proto::Vote { term, node: from as u64, committed: false });
        let last = Some(proto::LogId { term: 1000, node: from as u64, index: 1_000_000 });
        let call = proto::VoteCall { vote, last, leader_transfer: true };
        let mut link = as_another(&cluster, from, voter, proto::Purpose::Control);
        let call = if is_real { Call::Vote(call) } else { Call::PreVote(call) };
        link.send(&proto::Call { id: 1, call: Some(call) }).unwrap();
        let answer: proto::Answer = link.receive().unwrap();
        answer.answer.unwrap()
    };
    let granted = ask(one, 2000, true);
    assert!(matches!(&granted, Answer::Vote(vote) if vote.granted), "{granted:?}");
    let refused = ask(other, 2001, false);
    assert!(matches!(&refused, Answer::Refused(reason) if reason.contains("just voted for another")), "{refused:?}");
    let asked_again = ask(one, 2001, false);
    assert!(matches!(&asked_again, Answer::Vote(_)), "{asked_again:?}");
}

#[test]
fn p16_only_members_are_remembered_and_only_as_they_answer_at_their_address() {
    let mut cluster = Cluster::prepare(&[]);
    cluster.start_node(0);
    cluster.start_node(1);
    let hello = |from| Claim { from, to: 0 }.hello(proto::Purpose::Append);
    let facts = |disk| proto::Facts { disk, cluster_version: u32::MAX, ..proto::Facts::default() };
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let address = cluster.peer_address(0);
    for from in 3..300 {
        let (_, welcome) = PeerLink::greet(&address, &hello(from), facts(from)).unwrap();
        assert!(welcome.refusal.contains("no member"), "{}", welcome.refusal);
        assert!(!welcome.refusal.contains("Test"), "a stranger is told no name: {}", welcome.refusal);
    }
    // Not even a member that was never seen.
    let (_, welcome) = PeerLink::greet(&address, &hello(2), facts(77)).unwrap();
    assert!(welcome.refusal.contains("not yet, who answers at that member's address"), "{}", welcome.refusal);
    let elsewhere = proto::Envelope { group: "other".to_owned(), ..Claim { from: 1, to: 0 }.envelope() };
    let misdirected = proto::Hello { envelope: Some(elsewhere), ..hello(1) };
    let (_, welcome) = PeerLink::greet(&address, &misdirected, facts(1)).unwrap();
    assert!(welcome.refusal.contains("another node"), "{}", welcome.refusal);
    let other_shard = proto::Envelope { shard: 1, ..Claim { from: 1, to: 0 }.envelope() };
    let misdirected = proto::Hello { envelope: Some(other_shard), ..hello(1) };
    let (_, welcome) = PeerLink::greet(&address, &misdirected, facts(1)).unwrap();
    assert!(welcome.refusal.contains("another node"), "{}", welcome.refusal);
    // The real one comes and takes part.
    cluster.start_node(2);
    cluster.kill(1);
    cluster.wait_for_leader();
    cluster.start_node(1);
    assert_serves(&mut cluster, "g");
}

#[test]
fn p16_with_a_secret_nobody_takes_part_who_does_not_know_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a secret of the three nodes\n").unwrap();
    let mut cluster = Cluster::start_with(&[&format!("peerSecretPath={}", secret.display())]);
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let leader = cluster.wait_for_leader();
    let follower = (leader + 1) % 3;
    for purpose in [proto::Purpose::Append, proto::Purpose::Control, proto::Purpose::Forward, proto::Purpose::Probe] {
        let claim = Claim { from: leader as u64, to: follower as u64 };
        let facts = proto::Facts { disk: 1, ..proto::Facts::default() };
        let (mut link, welcome) =
            PeerLink::greet(&cluster.peer_address(follower), &claim.hello(purpose), facts).unwrap();
        assert!(welcome.refusal.contains("did not prove it"), "{}", welcome.refusal);
        assert_eq!(welcome.facts, None, "a stranger is told nothing of the disk");
        let leads = Some(proto::Vote { term: 100, node: leader as u64, committed: true });
        let forged = proto::AppendFrame { vote: leads, ..proto::AppendFrame::default() };
        // Sent or not, nobody reads it.
        let _ = link.send(&forged);
        assert!(link.receive::<proto::AppendAck>().is_err());
    }
    assert_serves(&mut cluster, "g");
    let status = cluster.json(&["cluster", "status"]);
    assert!(status["nodes"][0]["term"].as_u64().unwrap() < 100, "{status}");
}

#[test]
fn p16_another_protocol_version_is_refused_by_name() {
    let cluster = Cluster::start();
    let mut link = PeerLink::connect(&cluster.peer_address(0)).unwrap();
    link.send_bytes(b"RAFTMQ\x01\n").unwrap();
    let welcome: proto::Welcome = link.receive_of_protocol_1().unwrap();
    assert!(welcome.refusal.contains("peer protocol 2"), "{}", welcome.refusal);
    let mut link = PeerLink::connect(&cluster.peer_address(0)).unwrap();
    let mut newer = MAGIC;
    newer[6] = 3;
    link.send_bytes(&newer).unwrap();
    assert!(link.receive::<proto::Challenge>().is_err(), "the link is closed");
    let welcome = proto::Welcome { refusal: "x".into(), ..proto::Welcome::default() }.encode_to_vec();
    assert_eq!(welcome[0], 0x12, "where protocol 1 had its refusal");
}
