//! `raftmq client`: list. And mqadmin's `consumerConnection` and `producerConnection`.

use crate::documents::clients::{ClientRow, SCHEMA, rows};
use crate::model::Timestamp;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::Context;
use crate::cli::render::{Column, Listing, utc};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the clients that are connected, of all nodes and of both protocols
    #[command(
        after_long_help = "A client with several groups has a line for each.\n\nExamples:\n  raftmq client list\n  raftmq client list --group billing -o json"
    )]
    List(ListArgs),
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct ListArgs {
    /// Only clients of this group, of consumers or of producers
    #[arg(long)]
    group: Option<String>,
    /// Only those that consume, or only those that produce
    #[arg(long, value_parser = ["consumer", "producer"])]
    kind: Option<String>,
    /// Only those that publish to it, or do not say to what they do.
    #[arg(skip)]
    topic: Option<String>,
}

impl ListArgs {
    /// Those of a group that consume.
    pub fn consumers(group: String) -> Self {
        Self { group: Some(group), kind: Some("consumer".to_owned()), topic: None }
    }

    /// Those of a group that produce, for a topic.
    pub fn producers(group: String, topic: Option<String>) -> Self {
        Self { group: Some(group), kind: Some("producer".to_owned()), topic }
    }

    fn wants(&self, row: &ClientRow) -> bool {
        let is_of = |group: &Option<String>| group.is_some() && *group == self.group;
        (self.group.is_none() || is_of(&row.group) || is_of(&row.producer_group))
            && self.kind.as_deref().is_none_or(|kind| kind == row.kind())
            && self.topic.as_ref().is_none_or(|topic| row.topics.is_empty() || row.topics.contains(topic))
    }
}

const COLUMNS: [Column; 9] = [
    Column::Text("CLIENT"),
    Column::Text("KIND"),
    Column::Text("GROUP"),
    Column::Text("LANGUAGE"),
    Column::Text("VERSION"),
    Column::Text("ADDRESS"),
    Column::Text("NODE"),
    Column::Text("SEEN"),
    Column::Text("TOPICS"),
];

pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let Command::List(args) = command;
    list(context, &args).await
}

/// Asks, and prints those that are wanted.
pub async fn list(context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let listed = match context.admin.list_clients().await {
        Ok(listed) => listed,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    for node in &listed.unknown {
        context.say(&format!("{node} did not say whom it sees"));
    }
    if listed.left_out > 0 {
        context.say(&format!("{} clients more are left out", listed.left_out));
    }
    let rows = rows(listed.clients).into_iter().filter(|row| args.wants(row)).collect();
    let listing = Listing { schema: SCHEMA, key: "clients", columns: &COLUMNS, rows, cells };
    listing.print(context.global.output)?;
    Ok(Exit::Ok)
}

fn cells(row: &ClientRow) -> Vec<String> {
    let group = row.group.as_deref().or(row.producer_group.as_deref()).unwrap_or_default();
    let topics = [&row.topics[..], &row.subscriptions[..]].concat().join(", ");
    let mut cells = vec![or_dash(&row.client_id), row.kind().to_owned(), or_dash(group)];
    cells.extend([&row.language, &row.version, &row.address, &row.node].map(|text| or_dash(text)));
    cells.extend([utc(Timestamp(row.last_seen_at_ms)), or_dash(&topics)]);
    cells
}

/// What a client says of itself may hold anything: a terminal gets no control characters from it.
fn or_dash(text: &str) -> String {
    let printable = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    if text.is_empty() { "-".to_owned() } else { text.chars().map(printable).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::Client;

    #[test]
    fn clients_are_shown_by_group_and_kind_and_as_text() {
        let client = |id: &str, group: &str, producer_group: &str| Client {
            client_id: id.into(),
            group: group.into(),
            producer_group: producer_group.into(),
            ..Client::default()
        };
        let all =
            rows(vec![client("a", "g", ""), client("b\u{1b}", "", "g"), client("c", "", ""), client("d", "h", "")]);
        let shown = |args: ListArgs| {
            let wanted = all.iter().filter(|row| args.wants(row));
            wanted.map(|row| cells(row)[..3].join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(ListArgs::default()),
            ["a consumer g", "b\u{fffd} producer g", "c producer -", "d consumer h"]
        );
        assert_eq!(shown(ListArgs::consumers("g".into())), ["a consumer g"]);
        assert_eq!(shown(ListArgs::producers("g".into(), Some("t".into()))), ["b\u{fffd} producer g"]);
        let consumers = ListArgs { kind: Some("consumer".into()), ..ListArgs::default() };
        assert_eq!(shown(consumers), ["a consumer g", "d consumer h"]);
    }
}
