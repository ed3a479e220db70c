//! A thousand mutations of real frames, by a seed, against a running cluster (P16): it goes on serving.

use std::time::Duration;

use raftmq::env::rng::SeededRng;
use raftmq::machine::{Command, Proposal};
use raftmq::proto::peer as proto;
use raftmq::proto::peer::call::Call;

use crate::fixture::cluster::Cluster;
use crate::fixture::peer::{Claim, MAGIC, PeerLink, facts_of, frame};

const MUTATIONS: u64 = 1000;
const SEED: u64 = 18;

/// Links as a follower opens them, with a few frames each, as bytes that can be sent at once.
fn real_links(claim: Claim, facts: &proto::Facts) -> Vec<Vec<Vec<u8>>> {
    let proof = proto::Proof { proof: Vec::new().into(), facts: Some(facts.clone()) };
    let greeting = |purpose| vec![MAGIC.to_vec(), frame(&claim.hello(purpose)), frame(&proof)];
    let tick = Proposal { command: Command::Tick.encode(), messages: Vec::new() }.encode();
    let forwards = (0..3).map(|id| frame(&proto::ForwardFrame { id, proposals: vec![tick.clone(); 2] }));
    let vote = Some(proto::Vote { term: 1, node: claim.from, committed: false });
    let vote = proto::VoteCall { vote, last: None, leader_transfer: false };
    let calls = [
        Call::Status(proto::StatusCall {}),
        Call::ReadIndex(proto::ReadIndexCall {}),
        Call::Ask(proto::AskCall { question: vec![1, 2, 3].into() }),
        Call::PreVote(vote),
        Call::Vote(vote),
    ];
    let calls = (0..).zip(calls).map(|(id, call)| frame(&proto::Call { id, call: Some(call) }));
    let old = Some(proto::Vote { term: 1, node: claim.from, committed: true });
    let append = proto::AppendFrame { vote: old, record_count: 1, records: vec![9; 60].into(), ..Default::default() };
    let purposes = [proto::Purpose::Forward, proto::Purpose::Control, proto::Purpose::Append];
    let frames = [forwards.collect::<Vec<_>>(), calls.collect(), vec![frame(&append); 2]];
    purposes.into_iter().zip(frames).map(|(purpose, frames)| [greeting(purpose), frames].concat()).collect()
}

/// Flips, cuts, doubles, drops or swaps; half of the changed frames get a checksum that fits again.
fn mutate(link: &mut Vec<Vec<u8>>, rng: &mut SeededRng) {
    let at = rng.below(link.len() as u64) as usize;
    match rng.below(6) {
        0 => link.truncate(at),
        1 => link.insert(at, link[at].clone()),
        2 => drop(link.remove(at)),
        3 => {
            let other = rng.below(link.len() as u64) as usize;
            link.swap(at, other);
        }
        4 => {
            let end = rng.below(link[at].len() as u64) as usize;
            link[at].truncate(end);
        }
        _ => {
            let bytes = &mut link[at];
            for _ in 0..=rng.below(4) {
                let byte = rng.below(bytes.len() as u64) as usize;
                bytes[byte] ^= 1 << rng.below(8);
            }
            if bytes.len() > 8 && rng.below(2) == 0 {
                let body = bytes.len() - 4;
                let crc = crc32c::crc32c(&bytes[4..body]).to_be_bytes();
                bytes[body..].copy_from_slice(&crc);
            }
        }
    }
}

#[test]
fn p16_a_thousand_mutated_frames_stop_nobody() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    cluster.raftmq_ok(&["produce", "t", "--count", "20"]);
    let leader = cluster.wait_for_leader();
    let follower = (leader + 1) % 3;
    let facts = facts_of(&cluster.peer_address(follower), Claim { from: leader as u64, to: follower as u64 });
    let address = cluster.peer_address(leader);
    let links = real_links(Claim { from: follower as u64, to: leader as u64 }, &facts);
    let mut rng = SeededRng::new(SEED);
    for number in 0..MUTATIONS {
        let mut link = links[(number % links.len() as u64) as usize].clone();
        mutate(&mut link, &mut rng);
        let mut open = PeerLink::connect(&address).unwrap_or_else(|error| panic!("mutation {number}: {error}"));
        // The node may close at any of them.
        let _ = open.send_bytes(&link.concat());
        open.drain(Duration::from_millis(2));
    }
    cluster.wait_for_leader();
    cluster.raftmq_ok(&["produce", "t", "--count", "20"]);
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "g", "--max", "40"]);
    assert_eq!(all.lines().count(), 40, "P1: nothing is lost and nothing comes twice\n{}", cluster.logs());
    for node in 0..3 {
        assert!(cluster.is_running(node), "n{node} ended\n{}", cluster.logs());
        assert!(!cluster.log_of(node).contains("panicked"), "{}", cluster.logs());
    }
}
