//! What became of a message: from the state, and from the log behind the message.
//!
//! The log has what consumers said of it (acks, changes, burials name a lease and an offset), and what was asked for
//! them (grants name what they wanted, not what they got). A lease knows the entry that made it, and a redelivery
//! the lease it follows: going back from the leases that are known, every grant that really delivered the message is
//! found. What a consumer said through a lease that had ended was refused, and is told as that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Broker, Deadline, Error, Stored};
use crate::machine::command::{Candidate, Grant};
use crate::machine::view::View;
use crate::machine::{Batch, Command};
use crate::model::{
    GroupId, GroupName, LeaseId, LogIndex, QueueId, QueueOffset, ReceiptHandle, Timestamp, TopicId, TopicName,
};

/// Entries read before others have their turn.
const SLICE: u32 = 16;
/// A search ends when it has found as much.
const FOUND_MAX: usize = 100_000;
/// Dead letters looked through for this message, from the last one on.
const DEAD_SEARCHED_MAX: u64 = 10_000;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The message.
    pub message: Stored,
    /// Every group with a position in its topic.
    pub groups: Vec<GroupTrace>,
    /// Last entry looked through.
    pub searched_to: LogIndex,
    /// Last entry there is.
    pub log_end: LogIndex,
}

/// What became of the message in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTrace {
    /// Which.
    pub group: GroupName,
    /// In one word or two.
    pub state: &'static str,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// In which entry.
    pub entry: LogIndex,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// To whom, if it was delivered.
    pub client: String,
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It was handed out.
    Delivered,
    /// It was settled.
    Acknowledged,
    /// Its consumer asked for another length of its lease.
    Changed,
    /// Its consumer put it among the dead letters.
    Buried,
    /// Its consumer wanted to settle it after its lease had ended.
    Refused,
}

impl What {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Changed => "change asked",
            Self::Buried => "dead",
            Self::Refused => "refused",
        }
    }
}

/// A grant that may have delivered the message, or a repeat of one.
struct Asked {
    event: Event,
    group: GroupId,
    /// Whether it wanted the message as one that was never delivered.
    is_fresh: bool,
    /// The leases it follows: of this message or of others.
    after: Vec<LeaseId>,
}

/// What a consumer said of the message, through a lease.
struct Said {
    event: Event,
    group: GroupId,
    lease: LeaseId,
}

/// The message that is looked for.
#[derive(Clone, Copy)]
struct Place {
    topic: TopicId,
    queue: QueueId,
    offset: QueueOffset,
}

#[derive(Default)]
struct Search {
    asked: Vec<Asked>,
    said: Vec<Said>,
    /// Entries that made leases of dead letters of a group.
    redriven: Vec<(GroupId, LogIndex)>,
}

impl Broker {
    /// Looks for `time` at what became of a message.
    pub async fn trace(
        &self,
        topic: TopicName,
        queue: QueueId,
        offset: QueueOffset,
        time: Duration,
    ) -> Result<Trace, Error> {
        let ends = Instant::now() + time;
        let message = self.message_at(topic.clone(), queue, offset).await?;
        let (id, _) = self.existing_topic(&topic, self.held_until(Deadline::NONE)).await?;
        let place = Place { topic: id, queue, offset };
        let log_end = *self.replica.applied().borrow();
        let (mut search, mut searched_to) = (Search::default(), message.at.index);
        for (turn, index) in (0u32..).zip(message.at.index.0..=log_end.0) {
            if turn % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
                if Instant::now() >= ends || search.asked.len() + search.said.len() >= FOUND_MAX {
                    break;
                }
            }
            let index = LogIndex(index);
            let batch = self.replica.read_batch(index).map_err(|error| Error::Stopped(error.to_string()))?;
            if let Some(batch) = batch {
                search.look(place, index, &batch);
            }
            searched_to = index;
        }
        let view = self.replica.view();
        let mut groups = Vec::new();
        for group in view.subscribed_groups(id)? {
            let Some(record) = view.group_record(group)? else { continue };
            let (state, events) = search.of_group(view, place, group, &record.name)?;
            groups.push(GroupTrace { group: record.name, state, events });
        }
        Ok(Trace { message, groups, searched_to, log_end })
    }
}

impl Search {
    fn look(&mut self, place: Place, entry: LogIndex, batch: &Batch) {
        let at = batch.stamp();
        let event = |what, client: &str| Event { entry, at, what, client: client.to_owned() };
        for command in batch.commands() {
            let Ok(Ok(command)) = command.map(Command::decode) else { continue };
            match command {
                Command::Grant(grant) if grant.topic == place.topic => {
                    let after = grant.candidates.iter().filter_map(|candidate| covers(candidate, place));
                    let after: Vec<Option<LeaseId>> = after.collect();
                    if !after.is_empty() {
                        let Grant { client, group, .. } = grant;
                        let is_fresh = after.contains(&None);
                        let after = after.into_iter().flatten().collect();
                        self.asked.push(Asked { event: event(What::Delivered, &client), group, is_fresh, after });
                    }
                }
                Command::Repeat(repeat) if repeat.topic == place.topic => {
                    let after = repeat.leases.iter().filter(|(queue, _)| *queue == place.queue);
                    let after = after.map(|(_, lease)| *lease).collect();
                    let (group, event) = (repeat.group, event(What::Delivered, &repeat.client));
                    self.asked.push(Asked { event, group, is_fresh: false, after });
                }
                Command::Ack(ack) => {
                    for handle in ack.handles {
                        self.say(place, handle, event(What::Acknowledged, ""));
                    }
                }
                Command::Change(change) => self.say(place, change.handle, event(What::Changed, "")),
                Command::Redrive(redrive) => self.redriven.push((redrive.group, entry)),
                Command::Bury { handle } => self.say(place, handle, event(What::Buried, "")),
                _ => {}
            }
        }
    }

    fn say(&mut self, place: Place, handle: ReceiptHandle, event: Event) {
        let ReceiptHandle { group, topic, queue, offset, lease } = handle;
        if topic == place.topic && queue == place.queue && offset == place.offset {
            self.said.push(Said { event, group, lease });
        }
    }

    fn of_group(
        &self,
        view: View<'_>,
        place: Place,
        group: GroupId,
        name: &GroupName,
    ) -> Result<(&'static str, Vec<Event>), Error> {
        let mut leases: BTreeSet<LeaseId> = BTreeSet::new();
        let mut held = None;
        for (at, lease) in view.leases(place.topic, group, place.queue)? {
            let Some(bit) = lease.bit(place.offset) else { continue };
            if (lease.held | lease.acked) & bit != 0 {
                leases.insert(at.lease);
            }
            if lease.held & bit != 0 {
                held = Some((at.lease, lease.returned));
            }
        }
        let said: Vec<&Said> = self.said.iter().filter(|said| said.group == group).collect();
        leases.extend(said.iter().map(|said| said.lease));
        let mut events = Vec::new();
        // Forth from the first: entries whose leases may hold the message.
        let changes = said.iter().filter(|said| said.event.what == What::Changed).map(|said| said.event.entry);
        let redriven = self.redriven.iter().filter(|(of, _)| *of == group).map(|(_, entry)| *entry);
        let mut may_hold: BTreeSet<LogIndex> = changes.chain(redriven).collect();
        let mut asked: BTreeMap<LogIndex, Vec<(&Asked, Vec<LeaseId>)>> = BTreeMap::new();
        for one in self.asked.iter().filter(|asked| asked.group == group) {
            let after = one.after.iter().copied().filter(|lease| may_hold.contains(&lease.made_at()));
            let after: Vec<LeaseId> = after.collect();
            if one.is_fresh || !after.is_empty() {
                may_hold.insert(one.event.entry);
                asked.entry(one.event.entry).or_default().push((one, after));
            }
        }
        // Back from the last: what made a known lease makes known the lease it followed.
        let mut ended: BTreeSet<LeaseId> = held.iter().map(|(lease, _)| *lease).collect();
        for (entry, asked) in asked.into_iter().rev() {
            if !leases.iter().any(|lease| lease.made_at() == entry) {
                continue;
            }
            for (one, after) in asked {
                if let [followed] = after[..] {
                    ended.insert(followed);
                }
                leases.extend(after);
                events.push(one.event.clone());
            }
        }
        // A change that made a lease of its own ended the one before.
        let changes = said.iter().filter(|said| said.event.what == What::Changed);
        ended.extend(
            changes
                .filter(|change| leases.iter().any(|lease| lease.made_at() == change.event.entry))
                .map(|change| change.lease),
        );
        let died_at = died_at(view, place, name)?;
        for said in said {
            let mut event = said.event.clone();
            // What is settled is neither held nor delivered again, nor does it die.
            let is_before_death = event.what == What::Acknowledged && died_at.is_some_and(|died| event.at < died);
            if event.what != What::Changed && (ended.contains(&said.lease) || is_before_death) {
                event.what = What::Refused;
            }
            events.push(event);
        }
        events.sort();
        let last = events.iter().rev().find(|event| !matches!(event.what, What::Changed | What::Refused));
        let state = match (held, last) {
            (Some((_, true)), _) => "returning",
            (Some((_, false)), _) => "in flight",
            (None, _) if view.cursor(place.topic, group, place.queue)? <= place.offset => "waiting",
            (None, Some(Event { what: What::Acknowledged, .. })) => "acknowledged",
            (None, _) if died_at.is_some() => "dead",
            (None, _) => "settled",
        };
        Ok((state, events))
    }
}

/// Whether a candidate wanted the message; with the lease it follows, if it is a redelivery.
fn covers(candidate: &Candidate, place: Place) -> Option<Option<LeaseId>> {
    let wants = |first: QueueOffset, wanted: u64| {
        let distance = place.offset.0.checked_sub(first.0).filter(|distance| *distance < 64);
        distance.is_some_and(|distance| wanted >> distance & 1 == 1)
    };
    match *candidate {
        // Its bits are those of the ended lease, whose first offset only that lease knows.
        Candidate::Returned { queue, lease, .. } => (queue == place.queue).then_some(Some(lease)),
        Candidate::Fresh { queue, first, wanted, .. } | Candidate::Next { queue, first, wanted, .. } => {
            (queue == place.queue && wants(first, wanted)).then_some(None)
        }
        Candidate::Skip { .. } => None,
    }
}

/// When the message died last in the group, if it is among the dead letters that are looked through.
fn died_at(view: View<'_>, place: Place, group: &GroupName) -> Result<Option<Timestamp>, Error> {
    let Some((topic, _)) = view.topic(&TopicName::dead_letters_of(group))? else { return Ok(None) };
    let max = view.queue_head(topic, QueueId(0))?.max;
    let from = QueueOffset(max.0.saturating_sub(DEAD_SEARCHED_MAX));
    let runs = view.runs(topic, QueueId(0), from, max)?;
    let is_this = |origin: &crate::machine::queue::Origin| {
        origin.topic == place.topic && origin.queue == place.queue && origin.offset == place.offset
    };
    let died = runs.iter().rev().find(|(_, run)| run.origin.as_ref().is_some_and(is_this));
    Ok(died.map(|(_, run)| run.stored_at))
}
