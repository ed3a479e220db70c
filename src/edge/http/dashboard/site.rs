//! A node as the dashboard asks it: by the same service that the commands ask.

use std::sync::Arc;

use tonic::Request;

use crate::edge::admin::{AdminService, ProcessFacts};
use crate::edge::http::dashboard::refused::Refused;
use crate::node::Node;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

/// A node that has started.
pub(in crate::edge::http) struct Site {
    pub node: Arc<Node>,
    pub admin: AdminService,
}

impl Site {
    pub fn new(node: Arc<Node>, facts: ProcessFacts) -> Self {
        Self { admin: AdminService::new(node.clone(), facts), node }
    }

    pub async fn cluster_status(&self) -> Result<wire::ClusterStatusResponse, Refused> {
        Ok(self.admin.cluster_status(Request::new(wire::ClusterStatusRequest {})).await?.into_inner())
    }
}
