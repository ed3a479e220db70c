//! The machine against plain models, against itself after restarts, and against arbitrary bytes.
//!
//! A model knows only what a reader of the contract knows: per group and message a state, an attempt
//! and an end. It is too simple to be wrong and too slow to be used.

mod bytes;
mod classic;
mod events;
mod fifo;
mod leases;
mod retention;
mod steps;
mod waiting;
mod window;

use raftmq::machine::command::{Command, CreateTopic, Subscribe};
use raftmq::machine::newest_version;
use raftmq::machine::outcome::Outcome;
use raftmq::model::{GroupId, MessageType, Permission, TopicId, TopicType};

use crate::fixture::machine::{Machine, group, topic};

const TOPIC: TopicId = TopicId(1);
const QUEUES: u32 = 3;
const GROUPS: u32 = 2;
/// Deliveries after the first.
const RETRIES: u32 = 2;

/// A machine with a topic, and groups that read it.
fn machine() -> Machine {
    let mut machine = Machine::default();
    machine.apply(&Command::RaiseClusterVersion { to: newest_version() });
    let create = CreateTopic {
        topic: topic("t"),
        topic_type: TopicType::Only(MessageType::Normal),
        queues: QUEUES,
        permission: Permission::READ_WRITE,
        retention: None,
    };
    machine.apply(&Command::CreateTopic(create));
    for number in 1..=GROUPS {
        let subscribe =
            Subscribe { group: group(&format!("g{number}")), topics: vec![topic("t")], create: Some(RETRIES) };
        assert_eq!(machine.apply(&Command::Subscribe(subscribe)), Outcome::GroupCreated(GroupId(number)));
    }
    machine
}
