//! `raftmq cluster events`: what operators did and what befell the cluster.

use crate::documents::events::{EventRow, SCHEMA, row};
use crate::model::Timestamp;
use crate::proto::admin::{ClusterEvent, ListEventsRequest};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::moment;
use crate::cli::options::Context;
use crate::cli::render::{Column, Listing, utc};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what happened since then: 2h, 2026-11-28, 2026-11-28T10:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment::past)]
    since: Option<Timestamp>,
    /// Most events, the newest ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

const COLUMNS: [Column; 6] = [
    Column::Text("TIME"),
    Column::Text("WHAT"),
    Column::Text("ON"),
    Column::Text("DETAIL"),
    Column::Text("RESULT"),
    Column::Text("BY"),
];

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut request = ListEventsRequest { before: 0, since_ms: args.since.map_or(0, |at| at.0), limit: args.limit };
    let mut events: Vec<ClusterEvent> = Vec::new();
    loop {
        let page = match context.admin.list_events(request).await {
            Ok(page) => page,
            Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
        };
        if page.may_be_old && events.is_empty() {
            context.say("there is no leader: this is what the node knew last");
        }
        events.extend(page.events);
        let left = args.limit.saturating_sub(u32::try_from(events.len()).unwrap_or(u32::MAX));
        if page.before == 0 || left == 0 {
            break;
        }
        (request.before, request.limit) = (page.before, left);
    }
    // As in a log, the newest is the last.
    let rows = events.into_iter().rev().map(row).collect();
    let listing = Listing { schema: SCHEMA, key: "events", columns: &COLUMNS, rows, cells };
    listing.print(context.global.output)?;
    Ok(Exit::Ok)
}

fn cells(row: &EventRow) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    let by = row.by.as_ref().map(|by| format!("{} {}", by.address, by.tool)).unwrap_or_default();
    vec![
        utc(Timestamp(row.at_ms)),
        or_dash(&row.what),
        or_dash(&row.on),
        or_dash(&row.detail),
        or_dash(&row.result),
        or_dash(&by),
    ]
}

/// What a request says of its tool may hold anything: a terminal gets no control characters from it.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_what_a_tool_says_of_itself_is_shown_as_text() {
        let event = ClusterEvent {
            number: 4,
            at_ms: 1_795_255_331_999,
            what: "offset-reset".into(),
            on: "billing".into(),
            result: "ok".into(),
            by: Some(crate::proto::admin::EventAuthor {
                address: "10.0.0.9".into(),
                tool: "odd\u{1b}[31m".into(),
                node: "n1".into(),
            }),
            ..ClusterEvent::default()
        };
        let cells = cells(&row(event));
        let expected = ["2026-11-21 10:02:11", "offset-reset", "billing", "-", "ok", "10.0.0.9 odd\u{fffd}[31m"];
        assert_eq!(cells, expected);
    }
}
