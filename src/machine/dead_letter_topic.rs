//! The topic of a consumer group's dead letters, `%DLQ%` plus the group's name: created when it is first needed.
//!
//! Messages move there by reference: their bytes stay in the entry that they came with (contract §16, contract §17).

use crate::machine::command::CreateTopic;
use crate::machine::outcome::Outcome;
use crate::machine::state::enqueue::{EnqueueBuffer, EnteringMessage};
use crate::machine::state::failure::Failure;
use crate::machine::state::keys::LeaseKey;
use crate::machine::state::lease::Lease;
use crate::machine::state::queue::Origin;
use crate::machine::state::stage::Stage;
use crate::machine::state::{catalog, lost, queue};
use crate::machine::topics;
use crate::model::{GroupId, MessageType, OffsetSet, Permission, TopicId, TopicName, TopicType};

/// The topic of a group's dead letters, created if it is missing; `None` if there is no such group.
pub(super) fn of_group(stage: &mut Stage<'_>, group: GroupId) -> Result<Option<TopicId>, Failure> {
    let Some(record) = catalog::group(stage, group)? else { return Ok(None) };
    let topic = TopicName::dead_letters_of(&record.name);
    if let Some(topic) = catalog::topic_id(stage, &topic)? {
        return Ok(Some(topic));
    }
    let (topic_type, queues, permission) = (TopicType::Only(MessageType::Normal), 1, Permission::READ);
    match topics::create_topic(stage, &CreateTopic { topic, topic_type, queues, permission, retention: None })? {
        Outcome::TopicCreated(topic) => Ok(Some(topic)),
        _ => Ok(None),
    }
}

/// Adds messages of a lease to the dead letters of its group.
pub(super) fn add(stage: &mut Stage<'_>, at: LeaseKey, lease: &Lease, messages: OffsetSet) -> Result<(), Failure> {
    let Some(topic) = catalog::topic(stage, at.topic)? else { return Ok(()) };
    let Some(dead_letters) = of_group(stage, at.group)? else { return Ok(()) };
    let mut entering = EnqueueBuffer::default();
    let mut count = 0;
    let mut runs = queue::RunFinder::default();
    for offset in lease.offsets(messages) {
        let Some((index, item)) = runs.find(stage, at.topic, at.queue, offset)? else {
            // Retention took it while it was leased.
            lost::note(stage, at.topic, at.group, at.queue, 1)?;
            continue;
        };
        let origin =
            Origin { topic: at.topic, name: topic.name.clone(), queue: at.queue, offset, attempts: lease.attempt };
        let letter = EnteringMessage { origin: Some(origin), ..EnteringMessage::plain(index, item) };
        entering.enqueue(stage, dead_letters, letter)?;
        count += 1;
    }
    if count > 0 {
        stage.counts().of_group(at.topic, at.group).dead_letters += count;
    }
    entering.put_into(stage)
}
