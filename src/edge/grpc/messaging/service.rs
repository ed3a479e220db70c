//! The service: each method goes to the file of its verb.

use tonic::{Request, Response, Status, Streaming};

use crate::edge::grpc::call_times::Call;
use crate::edge::grpc::codes::status;
use crate::edge::grpc::messaging::context::{Items, Messaging};
use crate::edge::grpc::messaging::{
    ack, dead_letter, delay, invisible, offset, receive, route, send, session, transaction,
};
use crate::proto::admin::SendAddition;
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::messaging_service_server::MessagingService;

type Answer<T> = Result<Response<T>, Status>;

impl Messaging {
    /// As `send_message`, with what is added to the answer.
    pub(in crate::edge::grpc) async fn send_with_addition(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> (v2::SendMessageResponse, SendAddition) {
        self.timed(Call::SendMessage, send::send(self, request)).await
    }
}

#[tonic::async_trait]
impl MessagingService for Messaging {
    type ReceiveMessageStream = Items<v2::ReceiveMessageResponse>;
    type PullMessageStream = Items<v2::PullMessageResponse>;
    type TelemetryStream = Items<v2::TelemetryCommand>;

    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answer<v2::QueryRouteResponse> {
        Ok(Response::new(self.timed(Call::QueryRoute, route::query_route(self, request)).await))
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Answer<v2::HeartbeatResponse> {
        let answering = async { v2::HeartbeatResponse { status: Some(session::heartbeat(self, &request).await) } };
        Ok(Response::new(self.timed(Call::Heartbeat, answering).await))
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answer<v2::SendMessageResponse> {
        // What is added is not in this type: only `edge/grpc/unary` can add it.
        Ok(Response::new(self.send_with_addition(request).await.0))
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answer<v2::QueryAssignmentResponse> {
        Ok(Response::new(self.timed(Call::QueryAssignment, route::query_assignment(self, request)).await))
    }

    async fn receive_message(&self, request: Request<v2::ReceiveMessageRequest>) -> Answer<Self::ReceiveMessageStream> {
        Ok(Response::new(receive::receive(self.clone(), request)))
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answer<v2::AckMessageResponse> {
        Ok(Response::new(self.timed(Call::AckMessage, ack::ack(self, request)).await))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<v2::ForwardMessageToDeadLetterQueueResponse> {
        let answering = async {
            let status = Some(dead_letter::forward(self, request).await);
            v2::ForwardMessageToDeadLetterQueueResponse { status }
        };
        Ok(Response::new(self.timed(Call::ForwardMessageToDeadLetterQueue, answering).await))
    }

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        Ok(Response::new(offset::pull(self.clone(), request)))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Answer<v2::UpdateOffsetResponse> {
        let answering = async { v2::UpdateOffsetResponse { status: Some(offset::update(self, request).await) } };
        Ok(Response::new(self.timed(Call::UpdateOffset, answering).await))
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Answer<v2::GetOffsetResponse> {
        Ok(Response::new(self.timed(Call::GetOffset, offset::get(self, request)).await))
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Answer<v2::QueryOffsetResponse> {
        Ok(Response::new(self.timed(Call::QueryOffset, offset::query(self, request)).await))
    }

    async fn end_transaction(&self, request: Request<v2::EndTransactionRequest>) -> Answer<v2::EndTransactionResponse> {
        let answering = async { v2::EndTransactionResponse { status: Some(transaction::end(self, request).await) } };
        Ok(Response::new(self.timed(Call::EndTransaction, answering).await))
    }

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        Ok(Response::new(session::telemetry(self.clone(), request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answer<v2::NotifyClientTerminationResponse> {
        let answering = async {
            let status = Some(session::terminated(self, &request).await);
            v2::NotifyClientTerminationResponse { status }
        };
        Ok(Response::new(self.timed(Call::NotifyClientTermination, answering).await))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answer<v2::ChangeInvisibleDurationResponse> {
        Ok(Response::new(self.timed(Call::ChangeInvisibleDuration, invisible::change(self, request)).await))
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Answer<v2::RecallMessageResponse> {
        Ok(Response::new(self.timed(Call::RecallMessage, delay::recall(self, request)).await))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answer<v2::SyncLiteSubscriptionResponse> {
        let answering = async {
            let status = Some(not_implemented(self, &request, "SyncLiteSubscription"));
            v2::SyncLiteSubscriptionResponse { status }
        };
        Ok(Response::new(self.timed(Call::SyncLiteSubscription, answering).await))
    }
}

fn not_implemented<T>(edge: &Messaging, request: &Request<T>, what: &str) -> v2::Status {
    match edge.caller(request) {
        Ok(_) => status(Code::NotImplemented, format!("{what} is not implemented")),
        Err(refused) => refused.status(),
    }
}
