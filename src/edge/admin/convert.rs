//! Names, positions and errors: wire ↔ model.

use tonic::Status;

use crate::broker::{Deadline, Error, NamePage, Position, Subscription, TopicView};
use crate::edge::rules;
use crate::model::{GroupName, HandleKey, TopicName};
use crate::node::Node;
use crate::proto::admin as wire;

pub(in crate::edge) fn refuse(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::TopicNotFound(_) | Error::GroupNotFound(_) => Status::not_found(text),
        Error::TopicExists(_) | Error::GroupExists(_) => Status::already_exists(text),
        Error::Forbidden(_) | Error::ForbiddenHere(_) => Status::permission_denied(text),
        Error::Capped(_) => Status::failed_precondition(text),
        Error::TypeMismatch { .. }
        | Error::LeaseEnded
        | Error::NotAReceiptHandle(_)
        | Error::ForeignReceiptHandle
        | Error::IllegalOffset { .. }
        | Error::Invalid(_) => Status::invalid_argument(text),
        Error::NotWaiting | Error::TransactionNotFound | Error::DecidedOtherwise => Status::not_found(text),
        Error::Busy | Error::NoBytes(_) | Error::NoRoom(_) => Status::resource_exhausted(text),
        Error::NoLeader | Error::Behind | Error::Unreadable(_) => Status::unavailable(text),
        Error::TimedOut => Status::deadline_exceeded(text),
        Error::Stopped(_) => Status::internal(text),
    }
}

pub(super) fn topic_name(text: &str) -> Result<TopicName, Status> {
    rules::names::topic("", text).map_err(|invalid| Status::invalid_argument(invalid.text))
}

/// The topic of a request, as it is now; that of a group's dead letters is made when it is looked for.
pub(super) async fn find_topic(node: &Node, name: &str) -> Result<TopicView, Status> {
    node.broker().find_topic_now(&topic_name(name)?, Deadline::NONE).await.map_err(refuse)
}

pub(super) async fn handle_key(node: &Node) -> Result<HandleKey, Status> {
    node.broker().handle_key(Deadline::NONE).await.map_err(refuse)
}

pub(super) fn group_name(text: &str) -> Result<GroupName, Status> {
    rules::names::group("", text).map_err(|invalid| Status::invalid_argument(invalid.text))
}

/// How many rows an answer may have.
pub(super) fn limit(asked: u32) -> usize {
    usize::try_from(asked.max(1)).unwrap_or(1)
}

/// Some rows of all, by name.
pub(super) fn name_page(contains: String, skip: u32, limit: u32) -> NamePage {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    NamePage { contains, skip: number(skip), limit: number(limit) }
}

pub(super) fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

pub(super) fn subscription(wanted: Subscription) -> wire::Subscription {
    wire::Subscription {
        topic: wanted.topic.to_string(),
        r#type: if wanted.is_sql { "SQL92" } else { "TAG" }.to_owned(),
        expression: wanted.expression,
    }
}

pub(super) fn position(position: Position) -> wire::GroupPosition {
    wire::GroupPosition {
        group: position.group.to_string(),
        topic: position.topic.to_string(),
        queue: position.queue.0,
        max_offset: position.max.0,
        group_offset: position.group_offset.0,
        in_flight: position.in_flight,
        lag: position.lag,
        lost: position.lost,
        last_consumed_at_ms: position.last_consumed_at.map(|at| at.0),
        clients: position.clients,
        attempts_max: position.attempts_max,
        attempts_offset: position.attempts_offset.map(|offset| offset.0),
    }
}
