//! Topics: list, create, describe, update, delete. Calls `broker/topics` and `broker/inspect/overview`.

use tonic::Status;

use crate::broker::{Operator, QueueSummary, TopicSummary, UpdateTopic};
use crate::edge::admin::convert::{count, find_topic, name_page, position, refuse, topic_name};
use crate::model::{Millis, Permission, TopicType};
use crate::node::Node;
use crate::proto::admin as wire;

pub(super) async fn list(node: &Node, request: wire::ListTopicsRequest) -> Result<wire::ListTopicsResponse, Status> {
    let page = name_page(request.contains, request.skip, request.limit);
    let (topics, total) = node.inspector().list_topics(&page).await.map_err(refuse)?;
    Ok(wire::ListTopicsResponse { topics: topics.into_iter().map(topic).collect(), total: count(total) })
}

pub(super) async fn create(
    node: &Node,
    by: &Operator,
    request: wire::CreateTopicRequest,
) -> Result<wire::CreateTopicResponse, Status> {
    let name = topic_name(&request.name)?;
    let topic_type = topic_type(&request.r#type)?.unwrap_or(TopicType::SERVED[0]);
    let queues = Some(request.queues).filter(|queues| *queues > 0);
    let retention = Some(Millis(request.retention_ms)).filter(|kept_for| *kept_for != Millis(0));
    node.broker().create_topic(by, name.clone(), topic_type, queues, retention).await.map_err(refuse)?;
    let (summary, ..) = node.inspector().describe_topic(&name).await.map_err(refuse)?;
    Ok(wire::CreateTopicResponse { topic: Some(topic(summary)) })
}

pub(super) async fn describe(
    node: &Node,
    request: wire::DescribeTopicRequest,
) -> Result<wire::DescribeTopicResponse, Status> {
    let name = find_topic(node, &request.name).await?.name;
    let (summary, queues, positions) = node.inspector().describe_topic(&name).await.map_err(refuse)?;
    let queue = |queue: QueueSummary| wire::TopicQueue {
        queue: queue.queue.0,
        min_offset: queue.min.0,
        max_offset: queue.max.0,
        last_stored_at_ms: queue.last_stored_at.map(|at| at.0),
        oldest_stored_at_ms: queue.oldest_stored_at.map(|at| at.0),
    };
    Ok(wire::DescribeTopicResponse {
        topic: Some(topic(summary)),
        queues: queues.into_iter().map(queue).collect(),
        positions: positions.into_iter().map(position).collect(),
    })
}

pub(super) async fn update(
    node: &Node,
    by: &Operator,
    request: wire::UpdateTopicRequest,
) -> Result<wire::UpdateTopicResponse, Status> {
    let name = topic_name(&request.name)?;
    let permission = match request.permission {
        0 => None,
        bits @ (2 | 4 | 6) => u8::try_from(bits).ok().map(Permission),
        bits => return Err(Status::invalid_argument(format!("permission {bits} is none of 2, 4 and 6"))),
    };
    let update = UpdateTopic {
        retention: request.retention_ms.map(Millis),
        topic: name.clone(),
        topic_type: topic_type(&request.r#type)?,
        queues: Some(request.queues).filter(|queues| *queues > 0),
        permission,
        keeps_message_groups: true,
    };
    node.broker().update_topic(by, update).await.map_err(refuse)?;
    let (summary, ..) = node.inspector().describe_topic(&name).await.map_err(refuse)?;
    Ok(wire::UpdateTopicResponse { topic: Some(topic(summary)) })
}

pub(super) async fn delete(
    node: &Node,
    by: &Operator,
    request: wire::DeleteTopicRequest,
) -> Result<wire::DeleteTopicResponse, Status> {
    let name = topic_name(&request.name)?;
    node.broker().delete_topic(by, name).await.map_err(refuse)?;
    Ok(wire::DeleteTopicResponse {})
}

/// `None` for a text that is empty.
fn topic_type(text: &str) -> Result<Option<TopicType>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let refused = || {
        let names = TopicType::SERVED.map(TopicType::name).join(", ");
        Status::invalid_argument(format!("'{text}' is no topic type; use one of {names}"))
    };
    TopicType::parse(text).map(Some).ok_or_else(refused)
}

fn topic(summary: TopicSummary) -> wire::Topic {
    wire::Topic {
        name: summary.view.name.to_string(),
        r#type: summary.view.topic_type.name().to_owned(),
        queues: summary.view.queues,
        permission: summary.view.permission.0.into(),
        created_at_ms: summary.view.created_at.0,
        messages: summary.messages,
        groups: summary.groups,
        lag_max: summary.lag_max,
        retention_ms: summary.view.retention.map(|kept_for| kept_for.0),
    }
}
