//! `raftmq.admin.v1`: what our own commands ask. Refusals are gRPC statuses here.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tonic::{Request, Response, Status};

use crate::broker::{
    Broker, ConsumeFrom, Error, GroupMember, GroupSettings, GroupSummary, GroupTrace, MessageQuery, Moved, NodeSummary,
    Position, QueryCursor, ReplicaStatus, StoredMessage, Subscription, TopicSummary, UpdateGroup, UpdateTopic, Where,
};
use crate::edge::grpc::messaging::delay;
use crate::model::codec::Reader;
use crate::model::filter::sql::SqlFilter;
use crate::model::limits::{FILTER_BYTES_MAX, GROUP_RETRIES_DEFAULT};
use crate::model::{Backoff, GroupName, NameError, NodeId, Permission, QueueId, QueueOffset, Timestamp, TopicName, TopicType};
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

/// Longest look through the log for one trace.
const TRACE_SECONDS_MAX: u32 = 600;

/// See the module.
pub struct AdminService {
    broker: Arc<Broker>,
}

impl AdminService {
    /// Over a broker.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

fn refuse(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::TopicNotFound(_) | Error::GroupNotFound(_) => Status::not_found(text),
        Error::TopicExists(_) | Error::GroupExists(_) => Status::already_exists(text),
        Error::Forbidden(_) => Status::permission_denied(text),
        Error::TypeMismatch { .. } | Error::LeaseEnded | Error::IllegalOffset { .. } | Error::Invalid(_) => {
            Status::invalid_argument(text)
        }
        Error::NotWaiting | Error::TransactionNotFound | Error::DecidedOtherwise => Status::not_found(text),
        Error::Busy => Status::resource_exhausted(text),
        Error::NoLeader => Status::unavailable(text),
        Error::TimedOut => Status::deadline_exceeded(text),
        Error::Stopped(_) => Status::internal(text),
    }
}

fn bad_name(error: NameError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn topic_name(text: &str) -> Result<TopicName, Status> {
    TopicName::parse(text).map_err(bad_name)
}

fn group_name(text: &str) -> Result<GroupName, Status> {
    GroupName::parse(text).map_err(bad_name)
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

fn consume_from_text(from: ConsumeFrom) -> String {
    match from {
        ConsumeFrom::Standard => "default".into(),
        ConsumeFrom::First => "first".into(),
        ConsumeFrom::Last => "last".into(),
        ConsumeFrom::At(at) => at.to_string(),
    }
}

fn put_cursor(cursor: QueryCursor) -> Bytes {
    let mut out = BytesMut::with_capacity(12);
    out.put_u32(cursor.queue.0);
    out.put_u64(cursor.offset.0);
    out.freeze()
}

fn read_cursor(bytes: Bytes) -> Result<Option<QueryCursor>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(bytes, "cursor");
    let (Ok(queue), Ok(offset)) = (reader.u32(), reader.u64()) else {
        return Err(Status::invalid_argument("the cursor is not one that this service gave"));
    };
    Ok(Some(QueryCursor { queue: QueueId(queue), offset: QueueOffset(offset) }))
}

fn stored(stored: StoredMessage) -> wire::StoredMessage {
    let StoredMessage { topic, place, at, message, stored_at, waits_until, origin } = stored;
    let recall_handle =
        waits_until.map(|until| delay::handle(&topic, until, at, &message.message_id)).unwrap_or_default();
    wire::StoredMessage {
        topic: topic.to_string(),
        queue: place.map(|(queue, _)| queue.0),
        offset: place.map(|(_, offset)| offset.0),
        entry: at.index.0,
        slot: at.slot,
        message_id: message.message_id,
        r#type: message.message_type.name().to_owned(),
        tag: message.tag.unwrap_or_default(),
        keys: message.keys,
        properties: message.properties.into_iter().collect(),
        message_group: message.message_group.unwrap_or_default(),
        born_host: message.born_host,
        born_at_ms: message.born_at.0,
        stored_at_ms: stored_at.0,
        delivery_at_ms: waits_until.or(message.delivery_at).map(|at| at.0),
        priority: message.priority,
        body: message.body,
        origin: origin.map(|(origin, redriven_at)| wire::Origin {
            topic: origin.name.to_string(),
            queue: origin.queue.0,
            offset: origin.offset.0,
            attempts: origin.attempts,
            redriven_at_ms: redriven_at.map(|at| at.0),
        }),
        recall_handle,
    }
}

fn traced(trace: GroupTrace) -> wire::TracedGroup {
    let event = |event: crate::broker::Event| wire::TraceEvent {
        at_ms: event.at.0,
        what: event.what.name().to_owned(),
        client: event.client,
        entry: event.entry.0,
    };
    wire::TracedGroup {
        group: trace.group.to_string(),
        state: trace.state.to_owned(),
        events: trace.events.into_iter().map(event).collect(),
    }
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
    }
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
        members: summary.members,
    }
}

fn position(position: Position) -> wire::GroupPosition {
    wire::GroupPosition {
        group: position.group.to_string(),
        topic: position.topic.to_string(),
        queue: position.queue.0,
        max_offset: position.max,
        group_offset: position.group_offset,
        in_flight: position.in_flight,
        lag: position.lag,
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_topic(&self, request: Request<wire::CreateTopicRequest>) -> Answer<wire::CreateTopicResponse> {
        let request = request.into_inner();
        let name = topic_name(&request.name)?;
        let topic_type = topic_type(&request.r#type)?.unwrap_or(TopicType::SERVED[0]);
        let queues = Some(request.queues).filter(|queues| *queues > 0);
        self.broker.create_topic(name.clone(), topic_type, queues).await.map_err(refuse)?;
        let (summary, ..) = self.broker.describe_topic(&name).await.map_err(refuse)?;
        Ok(Response::new(wire::CreateTopicResponse { topic: Some(topic(summary)) }))
    }

    async fn list_topics(&self, _request: Request<wire::ListTopicsRequest>) -> Answer<wire::ListTopicsResponse> {
        let topics = self.broker.list_topics().await.map_err(refuse)?;
        Ok(Response::new(wire::ListTopicsResponse { topics: topics.into_iter().map(topic).collect() }))
    }

    async fn describe_topic(
        &self,
        request: Request<wire::DescribeTopicRequest>,
    ) -> Answer<wire::DescribeTopicResponse> {
        let name = topic_name(&request.into_inner().name)?;
        let (summary, queues, positions) = self.broker.describe_topic(&name).await.map_err(refuse)?;
        let queue = |queue: crate::broker::QueueSummary| wire::TopicQueue {
            queue: queue.queue.0,
            min_offset: queue.min,
            max_offset: queue.max,
            last_stored_at_ms: queue.last_stored_at.map(|at| at.0),
        };
        Ok(Response::new(wire::DescribeTopicResponse {
            topic: Some(topic(summary)),
            queues: queues.into_iter().map(queue).collect(),
            positions: positions.into_iter().map(position).collect(),
        }))
    }

    async fn delete_topic(&self, request: Request<wire::DeleteTopicRequest>) -> Answer<wire::DeleteTopicResponse> {
        let name = topic_name(&request.into_inner().name)?;
        self.broker.delete_topic(name).await.map_err(refuse)?;
        Ok(Response::new(wire::DeleteTopicResponse {}))
    }

    async fn create_group(&self, request: Request<wire::CreateGroupRequest>) -> Answer<wire::CreateGroupResponse> {
        let request = request.into_inner();
        let name = group_name(&request.name)?;
        let settings = GroupSettings {
            retries_max: request.retries_max.unwrap_or(GROUP_RETRIES_DEFAULT),
            backoff: backoff(&request.backoff)?.unwrap_or_default(),
            consume_from: consume_from(&request.consume_from)?.unwrap_or_default(),
            filter: group_filter(request.filter)?.filter(|filter| !filter.is_empty()),
        };
        self.broker.create_group(name.clone(), settings, request.orderly).await.map_err(refuse)?;
        let summary = self.broker.describe_group(&name).await.map_err(refuse)?.summary;
        Ok(Response::new(wire::CreateGroupResponse { group: Some(group(summary)) }))
    }

    async fn update_topic(&self, request: Request<wire::UpdateTopicRequest>) -> Answer<wire::UpdateTopicResponse> {
        let request = request.into_inner();
        let name = topic_name(&request.name)?;
        let permission = match request.permission {
            0 => None,
            bits @ (2 | 4 | 6) => u8::try_from(bits).ok().map(Permission),
            bits => return Err(Status::invalid_argument(format!("permission {bits} is none of 2, 4 and 6"))),
        };
        let update = UpdateTopic {
            topic: name.clone(),
            topic_type: topic_type(&request.r#type)?,
            queues: Some(request.queues).filter(|queues| *queues > 0),
            permission,
        };
        self.broker.update_topic(update).await.map_err(refuse)?;
        let (summary, ..) = self.broker.describe_topic(&name).await.map_err(refuse)?;
        Ok(Response::new(wire::UpdateTopicResponse { topic: Some(topic(summary)) }))
    }

    async fn update_group(&self, request: Request<wire::UpdateGroupRequest>) -> Answer<wire::UpdateGroupResponse> {
        let request = request.into_inner();
        let name = group_name(&request.name)?;
        let update = UpdateGroup {
            group: name.clone(),
            retries_max: request.retries_max,
            backoff: backoff(&request.backoff)?,
            consume_from: consume_from(&request.consume_from)?,
            filter: group_filter(request.filter)?,
        };
        self.broker.update_group(update).await.map_err(refuse)?;
        let summary = self.broker.describe_group(&name).await.map_err(refuse)?.summary;
        Ok(Response::new(wire::UpdateGroupResponse { group: Some(group(summary)) }))
    }

    async fn delete_group(&self, request: Request<wire::DeleteGroupRequest>) -> Answer<wire::DeleteGroupResponse> {
        self.broker.delete_group(group_name(&request.into_inner().name)?).await.map_err(refuse)?;
        Ok(Response::new(wire::DeleteGroupResponse {}))
    }

    async fn get_message(&self, request: Request<wire::GetMessageRequest>) -> Answer<wire::GetMessageResponse> {
        let request = request.into_inner();
        let (queue, offset) = (QueueId(request.queue), QueueOffset(request.offset));
        let found = self.broker.message_at(topic_name(&request.topic)?, queue, offset).await.map_err(refuse)?;
        Ok(Response::new(wire::GetMessageResponse { message: Some(stored(found)) }))
    }

    async fn find_messages(&self, request: Request<wire::FindMessagesRequest>) -> Answer<wire::FindMessagesResponse> {
        let request = request.into_inner();
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let wanted = MessageQuery {
            message_id: given(request.message_id),
            key: given(request.key),
            from: Timestamp(request.from_ms),
            to: Timestamp(request.to_ms),
        };
        let limit = usize::try_from(request.limit.max(1)).unwrap_or(1);
        let (topic, cursor) = (topic_name(&request.topic)?, read_cursor(request.cursor)?);
        let found = self.broker.find_messages(topic, &wanted, cursor, limit).await.map_err(refuse)?;
        Ok(Response::new(wire::FindMessagesResponse {
            messages: found.messages.into_iter().map(stored).collect(),
            searched: found.searched,
            cursor: found.cursor.map(put_cursor).unwrap_or_default(),
        }))
    }

    async fn trace_message(&self, request: Request<wire::TraceMessageRequest>) -> Answer<wire::TraceMessageResponse> {
        let request = request.into_inner();
        let time = Duration::from_secs(request.seconds.clamp(1, TRACE_SECONDS_MAX).into());
        let (queue, offset) = (QueueId(request.queue), QueueOffset(request.offset));
        let trace = self.broker.trace(topic_name(&request.topic)?, queue, offset, time).await.map_err(refuse)?;
        Ok(Response::new(wire::TraceMessageResponse {
            message: Some(stored(trace.message)),
            groups: trace.groups.into_iter().map(traced).collect(),
            searched_to: trace.searched_to.0,
            log_end: trace.log_end.0,
        }))
    }

    async fn list_delayed(&self, request: Request<wire::ListDelayedRequest>) -> Answer<wire::ListDelayedResponse> {
        let request = request.into_inner();
        let limit = usize::try_from(request.limit.max(1)).unwrap_or(1);
        let (topic, from) = (topic_name(&request.topic)?, Timestamp(request.from_ms));
        let waiting = self.broker.delayed_messages(topic, from, limit).await.map_err(refuse)?;
        Ok(Response::new(wire::ListDelayedResponse { messages: waiting.into_iter().map(stored).collect() }))
    }

    async fn move_delayed(&self, request: Request<wire::MoveDelayedRequest>) -> Answer<wire::MoveDelayedResponse> {
        let request = request.into_inner();
        let topic = topic_name(&request.topic)?;
        let Some((at, message, message_id)) = delay::place_in(&topic, &request.recall_handle) else {
            let text = format!("the recall handle is invalid: no message of topic '{topic}' has it");
            return Err(Status::invalid_argument(text));
        };
        // A time that has come already means at once; the machine says the same.
        let to = Timestamp(request.to_ms).max(self.broker.now());
        self.broker.move_delayed(topic.clone(), at, message, to).await.map_err(refuse)?;
        let recall_handle = delay::handle(&topic, to, message, &message_id);
        Ok(Response::new(wire::MoveDelayedResponse { recall_handle }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Answer<wire::ListDeadLettersResponse> {
        let request = request.into_inner();
        let (from, limit) = (QueueOffset(request.from_offset), usize::try_from(request.limit.max(1)).unwrap_or(1));
        let (dead, end) = self.broker.dead_letters(&group_name(&request.group)?, from, limit).await.map_err(refuse)?;
        let last = dead.last().and_then(|stored| stored.place);
        Ok(Response::new(wire::ListDeadLettersResponse {
            next_offset: last.map_or(end.0, |(_, offset)| offset.0 + 1),
            end_offset: end.0,
            messages: dead.into_iter().map(stored).collect(),
        }))
    }

    async fn redrive(&self, request: Request<wire::RedriveRequest>) -> Answer<wire::RedriveResponse> {
        let request = request.into_inner();
        let offsets = request.offsets.into_iter().map(QueueOffset).collect();
        let redriven = self.broker.redrive(&group_name(&request.group)?, offsets).await.map_err(refuse)?;
        Ok(Response::new(wire::RedriveResponse { redriven }))
    }

    async fn reset_offset(&self, request: Request<wire::ResetOffsetRequest>) -> Answer<wire::ResetOffsetResponse> {
        use wire::reset_offset_request::To;
        let request = request.into_inner();
        let (group, topic) = (group_name(&request.group)?, topic_name(&request.topic)?);
        let wanted = match request.to {
            Some(To::Earliest(_)) => Where::Beginning,
            Some(To::Latest(_)) => Where::End,
            Some(To::TimestampMs(at)) => Where::At(Timestamp(at)),
            Some(To::Offset(offset)) => Where::Exactly(QueueOffset(offset)),
            None => return Err(Status::invalid_argument("the request does not say where to")),
        };
        let moved = self.broker.reset_group(group, topic, wanted, request.dry_run).await.map_err(refuse)?;
        let position = |moved: Moved| wire::MovedPosition { queue: moved.queue.0, from: moved.from.0, to: moved.to.0 };
        Ok(Response::new(wire::ResetOffsetResponse { positions: moved.into_iter().map(position).collect() }))
    }

    async fn list_groups(&self, _request: Request<wire::ListGroupsRequest>) -> Answer<wire::ListGroupsResponse> {
        let groups = self.broker.list_groups().await.map_err(refuse)?;
        Ok(Response::new(wire::ListGroupsResponse { groups: groups.into_iter().map(group).collect() }))
    }

    async fn describe_group(
        &self,
        request: Request<wire::DescribeGroupRequest>,
    ) -> Answer<wire::DescribeGroupResponse> {
        let name = group_name(&request.into_inner().name)?;
        let described = self.broker.describe_group(&name).await.map_err(refuse)?;
        let nodes = &self.broker.place().members;
        let subscription = |wanted: Subscription| wire::Subscription {
            topic: wanted.topic.to_string(),
            r#type: if wanted.is_sql { "SQL92" } else { "TAG" }.to_owned(),
            expression: wanted.expression,
        };
        let member = |(node, member): (NodeId, GroupMember)| wire::Member {
            client_id: member.client.client_id,
            language: member.client.language,
            version: member.client.version,
            address: member.client.address,
            last_seen_at_ms: member.seen_at.0,
            node: nodes.iter().find(|known| known.id == node).map(|known| known.name.clone()).unwrap_or_default(),
            subscriptions: member.subscriptions.into_iter().map(subscription).collect(),
        };
        Ok(Response::new(wire::DescribeGroupResponse {
            group: Some(group(described.summary)),
            positions: described.positions.into_iter().map(position).collect(),
            members: described.members.into_iter().map(member).collect(),
            inconsistencies: described.inconsistencies,
        }))
    }

    async fn cluster_status(
        &self,
        _request: Request<wire::ClusterStatusRequest>,
    ) -> Answer<wire::ClusterStatusResponse> {
        let nodes = self.broker.cluster_status().await;
        // Who leads is what the leader itself says: others may still name one that died.
        let says_so = |status: &&ReplicaStatus| status.leader == Some(status.node);
        let answers = nodes.iter().filter_map(|node| node.status.as_ref());
        let leader = answers.filter(says_so).max_by_key(|status| status.term).map(|status| status.node);
        let is_leader = |node: &NodeSummary| Some(node.id) == leader;
        let committed = nodes.iter().filter_map(|node| node.status.as_ref()).map(|status| status.committed.0).max();
        let place = self.broker.place();
        let members = self.broker.known_members().map_err(refuse)?;
        // A node that does not answer is shown where it was last seen.
        let address_of = |id: NodeId| {
            let seen = members.iter().find(|member| member.id == id);
            seen.and_then(|member| Some(format!("{}:{}", member.host, member.grpc_port?))).unwrap_or_default()
        };
        let row = |node: &NodeSummary| {
            let status = node.status.as_ref();
            let role = match status {
                None => "unreachable",
                Some(_) if is_leader(node) => "leader",
                Some(status) if status.leader.is_none() || leader.is_none() => "candidate",
                Some(_) => "follower",
            };
            wire::Node {
                cluster: place.cluster.clone(),
                broker: place.broker_name.clone(),
                node: node.name.clone(),
                role: role.to_owned(),
                address: status.map_or_else(|| address_of(node.id), |status| status.client_address.clone()),
                version: status.map(|status| status.version.clone()).unwrap_or_default(),
                term: status.map(|status| status.term.0),
                committed: status.map(|status| status.committed.0),
                applied: status.map(|status| status.applied.0),
                behind: status.map(|status| committed.unwrap_or(0).saturating_sub(status.applied.0)),
                process_id: status.map(|status| status.process_id),
                in_per_second: status.map(|status| status.in_per_second),
                out_per_second: status.map(|status| status.out_per_second),
                last_log: status.map(|status| status.last_log.0),
            }
        };
        let name = |node: &NodeSummary| is_leader(node).then(|| node.name.clone());
        Ok(Response::new(wire::ClusterStatusResponse {
            nodes: nodes.iter().map(row).collect(),
            leader: nodes.iter().find_map(name),
        }))
    }
}
