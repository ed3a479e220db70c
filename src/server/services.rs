//! The services of a node: clients, admin, health, reflection.

use std::sync::Arc;

use tonic::service::Routes;

use crate::config::BrokerConfig;
use crate::edge::admin::{AdminService, ProcessFacts};
use crate::edge::grpc::messaging::{EdgeSettings, Messaging};
use crate::edge::grpc::unary::Services;
use crate::edge::listener::Protocols;
use crate::edge::remoting::{Remoting, RemotingSettings};
use crate::model::limits::{OTHER_REQUEST_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::node::Node;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin::admin_server::AdminServer;
use crate::proto::v2::messaging_service_server::MessagingServiceServer;
use crate::server::health;
use crate::server::operators_thread::OperatorsThread;

/// All services over a node; its health is reported from the current runtime.
pub(super) fn services(
    config: &BrokerConfig,
    facts: ProcessFacts,
    node: &Arc<Node>,
    operators: &OperatorsThread,
) -> Protocols {
    let settings = EdgeSettings { body_bytes_max: config.body_bytes_max, delay_max: config.delay_max };
    let messaging = Messaging::new(node.clone(), settings);
    let service = MessagingServiceServer::new(messaging.clone())
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptor is made with the code");
    let mut routes = Routes::builder();
    routes
        .add_service(service)
        .add_service(operators.serves(AdminServer::new(AdminService::new(node.clone(), facts))))
        .add_service(health)
        .add_service(reflection);
    tokio::spawn(health::report(node.clone(), reporter));
    let (send_bytes_max, request_bytes_max) = (REQUEST_BYTES_MAX, OTHER_REQUEST_BYTES_MAX);
    let grpc = Services { messaging, send_bytes_max, request_bytes_max, routes: routes.routes() };
    let settings = RemotingSettings {
        body_bytes_max: config.body_bytes_max,
        delay_max: config.delay_max,
        creates_topics: config.creates_topics_classic,
        topic_queues: config.topic_queues,
        traces: config.traces,
    };
    let classic = Remoting::new(node.clone(), settings);
    tokio::spawn(classic.clone().keep_commits());
    tokio::spawn(classic.clone().report(config.name_servers.clone(), config.report_every));
    Protocols { grpc, classic }
}
