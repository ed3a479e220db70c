//! What `raftmq message trace` prints: where a message is, and what became of it in each group.

use crate::documents::trace;
use crate::documents::trace::{LifeRow, TraceRow};
use crate::model::Timestamp;
use crate::proto::admin::TraceMessageResponse;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, known, utc};

pub(super) fn print(context: &Context, trace: TraceMessageResponse) -> Result<Exit, Failure> {
    let (searched_to, log_end) = (trace.searched_to, trace.log_end);
    if searched_to < log_end {
        context.say(&format!("looked through the log to entry {searched_to} of {log_end}; give it more with --search"));
    }
    let (life, rows) = trace::rows(trace);
    let text = match context.global.output {
        Format::Table | Format::Wide => life_text(&life) + &table(&rows),
        Format::Json => render::document(&trace::document(&(life, rows)))?,
        Format::Jsonl => rows.iter().map(render::line).collect::<Result<_, _>>()?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

fn life_text(life: &LifeRow) -> String {
    let time = |at| utc(Timestamp(at));
    let unknown =
        if life.unknown.is_empty() { String::new() } else { format!("; {} did not answer", life.unknown.join(" ")) };
    let state = match life.state.as_str() {
        "queued" => format!("queued    queue {} offset {}", known(life.queue), known(life.offset)),
        "delayed" => format!("delayed   until {}", known(life.delivery_at_ms.map(time))),
        "half" => {
            let next = known(life.asked_next_ms.map(time));
            format!("half      its producer was asked {} times, next at {next}", life.asked)
        }
        other => other.to_owned(),
    };
    format!(
        "produced  {} by {}  id {}\n\
         stored    {} term {} entry {} slot {} segment {} on {}{unknown}\n\
         {state}\n",
        time(life.produced_at_ms),
        life.produced_by,
        life.message_id,
        time(life.stored_at_ms),
        known(life.term),
        life.entry,
        life.slot,
        known(life.segment),
        life.replicas.join(" "),
    )
}

/// Nothing for a message that no group can have received.
fn table(rows: &[TraceRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        Column::Text("GROUP"),
        Column::Text("STATE"),
        Column::Text("AT"),
        Column::Text("WHAT"),
        Column::Text("CLIENT"),
        Column::Number("ENTRY"),
    ];
    let cells = |row: &TraceRow| {
        vec![
            row.group.clone(),
            row.state.clone(),
            known(row.at_ms.map(|at| utc(Timestamp(at)))),
            row.what.clone(),
            row.client.clone(),
            known(row.entry),
        ]
    };
    render::table(&columns, rows.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::trace::life;
    use crate::proto::admin::{StoredMessage, TracedEntry};

    #[test]
    fn the_beginning_says_where_the_message_is() {
        let message = StoredMessage { message_id: "01A".into(), born_host: "h".into(), slot: 2, ..Default::default() };
        let entry = TracedEntry {
            index: 17,
            term: 3,
            segment: Some(1),
            replicas: vec!["n0".into(), "n1".into()],
            unknown: vec!["n2".into()],
        };
        let of = |state: &str| life(message.clone(), entry.clone(), state.to_owned());
        assert_eq!(
            life_text(&LifeRow { queue: Some(4), offset: Some(5), ..of("queued") }),
            "produced  1970-01-01 00:00:00 by h  id 01A\n\
             stored    1970-01-01 00:00:00 term 3 entry 17 slot 2 segment 1 on n0 n1; n2 did not answer\n\
             queued    queue 4 offset 5\n"
        );
        let half = life_text(&LifeRow { asked: 2, asked_next_ms: Some(60_000), ..of("half") });
        assert!(half.ends_with("half      its producer was asked 2 times, next at 1970-01-01 00:01:00\n"), "{half}");
        let delayed = life_text(&LifeRow { delivery_at_ms: Some(1000), ..of("delayed") });
        assert!(delayed.ends_with("delayed   until 1970-01-01 00:00:01\n"), "{delayed}");
        assert!(life_text(&of("rolled back")).ends_with("\nrolled back\n"));
        assert!(table(&[]).is_empty());
    }
}
