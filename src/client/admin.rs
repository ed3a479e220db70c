//! Asks a cluster about topics, groups and nodes, and creates and deletes them.

use std::sync::Arc;

use tonic::transport::Channel;

use crate::model::limits;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{
    ClusterStatusRequest, ClusterStatusResponse, CreateGroupRequest, CreateTopicRequest, DeleteGroupRequest,
    DeleteTopicRequest, DescribeGroupRequest, DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse,
    FindMessagesRequest, FindMessagesResponse, GetMessageRequest, Group, ListDeadLettersRequest,
    ListDeadLettersResponse, ListDelayedRequest, ListGroupsRequest, ListTopicsRequest, MoveDelayedRequest,
    MovedPosition, RedriveRequest, ResetOffsetRequest, StoredMessage, Topic, TraceMessageRequest, TraceMessageResponse,
    TrimRequest, TrimResponse, UpdateGroupRequest, UpdateTopicRequest, reset_offset_request,
};
use crate::proto::v2;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;

use crate::client::connection::Connection;
use crate::client::error::Error;

/// The administration of one cluster. Refusals come as [`Error::Status`].
///
/// A request whose connection broke goes on to the next node, so a creation that was carried out just
/// before may be answered with ALREADY_EXISTS, a deletion with NOT_FOUND.
pub struct Admin {
    connection: Arc<Connection>,
}

macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {
        call!($self, $method, $request, $self.connection.timeout())
    };
    ($self:ident, $method:ident, $request:expr, $timeout:expr) => {{
        let request = $request;
        let timeout = $timeout;
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
    pub fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }

    pub async fn create_topic(&self, request: CreateTopicRequest) -> Result<Topic, Error> {
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

    pub async fn update_topic(&self, request: UpdateTopicRequest) -> Result<Topic, Error> {
        call!(self, update_topic, request)?.topic.ok_or(Error::Malformed("a changed topic that is not told"))
    }

    pub async fn update_group(&self, request: UpdateGroupRequest) -> Result<Group, Error> {
        call!(self, update_group, request)?.group.ok_or(Error::Malformed("a changed group that is not told"))
    }

    /// Deletes a consumer group with its positions.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        call!(self, delete_group, DeleteGroupRequest { name: name.into() }).map(|_| ())
    }

    /// The message at a queue offset.
    pub async fn get_message(&self, topic: &str, queue: u32, offset: u64) -> Result<StoredMessage, Error> {
        let request = GetMessageRequest { topic: topic.into(), queue, offset };
        call!(self, get_message, request)?.message.ok_or(Error::Malformed("a message that is not told"))
    }

    /// Searches a topic for a while; go on from the cursor of the answer.
    pub async fn find_messages(&self, request: FindMessagesRequest) -> Result<FindMessagesResponse, Error> {
        call!(self, find_messages, request)
    }

    /// What became of a message; searches the log for so many seconds.
    pub async fn trace_message(
        &self,
        topic: &str,
        queue: u32,
        offset: u64,
        seconds: u32,
    ) -> Result<TraceMessageResponse, Error> {
        let timeout = self.connection.timeout() + std::time::Duration::from_secs(seconds.into());
        call!(self, trace_message, TraceMessageRequest { topic: topic.into(), queue, offset, seconds }, timeout)
    }

    /// Messages that wait for their delivery times, earliest first.
    pub async fn list_delayed(&self, topic: &str, from_ms: u64, limit: u32) -> Result<Vec<StoredMessage>, Error> {
        Ok(call!(self, list_delayed, ListDelayedRequest { topic: topic.into(), from_ms, limit })?.messages)
    }

    /// Gives a waiting message another delivery time; its new handle.
    pub async fn move_delayed(&self, topic: &str, recall_handle: &str, to_ms: u64) -> Result<String, Error> {
        let request = MoveDelayedRequest { topic: topic.into(), recall_handle: recall_handle.into(), to_ms };
        Ok(call!(self, move_delayed, request)?.recall_handle)
    }

    /// Takes a waiting message back, as its producer would; its id.
    pub async fn recall(&self, topic: &str, recall_handle: &str) -> Result<String, Error> {
        let topic = Some(v2::Resource { resource_namespace: String::new(), name: topic.into() });
        let request = v2::RecallMessageRequest { topic, recall_handle: recall_handle.into() };
        let timeout = self.connection.timeout();
        let call = |channel| {
            let request = self.connection.request(request.clone(), timeout);
            async move { MessagingServiceClient::new(channel).recall_message(request).await }
        };
        let answer = self.connection.call(timeout, call).await?.into_inner();
        match answer.status {
            Some(status) if status.code() == v2::Code::Ok => Ok(answer.message_id),
            status => Err(Error::refusal(status)),
        }
    }

    /// Dead letters of a group from an offset on.
    pub async fn list_dead_letters(
        &self,
        group: &str,
        from_offset: u64,
        limit: u32,
    ) -> Result<ListDeadLettersResponse, Error> {
        call!(self, list_dead_letters, ListDeadLettersRequest { group: group.into(), from_offset, limit })
    }

    /// Delivers dead letters to their group again; for each offset, whether it will be.
    pub async fn redrive(&self, group: &str, offsets: Vec<u64>) -> Result<Vec<bool>, Error> {
        Ok(call!(self, redrive, RedriveRequest { group: group.into(), offsets })?.redriven)
    }

    pub async fn create_group(&self, request: CreateGroupRequest) -> Result<Group, Error> {
        call!(self, create_group, request)?.group.ok_or(Error::Malformed("a created group that is not told"))
    }

    /// Moves the offsets of a group in a topic; with `dry_run` only reports what that would do.
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

    /// Removes old messages, or tells which that would be, for a while; go on from the cursor of the answer.
    pub async fn trim(&self, request: TrimRequest) -> Result<TrimResponse, Error> {
        call!(self, trim, request)
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
