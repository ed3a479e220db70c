//! How much one entry does: what can wait is done in parts, by as many ticks as it takes, and comes to the same (A6).

use raftmq::machine::Proposal;
use raftmq::machine::command::{Ack, Candidate, Command, CreateTopic, OffsetMove, SetGroupOffsets, Subscribe};
use raftmq::machine::outcome::{Outcome, Rejected};
use raftmq::machine::state::stage::DEFERRABLE_KEYS_MAX;
use raftmq::model::{
    GroupId, MessageType, Permission, QueueId, QueueOffset, ReceiptHandle, TagFilter, TopicId, TopicName, TopicType,
};

use crate::fixture::machine::{Machine, group, plain_message, topic};

/// A cluster that bounds what an entry does.
const BOUNDED: u32 = 5;
const GROUP: GroupId = GroupId(1);
/// The last thing of an entry may write so much more than there was room for: the queues of a topic, the dead letters of a
/// lease, and what each entry writes beside.
const LAST: usize = 300;

fn machine() -> Machine {
    let mut machine = Machine::default();
    machine.apply(&Command::RaiseClusterVersion { to: BOUNDED });
    machine
}

fn create(machine: &mut Machine, name: &str, queues: u32) -> TopicId {
    let Outcome::TopicCreated(id) = machine.apply(&create_command(name, queues)) else { panic!("it is new") };
    id
}

fn create_command(name: &str, queues: u32) -> Command {
    let topic_type = TopicType::Only(MessageType::Normal);
    let permission = Permission::READ_WRITE;
    Command::CreateTopic(CreateTopic { topic: topic(name), topic_type, queues, permission, retention: None })
}

fn subscribe(machine: &mut Machine, topics: &[&str], retries: u32) {
    let topics = topics.iter().map(|name| topic(name)).collect();
    let subscribe = Subscribe { group: group("g"), topics, create: Some(retries) };
    assert_eq!(machine.apply(&Command::Subscribe(subscribe)), Outcome::GroupCreated(GROUP));
}

fn fill(machine: &mut Machine, topic: TopicId, messages: usize) {
    let body = plain_message("b", None);
    let mut left = messages;
    while left > 0 {
        let count = left.min(1024);
        machine.send(topic, &vec![body.clone(); count]);
        left -= count;
    }
}

/// Leases of so many messages each, in queue 0, with one entry for many of them.
fn lease(machine: &mut Machine, topic: TopicId, leases: usize, messages: u8) -> Vec<ReceiptHandle> {
    let mut handles = Vec::new();
    while handles.len() < leases {
        let count = (leases - handles.len()).min(256);
        let one = Candidate::Any { queue: QueueId(0), first: QueueOffset(0), count: messages, bytes: 1 << 20 };
        let granted = machine.grant(topic, GROUP, u32::MAX, 1000, None, vec![one; count]).unwrap();
        assert_eq!(granted.len(), count);
        handles.extend(granted.iter().map(|granted| ReceiptHandle {
            group: GROUP,
            topic,
            queue: granted.queue,
            offset: granted.first,
            lease: granted.lease,
        }));
    }
    handles
}

/// Ticks until nothing is due, each of which is bounded; how many there were.
fn tick_on(machine: &mut Machine) -> usize {
    for ticks in 1.. {
        let Outcome::Ticked { more } = machine.apply(&Command::Tick) else { panic!("a tick is answered") };
        assert!(machine.written <= DEFERRABLE_KEYS_MAX + LAST, "tick {ticks} writes {} keys", machine.written);
        if !more {
            return ticks;
        }
    }
    unreachable!("it ends")
}

fn reset(topic: TopicId, queues: u32) -> Command {
    let offsets = (0..queues).map(|queue| (QueueId(queue), QueueOffset(0))).collect();
    Command::SetGroupOffsets(SetGroupOffsets { topic, group: GROUP, offsets, how: OffsetMove::Reset })
}

/// The same log on another replica comes to the same state (P15).
fn assert_replays(machine: &mut Machine) {
    let digest = machine.view().digest().unwrap();
    machine.crash();
    assert_eq!(machine.view().digest().unwrap(), digest);
}

#[test]
fn leases_that_end_at_once_become_dead_letters_part_by_part() {
    let mut machine = machine();
    let id = create(&mut machine, "t", 1);
    subscribe(&mut machine, &["t"], 0);
    fill(&mut machine, id, 128 * 64);
    lease(&mut machine, id, 128, 64);
    machine.now = 2000;
    assert!(tick_on(&mut machine) > 3);
    let (dead, _) = machine.view().topic(&TopicName::dead_letters_of(&group("g"))).unwrap().unwrap();
    assert_eq!(machine.view().queue_head(dead, QueueId(0)).unwrap().max, QueueOffset(128 * 64), "each once");
    assert_eq!(machine.view().leases(id, GROUP, QueueId(0)).unwrap(), []);
    assert_replays(&mut machine);
}

#[test]
fn a_reset_forgets_many_leases_part_by_part_and_nothing_is_delivered_before() {
    let mut machine = machine();
    let id = create(&mut machine, "t", 2);
    subscribe(&mut machine, &["t"], 5);
    fill(&mut machine, id, 12_000);
    let handles = lease(&mut machine, id, 5000, 1);
    // Some of them wait for redelivery by then.
    machine.now = 1000;
    machine.apply(&Command::Tick);
    assert_eq!(machine.apply(&reset(id, 2)), Outcome::Done);
    assert!(machine.written <= DEFERRABLE_KEYS_MAX + LAST, "a reset writes {} keys", machine.written);
    assert_eq!(machine.view().being_cleared(id, GROUP).unwrap(), [QueueId(0), QueueId(1)]);

    // What is left of the leases is no lease any more, and nothing takes their messages.
    let last = *handles.last().unwrap();
    assert_eq!(machine.apply(&Command::Ack(Ack { handles: vec![last] })), Outcome::Acked(vec![false]));
    assert!(machine.view().lease(raftmq::machine::state::lease::key_of(&last)).unwrap().is_some(), "it is there still");
    let plan = machine.plan(id, GROUP, &TagFilter::All);
    assert!(!plan.is_empty());
    assert_eq!(machine.grant(id, GROUP, 32, 1000, None, plan).unwrap(), []);
    // Another reset does not begin anew.
    assert_eq!(machine.apply(&reset(id, 1)), Outcome::Done);

    assert!(tick_on(&mut machine) > 2);
    assert_eq!(machine.view().being_cleared(id, GROUP).unwrap(), []);
    for queue in [QueueId(0), QueueId(1)] {
        assert_eq!(machine.view().leases(id, GROUP, queue).unwrap(), []);
    }
    assert_eq!(machine.view().returned(id, GROUP, None, 8).unwrap(), []);
    let plan = machine.plan(id, GROUP, &TagFilter::All);
    let granted = machine.grant(id, GROUP, 64, 1000, None, plan).unwrap();
    assert_eq!((granted[0].first, granted[0].attempt), (QueueOffset(0), 1));
    assert_replays(&mut machine);
}

#[test]
fn a_group_that_is_deleted_while_its_leases_are_cleared_leaves_nothing() {
    let mut machine = machine();
    let id = create(&mut machine, "t", 1);
    subscribe(&mut machine, &["t"], 5);
    fill(&mut machine, id, 4000);
    lease(&mut machine, id, 4000, 1);
    machine.apply(&reset(id, 1));
    assert_eq!(machine.view().being_cleared(id, GROUP).unwrap(), [QueueId(0)]);
    assert_eq!(machine.apply(&Command::DeleteGroup { group: group("g") }), Outcome::Done);
    tick_on(&mut machine);
    assert_eq!(machine.view().leases(id, GROUP, QueueId(0)).unwrap(), []);
    // Another group is not held up by what is gone.
    let again = Subscribe { group: group("h"), topics: vec![topic("t")], create: Some(5) };
    assert_eq!(machine.apply(&Command::Subscribe(again)), Outcome::GroupCreated(GroupId(2)));
    let plan = machine.plan(id, GroupId(2), &TagFilter::All);
    assert_eq!(machine.grant(id, GroupId(2), 8, 1000, None, plan).unwrap().len(), 1);
}

#[test]
fn a_group_subscribes_to_as_many_topics_as_an_entry_has_room_for() {
    let mut machine = machine();
    let names: Vec<String> = (0..32).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids: Vec<TopicId> = names.iter().map(|name| create(&mut machine, name, 256)).collect();
    let subscribed =
        |machine: &Machine| ids.iter().filter(|id| machine.view().is_subscribed(**id, GROUP).unwrap()).count();
    for entries in 1.. {
        let before = subscribed(&machine);
        subscribe(&mut machine, &names, 5);
        assert!(machine.written <= DEFERRABLE_KEYS_MAX + LAST, "a subscription writes {} keys", machine.written);
        assert!(subscribed(&machine) > before, "each entry makes some of them");
        if subscribed(&machine) == names.len() {
            assert_eq!(entries, 4, "of 8192 offsets");
            break;
        }
    }
}

#[test]
fn what_is_stored_for_deleted_topics_and_groups_goes_part_by_part() {
    let mut machine = machine();
    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids: Vec<TopicId> = names.iter().map(|name| create(&mut machine, name, 1)).collect();
    subscribe(&mut machine, &names, 5);
    for id in &ids {
        fill(&mut machine, *id, 1000);
        lease(&mut machine, *id, 1000, 1);
    }
    machine.apply(&Command::DeleteGroup { group: group("g") });
    machine.apply(&Command::DeleteTopic { topic: topic("t0") });
    assert!(tick_on(&mut machine) > 3);
    for id in &ids {
        assert_eq!(machine.view().leases(*id, GROUP, QueueId(0)).unwrap(), []);
    }
    assert_eq!(machine.view().queue_head(ids[0], QueueId(0)).unwrap().max, QueueOffset(0));
    assert_replays(&mut machine);
}

#[test]
fn an_entry_makes_few_large_topics_and_refuses_the_others_for_now() {
    let mut machine = machine();
    let names: Vec<String> = (0..4).map(|number| format!("t{number}")).collect();
    let commands: Vec<Command> = names.iter().map(|name| create_command(name, 1024)).collect();
    let proposals = |commands: &[Command]| -> Vec<Proposal> {
        commands.iter().map(|command| Proposal { command: command.encode(), messages: Vec::new() }).collect()
    };
    let full = Outcome::Rejected(Rejected::EntryIsFull);
    let (outcomes, _) = machine.apply_all(&proposals(&commands));
    let made = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::TopicCreated(_))).count();
    assert_eq!(outcomes[made..], vec![full; 4 - made]);
    assert_eq!(made, 2);
    let (outcomes, _) = machine.apply_all(&proposals(&commands[made..]));
    assert_eq!(outcomes, [Outcome::TopicCreated(TopicId(3)), Outcome::TopicCreated(TopicId(4))]);
}

/// Entries of a cluster with older builds in it are applied as those do.
#[test]
fn a_cluster_of_an_older_version_does_all_in_one_entry() {
    let older = || {
        let mut machine = Machine::default();
        machine.apply(&Command::RaiseClusterVersion { to: BOUNDED - 1 });
        let id = create(&mut machine, "t", 1);
        subscribe(&mut machine, &["t"], 0);
        fill(&mut machine, id, 4096);
        (machine, id)
    };
    let (mut machine, id) = older();
    lease(&mut machine, id, 4000, 1);
    assert_eq!(machine.apply(&reset(id, 1)), Outcome::Done);
    assert_eq!(machine.view().leases(id, GROUP, QueueId(0)).unwrap(), []);

    let (mut machine, id) = older();
    lease(&mut machine, id, 1024, 4);
    machine.now = 2000;
    assert_eq!(machine.apply(&Command::Tick), Outcome::Ticked { more: true });
    assert!(machine.written > DEFERRABLE_KEYS_MAX + LAST);
}
