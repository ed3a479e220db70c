//! The service: each method goes to the file of its verb.

use tonic::{Request, Response, Status, Streaming};

use crate::edge::grpc::codes::status;
use crate::edge::grpc::messaging::context::{Items, Messaging};
use crate::edge::grpc::messaging::{
    ack, dead_letter, delay, invisible, offset, receive, route, send, session, transaction,
};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::messaging_service_server::MessagingService;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl MessagingService for Messaging {
    type ReceiveMessageStream = Items<v2::ReceiveMessageResponse>;
    type PullMessageStream = Items<v2::PullMessageResponse>;
    type TelemetryStream = Items<v2::TelemetryCommand>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answer<v2::QueryRouteResponse> {
        Ok(Response::new(route::query_route(self, request).await))
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Answer<v2::HeartbeatResponse> {
        Ok(Response::new(v2::HeartbeatResponse { status: Some(session::heartbeat(self, &request).await) }))
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answer<v2::SendMessageResponse> {
        Ok(Response::new(send::send(self, request).await))
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answer<v2::QueryAssignmentResponse> {
        Ok(Response::new(route::query_assignment(self, request).await))
    }

    async fn receive_message(&self, request: Request<v2::ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        Ok(Response::new(receive::receive(self.clone(), request)))
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answer<v2::AckMessageResponse> {
        Ok(Response::new(ack::ack(self, request).await))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        let status = Some(dead_letter::forward(self, request).await);
        Ok(Response::new(v2::ForwardMessageToDeadLetterQueueResponse { status }))
    }

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        Ok(Response::new(offset::pull(self.clone(), request)))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Answer<v2::UpdateOffsetResponse> {
        Ok(Response::new(v2::UpdateOffsetResponse { status: Some(offset::update(self, request).await) }))
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        Ok(Response::new(offset::get(self, request).await))
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Answer<v2::QueryOffsetResponse> {
        Ok(Response::new(offset::query(self, request).await))
    }

    async fn end_transaction(&self, request: Request<v2::EndTransactionRequest>) -> Answer<v2::EndTransactionResponse> {
        Ok(Response::new(v2::EndTransactionResponse { status: Some(transaction::end(self, request).await) }))
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        Ok(Response::new(session::telemetry(self.clone(), request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        let status = Some(session::terminated(self, &request).await);
        Ok(Response::new(v2::NotifyClientTerminationResponse { status }))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        Ok(Response::new(invisible::change(self, request).await))
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Answer<v2::RecallMessageResponse> {
        Ok(Response::new(delay::recall(self, request).await))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        Ok(Response::new(v2::SyncLiteSubscriptionResponse {
            status: Some(not_implemented(self, &request, "SyncLiteSubscription")),
        }))
    }
}

fn not_implemented<T>(edge: &Messaging, request: &Request<T>, what: &str) -> v2::Status {
    match edge.caller(request) {
        Ok(_) => status(Code::NotImplemented, format!("{what} is not implemented")),
        Err(refused) => refused.status(),
    }
}
