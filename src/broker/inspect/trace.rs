//! What became of a message: from the state, and from the log after the message.
//!
//! The log has what consumers asked of it (acks, changes and dead letters name a lease and an offset), and the grants.
//! The id of a lease names the command that made it (`machine/state/lease_ids`), and a redelivery the lease it follows:
//! going back from the known leases, every grant that delivered the message is found. What a consumer asked through a
//! lease that had ended was refused, and is shown as that.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::receive::bodies::BodyReader;
use crate::broker::{Error, Inspector, StoredMessage, TopicView};
use crate::machine::command::{Candidate, Change};
use crate::machine::lease_ids::Ordinals;
use crate::machine::state::view::View;
use crate::machine::{Batch, Command};
use crate::model::{
    GroupId, GroupName, LeaseId, LogIndex, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId, TopicName,
};
use crate::raft::EntryPlace;

/// Entries read before others have their turn.
const SLICE: u32 = 16;
/// A trace ends when it has found as many events.
const FOUND_MAX: usize = 100_000;
/// Dead letters among which this message is looked for, from the last one back.
const DEAD_SEARCHED_MAX: u64 = 10_000;

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub message: StoredMessage,
    pub life: Life,
    /// The entry with its bytes; `None` if this node does not have it.
    pub entry: Option<EntryPlace>,
    /// Every group with offsets in its topic.
    pub groups: Vec<GroupTrace>,
    /// The last entry that was read.
    pub searched_to: LogIndex,
    /// The last entry there is.
    pub log_end: LogIndex,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// In a queue: what became of it there is a matter of the groups.
    Queued,
    /// It waits for its delivery time.
    Delayed,
    /// Its transaction is open. Its producer was asked so often, and is asked next, or given up, then.
    Half { asked: u32, due: Timestamp },
    /// Its transaction was rolled back.
    RolledBack,
}

impl Life {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delayed => "delayed",
            Self::Half { .. } => "half",
            Self::RolledBack => "rolled back",
        }
    }
}

/// What became of the message in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTrace {
    pub group: GroupName,
    /// In one word or two.
    pub state: &'static str,
    /// In order.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    pub entry: LogIndex,
    /// In a trace the time of day; machine time before.
    pub at: Timestamp,
    pub what: EventKind,
    /// To whom, if it was delivered.
    pub client: String,
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    Delivered,
    Acknowledged,
    /// Its consumer asked for another length of its lease.
    Changed,
    /// The node that leased it cannot read it, and left it to others.
    Unread,
    /// Its consumer put it among the dead letters.
    Buried,
    /// Its consumer wanted to settle it after its lease had ended.
    Refused,
}

impl EventKind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Changed => "change asked",
            Self::Unread => "unread",
            Self::Buried => "dead",
            Self::Refused => "refused",
        }
    }
}

/// What made a lease.
struct Made {
    entry: LogIndex,
    at: Timestamp,
    /// To whom it was delivered; nobody by a change or a redrive.
    client: Option<String>,
    /// The lease that it follows.
    after: Option<LeaseId>,
}

/// What a consumer asked of the message, through a lease.
struct Said {
    event: Event,
    group: GroupId,
    lease: LeaseId,
}

/// Where the message is.
#[derive(Clone, Copy)]
struct QueuePosition {
    topic: TopicId,
    queue: QueueId,
    offset: QueueOffset,
}

impl Inspector {
    /// What became of a message, as far as the log can be read in `time`.
    ///
    /// * Errors: [`Error::IllegalOffset`] outside of what the queue has.
    pub async fn trace(
        &self,
        topic: &TopicView,
        queue: QueueId,
        offset: QueueOffset,
        time: Duration,
    ) -> Result<Trace, Error> {
        let ends = Instant::now() + time;
        let message = self.message_at(topic, queue, offset).await?;
        let entry = self.reader.entry_place(message.at.index).await?;
        let place = QueuePosition { topic: topic.id, queue, offset };
        let log_end = self.reader.applied();
        let (mut said, mut searched_to) = (Vec::new(), message.at.index);
        let mut reader = BodyReader::new(&self.reader);
        for (turn, index) in (0u32..).zip(message.at.index.0..=log_end.0) {
            if turn % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
                if Instant::now() >= ends || said.len() >= FOUND_MAX {
                    break;
                }
            }
            let index = LogIndex(index);
            if let Some(batch) = reader.batch(index).await? {
                note(&mut said, place, index, batch);
            }
            searched_to = index;
        }
        drop(reader);
        let view = self.reader.view();
        let mut groups = Vec::new();
        for group in view.subscribed_groups(topic.id)? {
            let Some(record) = view.group_record(group)? else { continue };
            let said: Vec<&Said> = said.iter().filter(|said| said.group == group).collect();
            let (state, events) = self.trace_in(view, place, group, &record.name, &said).await?;
            let events = events.into_iter().map(|event| Event { at: self.reader.wall_of(event.at), ..event }).collect();
            groups.push(GroupTrace { group: record.name, state, events });
        }
        Ok(Trace { message, life: Life::Queued, entry, groups, searched_to, log_end })
    }

    async fn trace_in(
        &self,
        view: View<'_>,
        place: QueuePosition,
        group: GroupId,
        name: &GroupName,
        said: &[&Said],
    ) -> Result<(&'static str, Vec<Event>), Error> {
        let mut leases: BTreeSet<LeaseId> = said.iter().map(|said| said.lease).collect();
        let mut held = None;
        for (at, lease) in view.leases(place.topic, group, place.queue)? {
            let Some(message) = lease.one(place.offset) else { continue };
            if !((lease.held | lease.acked) & message).is_empty() {
                leases.insert(at.lease);
            }
            if !(lease.held & message).is_empty() {
                held = Some((at.lease, lease.returned));
            }
        }
        // Leases that ended: another one follows, or the message waits for one.
        let mut ended: BTreeSet<LeaseId> = held.iter().map(|(lease, _)| *lease).collect();
        let mut events = Vec::new();
        let mut reader = BodyReader::new(&self.reader);
        // From the last lease to the first: what one follows was made before.
        while let Some(lease) = leases.pop_last() {
            tokio::task::yield_now().await;
            let Some(batch) = reader.batch(lease.made_at()).await? else { continue };
            let Some(Made { entry, at, client, after }) = maker(batch, place, group, lease) else { continue };
            events.extend(client.map(|client| Event { entry, at, what: EventKind::Delivered, client }));
            leases.extend(after);
            ended.extend(after);
        }
        let died_at = died_at(view, place, name)?;
        for said in said {
            let mut event = said.event.clone();
            // What is settled is neither held nor delivered again, nor does it die.
            let is_before_death = event.what == EventKind::Acknowledged && died_at.is_some_and(|died| event.at < died);
            let is_asked = !matches!(event.what, EventKind::Changed | EventKind::Unread);
            if is_asked && (ended.contains(&said.lease) || is_before_death) {
                event.what = EventKind::Refused;
            }
            events.push(event);
        }
        events.sort();
        let last = events
            .iter()
            .rev()
            .find(|event| !matches!(event.what, EventKind::Changed | EventKind::Unread | EventKind::Refused));
        let state = match (held, last) {
            (Some((_, true)), _) => "returning",
            (Some((_, false)), _) => "in flight",
            (None, _) if view.group_offset(place.topic, group, place.queue)? <= place.offset => "ready",
            (None, Some(Event { what: EventKind::Acknowledged, .. })) => "acknowledged",
            (None, _) if died_at.is_some() => "dead",
            (None, _) => "settled",
        };
        Ok((state, events))
    }
}

/// Notes what an entry's commands ask of the message.
fn note(said: &mut Vec<Said>, place: QueuePosition, entry: LogIndex, batch: &Batch) {
    let at = batch.stamp();
    let mut say = |handle: ReceiptHandle, what| {
        let ReceiptHandle { group, topic, queue, offset, lease } = handle;
        if (topic, queue, offset) == (place.topic, place.queue, place.offset) {
            said.push(Said { event: Event { entry, at, what, client: String::new() }, group, lease });
        }
    };
    for command in commands(batch) {
        match command {
            Command::Ack(ack) => ack.handles.into_iter().for_each(|handle| say(handle, EventKind::Acknowledged)),
            Command::Change(change) => say(change.handle, EventKind::Changed),
            Command::ReturnUnread { handle } => say(handle, EventKind::Unread),
            Command::DeadLetter { handle } => say(handle, EventKind::Buried),
            _ => {}
        }
    }
}

/// The command of an entry that made one of the group's leases.
fn maker(batch: &Batch, place: QueuePosition, group: GroupId, lease: LeaseId) -> Option<Made> {
    let mut ordinals = Ordinals::default();
    let (command, number) = commands(batch).find_map(|command| {
        let own = ordinals.of(&command)?;
        own.contains(&lease.ordinal()).then(|| (command, (lease.ordinal() - own.start)))
    })?;
    let of_this = |topic, of| (topic, of) == (place.topic, group);
    let (client, after) = match command {
        Command::Grant(grant) if of_this(grant.topic, grant.group) => {
            let single = grant.candidates.iter().filter(|candidate| candidate.makes_one()).nth(number as usize);
            let after = match single {
                Some(Candidate::Returned { lease, .. }) => Some(*lease),
                _ => None,
            };
            (Some(grant.client), after)
        }
        Command::Repeat(repeat) if of_this(repeat.topic, repeat.group) => {
            let after = repeat.leases.get(number as usize).map(|(_, lease)| *lease);
            (Some(repeat.client), after)
        }
        Command::Change(Change { handle, .. }) | Command::ReturnUnread { handle } => (None, Some(handle.lease)),
        _ => (None, None),
    };
    Some(Made { entry: lease.made_at(), at: batch.stamp(), client, after })
}

fn commands(batch: &Batch) -> impl Iterator<Item = Command> {
    batch.commands().filter_map(|command| Command::decode(command.ok()?).ok())
}

/// When the message last became a dead letter of the group, if it is among those that are read.
fn died_at(view: View<'_>, place: QueuePosition, group: &GroupName) -> Result<Option<Timestamp>, Error> {
    let Some((topic, _)) = view.topic(&TopicName::dead_letters_of(group))? else { return Ok(None) };
    let max = view.queue_head(topic, QueueId(0))?.max;
    let from = QueueOffset(max.0.saturating_sub(DEAD_SEARCHED_MAX));
    let runs = view.runs(topic, QueueId(0), from, max)?;
    let is_this = |origin: &crate::machine::state::queue::Origin| {
        origin.topic == place.topic && origin.queue == place.queue && origin.offset == place.offset
    };
    let died = runs.iter().rev().find(|(_, run)| run.origin.as_ref().is_some_and(is_this));
    Ok(died.map(|(_, run)| run.stored_at))
}
