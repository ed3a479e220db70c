//! Write permissions of broker names, which operators take away before maintenance (remoting §3.1). After:
//! `broker/write_permission`.

use crate::broker::Deadline;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::route::all_queues;
use crate::model::MemberName;
use crate::namesrv::route::member_of;
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::route_data::PERM_WRITE;

/// WIPE_WRITE_PERM_OF_BROKER.
pub(super) async fn wipe(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    Ok(Answer::done().and("wipeTopicCount", set(connection, request, false).await?))
}

/// ADD_WRITE_PERM_OF_BROKER.
pub(super) async fn add(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    Ok(Answer::done().and("addTopicCount", set(connection, request, true).await?))
}

/// How many topics have another permission under that name now.
async fn set(connection: &Connection, request: &Request, may_write: bool) -> Result<usize, Refused> {
    let remoting = &connection.remoting;
    let of = named(remoting, request.header.fields.text("brokerName")?)?;
    let is_new = remoting.broker.set_write_permission(&connection.operator(), of, may_write, Deadline::NONE).await?;
    let written = all_queues(remoting)?.into_values().filter(|topic| topic.perm & PERM_WRITE != 0).count();
    Ok(if is_new { written } else { 0 })
}

/// The member with that name, or `None` for the group.
fn named(remoting: &Remoting, name: &str) -> Result<Option<MemberName>, Refused> {
    let group = &remoting.node.settings().broker_name;
    let announced = remoting.broker.announced_addresses()?;
    let mut members: Vec<_> = announced.into_iter().map(|(node, _)| node.name()).collect();
    members.sort_unstable();
    members.dedup();
    match member_of(group, name) {
        Some(None) => Ok(None),
        Some(Some(member)) if members.contains(&member) => Ok(Some(member)),
        Some(Some(_)) | None => {
            let known: Vec<_> = members.iter().map(|member| format!("{group}-{member}")).collect();
            let text =
                format!("there is no broker '{name}' here: '{group}' is the group, {} its members", known.join(", "));
            Err(Refused::new(ResponseCode::BrokerNotExist, text))
        }
    }
}
