//! Consumer groups below the log: create, change, delete, subscribe to topics. Before: `broker/topics`.

use bytes::Bytes;

use crate::machine::command::{CreateGroup, Subscribe, UpdateGroup};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::catalog::{GroupRecord, TopicRecord};
use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::QueueHead;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, due, keys, queue};
use crate::model::{ConsumeFrom, GroupId, GroupName, GroupSettings, QueueId, QueueOffset, TopicId};
use crate::store::kv::Space;

/// What the search for an offset by its time counts for, in keys.
const SEARCH_KEYS: usize = 8;
/// What a topic counts for that a deleted group may be subscribed to.
const KEYS_TO_LEAVE: usize = 2;

pub(super) fn create_group(stage: &mut Stage<'_>, create: &CreateGroup) -> Result<Outcome, Failure> {
    if catalog::group_id(stage, &create.group)?.is_some() {
        return Ok(Outcome::Rejected(Rejected::GroupExists));
    }
    make_group(stage, &create.group, create.settings.clone(), create.orderly).map(Outcome::GroupCreated)
}

/// Changes what is given.
pub(super) fn update_group(stage: &mut Stage<'_>, update: &UpdateGroup) -> Result<Outcome, Failure> {
    let refused = Ok(Outcome::Rejected(Rejected::GroupNotFound));
    let Some(group) = catalog::group_id(stage, &update.group)? else { return refused };
    let Some(mut record) = catalog::group(stage, group)? else { return refused };
    let settings = &mut record.settings;
    settings.retries_max = update.retries_max.unwrap_or(settings.retries_max);
    settings.consume_from = update.consume_from.unwrap_or(settings.consume_from);
    if let Some(backoff) = &update.backoff {
        settings.backoff.clone_from(backoff);
    }
    if let Some(filter) = &update.filter {
        settings.filter = Some(filter.clone()).filter(|filter| !filter.is_empty());
    }
    catalog::put_group(stage, group, &record);
    Ok(Outcome::Done)
}

/// The name is free at once; subscriptions, group offsets and leases are removed in bounded steps by `machine/tick`. The
/// group's dead letters stay.
pub(super) fn delete_group(stage: &mut Stage<'_>, name: &GroupName) -> Result<Outcome, Failure> {
    let Some(group) = catalog::group_id(stage, name)? else {
        return Ok(Outcome::Rejected(Rejected::GroupNotFound));
    };
    stage.delete(Space::Catalog, keys::group_name(name));
    stage.delete(Space::Catalog, keys::group(group));
    if stage.is_bounded()? {
        let now = stage.now();
        due::put(stage, now, Due::Leave { group });
    } else {
        for topic in catalog::topic_ids(stage)? {
            leave(stage, topic, group)?;
        }
    }
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}

/// Ends the subscriptions of a deleted group, topic after topic from the one on that `value` has; whether there are no others,
/// and nothing of those is left to be swept.
pub(super) fn leave_on(stage: &mut Stage<'_>, group: GroupId, value: Bytes) -> Result<bool, Failure> {
    let from = if value.is_empty() { keys::all_topics() } else { value };
    let room = stage.keys_left()? / KEYS_TO_LEAVE + 1;
    let topics = catalog::topic_ids_from(stage, &from, room)?;
    // Those without the group are looked at too.
    stage.spend(topics.len() * KEYS_TO_LEAVE);
    let mut has_left = false;
    for topic in &topics {
        has_left |= leave(stage, *topic, group)?;
    }
    let Some(last) = topics.last().filter(|_| topics.len() == room) else { return Ok(!has_left) };
    let now = stage.now();
    due::put_with(stage, now, Due::Leave { group }, keys::after(&keys::topic(*last)));
    Ok(false)
}

/// Ends a subscription; whether there was one, whose leases and offsets are swept from now on.
fn leave(stage: &mut Stage<'_>, topic: TopicId, group: GroupId) -> Result<bool, Failure> {
    let was_subscribed = catalog::is_subscribed(stage, topic, group)?;
    if was_subscribed {
        let now = stage.now();
        stage.delete(Space::Catalog, keys::subscription(topic, group));
        due::put(stage, now, Due::SweepGroup { topic, group });
    }
    Ok(was_subscribed)
}

/// Creates the group if it is missing and may be created, and gives it a group offset in each queue of the topics
/// that it is not subscribed to yet. Unknown topics are passed over, and those for which the entry has no room.
///
/// * Source: contract §17, contract §26: a late group on a young topic gets everything from offset 0.
pub(super) fn subscribe(stage: &mut Stage<'_>, subscribe: &Subscribe) -> Result<Outcome, Failure> {
    let group = match (catalog::group_id(stage, &subscribe.group)?, subscribe.create) {
        (Some(group), _) => group,
        (None, Some(retries_max)) => make_group(stage, &subscribe.group, GroupSettings::standard(retries_max), false)?,
        (None, None) => return Ok(Outcome::Rejected(Rejected::GroupNotFound)),
    };
    let consume_from = catalog::group(stage, group)?.map_or(ConsumeFrom::Standard, |group| group.settings.consume_from);
    for name in &subscribe.topics {
        if stage.keys_left()? == 0 {
            // Who asked looks which topics are missing, and asks again.
            break;
        }
        let Some(topic) = catalog::topic_id(stage, name)? else { continue };
        let Some(record) = catalog::topic(stage, topic)? else { continue };
        if catalog::is_subscribed(stage, topic, group)? {
            continue;
        }
        begin(stage, group, consume_from, topic, &record)?;
    }
    Ok(Outcome::GroupCreated(group))
}

/// Subscribes a group to a topic: gives it its first group offset in each queue.
pub(super) fn begin(
    stage: &mut Stage<'_>,
    group: GroupId,
    consume_from: ConsumeFrom,
    topic: TopicId,
    record: &TopicRecord,
) -> Result<(), Failure> {
    stage.put(Space::Catalog, keys::subscription(topic, group), Bytes::new());
    let look_ups = if matches!(consume_from, ConsumeFrom::At(_)) { SEARCH_KEYS } else { 1 };
    stage.spend(record.queues as usize * look_ups);
    for queue in (0..record.queues).map(QueueId) {
        let head = queue::head(stage, topic, queue)?;
        let from = start(stage, topic, queue, &head, consume_from)?;
        stage.put_number(Space::Cursor, keys::group_offset(topic, group, queue), from.0);
    }
    stage.effects().catalog_changed = true;
    Ok(())
}

/// The first group offset in a queue.
fn start(
    stage: &Stage<'_>,
    topic: TopicId,
    queue: QueueId,
    head: &QueueHead,
    from: ConsumeFrom,
) -> Result<QueueOffset, Failure> {
    match from {
        ConsumeFrom::Standard if head.min.0 != 0 => Ok(head.max),
        ConsumeFrom::Standard | ConsumeFrom::First => Ok(head.min),
        ConsumeFrom::Last => Ok(head.max),
        ConsumeFrom::At(at) => queue::first_stored_at(head, stage.clock().earliest_of(at), |offset| {
            queue::run_of(stage, topic, queue, offset)
        }),
    }
}

fn make_group(
    stage: &mut Stage<'_>,
    name: &GroupName,
    settings: GroupSettings,
    orderly: bool,
) -> Result<GroupId, Failure> {
    let group = GroupId(catalog::next_id(stage, keys::GROUP_IDS)?);
    let record = GroupRecord { name: name.clone(), settings, orderly, created_at: stage.wall() };
    stage.put_number(Space::Catalog, keys::group_name(name), group.0.into());
    catalog::put_group(stage, group, &record);
    Ok(group)
}
