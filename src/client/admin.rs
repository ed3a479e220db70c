//! Asks a cluster about topics, groups and nodes, and creates and deletes them.

use std::sync::Arc;

use tonic::transport::Channel;

use crate::model::limits;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{
    ClusterStatusRequest, ClusterStatusResponse, CreateGroupRequest, CreateTopicRequest, DeleteTopicRequest,
    DescribeGroupRequest, DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse, Group, ListGroupsRequest,
    ListTopicsRequest, MovedPosition, ResetOffsetRequest, Topic, reset_offset_request,
};

use super::connection::Connection;
use super::error::Error;

/// The administration of one cluster. Refusals come as [`Error::Status`].
///
/// A request whose connection broke goes on to the next node, so a creation that was carried out just
/// before may be answered with ALREADY_EXISTS, a deletion with NOT_FOUND.
pub struct Admin {
    connection: Arc<Connection>,
}

macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {{
        let request = $request;
        let timeout = $self.connection.timeout();
        $self
            .connection
            .call(timeout, |channel| {
                let request = $self.connection.request(request.clone(), timeout);
                async move { service(channel).$method(request).await }
            })
            .await
            .map(tonic::Response::into_inner)
    }};
}

impl Admin {
    /// Administration over `connection`.
    pub fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    /// Creates a topic of a type such as `NORMAL`; `queues` 0 asks for the broker's default.
    pub async fn create_topic(&self, name: &str, message_type: &str, queues: u32) -> Result<Topic, Error> {
        let request = CreateTopicRequest { name: name.into(), r#type: message_type.into(), queues };
        call!(self, create_topic, request)?.topic.ok_or(Error::Malformed("a created topic that is not told"))
    }

    /// All topics, by name.
    pub async fn list_topics(&self) -> Result<Vec<Topic>, Error> {
        let mut topics = call!(self, list_topics, ListTopicsRequest {})?.topics;
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(topics)
    }

    /// One topic with its queues and the positions of its groups.
    pub async fn describe_topic(&self, name: &str) -> Result<DescribeTopicResponse, Error> {
        call!(self, describe_topic, DescribeTopicRequest { name: name.into() })
    }

    /// Deletes a topic and its messages.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        call!(self, delete_topic, DeleteTopicRequest { name: name.into() }).map(|_| ())
    }

    /// Creates a consumer group; without `retries_max` RocketMQ's 16 retries; `orderly`: in order inside message
    /// groups.
    pub async fn create_group(&self, name: &str, retries_max: Option<u32>, orderly: bool) -> Result<Group, Error> {
        let request = CreateGroupRequest { name: name.into(), retries_max, orderly };
        call!(self, create_group, request)?.group.ok_or(Error::Malformed("a created group that is not told"))
    }

    /// Moves a group in a topic; with `dry_run` only tells what that would do.
    pub async fn reset_offset(
        &self,
        group: &str,
        topic: &str,
        to: reset_offset_request::To,
        dry_run: bool,
    ) -> Result<Vec<MovedPosition>, Error> {
        let request = ResetOffsetRequest { group: group.into(), topic: topic.into(), to: Some(to), dry_run };
        Ok(call!(self, reset_offset, request)?.positions)
    }

    /// All consumer groups, by name.
    pub async fn list_groups(&self) -> Result<Vec<Group>, Error> {
        let mut groups = call!(self, list_groups, ListGroupsRequest {})?.groups;
        groups.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(groups)
    }

    /// One group with its positions and members.
    pub async fn describe_group(&self, name: &str) -> Result<DescribeGroupResponse, Error> {
        call!(self, describe_group, DescribeGroupRequest { name: name.into() })
    }

    /// All nodes, by name, and who leads.
    pub async fn cluster_status(&self) -> Result<ClusterStatusResponse, Error> {
        let mut status = call!(self, cluster_status, ClusterStatusRequest {})?;
        status.nodes.sort_by(|left, right| (&left.broker, &left.node).cmp(&(&right.broker, &right.node)));
        Ok(status)
    }
}

fn service(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(limits::REQUEST_BYTES_MAX)
}
