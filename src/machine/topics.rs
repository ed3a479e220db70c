//! Topics below the log: create, change, delete. Before: `broker/topics`.
//!
//! Not here: consumer groups and their subscriptions (`machine/groups`).

use crate::machine::command::{CreateTopic, UpdateTopic};
use crate::machine::outcome::{Outcome, Rejected};
use crate::machine::state::catalog::TopicRecord;
use crate::machine::state::due::Due;
use crate::machine::state::failure::Failure;
use crate::machine::state::queue::QueueHead;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, due, keys, queue};
use crate::model::{MessageType, Millis, QueueId, TopicId, TopicName, TopicType};
use crate::store::kv::Space;

pub(super) fn create_topic(stage: &mut Stage<'_>, create: &CreateTopic) -> Result<Outcome, Failure> {
    if catalog::topic_id(stage, &create.topic)?.is_some() {
        return Ok(Outcome::Rejected(Rejected::TopicExists));
    }
    let topic = TopicId(catalog::next_id(stage, keys::TOPIC_IDS)?);
    let record = TopicRecord {
        name: create.topic.clone(),
        topic_type: create.topic_type,
        queues: create.queues,
        permission: create.permission,
        created_at: stage.wall(),
        retention: create.retention.filter(|retention| *retention != Millis(0)),
    };
    stage.put_number(Space::Catalog, keys::topic_name(&create.topic), topic.0.into());
    catalog::put_topic(stage, topic, &record);
    for queue in 0..create.queues {
        queue::put_head(stage, topic, QueueId(queue), &QueueHead::default());
    }
    Ok(Outcome::TopicCreated(topic))
}

/// Changes what is given. A change that would break FIFO order or lose waiting messages is refused.
pub(super) fn update_topic(stage: &mut Stage<'_>, update: &UpdateTopic) -> Result<Outcome, Failure> {
    let refused = |rejected| Ok(Outcome::Rejected(rejected));
    let Some(topic) = catalog::topic_id(stage, &update.topic)? else { return refused(Rejected::TopicNotFound) };
    let Some(mut record) = catalog::topic(stage, topic)? else { return refused(Rejected::TopicNotFound) };
    if let Some(new) = update.topic_type.filter(|new| *new != record.topic_type) {
        // FIFO lines, and queues by priority, belong to the type.
        if [record.topic_type, new].iter().any(|of| of.is_fifo() || of.is_priority()) {
            return refused(Rejected::TypeIsFixed);
        }
        record.topic_type = new;
    }
    let before = record.queues;
    if let Some(queues) = update.queues.filter(|queues| *queues != before) {
        let are_fixed = if update.keeps_message_groups {
            has_message_groups(stage, topic, record.topic_type)?
        } else {
            record.topic_type.is_fifo()
        };
        if queues < before || are_fixed {
            return refused(Rejected::QueuesAreFixed);
        }
        record.queues = queues;
    }
    record.permission = update.permission.unwrap_or(record.permission);
    if let Some(retention) = update.retention {
        record.retention = Some(retention).filter(|retention| *retention != Millis(0));
    }
    catalog::put_topic(stage, topic, &record);
    for queue in before..record.queues {
        queue::put_head(stage, topic, QueueId(queue), &QueueHead::default());
    }
    Ok(Outcome::Done)
}

/// Whether messages of message groups may come to a topic, or are there from when it had another type. The queue of a
/// message group follows from the number of queues, so with more of them its next message would pass those before it.
fn has_message_groups(stage: &Stage<'_>, topic: TopicId, topic_type: TopicType) -> Result<bool, Failure> {
    if topic_type.accepts(MessageType::Fifo) {
        return Ok(true);
    }
    let all = keys::messages_of_groups(topic);
    Ok(!stage.scan(Space::Queue, &all, &keys::after_prefix(&all), 1)?.is_empty())
}

/// The name is free at once; what is stored under the topic is removed in bounded steps by `machine/tick`.
pub(super) fn delete_topic(stage: &mut Stage<'_>, name: &TopicName) -> Result<Outcome, Failure> {
    let Some(topic) = catalog::topic_id(stage, name)? else {
        return Ok(Outcome::Rejected(Rejected::TopicNotFound));
    };
    stage.delete(Space::Catalog, keys::topic_name(name));
    stage.delete(Space::Catalog, keys::topic(topic));
    let now = stage.now();
    due::put(stage, now, Due::Sweep { topic });
    stage.effects().catalog_changed = true;
    Ok(Outcome::Done)
}
