//! QueryRoute and QueryAssignment (contract §8, contract §12).
//!
//! One broker name per node, each with all queues, so that every client has another candidate at once when a node dies
//! (D16). One address per row, which the client can reach: the node's own if it differs from node to node, else the one
//! that the client dialled.

use tonic::Request;

use crate::broker::TopicView;
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::convert;
use crate::edge::grpc::messaging::context::{Caller, Messaging};
use crate::model::Permission;
use crate::node::NodeAddress;
use crate::proto::v2;
use crate::proto::v2::Code;

const READ: u8 = 4;
const ROUTABLE: u8 = 2 | READ;

pub(super) async fn query_route(edge: &Messaging, request: Request<v2::QueryRouteRequest>) -> v2::QueryRouteResponse {
    match try_route(edge, request).await {
        Ok(message_queues) => v2::QueryRouteResponse { status: Some(ok()), message_queues },
        Err(refused) => v2::QueryRouteResponse { status: Some(refused.status()), message_queues: Vec::new() },
    }
}

async fn try_route(
    edge: &Messaging,
    request: Request<v2::QueryRouteRequest>,
) -> Result<Vec<v2::MessageQueue>, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let topic = edge.broker.find_or_make_topic(&topic, caller.deadline()).await?;
    let endpoints = endpoints(&edge.node.routes().of_reachable()?, request.endpoints.as_ref());
    let unwritable = edge.broker.unwritable()?;
    let mut rows = Vec::new();
    for (member, endpoints) in endpoints {
        let may_write = if unwritable.may_write(member.id.name()) { ROUTABLE } else { READ };
        let permission = Permission(topic.permission.0 & edge.broker.permission().0 & may_write);
        let topic = TopicView { permission, ..topic.clone() };
        for id in 0..topic.queues {
            let id = i32::try_from(id).expect("a topic has at most 1024 queues");
            rows.push(row(edge, &topic, request.topic.as_ref(), id, &member, endpoints.clone()));
        }
    }
    Ok(rows)
}

pub(super) async fn query_assignment(
    edge: &Messaging,
    request: Request<v2::QueryAssignmentRequest>,
) -> v2::QueryAssignmentResponse {
    match try_assignment(edge, request).await {
        Ok(assignments) => v2::QueryAssignmentResponse { status: Some(ok()), assignments },
        Err(refused) => v2::QueryAssignmentResponse { status: Some(refused.status()), assignments: Vec::new() },
    }
}

/// One row per node, the same for every consumer: leases decide who gets what. Nodes that do not answer stay in, because
/// some clients poll everything anew whenever the rows change.
async fn try_assignment(
    edge: &Messaging,
    request: Request<v2::QueryAssignmentRequest>,
) -> Result<Vec<v2::Assignment>, Refused> {
    let caller = edge.caller(&request)?;
    let request = request.into_inner();
    caller.group(request.group.as_ref())?;
    let topic = find(edge, request.topic.as_ref(), &caller).await?;
    if !Permission(topic.permission.0 & edge.broker.permission().0).can_read() {
        return Err(Refused::new(Code::Forbidden, format!("topic '{}' has no readable queue", topic.name)));
    }
    let members = edge.node.routes().of_all(caller.deadline()).await?;
    let endpoints = endpoints(&members, request.endpoints.as_ref());
    let assign = |(member, endpoints)| {
        let queue = row(edge, &topic, request.topic.as_ref(), -1, &member, endpoints);
        v2::Assignment { message_queue: Some(queue) }
    };
    Ok(endpoints.into_iter().map(assign).collect())
}

async fn find(edge: &Messaging, topic: Option<&v2::Resource>, caller: &Caller) -> Result<TopicView, Refused> {
    let topic = caller.topic(topic)?;
    Ok(edge.broker.find_topic(&topic, caller.deadline()).await?)
}

fn row(
    edge: &Messaging,
    topic: &TopicView,
    resource: Option<&v2::Resource>,
    id: i32,
    member: &NodeAddress,
    endpoints: v2::Endpoints,
) -> v2::MessageQueue {
    let permission = match topic.permission.0 & ROUTABLE {
        2 => v2::Permission::Write,
        4 => v2::Permission::Read,
        6 => v2::Permission::ReadWrite,
        _ => v2::Permission::None,
    };
    v2::MessageQueue {
        topic: resource.cloned(),
        id,
        permission: permission.into(),
        broker: Some(v2::Broker {
            name: format!("{}-{}", edge.node.settings().broker_name, member.id.name()),
            id: 0,
            endpoints: Some(endpoints),
        }),
        accept_message_types: topic
            .topic_type
            .accepted()
            .into_iter()
            .map(|of| convert::message_type(of).into())
            .collect(),
    }
}

/// The endpoints of each node as this client can reach them.
fn endpoints(members: &[NodeAddress], dialled: Option<&v2::Endpoints>) -> Vec<(NodeAddress, v2::Endpoints)> {
    let own = |member: &NodeAddress| (member.host.clone(), member.grpc_port);
    let dialled: Vec<(String, u16)> = dialled
        .map(|endpoints| endpoints.addresses.as_slice())
        .unwrap_or_default()
        .iter()
        // Clients spell IPv6 addresses in ways of their own, and some cannot dial them (contract §8.3).
        .filter(|address| address.host.parse::<std::net::Ipv6Addr>().is_err())
        .filter_map(|address| Some((address.host.clone(), u16::try_from(address.port).ok()?)))
        .collect();
    let is_one_machine = members.windows(2).all(|pair| pair[0].host == pair[1].host);
    let reach = |member: &NodeAddress| -> (String, u16) {
        let own = own(member);
        let Some((host, port)) = dialled.first() else { return own };
        if dialled
            .iter()
            .any(|dialled| members.iter().any(|member| *dialled == (member.host.clone(), member.grpc_port)))
        {
            return own;
        }
        // All on one machine under another name of it (localhost, a container's host): ports differ.
        if is_one_machine && members.iter().any(|member| member.grpc_port == *port) {
            return (host.clone(), own.1);
        }
        // A proxy or a translated address; any node serves everything.
        (host.clone(), *port)
    };
    members.iter().map(|member| (member.clone(), one_address(reach(member)))).collect()
}

fn one_address((host, port): (String, u16)) -> v2::Endpoints {
    let scheme = match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => v2::AddressScheme::IPv6,
        Err(_) => v2::AddressScheme::DomainName,
    };
    v2::Endpoints { scheme: scheme.into(), addresses: vec![v2::Address { host, port: port.into() }] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    fn member(id: u64, host: &str, port: u16) -> NodeAddress {
        NodeAddress { id: NodeId(id), host: host.into(), grpc_port: port, listen_port: port }
    }

    fn reached(members: &[NodeAddress], dialled: &[(&str, i32)]) -> Vec<String> {
        let addresses = dialled.iter().map(|(host, port)| v2::Address { host: (*host).into(), port: *port }).collect();
        let dialled = v2::Endpoints { scheme: 0, addresses };
        let text = |(_, endpoints): (_, v2::Endpoints)| {
            assert_eq!(endpoints.addresses.len(), 1);
            format!("{}:{}", endpoints.addresses[0].host, endpoints.addresses[0].port)
        };
        endpoints(members, Some(&dialled)).into_iter().map(text).collect()
    }

    #[test]
    fn rows_carry_the_address_the_client_can_reach() {
        let local = [member(0, "127.0.0.1", 8081), member(1, "127.0.0.1", 8082)];
        assert_eq!(reached(&local, &[("127.0.0.1", 8081)]), ["127.0.0.1:8081", "127.0.0.1:8082"]);
        assert_eq!(reached(&local, &[("localhost", 8082)]), ["localhost:8081", "localhost:8082"]);
        assert_eq!(reached(&local, &[("mq.example", 443)]), ["mq.example:443", "mq.example:443"]);
        assert_eq!(reached(&local, &[]), ["127.0.0.1:8081", "127.0.0.1:8082"]);
        let hosts = [member(0, "10.0.0.1", 8081), member(1, "10.0.0.2", 8081)];
        assert_eq!(reached(&hosts, &[("10.0.0.2", 8081), ("10.0.0.1", 8081)]), ["10.0.0.1:8081", "10.0.0.2:8081"]);
        assert_eq!(reached(&hosts, &[("10.9.9.9", 8081)]), ["10.9.9.9:8081", "10.9.9.9:8081"]);
    }

    #[test]
    fn the_scheme_follows_from_the_host() {
        assert_eq!(one_address(("127.0.0.1".into(), 1)).scheme(), v2::AddressScheme::IPv4);
        assert_eq!(one_address(("a.b".into(), 1)).scheme(), v2::AddressScheme::DomainName);
    }
}
