//! Heartbeats, goodbyes, and who is in a group.
//!
//! A consumer sends its heartbeats to every node of its routes; whom this node does not know yet, the others do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{ConsumeFrom, Deadline, Subscription};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::filter;
use crate::edge::rules;
use crate::model::{GroupName, TopicName};
use crate::node::{HeartbeatConsumer, OtherProtocol, VersionedSubscription};
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::heartbeat_data::{
    ConsumerData, ConsumerList, FilterCheck, HeartbeatData, SubscriptionData,
};

/// A first heartbeat takes entries in the log; clients wait three seconds for an answer.
const FIRST_HEARTBEAT: Duration = Duration::from_millis(2500);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A heartbeat, which makes groups that are new and the topics of their retries.
pub(super) async fn heartbeat(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let beat: HeartbeatData = serde_json::from_slice(&request.body).map_err(|error| {
        Refused::new(ResponseCode::InvalidParameter, format!("the heartbeat cannot be read: {error}"))
    })?;
    rules::client::id("client id", &beat.client_id)?;
    rules::client::text("client id", &beat.client_id)?;
    rules::client::settings_entries("consumers", beat.consumers.len())?;
    rules::client::settings_entries("producers", beat.producers.len())?;
    let client = Arc::new(connection.client(&beat.client_id, &request.header));
    for consumer in beat.consumers {
        let group = rules::names::group("", &consumer.group)?;
        let (is_broadcasting, begins_first) = (consumer.is_broadcasting, consumer.begins_first);
        let subscriptions = subscriptions(consumer)?;
        let node = &connection.remoting.node;
        if !node.heartbeat_clients().is_known(&group) {
            let other = |other: OtherProtocol| Refused::new(ResponseCode::NoPermission, other.to_string());
            node.consumes_over_remoting(&group).await.map_err(other)?;
            node.take_over_leases(&group).await?;
        }
        make_what_is_missing(&connection.remoting, &group, begins_first, is_broadcasting).await?;
        let said = HeartbeatConsumer { client: client.clone(), is_broadcasting, subscriptions };
        let clients = connection.remoting.node.heartbeat_clients();
        let seen = clients.seen(&group, said, connection.number, &connection.changes, connection.client.heartbeats());
        seen.map_err(|error| Refused::new(ResponseCode::ServiceNotAvailable, error.to_string()))?;
    }
    for producer in beat.producers {
        let group = rules::names::group("", &producer.group)?;
        let producers = connection.remoting.node.heartbeat_producers();
        let seen =
            producers.seen(&group, &client, connection.number, &connection.changes, connection.client.heartbeats());
        seen.map_err(|error| Refused::new(ResponseCode::ServiceNotAvailable, error.to_string()))?;
    }
    Ok(Answer::done())
}

fn subscriptions(consumer: ConsumerData) -> Result<Vec<VersionedSubscription>, Refused> {
    rules::client::settings_entries("subscriptions", consumer.subscriptions.len())?;
    let subscription = |said: SubscriptionData| {
        let (_, is_sql) = filter::parse(&said.expression_type, &said.expression)?;
        let topic = rules::names::topic("", &said.topic)?;
        let subscription = Subscription { topic, is_sql, expression: said.expression };
        Ok(VersionedSubscription { subscription, version: said.version })
    };
    consumer.subscriptions.into_iter().map(subscription).collect()
}

/// A group that is new begins in queues where it never committed as its consumers want it to begin (D190).
async fn make_what_is_missing(
    remoting: &Remoting,
    group: &GroupName,
    begins_first: bool,
    is_broadcasting: bool,
) -> Result<(), Refused> {
    let broker = &remoting.broker;
    let begins = if begins_first { ConsumeFrom::First } else { ConsumeFrom::Standard };
    if broker.group(group)?.is_none() {
        broker.find_or_make_group(group, begins, Deadline::NONE).await?;
    }
    // A group whose name leaves no room for the prefix has no such topic.
    if TopicName::retries_of(group).is_some() && !is_broadcasting {
        broker.make_retry_topic(group, Deadline::NONE).await?;
    }
    Ok(())
}

/// A client leaves its groups.
///
/// What it has locked is free at once. A client that goes without a goodbye keeps its locks until they end: it may live, and
/// believe in them.
pub(super) async fn unregister(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let client_id = fields.text("clientID")?;
    if let Some(group) = fields.get("consumerGroup").filter(|group| !group.is_empty()) {
        let group = rules::names::group("", group)?;
        let remoting = &connection.remoting;
        let left = remoting.node.heartbeat_clients().left(&group, client_id, connection.number);
        if !left.is_empty() {
            remoting.commits.settle(&remoting.broker).await;
            remoting.broker.unlock_all_queues(&group, client_id, &left, Deadline::NONE).await?;
        }
    }
    if let Some(group) = fields.get("producerGroup").filter(|group| !group.is_empty()) {
        let group = rules::names::group("", group)?;
        connection.remoting.node.heartbeat_producers().left(&group, client_id, connection.number);
    }
    Ok(Answer::done())
}

/// The clients of a group, whichever node knows them: all nodes must say the same, or clients divide the queues differently.
/// Node's client asks while its first heartbeat is under way, and if the answer is that there are none, never consumes: so a
/// group without any is looked at again for a while.
pub(super) async fn list(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let group = rules::names::group("", request.header.fields.text("consumerGroup")?)?;
    let until = Instant::now() + FIRST_HEARTBEAT;
    let mut client_ids = remoting.node.classic_consumers(&group).await;
    while client_ids.is_empty() && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        if remoting.node.heartbeat_clients().is_known(&group) {
            client_ids = remoting.node.classic_consumers(&group).await;
        }
    }
    if client_ids.is_empty() {
        let text = format!("no consumer of group '{group}' is connected to any node");
        return Err(Refused::new(ResponseCode::SystemError, text));
    }
    Ok(Answer::json(&ConsumerList { client_ids }))
}

/// Whether a consumer's filter would be taken, which it asks before it starts.
pub(super) fn check_filter(request: &Request) -> Result<Answer, Refused> {
    let asked: FilterCheck = serde_json::from_slice(&request.body)
        .map_err(|error| Refused::new(ResponseCode::InvalidParameter, format!("the filter cannot be read: {error}")))?;
    let SubscriptionData { expression_type, expression, .. } = asked.subscription;
    filter::parse(&expression_type, &expression)?;
    Ok(Answer::done())
}
