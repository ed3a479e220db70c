//! The commands of golden scripts.
//!
//! Times are seconds. A handle is named `h1`, `h2`, … and a message that waits `m1`, `m2`, … when it is printed.
//!
//! * Time: `at SECONDS`, `tick`, `clock SECONDS` (a clock command with that shift).
//! * Topics: `topic NAME QUEUES [PERMISSION]`, `topic-of TYPE NAME QUEUES`,
//!   `update TOPIC type|queues|permission VALUE [older]` (as in the entries of older builds), `drop NAME`.
//! * Groups: `group NAME [RETRIES [orderly]]`, `group-from GROUP first|last|SECONDS`, `subscribe GROUP TOPIC [closed]`,
//!   `reset GROUP TOPIC OFFSET` (of queue 0), `update-offset GROUP TOPIC OFFSET [older]` (by a client; of queue 0),
//!   `drop-group GROUP`.
//! * Sends: `send TOPIC BODY[:TAG]…`, `send-to TOPIC QUEUE BODY…`,
//!   `send-to-fifo TOPIC QUEUE GROUP BODY…`, `send-to-at TOPIC QUEUE SECONDS BODY…`, `send-to-half TOPIC QUEUE AFTER EVERY MOST BODY`, `send-as TYPE TOPIC BODY`, `send-ids TOPIC ID…` (ids may repeat),
//!   `send-fifo TOPIC MESSAGE…` (each named by its message group and a number), `send-urgent TOPIC PRIORITY BODY…`,
//!   `gather TOPIC BODY… | BODY…` (several sends in one entry).
//! * Of consumers that pull: `lock GROUP CLIENT SECONDS TOPIC/QUEUE…`, `unlock GROUP CLIENT TOPIC/QUEUE…`,
//!   `send-back GROUP retry SECONDS|dead|redriven OFFSET BODY`.
//! * Delays: `send-at TOPIC SECONDS BODY…`, `recall MESSAGE`, `reschedule MESSAGE SECONDS`.
//! * Transactions: `send-half TOPIC AFTER EVERY MOST BODY` (asked about after, every, at most so often), `commit MESSAGE`,
//!   `rollback MESSAGE`.
//! * Receives: `receive GROUP TOPIC MAX SECONDS [FILTER]`, or its halves `plan NAME GROUP TOPIC [FILTER]` and
//!   `grant NAME MAX SECONDS [CLIENT]`; `repeat HANDLE`.
//! * Leases: `ack HANDLE…`, `change HANDLE SECONDS`, `prolong HANDLE SECONDS`, `give-back HANDLE SECONDS`, `bury HANDLE`.
//! * Dead letters: `redrive GROUP OFFSET…`.
//! * Nodes: `announce NODE ADDRESS`, `version NUMBER` (of the cluster), `remove NODE`, `end-change NUMBER`,
//!   `leads NODE TERM [SECONDS]` (without a leader before), `wipe|add NODE|group` (write permission).
//! * What tools keep: `put NAMESPACE KEY [VALUE]` (without a value: removes it).
//! * Operators: `by ADDRESS TOOL COMMAND…` (a command that an operator asked for), `note WHAT ON SAID`.
//! * State: `show values NAMESPACE`, `show unwritable`, `show queues|positions|leases|due|keys|members|origins|clock|counts|events|delayed TOPIC`.

use std::collections::BTreeMap;
use std::fmt::Write;

use raftmq::machine::Proposal;
use raftmq::machine::Stored;
use raftmq::machine::command::{
    Ack, Announce, BackTo, Candidate, Change, Command, CreateGroup, CreateTopic, Decide, GiveBack, LockQueues,
    OffsetMove, Placement, Prolong, QueuePlacement, Recall, Redrive, Repeat, Reschedule, Send, SendBack, SendToQueue,
    SetGroupOffsets, SetKeyValue, SetWritePermission, Subscribe, Trim, UnlockQueues, UpdateGroup, UpdateTopic,
};
use raftmq::machine::outcome::Outcome;
use raftmq::machine::state::events::{Act, NewLeader, Operator};
use raftmq::machine::state::member_changes::{ChangeEnd, MemberChangeKind};
use raftmq::model::{
    ConsumeFrom, GroupId, GroupSettings, LogIndex, MessageGroupHash, MessageRef, MessageType, Millis, NodeId,
    Permission, QueueId, QueueOffset, ReceiptHandle, TagFilter, Term, Timestamp, TopicId, TopicType, TransactionChecks,
};

use super::show;
use crate::fixture::machine::{Machine, group, plain_message, send, topic};

struct Plan {
    topic: TopicId,
    group: GroupId,
    steps: Vec<Candidate>,
}

/// A machine and the names that a script has given so far.
#[derive(Default)]
pub struct Script {
    pub machine: Machine,
    handles: BTreeMap<String, ReceiptHandle>,
    plans: BTreeMap<String, Plan>,
    /// Messages that were put aside: their topics, their times, and where they lie.
    aside: Vec<(TopicId, Timestamp, MessageRef)>,
    /// Who asks for the command that runs, and its words.
    act: Option<Act>,
}

impl Script {
    /// The identity a name stands for, also when the topic is gone.
    fn topic_id(&self, name: &str) -> TopicId {
        self.machine.view().topic(&topic(name)).unwrap().map_or(TopicId(1), |(id, _)| id)
    }

    fn queue(&self, text: &str) -> (TopicId, QueueId) {
        let (topic, queue) = text.split_once('/').unwrap();
        (self.topic_id(topic), QueueId(queue.parse().unwrap()))
    }

    fn group_id(&self, name: &str) -> GroupId {
        self.machine.view().group(&group(name)).unwrap().map_or(GroupId(99), |(id, _)| id)
    }

    /// Runs one command.
    pub fn run(&mut self, line: &str, out: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let seconds = |text: &str| Millis((text.parse::<f64>().unwrap() * 1000.0) as u64);
        match words[..] {
            ["by", address, tool, ref command @ ..] => {
                self.act = Some(act(address, tool, command[0], command[1..].first().unwrap_or(&"")));
                self.run(&command.join(" "), out);
                self.act = None;
            }
            ["note", what, on, said] => {
                let (act, said) = (act("10.0.0.9", "raftmq", what, on), said.to_owned());
                self.tell(&Command::NoteAct { act, said }, out);
            }
            ["leads", node, term, ref rest @ ..] => {
                let (term, leader) = (Term(term.parse().unwrap()), node_of(node));
                let gap = rest.first().map(|time| seconds(time));
                self.tell(&Command::NoteLeader(NewLeader { term, leader, gap }), out);
            }
            ["version", number] => {
                self.tell(&Command::RaiseClusterVersion { to: number.parse().unwrap() }, out);
            }
            ["remove", node] => {
                let remove = MemberChangeKind::Remove { node: node_of(node) };
                self.tell(&Command::BeginMemberChange(remove), out);
            }
            ["end-change", number] => {
                let (number, end) = (number.parse().unwrap(), ChangeEnd::Done);
                self.tell(&Command::EndMemberChange { number, end }, out);
            }
            ["at", time] => self.machine.now = seconds(time).0,
            ["topic", name, queues, ref rest @ ..] => {
                let create = CreateTopic {
                    topic: topic(name),
                    topic_type: TopicType::Only(MessageType::Normal),
                    queues: queues.parse().unwrap(),
                    permission: Permission(rest.first().map_or(6, |text| text.parse().unwrap())),
                    retention: None,
                };
                self.tell(&Command::CreateTopic(create), out);
            }
            ["topic-of", kind, name, queues] => {
                let (topic_type, queues) = (TopicType::parse(kind).unwrap(), queues.parse().unwrap());
                let create = CreateTopic {
                    topic: topic(name),
                    topic_type,
                    queues,
                    permission: Permission::READ_WRITE,
                    retention: None,
                };
                self.tell(&Command::CreateTopic(create), out);
            }
            ["send-at", name, time, ref bodies @ ..] => {
                let at = Timestamp(seconds(time).0);
                let placement = Placement::DeliverAt(vec![at; bodies.len()]);
                self.send_aside(name, MessageType::Delay, bodies, placement, at, out);
            }
            ["send-half", name, after, every, most, body] => {
                let checks =
                    TransactionChecks { after: seconds(after), every: seconds(every), most: most.parse().unwrap() };
                let (placement, at) = (Placement::OnCommit(checks), Timestamp(0));
                self.send_aside(name, MessageType::Transaction, &[body], placement, at, out);
            }
            // Messages with ids of their producers' choice, some of them sent again.
            ["send-ids", name, ref ids @ ..] => {
                let messages: Vec<_> = ids.iter().map(|id| plain_message(id, None)).collect();
                let proposal = send(self.topic_id(name), &messages);
                let outcome = self.machine.apply_all(&[proposal]).0.pop().unwrap();
                show::print(&outcome, out);
            }
            ["send-urgent", name, priority, ref bodies @ ..] => {
                let placement = Placement::Priority(vec![priority.parse().unwrap(); bodies.len()]);
                self.send_aside(name, MessageType::Priority, bodies, placement, Timestamp(0), out);
            }
            ["update", name, what, value, ref rest @ ..] => {
                let (mut topic_type, mut queues, mut permission) = (None, None, None);
                match what {
                    "type" => topic_type = TopicType::parse(value),
                    "queues" => queues = value.parse().ok(),
                    _ => permission = value.parse().ok().map(Permission),
                }
                let keeps_message_groups = rest.is_empty();
                let update = UpdateTopic {
                    topic: topic(name),
                    topic_type,
                    queues,
                    permission,
                    retention: None,
                    keeps_message_groups,
                };
                self.tell(&Command::UpdateTopic(update), out);
            }
            ["group-from", name, from] => {
                let consume_from = match from {
                    "first" => ConsumeFrom::First,
                    "last" => ConsumeFrom::Last,
                    time => ConsumeFrom::At(Timestamp(seconds(time).0)),
                };
                let consume_from = Some(consume_from);
                let update =
                    UpdateGroup { group: group(name), retries_max: None, backoff: None, consume_from, filter: None };
                self.tell(&Command::UpdateGroup(update), out);
            }
            ["drop-group", name] => self.tell(&Command::DeleteGroup { group: group(name) }, out),
            ["redrive", name, ref offsets @ ..] => {
                let offsets = offsets.iter().map(|text| QueueOffset(text.parse().unwrap())).collect();
                self.tell(&Command::Redrive(Redrive { group: self.group_id(name), offsets }), out);
            }
            ["reschedule", name, time] => {
                let (topic, at, message) = self.aside(name);
                let to = Timestamp(seconds(time).0);
                self.tell(&Command::Reschedule(Reschedule { topic, at, message, to }), out);
                let number: usize = name.trim_start_matches('m').parse().unwrap();
                self.aside[number - 1].1 = to;
            }
            ["recall", name] => {
                let (topic, at, message) = self.aside(name);
                self.tell(&Command::Recall(Recall { topic, at, message }), out);
            }
            [verb @ ("commit" | "rollback"), name] => {
                let (topic, _, message) = self.aside(name);
                self.tell(&Command::Decide(Decide { topic, message, commit: verb == "commit" }), out);
            }
            ["reset", of, from, offset] => {
                let (topic, group) = (self.topic_id(from), self.group_id(of));
                let positions = vec![(QueueId(0), QueueOffset(offset.parse().unwrap()))];
                let how = OffsetMove::Reset;
                self.tell(&Command::SetGroupOffsets(SetGroupOffsets { topic, group, offsets: positions, how }), out);
            }
            ["update-offset", of, from, offset, ref rest @ ..] => {
                let (topic, group) = (self.topic_id(from), self.group_id(of));
                let offsets = vec![(QueueId(0), QueueOffset(offset.parse().unwrap()))];
                let how = if rest.is_empty() { OffsetMove::Advance } else { OffsetMove::Set };
                self.tell(&Command::SetGroupOffsets(SetGroupOffsets { topic, group, offsets, how }), out);
            }
            // The lease of a handle given anew to a poll that is repeated; all of it under one new name.
            ["repeat", name] => {
                let handle = self.handles[name];
                let lease = self.machine.view().lease(raftmq::machine::state::lease::key_of(&handle)).unwrap();
                let repeat = Repeat {
                    group: handle.group,
                    topic: handle.topic,
                    attempt_of: lease.map_or(0, |lease| lease.attempt_of),
                    invisible_for: Millis(10_000),
                    client: String::new(),
                    renew: false,
                    token: 7,
                    leases: vec![(handle.queue, handle.lease)],
                };
                match self.machine.apply(&Command::Repeat(repeat)) {
                    Outcome::Granted(granted) if granted.is_empty() => out.push_str("nothing\n"),
                    Outcome::Granted(granted) => {
                        let (count, attempt) = (granted[0].messages.len(), granted[0].attempt);
                        write!(out, "{count} messages attempt {attempt} ").unwrap();
                        self.name(ReceiptHandle { lease: granted[0].lease, ..handle }, out);
                    }
                    other => show::print(&other, out),
                }
            }
            ["bury", name] => self.tell(&Command::DeadLetter { handle: self.handles[name] }, out),
            ["drop", name] => self.tell(&Command::DeleteTopic { topic: topic(name) }, out),
            ["group", name, ref rest @ ..] => {
                let retries_max = rest.first().map_or(16, |text| text.parse().unwrap());
                let orderly = rest.get(1) == Some(&"orderly");
                let settings = GroupSettings::standard(retries_max);
                self.tell(&Command::CreateGroup(CreateGroup { group: group(name), orderly, settings }), out);
            }
            // Each message as its message group and its number.
            ["send-fifo", name, ref messages @ ..] => {
                let groups = messages.iter().map(|text| MessageGroupHash::of(&text[..1])).collect();
                let (placement, at) = (Placement::Fifo(groups), Timestamp(0));
                self.send_aside(name, MessageType::Fifo, messages, placement, at, out);
            }
            ["subscribe", name, of, ref rest @ ..] => {
                let create = rest.is_empty().then_some(16);
                self.tell(&Command::Subscribe(Subscribe { group: group(name), topics: vec![topic(of)], create }), out);
            }
            ["send", name, ref bodies @ ..] => {
                let message = |text: &&str| match text.split_once(':') {
                    Some((body, tag)) => plain_message(body, Some(tag)),
                    None => plain_message(text, None),
                };
                let messages: Vec<_> = bodies.iter().map(message).collect();
                let outcome = self.machine.send(self.topic_id(name), &messages);
                show::print(&outcome, out);
            }
            // Several requests gathered into one entry: their messages apart by bars.
            ["gather", name, ref bodies @ ..] => {
                let id = self.topic_id(name);
                let sends = bodies.split(|body| *body == "|");
                let messages =
                    |bodies: &[&str]| bodies.iter().map(|body| plain_message(body, None)).collect::<Vec<_>>();
                let proposals: Vec<_> = sends.map(|bodies| send(id, &messages(bodies))).collect();
                for outcome in self.machine.apply_all(&proposals).0 {
                    show::print(&outcome, out);
                }
            }
            ["send-as", kind, name, body] => {
                let (message_type, tag_hashes, placement) = (type_of(kind), vec![0], Placement::Now);
                let command = Command::Send(Send { topic: self.topic_id(name), message_type, tag_hashes, placement });
                let messages = vec![plain_message(body, None).encode()];
                let outcomes = self.machine.apply_all(&[Proposal { command: command.encode(), messages }]).0;
                show::print(&outcomes[0], out);
            }
            ["send-to", name, queue, ref bodies @ ..] => {
                self.send_to(name, queue, QueuePlacement::Now, bodies, out);
            }
            ["send-to-fifo", name, queue, group, ref bodies @ ..] => {
                let groups = vec![MessageGroupHash::of(group); bodies.len()];
                self.send_to(name, queue, QueuePlacement::Fifo(groups), bodies, out);
            }
            ["send-to-at", name, queue, time, ref bodies @ ..] => {
                let at = Timestamp(seconds(time).0);
                self.send_to(name, queue, QueuePlacement::DeliverAt(vec![at; bodies.len()]), bodies, out);
            }
            ["send-to-half", name, queue, after, every, most, body] => {
                let (after, every, most) = (seconds(after), seconds(every), most.parse().unwrap());
                let checks = TransactionChecks { after, every, most };
                self.send_to(name, queue, QueuePlacement::OnCommit(checks), &[body], out);
            }
            ["send-back", name, ref to @ .., body] => {
                let to = match to {
                    ["retry", time] => BackTo::Retry(Timestamp(seconds(time).0)),
                    ["redriven", offset] => BackTo::Redriven(QueueOffset(offset.parse().unwrap())),
                    _ => BackTo::DeadLetter,
                };
                let command = Command::SendBack(SendBack { group: self.group_id(name), tag_hash: 0, to });
                let messages = vec![plain_message(body, None).encode()];
                let outcomes = self.machine.apply_all(&[Proposal { command: command.encode(), messages }]).0;
                show::print(&outcomes[0], out);
            }
            // Queues as TOPIC/QUEUE.
            ["lock", name, client, time, ref queues @ ..] => {
                let queues = queues.iter().map(|text| self.queue(text)).collect();
                let (group, client, locked_for) = (self.group_id(name), client.to_owned(), seconds(time));
                self.tell(&Command::LockQueues(LockQueues { group, client, queues, locked_for }), out);
            }
            ["unlock", name, client, ref queues @ ..] => {
                let queues = queues.iter().map(|text| self.queue(text)).collect();
                let (group, client) = (self.group_id(name), client.to_owned());
                self.tell(&Command::UnlockQueues(UnlockQueues { group, client, queues }), out);
            }
            ["put", namespace, key, ref value @ ..] => {
                let value = value.first().map(|value| (*value).to_owned());
                let (namespace, key) = (namespace.to_owned(), key.to_owned());
                self.tell(&Command::SetKeyValue(SetKeyValue { namespace, key, value }), out);
            }
            [what @ ("wipe" | "add"), name] => {
                let of = (name != "group").then(|| node_of(name).name());
                let may_write = what == "add";
                self.tell(&Command::SetWritePermission(SetWritePermission { of, may_write }), out);
            }
            ["give-back", name, time] => {
                let leases = vec![self.handles[name]];
                self.tell(&Command::GiveBack(GiveBack { leases, after: seconds(time) }), out);
            }
            ["announce", node, address] => {
                let node = node_of(node);
                self.tell(&Command::Announce(Announce { node, address: address.to_owned() }), out);
            }
            ["plan", name, of, from, ref rest @ ..] => {
                let plan = self.plan(of, from, rest);
                self.plans.insert(name.to_owned(), plan);
            }
            ["grant", name, max, time, ref rest @ ..] => {
                let plan = self.plans.remove(name).unwrap();
                self.grant(
                    &plan,
                    max.parse().unwrap(),
                    seconds(time),
                    rest.first().map(|text| (*text).to_owned()),
                    out,
                );
            }
            ["receive", of, from, max, time, ref rest @ ..] => {
                let plan = self.plan(of, from, rest);
                self.grant(&plan, max.parse().unwrap(), seconds(time), None, out);
            }
            ["ack", ref names @ ..] => {
                let handles = names.iter().map(|name| self.handles[*name]).collect();
                self.tell(&Command::Ack(Ack { handles }), out);
            }
            ["change", name, time] => {
                let handle = self.handles[name];
                let change = Change { handle, invisible_for: seconds(time) };
                match self.machine.apply(&Command::Change(change)) {
                    Outcome::Changed(lease) => self.name(ReceiptHandle { lease, ..handle }, out),
                    other => show::print(&other, out),
                }
            }
            ["return-unread", name] => {
                let handle = self.handles[name];
                match self.machine.apply(&Command::ReturnUnread { handle }) {
                    Outcome::Changed(lease) => self.name(ReceiptHandle { lease, ..handle }, out),
                    other => show::print(&other, out),
                }
            }
            ["prolong", name, time] => {
                let leases = vec![self.handles[name]];
                self.tell(&Command::Prolong(Prolong { leases, invisible_for: seconds(time) }), out);
            }
            ["tick"] => {
                let tick = Proposal { command: Command::Tick.encode(), messages: Vec::new() };
                let (outcomes, effects) = self.machine.apply_all(&[tick]);
                show::print(&outcomes[0], out);
                for asked in effects.questions {
                    let number = self.aside.iter().position(|(topic, _, message)| (*topic, *message) == asked).unwrap();
                    writeln!(out, "asks about m{}", number + 1).unwrap();
                }
            }
            ["trim", name, queue, time] => {
                let (topic, queue) = (self.topic_id(name), QueueId(queue.parse().unwrap()));
                self.tell(&Command::Trim(Trim { topic, queue, before: Timestamp(seconds(time).0) }), out);
            }
            // As many entries that do nothing.
            ["idle", entries] => (0..entries.parse().unwrap()).for_each(|_: u32| drop(self.machine.apply_all(&[]))),
            // Everything that refers to an entry so far refers to a new one from now on.
            ["carry"] => show::print(&self.machine.carry(LogIndex(u64::MAX)), out),
            ["clock", shift] => self.tell(&Command::Clock { shift: seconds(shift) }, out),
            ["show", "delayed", name] => show::delayed(&self.machine, self.topic_id(name), out),
            ["show", "values", namespace] => show::values(&self.machine, namespace, out),
            ["show", what] => show::show(&self.machine, what, out),
            _ => panic!("no such command: {line}"),
        }
    }

    fn send_to(&mut self, name: &str, queue: &str, placement: QueuePlacement, bodies: &[&str], out: &mut String) {
        let (topic, queue) = (self.topic_id(name), QueueId(queue.parse().unwrap()));
        let waits = match &placement {
            QueuePlacement::DeliverAt(times) => times.first().copied().filter(|at| at.0 > self.machine.now),
            QueuePlacement::OnCommit(_) => Some(Timestamp(0)),
            QueuePlacement::Now | QueuePlacement::Fifo(_) => None,
        };
        let command = Command::SendToQueue(SendToQueue { topic, queue, tag_hashes: vec![0; bodies.len()], placement });
        let messages = bodies.iter().map(|body| plain_message(body, None).encode()).collect();
        let outcomes = self.machine.apply_all(&[Proposal { command: command.encode(), messages }]).0;
        match (&outcomes[0], waits) {
            (Outcome::SentToQueue { slot, .. }, Some(at)) => {
                for slot in (*slot..).take(bodies.len()) {
                    self.aside.push((topic, at, MessageRef { index: LogIndex(self.machine.index), slot }));
                    writeln!(out, "aside as m{}", self.aside.len()).unwrap();
                }
            }
            (outcome, _) => show::print(outcome, out),
        }
    }

    fn send_aside(
        &mut self,
        name: &str,
        message_type: MessageType,
        bodies: &[&str],
        placement: Placement,
        at: Timestamp,
        out: &mut String,
    ) {
        let topic = self.topic_id(name);
        let outcome = self.machine.send_aside(topic, message_type, bodies, placement);
        if let Outcome::Sent(places) = &outcome {
            for place in places {
                if let Stored::Deferred(slot) = place {
                    let message = MessageRef { index: LogIndex(self.machine.index), slot: *slot };
                    self.aside.push((topic, at, message));
                    writeln!(out, "aside as m{}", self.aside.len()).unwrap();
                }
            }
            if places.iter().any(|place| matches!(place, Stored::Deferred(_))) {
                return;
            }
        }
        show::print(&outcome, out);
    }

    fn aside(&self, name: &str) -> (TopicId, Timestamp, MessageRef) {
        self.aside[name.trim_start_matches('m').parse::<usize>().unwrap() - 1]
    }

    fn plan(&self, of: &str, from: &str, filter: &[&str]) -> Plan {
        let (topic, group) = (self.topic_id(from), self.group_id(of));
        let filter = TagFilter::parse(filter.first().unwrap_or(&"*"));
        Plan { topic, group, steps: self.machine.plan(topic, group, &filter) }
    }

    fn grant(&mut self, plan: &Plan, max: u32, invisible: Millis, client: Option<String>, out: &mut String) {
        match self.machine.grant(plan.topic, plan.group, max, invisible.0, client, plan.steps.clone()) {
            Ok(granted) if granted.is_empty() => out.push_str("nothing\n"),
            Ok(granted) => {
                for lease in granted {
                    for bit in (0..64).filter(|bit| lease.messages.0 >> bit & 1 == 1) {
                        let (queue, offset) = (lease.queue, QueueOffset(lease.first.0 + bit));
                        write!(out, "queue {queue} offset {offset} attempt {} ", lease.attempt).unwrap();
                        let (topic, group) = (plan.topic, plan.group);
                        self.name(ReceiptHandle { group, topic, queue, offset, lease: lease.lease }, out);
                    }
                }
            }
            Err(outcome) => show::print(&outcome, out),
        }
    }

    fn name(&mut self, handle: ReceiptHandle, out: &mut String) {
        let name = format!("h{}", self.handles.len() + 1);
        writeln!(out, "as {name}").unwrap();
        self.handles.insert(name, handle);
    }

    fn tell(&mut self, command: &Command, out: &mut String) {
        let outcome = match &self.act {
            Some(act) => {
                let (act, command) = (act.clone(), Box::new(command.clone()));
                self.machine.apply(&Command::OfOperator { act, command })
            }
            None => self.machine.apply(command),
        };
        show::print(&outcome, out);
    }
}

fn act(address: &str, tool: &str, what: &str, on: &str) -> Act {
    let by = Operator { address: address.to_owned(), tool: tool.to_owned() };
    Act { by, node: NodeId(0), what: what.to_owned(), on: on.to_owned(), detail: String::new() }
}

fn node_of(name: &str) -> NodeId {
    NodeId(name.trim_start_matches('n').parse().unwrap())
}

fn type_of(kind: &str) -> MessageType {
    (1..=6).filter_map(MessageType::from_u8).find(|known| known.name() == kind).unwrap()
}
