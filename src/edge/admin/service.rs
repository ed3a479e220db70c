//! The service: each method goes to the file of its noun.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::edge::admin::ProcessFacts;
use crate::edge::admin::operator::operator;
use crate::edge::admin::{
    backup, clients, cluster, counts, dead_letters, delayed, events, facts, groups, log_level, members, messages,
    topics, trim,
};
use crate::node::Node;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

/// The service over a node.
pub struct AdminService {
    node: Arc<Node>,
    facts: ProcessFacts,
}

impl AdminService {
    pub fn new(node: Arc<Node>, facts: ProcessFacts) -> Self {
        node.set_portrait(facts::portrait(node.settings().name, facts.clone()));
        Self { node, facts }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for AdminService {
    type CreateBackupStream = backup::Parts;

    async fn create_backup(&self, request: Request<wire::CreateBackupRequest>) -> Answer<backup::Parts> {
        backup::create(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn counts(&self, request: Request<wire::CountsRequest>) -> Answer<wire::CountsResponse> {
        counts::counts(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn create_topic(&self, request: Request<wire::CreateTopicRequest>) -> Answer<wire::CreateTopicResponse> {
        topics::create(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(&self, request: Request<wire::ListTopicsRequest>) -> Answer<wire::ListTopicsResponse> {
        topics::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn describe_topic(
        &self,
        request: Request<wire::DescribeTopicRequest>,
    ) -> Answer<wire::DescribeTopicResponse> {
        topics::describe(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn update_topic(&self, request: Request<wire::UpdateTopicRequest>) -> Answer<wire::UpdateTopicResponse> {
        topics::update(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn delete_topic(&self, request: Request<wire::DeleteTopicRequest>) -> Answer<wire::DeleteTopicResponse> {
        topics::delete(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn create_group(&self, request: Request<wire::CreateGroupRequest>) -> Answer<wire::CreateGroupResponse> {
        groups::create(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(&self, request: Request<wire::ListGroupsRequest>) -> Answer<wire::ListGroupsResponse> {
        groups::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_clients(&self, request: Request<wire::ListClientsRequest>) -> Answer<wire::ListClientsResponse> {
        clients::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn describe_group(
        &self,
        request: Request<wire::DescribeGroupRequest>,
    ) -> Answer<wire::DescribeGroupResponse> {
        groups::describe(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn update_group(&self, request: Request<wire::UpdateGroupRequest>) -> Answer<wire::UpdateGroupResponse> {
        groups::update(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn delete_group(&self, request: Request<wire::DeleteGroupRequest>) -> Answer<wire::DeleteGroupResponse> {
        groups::delete(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn reset_offset(&self, request: Request<wire::ResetOffsetRequest>) -> Answer<wire::ResetOffsetResponse> {
        groups::reset_offset(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn get_message(&self, request: Request<wire::GetMessageRequest>) -> Answer<wire::GetMessageResponse> {
        messages::get(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn resend_message(
        &self,
        request: Request<wire::ResendMessageRequest>,
    ) -> Answer<wire::ResendMessageResponse> {
        messages::resend(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn find_messages(&self, request: Request<wire::FindMessagesRequest>) -> Answer<wire::FindMessagesResponse> {
        messages::find(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn trace_message(&self, request: Request<wire::TraceMessageRequest>) -> Answer<wire::TraceMessageResponse> {
        messages::trace(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_delayed(&self, request: Request<wire::ListDelayedRequest>) -> Answer<wire::ListDelayedResponse> {
        delayed::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn move_delayed(&self, request: Request<wire::MoveDelayedRequest>) -> Answer<wire::MoveDelayedResponse> {
        delayed::move_to(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn recall_delayed(
        &self,
        request: Request<wire::RecallDelayedRequest>,
    ) -> Answer<wire::RecallDelayedResponse> {
        delayed::recall(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Answer<wire::ListDeadLettersResponse> {
        dead_letters::list(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn redrive(&self, request: Request<wire::RedriveRequest>) -> Answer<wire::RedriveResponse> {
        dead_letters::redrive(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }

    async fn cluster_status(
        &self,
        request: Request<wire::ClusterStatusRequest>,
    ) -> Answer<wire::ClusterStatusResponse> {
        cluster::status(&self.node, request.into_inner()).await.map(Response::new)
    }
    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Answer<wire::TransferLeaderResponse> {
        cluster::transfer_leader(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }
    async fn list_members(&self, request: Request<wire::ListMembersRequest>) -> Answer<wire::ListMembersResponse> {
        members::list(&self.node, request.into_inner()).await.map(Response::new)
    }
    async fn change_members(
        &self,
        request: Request<wire::ChangeMembersRequest>,
    ) -> Answer<wire::ChangeMembersResponse> {
        members::change(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }
    async fn trim(&self, request: Request<wire::TrimRequest>) -> Answer<wire::TrimResponse> {
        trim::trim(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }
    async fn state_digest(&self, request: Request<wire::StateDigestRequest>) -> Answer<wire::StateDigestResponse> {
        cluster::state_digest(&self.node, request.into_inner()).await.map(Response::new)
    }
    async fn list_events(&self, request: Request<wire::ListEventsRequest>) -> Answer<wire::ListEventsResponse> {
        events::list(&self.node, request.into_inner()).await.map(Response::new)
    }
    async fn node_facts(&self, request: Request<wire::NodeFactsRequest>) -> Answer<wire::NodeFactsResponse> {
        facts::facts(&self.node, &self.facts, request.into_inner()).await.map(Response::new)
    }
    async fn log_level(&self, request: Request<wire::LogLevelRequest>) -> Answer<wire::LogLevelResponse> {
        log_level::log_level(&self.node, &operator(&request), request.into_inner()).await.map(Response::new)
    }
}
