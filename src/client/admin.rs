//! Asks a cluster about topics, groups and nodes, and creates and deletes them.

use std::sync::Arc;
use std::time::Duration;

use tonic::Streaming;
use tonic::transport::Channel;

use crate::model::limits;
use crate::proto::admin::admin_client::AdminClient;
use crate::proto::admin::{
    BackupPart, ChangeMembersRequest, ChangeMembersResponse, ClusterStatusRequest, ClusterStatusResponse,
    CountsRequest, CountsResponse, CreateBackupRequest, CreateGroupRequest, CreateTopicRequest, DeleteGroupRequest,
    DeleteTopicRequest, DescribeGroupRequest, DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse,
    FindMessagesRequest, FindMessagesResponse, GetMessageRequest, Group, ListClientsRequest, ListClientsResponse,
    ListDeadLettersRequest, ListDeadLettersResponse, ListDelayedRequest, ListEventsRequest, ListEventsResponse,
    ListGroupsRequest, ListMembersRequest, ListMembersResponse, ListTopicsRequest, LogLevelRequest, LogLevelResponse,
    MoveDelayedRequest, MovedPosition, NodeFactsRequest, NodeFactsResponse, RecallDelayedRequest, RedriveRequest,
    ResendMessageRequest, ResendMessageResponse, ResetOffsetRequest, StoredMessage, Topic, TraceMessageRequest,
    TraceMessageResponse, TransferLeaderRequest, TrimRequest, TrimResponse, UpdateGroupRequest, UpdateTopicRequest,
    reset_offset_request,
};

use crate::client::connection::Connection;
use crate::client::error::Error;

/// So often statistics are read from the beginning.
const COUNTS_TRIES: u32 = 3;
/// An answer, at most: a part of a backup has one record at least.
const ANSWER_BYTES_MAX: usize = limits::RECORD_BYTES_MAX + 1024 * 1024;
/// A node has so long to begin with a backup.
const BACKUP_BEGINS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Which message is traced.
pub enum Traced<'a> {
    Place { queue: u32, offset: u64 },
    Id(&'a str),
}

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
        let mut topics = call!(self, list_topics, ListTopicsRequest::default())?.topics;
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
        message: Traced<'_>,
        seconds: u32,
    ) -> Result<TraceMessageResponse, Error> {
        let timeout = self.connection.timeout() + Duration::from_secs(seconds.into());
        let mut request = TraceMessageRequest { topic: topic.into(), seconds, ..Default::default() };
        match message {
            Traced::Place { queue, offset } => (request.queue, request.offset) = (queue, offset),
            Traced::Id(id) => request.message_id = id.to_owned(),
        }
        call!(self, trace_message, request, timeout)
    }

    /// Statistics of all topics and groups, or of one topic or group. If the node that counted goes away meanwhile, another
    /// one is asked from the beginning.
    pub async fn counts(&self, topic: &str, group: &str) -> Result<CountsResponse, Error> {
        let mut request = CountsRequest { topic: topic.into(), group: group.into(), ..Default::default() };
        let mut tries = 1..COUNTS_TRIES;
        let mut all: Option<CountsResponse> = None;
        loop {
            let page = match call!(self, counts, request.clone()) {
                Ok(page) => page,
                Err(_) if all.is_some() && tries.next().is_some() => {
                    (all, request.cursor) = (None, Default::default());
                    continue;
                }
                Err(error) => return Err(error),
            };
            request.cursor = page.cursor.clone();
            let is_last = page.cursor.is_empty();
            match &mut all {
                Some(all) => all.rows.extend(page.rows),
                None => all = Some(page),
            }
            if let Some(all) = all.take_if(|_| is_last) {
                return Ok(all);
            }
        }
    }

    /// Messages that wait for their delivery times, earliest first.
    pub async fn list_delayed(&self, topic: &str, from_ms: u64, limit: u32) -> Result<Vec<StoredMessage>, Error> {
        Ok(call!(self, list_delayed, ListDelayedRequest { topic: topic.into(), from_ms, limit })?.messages)
    }

    /// Stores a message again in its topic.
    pub async fn resend_message(&self, topic: &str, queue: u32, offset: u64) -> Result<ResendMessageResponse, Error> {
        call!(self, resend_message, ResendMessageRequest { topic: topic.into(), queue, offset })
    }

    /// Gives a waiting message another delivery time; its new handle.
    pub async fn move_delayed(&self, topic: &str, recall_handle: &str, to_ms: u64) -> Result<String, Error> {
        let request = MoveDelayedRequest { topic: topic.into(), recall_handle: recall_handle.into(), to_ms };
        Ok(call!(self, move_delayed, request)?.recall_handle)
    }

    /// Events, newest first; go on with the number of the answer.
    pub async fn list_events(&self, request: ListEventsRequest) -> Result<ListEventsResponse, Error> {
        call!(self, list_events, request)
    }

    /// The clients of all nodes that answered.
    pub async fn list_clients(&self) -> Result<ListClientsResponse, Error> {
        call!(self, list_clients, ListClientsRequest {})
    }

    /// Takes a waiting message back; its id.
    pub async fn recall(&self, topic: &str, recall_handle: &str) -> Result<String, Error> {
        let request = RecallDelayedRequest { topic: topic.into(), recall_handle: recall_handle.into() };
        Ok(call!(self, recall_delayed, request)?.message_id)
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

    /// Makes a node the leader; gives who led before.
    pub async fn transfer_leader(&self, node: &str) -> Result<Option<String>, Error> {
        Ok(call!(self, transfer_leader, TransferLeaderRequest { node: node.into() })?.from)
    }

    /// Has a node make a backup of itself; its parts come one after the other.
    pub async fn create_backup(&self) -> Result<Streaming<BackupPart>, Error> {
        // The node reads all of its state before it answers.
        call!(self, create_backup, CreateBackupRequest {}, BACKUP_BEGINS_WITHIN)
    }

    /// All consumer groups, by name.
    pub async fn list_groups(&self) -> Result<Vec<Group>, Error> {
        let mut groups = call!(self, list_groups, ListGroupsRequest::default())?.groups;
        groups.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(groups)
    }

    /// One group with its positions and members.
    pub async fn describe_group(&self, name: &str) -> Result<DescribeGroupResponse, Error> {
        call!(self, describe_group, DescribeGroupRequest { name: name.into() })
    }

    /// The members of the group, and what change of them is under way.
    pub async fn list_members(&self) -> Result<ListMembersResponse, Error> {
        call!(self, list_members, ListMembersRequest {})
    }

    /// Begins a change of members, or says that it is under way already.
    pub async fn change_members(&self, request: ChangeMembersRequest) -> Result<ChangeMembersResponse, Error> {
        call!(self, change_members, request)
    }

    /// What the node that answers says of its process.
    pub async fn node_facts(&self) -> Result<NodeFactsResponse, Error> {
        call!(self, node_facts, NodeFactsRequest::default())
    }

    /// Asks the log level of the node that answers, or changes it.
    pub async fn log_level(&self, request: LogLevelRequest) -> Result<LogLevelResponse, Error> {
        call!(self, log_level, request)
    }

    /// All nodes, by name, and who leads.
    pub async fn cluster_status(&self) -> Result<ClusterStatusResponse, Error> {
        let mut status = call!(self, cluster_status, ClusterStatusRequest {})?;
        status.nodes.sort_by(|left, right| (&left.broker, &left.node).cmp(&(&right.broker, &right.node)));
        Ok(status)
    }
}

fn service(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}
