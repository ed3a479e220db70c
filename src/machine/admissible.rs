//! Whether a command that another node proposes may enter the log: what is in the log is applied by every node at every
//! start, so what does not decode, or lies about its messages, must be refused before (P16, D83).
//!
//! Own commands are made from model types and are in order as they are; those that come over the peer port are checked here
//! by the leader, before they wait for the log.

use crate::machine::batch::Proposal;
use crate::machine::cluster_version::newest_version;
use crate::machine::command::{
    Candidate, Command, LockQueues, Placement, QueuePlacement, Send, SetKeyValue, UnlockQueues,
};
use crate::machine::state::events::Act;
use crate::machine::state::member_changes::{ChangeEnd, MemberChangeKind};
use crate::model::codec::Malformed;
use crate::model::limits::{
    ACK_ENTRIES_MAX, BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, CARRY_REFERENCES_MAX, EVENT_TEXT_BYTES_MAX, FILTER_BYTES_MAX,
    KEY_VALUE_BYTES_MAX, KEY_VALUE_NAME_BYTES_MAX, LOCKED_QUEUES_MAX, RECEIVE_BATCH_MAX, REDRIVE_MAX,
    REQUEST_BYTES_MAX, SEND_MESSAGES_MAX, SETTINGS_ENTRIES_MAX, SHORT_TEXT_BYTES_MAX, TOPIC_QUEUES_MAX,
};
use crate::model::{GroupName, GroupSettings, Message, TopicName};

/// Bytes of the commands of one frame: a gathered batch, or one large command. Together they are one record of the log.
const FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + REQUEST_BYTES_MAX;
/// Offsets that one candidate spans: an offset set has no more.
const CANDIDATE_OFFSETS_MAX: u8 = 64;
/// Candidates of one grant, and leases of one repeated poll: a plan makes one for each message, or for each queue.
const CANDIDATES_MAX: usize = 4 * TOPIC_QUEUES_MAX as usize;

/// Why a command may not enter the log.
#[derive(Debug, thiserror::Error)]
pub enum Inadmissible {
    /// It does not decode: it is damaged, or of a newer build.
    #[error("a command does not decode: {0}")]
    Malformed(#[from] Malformed),
    /// It does not carry the messages that it says.
    #[error("a command of {expected} messages carries {carried}")]
    Messages { expected: usize, carried: usize },
    /// A number is beyond its limit.
    #[error("{what} of a command is {value}, at most {max} are taken")]
    TooMuch { what: &'static str, value: usize, max: usize },
    /// A number is below what makes sense.
    #[error("{what} of a command is 0")]
    None { what: &'static str },
    /// Not all nodes can apply it.
    #[error("a command needs cluster version {required}, the log has {version}: nodes of an older build are in it")]
    TooNew { required: u32, version: u32 },
    /// Nothing that operators ask for is noted as theirs.
    #[error("a command is said to be an operator's, and is none of theirs")]
    NotOfOperator,
    /// A name that cannot be one.
    #[error("{0:?} in a command is no name of a topic or a group")]
    Name(String),
}

type Checked = Result<(), Inadmissible>;

/// Checks all that a node relies on when it applies the command.
pub fn check(proposal: &Proposal) -> Checked {
    let command = Command::decode(proposal.command.clone())?;
    let expected = command.messages();
    if proposal.messages.len() != expected {
        return Err(Inadmissible::Messages { expected, carried: proposal.messages.len() });
    }
    for message in &proposal.messages {
        Message::decode(message.clone())?;
    }
    check_command(&command)
}

fn check_command(command: &Command) -> Checked {
    match command {
        Command::CreateTopic(create) => {
            topic(&create.topic)?;
            at_least_one("the number of queues", create.queues as usize)?;
            at_most("the number of queues", create.queues as usize, TOPIC_QUEUES_MAX as usize)
        }
        Command::UpdateTopic(update) => {
            topic(&update.topic)?;
            at_most("the number of queues", update.queues.unwrap_or(1) as usize, TOPIC_QUEUES_MAX as usize)
        }
        Command::DeleteTopic { topic: name } => topic(name),
        Command::CreateGroup(create) => {
            group(&create.group)?;
            filter(&create.settings)
        }
        Command::UpdateGroup(update) => {
            group(&update.group)?;
            at_most("the filter", update.filter.as_ref().map_or(0, String::len), FILTER_BYTES_MAX)
        }
        Command::DeleteGroup { group: name } => group(name),
        Command::Subscribe(subscribe) => {
            group(&subscribe.group)?;
            at_most("the number of topics", subscribe.topics.len(), SETTINGS_ENTRIES_MAX)?;
            subscribe.topics.iter().try_for_each(topic)
        }
        Command::Send(send) => check_send(send),
        Command::SendToQueue(send) => {
            at_most("the number of the queue", send.queue.0 as usize, TOPIC_QUEUES_MAX as usize - 1)?;
            let count = send.tag_hashes.len();
            let placed = match &send.placement {
                QueuePlacement::Now | QueuePlacement::OnCommit(_) => count,
                QueuePlacement::Fifo(groups) => groups.len(),
                QueuePlacement::DeliverAt(times) => times.len(),
            };
            check_placed(count, placed)
        }
        Command::Grant(grant) => {
            at_most("the number of messages", grant.limit as usize, RECEIVE_BATCH_MAX as usize)?;
            at_most("the client id", grant.client.len(), SHORT_TEXT_BYTES_MAX)?;
            at_most("the number of candidates", grant.candidates.len(), CANDIDATES_MAX)?;
            grant.candidates.iter().try_for_each(check_candidate)
        }
        Command::Repeat(repeat) => {
            at_most("the client id", repeat.client.len(), SHORT_TEXT_BYTES_MAX)?;
            at_most("the number of leases", repeat.leases.len(), CANDIDATES_MAX)
        }
        Command::Ack(ack) => at_most("the number of handles", ack.handles.len(), ACK_ENTRIES_MAX),
        Command::LockQueues(LockQueues { client, queues, .. }) | Command::UnlockQueues(UnlockQueues { client, queues, .. }) => {
            at_most("the client id", client.len(), SHORT_TEXT_BYTES_MAX)?;
            at_most("the number of queues", queues.len(), LOCKED_QUEUES_MAX)
        }
        Command::SetKeyValue(set) => check_key_value(set),
        Command::Prolong(prolong) => at_most("the number of leases", prolong.leases.len(), CANDIDATES_MAX),
        Command::GiveBack(give_back) => at_most("the number of leases", give_back.leases.len(), CANDIDATES_MAX),
        Command::Redrive(redrive) => at_most("the number of messages", redrive.offsets.len(), REDRIVE_MAX),
        Command::SetGroupOffsets(set) => at_most("the number of queues", set.offsets.len(), TOPIC_QUEUES_MAX as usize),
        Command::Carry(carry) => {
            at_least_one("the number of references", carry.references.len())?;
            at_most("the number of references", carry.references.len(), CARRY_REFERENCES_MAX)
        }
        Command::Announce(announce) => at_most("the address", announce.address.len(), SHORT_TEXT_BYTES_MAX),
        Command::BeginMemberChange(MemberChangeKind::Add { address, .. } | MemberChangeKind::Replace { address, .. }) => {
            at_most("the address", address.len(), SHORT_TEXT_BYTES_MAX)
        }
        Command::EndMemberChange { end: ChangeEnd::Refused(why), .. } => {
            at_most("the reason", why.len(), SHORT_TEXT_BYTES_MAX)
        }
        Command::OfOperator { act, command } => {
            texts(act)?;
            if command.may_be_of_operator() { check_command(command) } else { Err(Inadmissible::NotOfOperator) }
        }
        Command::NoteAct { act, said } => {
            texts(act)?;
            at_most("what is said of an act", said.len(), EVENT_TEXT_BYTES_MAX)
        }
        Command::Change(_)
        | Command::ReturnUnread { .. }
        | Command::SetWritePermission(_)
        | Command::SendBack(_)
        | Command::NoteLeader(_)
        | Command::BeginMemberChange(MemberChangeKind::Remove { .. })
        | Command::CancelMemberChange { .. }
        | Command::EndMemberChange { .. }
        | Command::Recall(_)
        | Command::Reschedule(_)
        | Command::DeadLetter { .. }
        | Command::Decide(_)
        | Command::Trim(_)
        | Command::SetHandleKey(_)
        // Refused where it is proposed: it is the leader's business.
        | Command::Clock { .. }
        | Command::Tick => Ok(()),
        // Nobody could take part in a version that is not there yet, and it never goes down.
        Command::RaiseClusterVersion { to } => at_most("the cluster version", *to as usize, newest_version() as usize),
    }
}

fn check_send(send: &Send) -> Checked {
    let count = send.tag_hashes.len();
    let placed = match &send.placement {
        Placement::DeliverAt(times) => times.len(),
        Placement::Fifo(groups) => groups.len(),
        Placement::Priority(all) => all.len(),
        Placement::Now | Placement::OnCommit(_) => count,
    };
    check_placed(count, placed)
}

/// The names and the value of a key-value are no longer than what they are kept with.
fn check_key_value(set: &SetKeyValue) -> Checked {
    for (what, text) in [("the namespace", &set.namespace), ("the key", &set.key)] {
        at_least_one(what, text.len())?;
        at_most(what, text.len(), KEY_VALUE_NAME_BYTES_MAX)?;
    }
    at_most("the value", set.value.as_ref().map_or(0, String::len), KEY_VALUE_BYTES_MAX)
}

/// Some messages, not too many, and a place for each.
fn check_placed(messages: usize, placed: usize) -> Checked {
    at_least_one("the number of messages", messages)?;
    at_most("the number of messages", messages, SEND_MESSAGES_MAX)?;
    if placed == messages { Ok(()) } else { Err(Inadmissible::Messages { expected: placed, carried: messages }) }
}

fn check_candidate(candidate: &Candidate) -> Checked {
    let length = match candidate {
        Candidate::Fresh { length, .. } | Candidate::Next { length, .. } => *length,
        Candidate::Any { count, .. } => *count,
        Candidate::Returned { .. } | Candidate::Skip { .. } => 0,
    };
    at_most("the span", length.into(), CANDIDATE_OFFSETS_MAX.into())
}

fn texts(act: &Act) -> Checked {
    act.texts().into_iter().try_for_each(|text| at_most("a text of an act", text.len(), EVENT_TEXT_BYTES_MAX))
}

fn at_most(what: &'static str, value: usize, max: usize) -> Checked {
    if value <= max { Ok(()) } else { Err(Inadmissible::TooMuch { what, value, max }) }
}

fn at_least_one(what: &'static str, value: usize) -> Checked {
    if value > 0 { Ok(()) } else { Err(Inadmissible::None { what }) }
}

fn filter(settings: &GroupSettings) -> Checked {
    at_most("the filter", settings.filter.as_ref().map_or(0, String::len), FILTER_BYTES_MAX)
}

fn topic(name: &TopicName) -> Checked {
    let is_name = TopicName::parse(name.as_str()).is_ok() || name.dead_letter_group().is_some();
    if is_name { Ok(()) } else { Err(Inadmissible::Name(shortened(name.as_str()))) }
}

fn group(name: &GroupName) -> Checked {
    let is_name = GroupName::parse(name.as_str()).is_ok();
    if is_name { Ok(()) } else { Err(Inadmissible::Name(shortened(name.as_str()))) }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Checks the commands of one frame, which become one entry. `version` is the cluster version in the log.
pub fn check_all(proposals: &[Proposal], version: u32) -> Checked {
    at_most("the number of commands", proposals.len(), BATCH_COMMANDS_MAX)?;
    at_most("the size", proposals.iter().map(Proposal::bytes).sum(), FRAME_BYTES_MAX)?;
    for proposal in proposals {
        check(proposal)?;
        let required = Command::required_version(&proposal.command);
        if required > version {
            return Err(Inadmissible::TooNew { required, version });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::machine::command::SendToQueue;
    use crate::machine::state::events::Operator;
    use crate::model::{BodyEncoding, MessageGroupHash, MessageType, NodeId, QueueId, Timestamp, TopicId};

    fn message() -> Message {
        Message {
            message_id: "id".into(),
            message_type: MessageType::Normal,
            body_encoding: BodyEncoding::Identity,
            body: Bytes::from_static(b"body"),
            tag: None,
            keys: Vec::new(),
            properties: Vec::new(),
            born_at: Timestamp(1),
            born_host: String::new(),
            message_group: None,
            delivery_at: None,
            trace_context: None,
            priority: None,
            recovery_after: None,
            classic: None,
            body_md5: None,
        }
    }

    fn send(messages: usize, carried: usize) -> Proposal {
        let command = Command::Send(Send {
            topic: TopicId(1),
            message_type: MessageType::Normal,
            tag_hashes: vec![0; messages],
            placement: Placement::Now,
        });
        Proposal { command: command.encode(), messages: vec![message().encode(); carried] }
    }

    #[test]
    fn p16_a_send_carries_the_messages_that_it_says() {
        assert!(check(&send(2, 2)).is_ok());
        for (messages, carried) in [(2, 1), (1, 2), (0, 0), (0, 1), (SEND_MESSAGES_MAX + 1, SEND_MESSAGES_MAX + 1)] {
            assert!(check(&send(messages, carried)).is_err(), "{messages} said, {carried} carried");
        }
    }

    #[test]
    fn p16_a_send_to_a_queue_carries_what_it_says_to_a_queue_that_a_topic_may_have() {
        let to = |queue, messages, carried| {
            let (topic, queue) = (TopicId(1), QueueId(queue));
            let tag_hashes = vec![0; messages];
            let command =
                Command::SendToQueue(SendToQueue { topic, queue, tag_hashes, placement: QueuePlacement::Now });
            Proposal { command: command.encode(), messages: vec![message().encode(); carried] }
        };
        let placed = |placement| {
            let (topic, queue) = (TopicId(1), QueueId(0));
            let command = Command::SendToQueue(SendToQueue { topic, queue, tag_hashes: vec![0; 2], placement });
            Proposal { command: command.encode(), messages: vec![message().encode(); 2] }
        };
        for (values, is_sound) in [(1, false), (2, true), (3, false)] {
            for placement in [
                QueuePlacement::DeliverAt(vec![Timestamp(1); values]),
                QueuePlacement::Fifo(vec![MessageGroupHash(1); values]),
            ] {
                assert_eq!(check(&placed(placement.clone())).is_ok(), is_sound, "{placement:?}");
            }
        }
        assert!(check(&to(TOPIC_QUEUES_MAX - 1, 2, 2)).is_ok());
        for bad in
            [to(TOPIC_QUEUES_MAX, 2, 2), to(0, 2, 1), to(0, 0, 0), to(0, SEND_MESSAGES_MAX + 1, SEND_MESSAGES_MAX + 1)]
        {
            assert!(check(&bad).is_err(), "{:?}", Command::decode(bad.command));
        }
    }

    #[test]
    fn p16_a_key_value_has_names_and_is_short() {
        let set = |namespace: usize, key: usize, value: usize| {
            let of = |length: usize| "x".repeat(length);
            let command =
                Command::SetKeyValue(SetKeyValue { namespace: of(namespace), key: of(key), value: Some(of(value)) });
            check(&Proposal { command: command.encode(), messages: Vec::new() })
        };
        assert!(set(KEY_VALUE_NAME_BYTES_MAX, KEY_VALUE_NAME_BYTES_MAX, KEY_VALUE_BYTES_MAX).is_ok());
        assert!(set(1, 1, 0).is_ok());
        for (namespace, key, value) in [
            (0, 1, 1),
            (1, 0, 1),
            (KEY_VALUE_NAME_BYTES_MAX + 1, 1, 1),
            (1, KEY_VALUE_NAME_BYTES_MAX + 1, 1),
            (1, 1, KEY_VALUE_BYTES_MAX + 1),
        ] {
            assert!(set(namespace, key, value).is_err(), "{namespace} {key} {value}");
        }
    }

    #[test]
    fn p16_what_would_shut_the_cluster_is_refused() {
        let raise = |to| Proposal { command: Command::RaiseClusterVersion { to }.encode(), messages: Vec::new() };
        assert!(check(&raise(newest_version())).is_ok());
        assert!(check(&raise(newest_version() + 1)).is_err(), "no build could take part");
        let large = |bytes| {
            let message = Message { body: vec![7; bytes].into(), ..message() };
            Proposal { messages: vec![message.encode()], ..send(1, 0) }
        };
        let mib = 1024 * 1024;
        assert!(check_all(&[large(15 * mib)], 0).is_ok());
        assert!(check_all(&[large(15 * mib), large(15 * mib)], 0).is_err(), "no record is that large");
        let newer = Proposal { command: Bytes::from_static(&[2, 32]), messages: Vec::new() };
        assert_eq!(Command::required_version(&newer.command), 1);
    }

    #[test]
    fn p16_only_what_operators_ask_for_is_noted_as_theirs_and_in_short_texts() {
        let act = |detail: usize| Act {
            by: Operator { address: "10.0.0.9".into(), tool: "raftmq".into() },
            node: NodeId(0),
            what: "topic-delete".into(),
            on: String::new(),
            detail: "x".repeat(detail),
        };
        let of = |command: Command| Command::OfOperator { act: act(0), command: Box::new(command) };
        let proposal = |command: Command| Proposal { command: command.encode(), messages: Vec::new() };
        let delete = Command::DeleteTopic { topic: TopicName::parse("t").unwrap() };
        assert!(check(&proposal(of(delete.clone()))).is_ok());
        let said = |length: usize| Command::NoteAct { act: act(0), said: "x".repeat(length) };
        assert!(check(&proposal(said(EVENT_TEXT_BYTES_MAX))).is_ok());
        let too_long = Command::OfOperator { act: act(EVENT_TEXT_BYTES_MAX + 1), command: Box::new(delete) };
        for command in [of(Command::Tick), of(said(0)), too_long, said(EVENT_TEXT_BYTES_MAX + 1)] {
            assert!(check(&proposal(command.clone())).is_err(), "{command:?}");
        }
        // What is wrong by itself is wrong for an operator too.
        let nameless = of(Command::DeleteTopic { topic: TopicName::stored("no name!") });
        assert!(matches!(check(&proposal(nameless)), Err(Inadmissible::Name(_))));
    }

    #[test]
    fn p16_what_does_not_decode_is_refused_wherever_it_is_cut() {
        let whole = send(1, 1);
        for end in 0..whole.command.len() {
            let cut = Proposal { command: whole.command.slice(..end), ..whole.clone() };
            assert!(check(&cut).is_err(), "command cut at {end}");
        }
        let other = Proposal { command: Bytes::from_static(&[1, 250]), messages: Vec::new() };
        assert!(matches!(check(&other), Err(Inadmissible::Malformed(_))));
    }

    /// What passes the check is applied by every node: it must not fail there, whatever it says.
    #[test]
    fn fuzz_forwarded_commands() {
        use crate::machine::command::{Ack, Change, CreateTopic, Decide, Grant, Recall, Subscribe, Trim};
        use crate::machine::state::stage::Stage;
        use crate::machine::{Batch, Recent, apply};
        use crate::model::{
            GroupId, LeaseId, LogIndex, MessageRef, Millis, OffsetSet, Permission, QueueOffset, ReceiptHandle,
            TopicType,
        };
        use crate::store::kv::Kv;
        use crate::store::kv::memory::MemoryKv;

        fn put(kv: &MemoryKv, recent: &mut Recent, index: u64, proposal: &Proposal) -> String {
            let body = Batch::encode(Timestamp(index * 10), std::iter::once(proposal));
            let mut stage = Stage::new(kv).expect("the state can be read");
            let outcomes = apply(&mut stage, recent, LogIndex(index), body).expect("what was checked can be applied");
            kv.write(stage.finish().expect("it can be written").0).expect("memory takes it");
            format!("{:?}", outcomes[0])
        }

        let (topic, group, queue) = (TopicId(1), GroupId(1), QueueId(0));
        let name = TopicName::parse("t").unwrap();
        let create = CreateTopic {
            topic: name.clone(),
            topic_type: TopicType::Only(MessageType::Normal),
            queues: 2,
            permission: Permission::READ_WRITE,
            retention: None,
        };
        let subscribe =
            Subscribe { group: GroupName::parse("g").unwrap(), topics: vec![name.clone()], create: Some(16) };
        let grant = Grant {
            group,
            topic,
            limit: 8,
            invisible_for: Millis(1000),
            client: "c".into(),
            renew: true,
            token: 7,
            attempt_of: 0,
            candidates: vec![
                Candidate::Any { queue, first: QueueOffset(0), count: 2, bytes: 100 },
                Candidate::Fresh { queue: QueueId(1), first: QueueOffset(0), length: 2, wanted: OffsetSet(3) },
                Candidate::Returned { queue, lease: LeaseId(4), wanted: OffsetSet(1), skipped: OffsetSet(2) },
                Candidate::Skip { queue, first: QueueOffset(2), length: 1 },
            ],
        };
        let handle = ReceiptHandle { group, topic, queue, offset: QueueOffset(0), lease: LeaseId(4) };
        let at = MessageRef { index: LogIndex(3), slot: 0 };
        let plain = |command: Command| Proposal { command: command.encode(), messages: Vec::new() };
        let begin = [plain(Command::CreateTopic(create)), plain(Command::Subscribe(subscribe)), send(2, 2), send(2, 2)];
        let corpus = [
            plain(Command::Grant(grant)),
            plain(Command::Ack(Ack { handles: vec![handle] })),
            plain(Command::Change(Change { handle, invisible_for: Millis(0) })),
            plain(Command::ReturnUnread { handle }),
            plain(Command::DeadLetter { handle }),
            plain(Command::Tick),
            plain(Command::Trim(Trim { topic, queue, before: Timestamp(25) })),
            plain(Command::Recall(Recall { topic, at: Timestamp(9), message: at })),
            plain(Command::Decide(Decide { topic, message: at, commit: true })),
            plain(Command::DeleteTopic { topic: name }),
            plain(Command::DeleteGroup { group: GroupName::parse("g").unwrap() }),
        ];
        let corpus = begin.iter().chain(&corpus).map(|proposal| proposal.encode().to_vec()).collect::<Vec<_>>();
        let mut state: Option<(MemoryKv, Recent, u64)> = None;
        odd_bytes::Fuzz::of("forwarded_commands", corpus).run(|bytes| {
            let proposal = Proposal::decode(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
            check(&proposal).map_err(|error| error.to_string())?;
            if state.as_ref().is_none_or(|(_, _, index)| *index > 200) {
                let (kv, mut recent) = (MemoryKv::default(), Recent::default());
                (1..).zip(&begin).for_each(|(index, proposal)| drop(put(&kv, &mut recent, index, proposal)));
                state = Some((kv, recent, 4));
            }
            let (kv, recent, index) = state.as_mut().expect("made above");
            *index += 1;
            Ok(put(kv, recent, *index, &proposal))
        });
    }
}
