//! What golden scripts print: outcomes and state.

use std::fmt::Write;

use bytes::Bytes;
use raftmq::machine::Stored;
use raftmq::machine::outcome::Outcome;
use raftmq::machine::state::events::ClusterEventKind;
use raftmq::model::{LogIndex, NodeId, QueueId, QueueOffset, TopicId};
use raftmq::store::kv::{Kv, Space};

use crate::fixture::machine::Machine;

/// Prints what became of a command; what has handles is printed by their names.
pub fn print(outcome: &Outcome, out: &mut String) {
    match outcome {
        Outcome::Rejected(rejected) => writeln!(out, "refused: {rejected}").unwrap(),
        Outcome::Done => out.push_str("done\n"),
        Outcome::TopicCreated(id) => writeln!(out, "topic {id}").unwrap(),
        Outcome::GroupCreated(id) => writeln!(out, "group {id}").unwrap(),
        Outcome::Sent(places) => {
            let text = |place: &Stored| match place {
                Stored::Queue(queue, offset) => format!("{queue}/{offset}"),
                Stored::Deferred(slot) => format!("aside in slot {slot}"),
                Stored::DeferredBefore(message) => format!("aside in entry {} before", message.index),
            };
            let text: Vec<_> = places.iter().map(text).collect();
            writeln!(out, "queue/offset {}", text.join(" ")).unwrap();
        }
        Outcome::SentToQueue { offset, slot } => writeln!(out, "offset {offset} and on, from slot {slot}").unwrap(),
        Outcome::Acked(settled) => {
            let text: Vec<_> = settled.iter().map(|settled| if *settled { "settled" } else { "ended" }).collect();
            writeln!(out, "{}", text.join(" ")).unwrap();
        }
        Outcome::Locked(locked) => {
            let text: Vec<_> = locked.iter().map(|locked| if *locked { "locked" } else { "not locked" }).collect();
            writeln!(out, "{}", text.join(", ")).unwrap();
        }
        Outcome::WritePermissionSet { is_new } => {
            writeln!(out, "{}", if *is_new { "changed" } else { "as before" }).unwrap()
        }
        Outcome::Ticked { more } => writeln!(out, "ticked{}", if *more { ", more is due" } else { "" }).unwrap(),
        Outcome::Redriven(all) => {
            let text: Vec<_> = all.iter().map(|is| if *is { "on its way" } else { "stays" }).collect();
            writeln!(out, "{}", text.join(", ")).unwrap();
        }
        Outcome::Trimmed { count, more } => {
            writeln!(out, "trimmed {count}{}", if *more { ", more is to go" } else { "" }).unwrap();
        }
        Outcome::Granted(_) | Outcome::Changed(_) => unreachable!("printed by name"),
    }
}

/// Prints when the delayed messages of a topic come, as users see it.
pub fn delayed(machine: &Machine, topic: TopicId, out: &mut String) {
    let (delayed, _) = machine.view().waiting(topic, &Bytes::from_static(&[0])).unwrap();
    for (at, ..) in delayed {
        writeln!(out, "at {}", at.0 as f64 / 1000.0).unwrap();
    }
}

/// Prints the key-values of a namespace.
pub fn values(machine: &Machine, namespace: &str, out: &mut String) {
    for (key, value) in machine.view().key_values(namespace).unwrap() {
        writeln!(out, "{key} = {value}").unwrap();
    }
}

/// Prints one kind of state.
pub fn show(machine: &Machine, what: &str, out: &mut String) {
    let view = machine.view();
    let topics = view.topics().unwrap();
    let groups = view.groups().unwrap();
    let positions = || {
        let groups = groups.clone();
        topics.iter().flat_map(move |(id, record)| {
            let (id, queues) = (*id, record.queues);
            groups.clone().into_iter().flat_map(move |(group, record)| {
                (0..queues).map(move |queue| (id, group, record.name.clone(), QueueId(queue)))
            })
        })
    };
    match what {
        "queues" => {
            for (id, record) in &topics {
                for queue in (0..record.queues).map(QueueId) {
                    let head = view.queue_head(*id, queue).unwrap();
                    writeln!(out, "{} queue {queue}: {}..{}", record.name, head.min, head.max).unwrap();
                }
            }
        }
        "positions" => {
            for (topic, group, name, queue) in positions().filter(|at| view.is_subscribed(at.0, at.1).unwrap()) {
                writeln!(out, "{name} queue {queue}: next {}", view.group_offset(topic, group, queue).unwrap())
                    .unwrap();
            }
        }
        "leases" => {
            for (topic, group, name, queue) in positions() {
                for (_, lease) in view.leases(topic, group, queue).unwrap() {
                    let offsets = |bits| {
                        let list: Vec<_> = lease.offsets(bits).map(|offset| offset.to_string()).collect();
                        if list.is_empty() { "-".to_owned() } else { list.join(",") }
                    };
                    let state = if lease.returned {
                        "returned".to_owned()
                    } else {
                        format!("until {}", lease.until.0 as f64 / 1000.0)
                    };
                    let (held, acked, attempt) = (offsets(lease.held), offsets(lease.acked), lease.attempt);
                    writeln!(out, "{name} queue {queue}: holds {held} acked {acked} attempt {attempt} {state}")
                        .unwrap();
                }
            }
        }
        "origins" => {
            for (id, record) in &topics {
                let max = view.queue_head(*id, QueueId(0)).unwrap().max;
                for (first, run) in view.runs(*id, QueueId(0), QueueOffset(0), max).unwrap() {
                    let Some(origin) = run.origin else { continue };
                    let (name, queue, offset) = (origin.name, origin.queue, origin.offset);
                    let (dead, attempts) = (&record.name, origin.attempts);
                    writeln!(out, "{dead} offset {first}: {name} {queue}/{offset} after {attempts} attempts").unwrap();
                }
            }
        }
        "lost" => {
            for (topic, group, name, queue) in positions().filter(|at| view.is_subscribed(at.0, at.1).unwrap()) {
                writeln!(out, "{name} queue {queue}: lost {}", view.lost(topic, group, queue).unwrap()).unwrap();
            }
        }
        "counts" => {
            for (topic, record) in &topics {
                let Some(it) = machine.topic_counts.get(topic) else { continue };
                let (delays, ends) = (it.delayed, it.delays_ended);
                write!(out, "{}: {} messages {} B", record.name, it.messages, it.bytes).unwrap();
                write!(out, ", {delays} delayed {ends} ended, {} half", it.halves).unwrap();
                writeln!(out, " {} committed {} rolled back", it.commits, it.rollbacks).unwrap();
            }
            for ((_, group), it) in &machine.group_counts {
                let Some((_, record)) = groups.iter().find(|(id, _)| id == group) else { continue };
                write!(out, "{}: {} deliveries {} B", record.name, it.deliveries, it.bytes).unwrap();
                write!(out, ", {} of them again, {} acked", it.redeliveries, it.acked).unwrap();
                writeln!(out, ", {} dead", it.dead_letters).unwrap();
            }
        }
        "unwritable" => {
            let unwritable = view.unwritable().unwrap();
            let members = unwritable.members.iter().map(|member| member.to_string());
            let all: Vec<_> = unwritable.group.then(|| "group".to_owned()).into_iter().chain(members).collect();
            writeln!(out, "{}", if all.is_empty() { "nothing".to_owned() } else { all.join(" ") }).unwrap();
        }
        "needed" => match view.needed_from(LogIndex(0)).unwrap() {
            Some(index) => writeln!(out, "from entry {index} on").unwrap(),
            None => out.push_str("nothing\n"),
        },
        "events" => {
            for (number, event) in view.events(1, u64::MAX).unwrap() {
                write!(out, "{number} at {}: ", event.at.0 as f64 / 1000.0).unwrap();
                match event.kind {
                    ClusterEventKind::Act(act, end) => {
                        let (what, on, by) = (act.what, act.on, act.by);
                        writeln!(out, "{what} {on} by {} {}: {end:?}", by.address, by.tool).unwrap();
                    }
                    ClusterEventKind::Leader(new, before) => {
                        let node = |node: NodeId| node.to_string();
                        let (leader, before) = (new.leader, before.map_or_else(|| "nobody".to_owned(), node));
                        writeln!(out, "{leader} leads term {} after {before}, gap {:?}", new.term.0, new.gap).unwrap();
                    }
                    ClusterEventKind::MembersChanged(ended) => {
                        writeln!(out, "change {} of members: {:?}", ended.change.number, ended.end).unwrap();
                    }
                }
            }
        }
        "members" => {
            for (node, address) in view.members().unwrap() {
                writeln!(out, "{node} {address}").unwrap();
            }
        }
        "due" => match view.next_due().unwrap() {
            Some(at) => writeln!(out, "next at {}", at.0 as f64 / 1000.0).unwrap(),
            None => out.push_str("nothing\n"),
        },
        "clock" => {
            let clock = view.clock().unwrap();
            let seconds = |at: u64| at as f64 / 1000.0;
            let (now, wall) = (seconds(clock.now().0), seconds(clock.wall_of(clock.now()).0));
            writeln!(out, "machine {now} time of day {wall} bounded {}", clock.is_bounded()).unwrap();
        }
        "keys" => {
            for space in [Space::Queue, Space::Cursor, Space::Lease, Space::Due] {
                let count = machine.kv.scan(space, &[], &[255; 40], usize::MAX).unwrap().len();
                writeln!(out, "{}: {count}", space.name()).unwrap();
            }
        }
        _ => panic!("nothing to show called {what}"),
    }
}
