//! What makes a consumer a member of its group as others see it: a stream on which it says what it subscribes to, kept open
//! beside its polls, and heartbeats (contract §6, contract §7).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::proto::v2;
use crate::proto::v2::messaging_service_client::MessagingServiceClient;
use crate::proto::v2::telemetry_command::Command;

use crate::client::connection::Connection;
use crate::client::error::{Error, check};

/// Time between heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// A stream that ended is opened again after this.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A stream is not to end by a timeout.
const STREAM_LASTS: Duration = Duration::from_secs(24 * 3600);

/// The session of one consumer; ends with its value.
pub(super) struct Membership {
    _task: AbortOnDropHandle<()>,
}

impl Membership {
    /// Nothing depends on it: what fails is tried again, and polls go on meanwhile.
    pub fn start(connection: Arc<Connection>, subscription: v2::Subscription) -> Self {
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = hold(&connection, &subscription).await {
                    tracing::info!(%error, "the cluster does not see this member now");
                }
                tokio::time::sleep(OPEN_AGAIN_AFTER).await;
            }
        });
        Self { _task: AbortOnDropHandle::new(task) }
    }
}

/// Opens a stream and beats until it ends, or requests go to another node.
async fn hold(connection: &Connection, subscription: &v2::Subscription) -> Result<(), Error> {
    let mut stream = open(connection, subscription).await?;
    let node = connection.preferred();
    let mut beats = tokio::time::interval(HEARTBEAT_EVERY);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => heartbeat(connection, subscription.group.clone()).await?,
            answer = stream.message() => match answer.map_err(Error::Status)? {
                Some(answer) => check(answer.status.or_else(ok))?,
                None => return Ok(()),
            },
        }
        if connection.preferred() != node {
            return Ok(());
        }
    }
}

/// An answer to settings may come without a status.
fn ok() -> Option<v2::Status> {
    Some(v2::Status { code: v2::Code::Ok.into(), message: String::new() })
}

async fn open(
    connection: &Connection,
    subscription: &v2::Subscription,
) -> Result<Streaming<v2::TelemetryCommand>, Error> {
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::SimpleConsumer.into()),
        pub_sub: Some(v2::settings::PubSub::Subscription(subscription.clone())),
        ..Default::default()
    };
    let command = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
    let opened = connection.call(connection.timeout(), |channel| {
        // The request side stays open: closing it ends the stream.
        let commands = futures_util::StreamExt::chain(tokio_stream::once(command.clone()), tokio_stream::pending());
        let request = connection.request(commands, STREAM_LASTS);
        async move { MessagingServiceClient::new(channel).telemetry(request).await }
    });
    Ok(opened.await?.into_inner())
}

async fn heartbeat(connection: &Connection, group: Option<v2::Resource>) -> Result<(), Error> {
    let request = v2::HeartbeatRequest { group, client_type: v2::ClientType::SimpleConsumer.into() };
    let timeout = connection.timeout();
    let answered = connection.call(timeout, |channel| {
        let request = connection.request(request.clone(), timeout);
        async move { MessagingServiceClient::new(channel).heartbeat(request).await }
    });
    check(answered.await?.into_inner().status)
}
