//! Leadership.

use serde_json::json;

use crate::edge::http::dashboard::actions::command_line::CommandLine;
use crate::edge::http::dashboard::actions::done::Done;
use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

pub(super) async fn transfer_leader(site: &Site, given: &Given) -> Result<Done, Refused> {
    let node = given.text("node")?;
    let command = CommandLine::of(site, &["cluster", "transfer-leader", node]);
    let status = site.cluster_status().await?;
    let target = status.nodes.iter().find(|row| row.node == node);
    let target = target.ok_or_else(|| Refused::request(format!("'{node}' is no node of this cluster")))?;
    let facts = vec![
        ("from", json!(status.leader)),
        ("to", json!(node)),
        ("role", json!(target.role)),
        ("behind", json!(target.behind)),
    ];
    let mut document = json!(null);
    if !given.is_trial() {
        let request = wire::TransferLeaderRequest { node: node.to_owned() };
        let from = site.admin.transfer_leader(given.request(request)).await?.into_inner().from;
        document = json!({ "from": from, "to": node });
    }
    Ok(Done { command, facts, document })
}
