//! Telemetry, Heartbeat and NotifyClientTermination (contract §6, contract §7).
//!
//! Nothing depends on an open stream or on settings that this node has received: clients lose both and go on.

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tonic::{Code as GrpcCode, Request, Status, Streaming};

use crate::broker::{Deadline, Error, OrphanedTransaction, Subscription};
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::convert;
use crate::edge::grpc::convert::wire_duration;
use crate::edge::grpc::messaging::context::{Caller, Items, Messaging};
use crate::edge::grpc::messaging::transaction;
use crate::edge::rules;
use crate::model::backoff::STEPS_MAX;
use crate::model::limits::{GROUP_RETRIES_DEFAULT, POLL_MAX, RECEIVE_BATCH_MAX};
use crate::model::{Backoff, Millis, TopicName};
use crate::node::{ClientHeader, SessionSettings};
use crate::proto::v2;
use crate::proto::v2::settings::PubSub;
use crate::proto::v2::telemetry_command::Command;

/// RocketMQ's delays between deliveries, in seconds.
const BACKOFF_SECONDS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
const PRODUCER_ATTEMPTS: i32 = 3;

pub(super) async fn heartbeat(edge: &Messaging, request: &Request<v2::HeartbeatRequest>) -> v2::Status {
    let result = edge.caller(request).and_then(|caller| match request.get_ref().group.as_ref() {
        Some(group) if !group.name.is_empty() => caller.group(Some(group)).map(|_| ()),
        _ => Ok(()),
    });
    result.map_or_else(|refused| refused.status(), |()| ok())
}

pub(super) async fn terminated(edge: &Messaging, request: &Request<v2::NotifyClientTerminationRequest>) -> v2::Status {
    match edge.caller(request) {
        Ok(caller) => {
            // The client is gone either way; what it held is delivered again when its leases end, at the latest.
            if let Err(error) = edge.node.client_left(&caller.client).await {
                tracing::debug!(%error, "leases of a leaving client were not shortened");
            }
            ok()
        }
        Err(refused) => refused.status(),
    }
}

pub(super) fn telemetry(
    edge: Messaging,
    request: Request<Streaming<v2::TelemetryCommand>>,
) -> Items<v2::TelemetryCommand> {
    let caller = match edge.caller(&request) {
        Ok(caller) => caller,
        Err(refused) => {
            let command = v2::TelemetryCommand { status: Some(refused.status()), command: None };
            return Box::pin(futures_util::stream::once(std::future::ready(Ok(command))));
        }
    };
    let questions = edge.node.sessions().listen(&caller.client);
    let stream = ClientStream { edge, caller, commands: request.into_inner(), questions, published: Vec::new() };
    Box::pin(futures_util::stream::unfold(Some(stream), |stream| async move {
        let mut stream = stream?;
        match stream.next().await? {
            Ok(command) => {
                Some((Ok(v2::TelemetryCommand { status: Some(ok()), command: Some(command) }), Some(stream)))
            }
            Err(refused) => Some((Err(as_grpc(&refused)), None)),
        }
    }))
}

/// A stream of a client, as long as it is open.
struct ClientStream {
    edge: Messaging,
    caller: Caller,
    commands: Streaming<v2::TelemetryCommand>,
    questions: mpsc::Receiver<Box<OrphanedTransaction>>,
    /// The topics that a producer said it publishes to, as it names them.
    published: Vec<v2::Resource>,
}

impl ClientStream {
    /// What the client hears next; `None` at the end, `Err` before it.
    async fn next(&mut self) -> Option<Result<Command, Refused>> {
        loop {
            let command = tokio::select! {
                // A stream that breaks, or ends with this node, is reopened by the client.
                () = self.edge.node.stopping().cancelled() => return None,
                Some(question) = self.questions.recv() => {
                    // Without the key the producer is asked the next time.
                    let Ok(key) = self.edge.broker.handle_key(Deadline::NONE).await else { continue };
                    let topic = self.named(&question.topic);
                    let store_host = &self.edge.node.settings().store_host;
                    let question = transaction::question(*question, &topic, store_host, &key);
                    return Some(Ok(Command::RecoverOrphanedTransactionCommand(question)));
                }
                command = self.commands.next() => command?.ok()?,
            };
            self.edge.node.sessions().seen(ClientHeader::of(&self.caller.client));
            // The other commands are answers to commands this server never sends.
            let Some(Command::Settings(settings)) = command.command else { continue };
            let applied = apply(&self.edge, &self.caller, settings).await;
            if let Ok(v2::Settings { pub_sub: Some(PubSub::Publishing(publishing)), .. }) = &applied {
                self.published.clone_from(&publishing.topics);
            }
            return Some(applied.map(Command::Settings));
        }
    }

    /// A topic as the producer names it: with or without its namespace.
    fn named(&self, topic: &TopicName) -> v2::Resource {
        let is_it = |named: &&v2::Resource| self.caller.topic(Some(named)).is_ok_and(|named| named == *topic);
        let plain = || v2::Resource { resource_namespace: String::new(), name: topic.to_string() };
        self.published.iter().find(is_it).cloned().unwrap_or_else(plain)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.edge.node.sessions().stream_ended(&self.caller.client);
    }
}

/// Bad settings end the stream with a gRPC error, unlike anything else (contract §4.1, contract §6.7).
fn as_grpc(refused: &Refused) -> Status {
    let code = refused.code as i32;
    let grpc = if (40_000..50_000).contains(&code) { GrpcCode::InvalidArgument } else { GrpcCode::Internal };
    Status::new(grpc, format!("{}: {}", refused.code.as_str_name(), refused.text))
}

async fn apply(edge: &Messaging, caller: &Caller, mut settings: v2::Settings) -> Result<v2::Settings, Refused> {
    rules::client::properties(&settings.client_properties)?;
    let mut session = SessionSettings {
        group: None,
        topics: Vec::new(),
        subscriptions: Vec::new(),
        request_timeout: settings.request_timeout.as_ref().map(convert::millis),
    };
    match &settings.pub_sub {
        None => return Err(Refused::new(v2::Code::BadRequest, "the settings say neither publishing nor subscription")),
        Some(PubSub::Publishing(publishing)) => {
            rules::client::settings_entries("topics", publishing.topics.len())?;
            for topic in &publishing.topics {
                session.topics.push(caller.topic(Some(topic))?);
            }
        }
        Some(PubSub::Subscription(subscription)) => {
            rules::client::settings_entries("subscriptions", subscription.subscriptions.len())?;
            let group = caller.group(subscription.group.as_ref())?;
            edge.node.consumes_over_grpc(&group, &caller.client.client_id)?;
            let mut topics = Vec::new();
            for entry in &subscription.subscriptions {
                let topic = caller.topic(entry.topic.as_ref())?;
                convert::filter(entry.expression.as_ref())?;
                let expression = entry.expression.clone().unwrap_or_default();
                let is_sql = expression.r#type() == v2::FilterType::Sql;
                let expression = expression.expression;
                session.subscriptions.push(Subscription { topic: topic.clone(), is_sql, expression });
                topics.push(topic);
            }
            match edge.broker.subscribe(group.clone(), &topics, caller.deadline()).await {
                // Without a leader the settings are answered all the same; the first receive subscribes.
                Ok(()) | Err(Error::NoLeader | Error::TimedOut | Error::Busy | Error::GroupNotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
            session.group = Some(group);
        }
    }
    let group = session.group.as_ref().and_then(|group| edge.broker.group(group).ok().flatten());
    let mut is_fifo = group.as_ref().is_some_and(|group| group.orderly);
    let (retries, backoff) = match group {
        Some(group) => (group.settings.retries_max, group.settings.backoff),
        None => (GROUP_RETRIES_DEFAULT, Backoff::Standard),
    };
    if let Some(PubSub::Subscription(subscription)) = &settings.pub_sub {
        for entry in &subscription.subscriptions {
            let Ok(topic) = caller.topic(entry.topic.as_ref()) else { continue };
            // `find_topic` also finds a topic that was created a moment ago; a missing one has no order yet.
            let topic = edge.broker.find_topic(&topic, caller.deadline()).await;
            is_fifo |= topic.is_ok_and(|topic| topic.topic_type.is_fifo());
        }
    }
    edge.node.sessions().settings(&caller.client.client_id, session);
    let decisions = Decisions { retries, backoff, is_fifo, body_bytes_max: edge.settings.body_bytes_max };
    merge(&mut settings, &caller.client.language, &decisions);
    Ok(settings)
}

/// What the server decides of a client's settings.
struct Decisions {
    retries: u32,
    backoff: Backoff,
    is_fifo: bool,
    body_bytes_max: usize,
}

/// Puts the server's decisions into the client's settings (contract §6.3).
fn merge(settings: &mut v2::Settings, language: &str, decisions: &Decisions) {
    use v2::retry_policy::Strategy;
    let max_attempts;
    let strategy;
    match &mut settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => {
            subscription.fifo = Some(decisions.is_fifo);
            subscription.receive_batch_size = i32::try_from(RECEIVE_BATCH_MAX).ok();
            subscription.long_polling_timeout = Some(seconds(i64::try_from(POLL_MAX.0 / 1000).unwrap_or(i64::MAX)));
            max_attempts = i32::try_from(decisions.retries).unwrap_or(i32::MAX).saturating_add(1);
            strategy = wire_backoff(&decisions.backoff, decisions.retries, language);
        }
        Some(PubSub::Publishing(publishing)) => {
            publishing.validate_message_type = true;
            publishing.max_body_size = i32::try_from(decisions.body_bytes_max).unwrap_or(i32::MAX);
            max_attempts = PRODUCER_ATTEMPTS;
            strategy = Strategy::ExponentialBackoff(exponential(
                prost_types::Duration { seconds: 0, nanos: 10_000_000 },
                seconds(1),
                2,
            ));
        }
        None => return,
    }
    settings.backoff_policy = Some(v2::RetryPolicy { max_attempts, strategy: Some(strategy) });
    settings.metric = Some(v2::Metric { on: false, endpoints: None });
}

/// The delays between deliveries in a form that this client understands: the Node client (language HTTP) knows exponential
/// backoff only, Python the list only (contract §6.4).
fn wire_backoff(backoff: &Backoff, retries: u32, language: &str) -> v2::retry_policy::Strategy {
    use v2::retry_policy::Strategy;
    let steps: Vec<Millis> = match backoff {
        Backoff::Standard => BACKOFF_SECONDS.map(Millis::from_secs).to_vec(),
        Backoff::Steps(steps) => steps.clone(),
        Backoff::Exponential { initial, max, multiplier } => {
            if language != "PYTHON" {
                return Strategy::ExponentialBackoff(exponential(
                    wire_duration(*initial),
                    wire_duration(*max),
                    *multiplier,
                ));
            }
            let next = |step: &Millis| Some(Millis(step.0.saturating_mul((*multiplier).into()).min(max.0)));
            let count = usize::try_from(retries).unwrap_or(STEPS_MAX).clamp(1, STEPS_MAX);
            std::iter::successors(Some(*initial), next).take(count).collect()
        }
    };
    if language == "HTTP" {
        let (initial, max) = match backoff {
            Backoff::Standard => (Millis::from_secs(5), Millis::from_secs(7200)),
            _ => (steps.first().copied().unwrap_or_default(), steps.iter().copied().max().unwrap_or_default()),
        };
        return Strategy::ExponentialBackoff(exponential(wire_duration(initial), wire_duration(max), 2));
    }
    Strategy::CustomizedBackoff(v2::CustomizedBackoff { next: steps.into_iter().map(wire_duration).collect() })
}

fn exponential(initial: prost_types::Duration, max: prost_types::Duration, multiplier: u32) -> v2::ExponentialBackoff {
    let multiplier = f32::from(u16::try_from(multiplier).unwrap_or(u16::MAX));
    v2::ExponentialBackoff { initial: Some(initial), max: Some(max), multiplier }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v2::retry_policy::Strategy;

    fn merged(pub_sub: PubSub, language: &str) -> v2::Settings {
        let mut settings = v2::Settings { pub_sub: Some(pub_sub), ..Default::default() };
        let decisions =
            Decisions { retries: 16, backoff: Backoff::Standard, is_fifo: false, body_bytes_max: 4_194_304 };
        merge(&mut settings, language, &decisions);
        settings
    }

    #[test]
    fn producers_get_what_they_need_to_start() {
        let settings = merged(PubSub::Publishing(v2::Publishing::default()), "JAVA");
        let policy = settings.backoff_policy.unwrap();
        assert_eq!(policy.max_attempts, 3);
        assert!(matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
        let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("the branch must stay") };
        assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
        assert!(!settings.metric.unwrap().on);
    }

    #[test]
    fn consumers_get_batch_poll_time_and_the_backoff_their_language_knows() {
        for (language, is_list) in [("JAVA", true), ("PYTHON", true), ("GO", true), ("HTTP", false)] {
            let settings = merged(PubSub::Subscription(v2::Subscription::default()), language);
            let policy = settings.backoff_policy.unwrap();
            assert_eq!(policy.max_attempts, 17);
            assert_eq!(matches!(policy.strategy, Some(Strategy::CustomizedBackoff(_))), is_list, "{language}");
            let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("the branch must stay") };
            assert_eq!(subscription.receive_batch_size, Some(32));
            assert_eq!(subscription.long_polling_timeout, Some(seconds(20)));
        }
    }
}
