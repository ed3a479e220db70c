//! Where clients find a topic, all nodes, and all topics: what name servers answer, answered by every node for its group.
//!
//! Source: remoting §3, remoting §9.

use std::collections::BTreeMap;

use crate::broker::{Deadline, Error, TopicView};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::rules;
use crate::model::HostPort;
use crate::namesrv::route::{
    DEFAULT_TOPIC, Group, REPLY_QUEUES, RETRY_PREFIX, RETRY_QUEUES, default_topic, is_reply_topic,
};
use crate::proto::remoting::registration::{TopicList, TopicQueues};
use crate::proto::remoting::route_data::{ClusterInfo, PERM_READ, PERM_WRITE, RouteData};
use crate::proto::remoting::{NODE_MARK, ResponseCode};

/// This node's group with the nodes that answer it.
pub(super) fn group(remoting: &Remoting) -> Result<Group<'_>, Error> {
    let settings = remoting.node.settings();
    let nodes = remoting.node.routes().of_reachable()?.into_iter();
    let nodes = nodes.map(|node| (node.id.name(), HostPort { host: node.host, port: node.listen_port }.to_string()));
    let unwritable = remoting.broker.unwritable()?;
    Ok(Group { cluster: &settings.cluster, broker_name: &settings.broker_name, nodes: nodes.collect(), unwritable })
}

pub(super) async fn of_topic(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let queues = queues_of(remoting, request.header.fields.text("topic")?).await?;
    remoting.node.routes().first_known().await;
    let mut route = RouteData::default();
    group(remoting)?.add_to_route(&mut route, queues);
    Ok(Answer::json(&route))
}

async fn queues_of(remoting: &Remoting, name: &str) -> Result<TopicQueues, Refused> {
    if name == DEFAULT_TOPIC && remoting.settings.creates_topics {
        return Ok(default_topic(remoting.settings.topic_queues));
    }
    // A reserved name is no topic, for clients of both kinds.
    let topic =
        rules::names::topic("", name).map_err(|invalid| Refused::new(ResponseCode::TopicNotExist, invalid.text))?;
    match remoting.broker.find_topic(&topic, Deadline::NONE).await {
        Ok(topic) => Ok(queues(remoting, &topic)),
        Err(Error::TopicNotFound(_)) if name.starts_with(RETRY_PREFIX) => Ok(RETRY_QUEUES),
        Err(Error::TopicNotFound(_)) if is_reply_topic(name, &remoting.node.settings().cluster) => Ok(REPLY_QUEUES),
        Err(error) => Err(error.into()),
    }
}

fn queues(remoting: &Remoting, topic: &TopicView) -> TopicQueues {
    let perm = i32::from(topic.permission.0 & remoting.broker.permission().0) & (PERM_READ | PERM_WRITE);
    TopicQueues { count: topic.queues, perm, all_names_read: false }
}

/// Everything that has a route, as this node knows it.
pub(super) fn all_queues(remoting: &Remoting) -> Result<BTreeMap<String, TopicQueues>, Error> {
    let topics = remoting.broker.topics()?;
    let mut all: BTreeMap<_, _> =
        topics.iter().map(|topic| (topic.name.to_string(), queues(remoting, topic))).collect();
    if remoting.settings.creates_topics {
        all.insert(DEFAULT_TOPIC.to_owned(), default_topic(remoting.settings.topic_queues));
    }
    Ok(all)
}

/// All nodes, the host first.
pub(super) fn cluster(remoting: &Remoting) -> Result<Answer, Refused> {
    let mut info = ClusterInfo::default();
    group(remoting)?.add_to_cluster(&mut info);
    Ok(Answer::json(&info).and(NODE_MARK, remoting.node.settings().name))
}

/// All topics.
pub(super) fn topics(remoting: &Remoting) -> Result<Answer, Refused> {
    Ok(list(all_queues(remoting)?.into_keys().collect()))
}

/// The topics of a cluster.
pub(super) fn topics_of_cluster(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let is_own = request.header.fields.text("cluster")? == remoting.node.settings().cluster;
    if is_own { topics(remoting) } else { Ok(list(Vec::new())) }
}

/// The names of cluster and group, which are topics for RocketMQ's tools, and the address of the host.
pub(super) fn system_names(remoting: &Remoting) -> Result<Answer, Refused> {
    let group = group(remoting)?;
    let host = group.host();
    let broker_addr = group.nodes.iter().find(|(node, _)| Some(*node) == host).map(|(_, address)| address.clone());
    let mut topic_list = vec![group.cluster.to_owned(), group.broker_name.to_owned()];
    topic_list.sort();
    topic_list.dedup();
    Ok(Answer::json(&TopicList { topic_list, broker_addr }))
}

/// The units of RocketMQ, of which there are none.
pub(super) fn no_topics() -> Answer {
    list(Vec::new())
}

fn list(topic_list: Vec<String>) -> Answer {
    Answer::json(&TopicList { topic_list, broker_addr: None })
}
