//! Events: list. Calls `broker/inspect/events`.

use tonic::Status;

use crate::broker::{EventView, NewLeader};
use crate::edge::admin::convert::{limit, refuse};
use crate::model::Timestamp;
use crate::node::Node;
use crate::proto::admin as wire;

/// Events of one answer.
const EVENTS_MAX: usize = 1000;

pub(super) async fn list(node: &Node, request: wire::ListEventsRequest) -> Result<wire::ListEventsResponse, Status> {
    let before = Some(request.before).filter(|before| *before > 0);
    let limit = limit(request.limit).min(EVENTS_MAX);
    let page = node.inspector().events(before, Timestamp(request.since_ms), limit).await.map_err(refuse)?;
    let leader = node.broker().leadership().borrow().leader;
    Ok(wire::ListEventsResponse {
        events: page.events.into_iter().map(event).collect(),
        before: page.before.unwrap_or(0),
        may_be_old: leader.is_none(),
    })
}

fn event(view: EventView) -> wire::ClusterEvent {
    let by = view.act.map(|act| wire::EventAuthor {
        address: act.by.address,
        tool: act.by.tool,
        node: act.node.name().to_string(),
    });
    let leader = view.leader.map(|(NewLeader { term, leader, gap }, before)| wire::LeaderChange {
        term: term.0,
        leader: leader.to_string(),
        before: before.map(|node| node.to_string()),
        gap_ms: gap.map(|gap| gap.0),
    });
    wire::ClusterEvent {
        number: view.number,
        at_ms: view.at.0,
        entry: view.entry.0,
        what: view.what,
        on: view.on,
        detail: view.detail,
        result: view.result,
        by,
        leader,
    }
}
