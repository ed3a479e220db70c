//! Events as operators are shown them: what operators did and what befell the group. From this node's state as it is, so a
//! node that is cut off shows what it knows.

use crate::broker::{Error, Inspector};
use crate::machine::Rejected;
use crate::machine::state::events::{Act, ActEnd, ClusterEventKind, NewLeader};
use crate::machine::state::member_changes::{ChangeEnd, EndedChange, MemberChangeKind};
use crate::model::{LogIndex, NodeId, Timestamp};

/// Events read at a time.
const PAGE: u64 = 256;

/// One event in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    /// Counts up.
    pub number: u64,
    /// Time of day.
    pub at: Timestamp,
    pub entry: LogIndex,
    /// For programs: `leader`, `members`, or what an operator did.
    pub what: String,
    pub on: String,
    pub detail: String,
    pub result: String,
    /// Who did it and the node that was asked; `None` for what befell the group.
    pub act: Option<Act>,
    /// If a node began to lead: that, and who led before.
    pub leader: Option<(NewLeader, Option<NodeId>)>,
}

/// Some of the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Newest first.
    pub events: Vec<EventView>,
    /// Where to go on: events with lower numbers follow; `None` if no older one is wanted or kept.
    pub before: Option<u64>,
}

impl Inspector {
    /// The newest events with numbers below `before`, if that is given, and not before a time of day; `limit` at most.
    pub async fn events(&self, before: Option<u64>, since: Timestamp, limit: usize) -> Result<EventPage, Error> {
        let view = self.reader.view();
        let mut end = before.unwrap_or(u64::MAX).min(view.event_count()? + 1);
        let mut page = EventPage { events: Vec::new(), before: None };
        while end > 1 {
            let from = end.saturating_sub(PAGE).max(1);
            let read = view.events(from, end)?;
            if read.is_empty() {
                break;
            }
            for (number, event) in read.into_iter().rev() {
                let at = self.reader.wall_of(event.at);
                if at < since {
                    return Ok(page);
                }
                if page.events.len() == limit {
                    page.before = Some(number + 1);
                    return Ok(page);
                }
                page.events.push(EventView { number, at, entry: event.entry, ..words(event.kind) });
            }
            end = from;
            tokio::task::yield_now().await;
        }
        Ok(page)
    }
}

fn words(kind: ClusterEventKind) -> EventView {
    let event = |what: &str, on: String, detail: String, result: String| EventView {
        number: 0,
        at: Timestamp(0),
        entry: LogIndex(0),
        what: what.to_owned(),
        on,
        detail,
        result,
        act: None,
        leader: None,
    };
    match kind {
        ClusterEventKind::Act(act, end) => {
            let whole = event(&act.what, act.on.clone(), act.detail.clone(), result(end));
            EventView { act: Some(act), ..whole }
        }
        ClusterEventKind::Leader(new, before) => {
            let before_it = before.map_or_else(String::new, |node| format!(" after {node}"));
            let gap = new.gap.map_or_else(String::new, |gap| format!(", {gap} without a leader"));
            let detail = format!("leads term {}{before_it}{gap}", new.term.0);
            let whole = event("leader", new.leader.name().to_string(), detail, String::new());
            EventView { leader: Some((new, before)), ..whole }
        }
        ClusterEventKind::MembersChanged(EndedChange { change, end, .. }) => {
            let what = match change.kind {
                MemberChangeKind::Add { .. } => "added",
                MemberChangeKind::Replace { .. } => "replaced",
                MemberChangeKind::Remove { .. } => "removed",
            };
            let result = match end {
                ChangeEnd::Done => "ok".to_owned(),
                ChangeEnd::Cancelled => "undone".to_owned(),
                ChangeEnd::Refused(why) => format!("refused: {why}"),
            };
            event("members", change.name().to_string(), format!("{what}, change {}", change.number), result)
        }
    }
}

fn result(end: ActEnd) -> String {
    match end {
        ActEnd::Done => "ok".to_owned(),
        ActEnd::Partly { done, of } if done == of => format!("ok, {done}"),
        ActEnd::Partly { done, of } => format!("{done} of {of}"),
        ActEnd::Refused { code, detail } => {
            let why = Rejected::of_code(code, detail).map_or_else(|| format!("code {code}"), |why| why.to_string());
            format!("refused: {why}")
        }
        ActEnd::Said(text) => text,
    }
}
