//! `raftmq.admin.v1`: what our own commands ask. Refusals are gRPC statuses here.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::broker::{Broker, Error, GroupSummary, Moved, NodeSummary, Position, ReplicaStatus, TopicSummary, Where};
use crate::model::{GroupName, MessageType, NameError, NodeId, QueueOffset, Timestamp, TopicName};
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

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

fn message_type(text: &str) -> Result<MessageType, Status> {
    let types =
        [MessageType::Normal, MessageType::Fifo, MessageType::Delay, MessageType::Transaction, MessageType::Priority];
    let names = || types.map(MessageType::name).join(", ");
    if text.is_empty() {
        return Ok(MessageType::Normal);
    }
    types
        .into_iter()
        .find(|message_type| message_type.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| Status::invalid_argument(format!("'{text}' is no message type; use one of {}", names())))
}

fn topic(summary: TopicSummary) -> wire::Topic {
    wire::Topic {
        name: summary.view.name.to_string(),
        r#type: summary.view.message_type.name().to_owned(),
        queues: summary.view.queues,
        permission: summary.view.permission.into(),
        created_at_ms: summary.view.created_at.0,
        messages: summary.messages,
        groups: summary.groups,
        lag_max: summary.lag_max,
    }
}

fn group(summary: GroupSummary) -> wire::Group {
    wire::Group {
        name: summary.view.name.to_string(),
        retries_max: summary.view.retries_max,
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
        let message_type = message_type(&request.r#type)?;
        let queues = Some(request.queues).filter(|queues| *queues > 0);
        self.broker.create_topic(name.clone(), message_type, queues).await.map_err(refuse)?;
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
        self.broker.create_group(name.clone(), request.retries_max, request.orderly).await.map_err(refuse)?;
        let (summary, _) = self.broker.describe_group(&name).await.map_err(refuse)?;
        Ok(Response::new(wire::CreateGroupResponse { group: Some(group(summary)) }))
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
        let (summary, positions) = self.broker.describe_group(&name).await.map_err(refuse)?;
        let member = |(client, seen_at): (crate::broker::ClientInfo, crate::model::Timestamp)| wire::Member {
            client_id: client.client_id,
            language: client.language,
            version: client.version,
            address: client.address,
            last_seen_at_ms: seen_at.0,
        };
        Ok(Response::new(wire::DescribeGroupResponse {
            group: Some(group(summary)),
            positions: positions.into_iter().map(position).collect(),
            members: self.broker.sessions().members(&name).into_iter().map(member).collect(),
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
        let members = self.broker.members(false).map_err(refuse)?;
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
