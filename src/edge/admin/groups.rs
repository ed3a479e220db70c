//! Consumer groups: list, create, describe, update, delete, reset offsets. Calls `broker/topics`, `broker/offset` and
//! `broker/inspect/overview`.

use tonic::Status;

use crate::broker::{
    ConsumeFrom, GroupConsumer, GroupSettings, GroupSummary, Moved, Operator, ResetTo, UpdateGroup, Where,
};
use crate::edge::admin::convert::{count, group_name, name_page, position, refuse, subscription, topic_name};
use crate::model::filter::sql::SqlFilter;
use crate::model::limits::{FILTER_BYTES_MAX, GROUP_RETRIES_DEFAULT};
use crate::model::{Backoff, NodeId, QueueOffset, Timestamp};
use crate::node::Node;
use crate::proto::admin as wire;

pub(super) async fn list(node: &Node, request: wire::ListGroupsRequest) -> Result<wire::ListGroupsResponse, Status> {
    let page = name_page(request.contains, request.skip, request.limit);
    let (groups, total) = node.inspector().list_groups(&page).await.map_err(refuse)?;
    Ok(wire::ListGroupsResponse { groups: groups.into_iter().map(group).collect(), total: count(total) })
}

pub(super) async fn create(
    node: &Node,
    by: &Operator,
    request: wire::CreateGroupRequest,
) -> Result<wire::CreateGroupResponse, Status> {
    let name = group_name(&request.name)?;
    let settings = GroupSettings {
        retries_max: request.retries_max.unwrap_or(GROUP_RETRIES_DEFAULT),
        backoff: backoff(&request.backoff)?.unwrap_or_default(),
        consume_from: consume_from(&request.consume_from)?.unwrap_or_default(),
        filter: group_filter(request.filter)?.filter(|filter| !filter.is_empty()),
    };
    node.broker().create_group(by, name.clone(), settings, request.orderly).await.map_err(refuse)?;
    let summary = node.inspector().describe_group(&name).await.map_err(refuse)?.summary;
    Ok(wire::CreateGroupResponse { group: Some(group(summary)) })
}

pub(super) async fn describe(
    node: &Node,
    request: wire::DescribeGroupRequest,
) -> Result<wire::DescribeGroupResponse, Status> {
    let name = group_name(&request.name)?;
    let described = node.inspector().describe_group(&name).await.map_err(refuse)?;
    let member = |(node, member): (NodeId, GroupConsumer)| wire::Member {
        client_id: member.client.client_id,
        language: member.client.language,
        version: member.client.version,
        address: member.client.address,
        last_seen_at_ms: member.seen_at.0,
        node: node.name().to_string(),
        subscriptions: member.subscriptions.into_iter().map(subscription).collect(),
    };
    Ok(wire::DescribeGroupResponse {
        group: Some(group(described.summary)),
        positions: described.positions.into_iter().map(position).collect(),
        members: described.consumers.into_iter().map(member).collect(),
        inconsistencies: described.inconsistencies,
    })
}

pub(super) async fn update(
    node: &Node,
    by: &Operator,
    request: wire::UpdateGroupRequest,
) -> Result<wire::UpdateGroupResponse, Status> {
    let name = group_name(&request.name)?;
    let update = UpdateGroup {
        group: name.clone(),
        retries_max: request.retries_max,
        backoff: backoff(&request.backoff)?,
        consume_from: consume_from(&request.consume_from)?,
        filter: group_filter(request.filter)?,
    };
    node.broker().update_group(by, update).await.map_err(refuse)?;
    let summary = node.inspector().describe_group(&name).await.map_err(refuse)?.summary;
    Ok(wire::UpdateGroupResponse { group: Some(group(summary)) })
}

pub(super) async fn delete(
    node: &Node,
    by: &Operator,
    request: wire::DeleteGroupRequest,
) -> Result<wire::DeleteGroupResponse, Status> {
    node.broker().delete_group(by, group_name(&request.name)?).await.map_err(refuse)?;
    Ok(wire::DeleteGroupResponse {})
}

pub(super) async fn reset_offset(
    node: &Node,
    by: &Operator,
    request: wire::ResetOffsetRequest,
) -> Result<wire::ResetOffsetResponse, Status> {
    use wire::reset_offset_request::To;
    let (group, topic) = (group_name(&request.group)?, topic_name(&request.topic)?);
    let wanted = match request.to {
        Some(To::Earliest(_)) => ResetTo::Place(Where::Beginning),
        Some(To::Latest(_)) => ResetTo::Place(Where::End),
        Some(To::TimestampMs(at)) => ResetTo::Place(Where::At(Timestamp(at))),
        Some(To::Offset(offset)) => ResetTo::Place(Where::Exactly(QueueOffset(offset))),
        Some(To::Unsettled(_)) => ResetTo::Unsettled,
        None => return Err(Status::invalid_argument("the request does not say where to")),
    };
    let moved = node.reset_group(by, group, topic, wanted, request.dry_run).await.map_err(refuse)?;
    let position = |moved: Moved| wire::MovedPosition { queue: moved.queue.0, from: moved.from.0, to: moved.to.0 };
    Ok(wire::ResetOffsetResponse { positions: moved.into_iter().map(position).collect() })
}

fn backoff(text: &str) -> Result<Option<Backoff>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Backoff::parse(text).map(Some).map_err(Status::invalid_argument)
}

fn consume_from(text: &str) -> Result<Option<ConsumeFrom>, Status> {
    Ok(Some(match text {
        "" => return Ok(None),
        "default" => ConsumeFrom::Standard,
        "first" => ConsumeFrom::First,
        "last" => ConsumeFrom::Last,
        time => ConsumeFrom::At(Timestamp(time.parse().map_err(|_| {
            Status::invalid_argument(format!("'{time}' is none of default, first, last and milliseconds since 1970"))
        })?)),
    }))
}

fn consume_from_text(from: ConsumeFrom) -> String {
    match from {
        ConsumeFrom::Standard => "default".into(),
        ConsumeFrom::First => "first".into(),
        ConsumeFrom::Last => "last".into(),
        ConsumeFrom::At(at) => at.to_string(),
    }
}

/// A condition that parses; an empty one takes away what there was.
fn group_filter(text: Option<String>) -> Result<Option<String>, Status> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() {
        return Ok(Some(text));
    }
    if text.len() > FILTER_BYTES_MAX {
        let length = text.len();
        return Err(Status::invalid_argument(format!("a filter of {length} bytes is longer than {FILTER_BYTES_MAX}")));
    }
    SqlFilter::parse(&text).map_err(|error| Status::invalid_argument(format!("filter '{text}': {error}")))?;
    Ok(Some(text))
}

fn group(summary: GroupSummary) -> wire::Group {
    wire::Group {
        name: summary.view.name.to_string(),
        retries_max: summary.view.settings.retries_max,
        backoff: summary.view.settings.backoff.to_text(),
        consume_from: consume_from_text(summary.view.settings.consume_from),
        filter: summary.view.settings.filter.unwrap_or_default(),
        returning: summary.returning,
        dead: summary.dead,
        oldest_unsettled_at_ms: summary.oldest_unsettled_at.map(|at| at.0),
        orderly: summary.view.orderly,
        created_at_ms: summary.view.created_at.0,
        topics: summary.topics,
        in_flight: summary.in_flight,
        lag: summary.lag,
        members: summary.consumers,
    }
}
