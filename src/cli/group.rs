//! `raftmq group`: create, update, list, describe, stats, delete, reset-offset, dlq.

use crate::documents::groups;
use crate::documents::groups::{GroupRow, MemberRow, MovedRow, member, row};
use crate::documents::topics::PositionRow;
use crate::model::{Backoff, Timestamp};
use crate::proto::admin::reset_offset_request::To;
use crate::proto::admin::{CreateGroupRequest, UpdateGroupRequest};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::moment::past;
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, Listing, grouped, known, rough};
use crate::cli::stats;
use crate::cli::stats::What;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a consumer group before its first use
    #[command(
        after_long_help = "Examples:\n  raftmq group create billing\n  raftmq group create billing --retries 3\n  \
                           raftmq group create steps --orderly --backoff 1s,5s,30s"
    )]
    Create {
        /// Name: letters, digits, '%', '|', '_' and '-'
        group: String,
        /// Deliveries after the first, as told to clients; the broker's default is 16
        #[arg(long, value_name = "N")]
        retries: Option<u32>,
        /// In order also from topics that are not FIFO, queue by queue
        #[arg(long)]
        orderly: bool,
        /// What push consumers wait between deliveries: default, 1s,5s,30s or exponential:5s,2h,2
        #[arg(long, value_name = "WAITS", value_parser = backoff)]
        backoff: Option<String>,
        /// Where it starts in a topic: default, first, last, or a time such as 2h (ago), 2026-11-28T10:00:00Z
        #[arg(long, value_name = "WHERE", value_parser = consume_from)]
        consume_from: Option<String>,
        /// SQL condition: all that the group is to have, whatever its clients subscribe to
        #[arg(long, value_name = "SQL")]
        filter: Option<String>,
    },
    /// Change a consumer group
    #[command(after_long_help = "Examples:\n  raftmq group update billing --retries 3\n  \
                           raftmq group update billing --backoff exponential:5s,2h,2\n  \
                           raftmq group update billing --filter \"region = 'eu' AND amount > 100\"")]
    Update {
        /// Its name
        group: String,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a consumer group and its positions; its dead letters stay
    #[command(
        after_long_help = "Examples:\n  raftmq group delete billing --yes\n  raftmq group delete billing --yes -o json"
    )]
    Delete {
        /// Its name
        group: String,
        /// Required: nothing is asked
        #[arg(long, required = true)]
        yes: bool,
    },
    /// Look at dead letters and deliver them again
    #[command(subcommand)]
    Dlq(super::dlq::Command),
    /// List consumer groups
    #[command(after_long_help = "Examples:\n  raftmq group list\n  raftmq group list -o json")]
    List,
    /// Move a group in a topic; what it has at work there is forgotten, and its handles do nothing any more
    #[command(
        name = "reset-offset",
        after_long_help = "Examples:\n  raftmq group reset-offset billing orders --to earliest --dry-run\n  \
                           raftmq group reset-offset billing orders --to-time 2h\n  \
                           raftmq group reset-offset billing orders --to-time 2026-11-28T10:00:00Z"
    )]
    ResetOffset {
        /// The group
        group: String,
        /// The topic
        topic: String,
        #[command(flatten)]
        to: Target,
        /// Only show what it would do
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what groups were delivered and acknowledged: per second, by hour and day, in all (mqadmin: brokerConsumeStats)
    #[command(
        after_long_help = "Counts are of the node that leads, in its memory: the first line says since when.\n\n\
                           Examples:\n  raftmq group stats\n  raftmq group stats billing -o json"
    )]
    Stats {
        /// One group
        group: Option<String>,
    },
    /// Show one group's positions and members
    #[command(after_long_help = "Examples:\n  raftmq group describe billing\n  raftmq group describe billing -o json")]
    Describe {
        /// Its name
        group: String,
    },
}

/// What changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Change {
    /// Deliveries after the first
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// What push consumers wait between deliveries: default, 1s,5s,30s or exponential:5s,2h,2
    #[arg(long, value_name = "WAITS", value_parser = backoff)]
    backoff: Option<String>,
    /// Where it starts in a topic it has not consumed yet: default, first, last, or a time such as 2h (ago), 2026-11-28T10:00:00Z
    #[arg(long, value_name = "WHERE", value_parser = consume_from)]
    consume_from: Option<String>,
    /// SQL condition: all that the group is to have, whatever its clients subscribe to; '' for everything
    #[arg(long, value_name = "SQL")]
    filter: Option<String>,
}

fn backoff(text: &str) -> Result<String, String> {
    Backoff::parse(text).map(|backoff| backoff.to_text())
}

/// As the nodes read it: a word, or milliseconds since 1970.
fn consume_from(text: &str) -> Result<String, String> {
    match text {
        "default" | "first" | "last" => Ok(text.to_owned()),
        _ => past(text).map(|at| at.0.to_string()).map_err(|error| format!("{error}; or default, first, last")),
    }
}

/// Where a group is moved to.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The first message that can be read, the next one to be stored, or the first that is not settled
    #[arg(long, value_name = "END")]
    to: Option<End>,
    /// The first message stored then or later: 2h ago, 2026-11-28, 2026-11-28T10:00:00Z or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = past)]
    to_time: Option<Timestamp>,
    /// This offset in every queue, or the nearest a queue has
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
}

/// An end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum End {
    /// The first message that can be read
    Earliest,
    /// The next message to be stored
    Latest,
    /// In each queue the first message that is not settled: what consumers hold is delivered again at once
    Unsettled,
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create { group, retries, orderly, backoff, consume_from, filter } => {
            let request = CreateGroupRequest {
                name: group,
                retries_max: retries,
                orderly,
                backoff: backoff.unwrap_or_default(),
                consume_from: consume_from.unwrap_or_default(),
                filter,
            };
            create(context, request).await
        }
        Command::Update { group, change } => {
            let request = UpdateGroupRequest {
                name: group,
                retries_max: change.retries,
                backoff: change.backoff.unwrap_or_default(),
                consume_from: change.consume_from.unwrap_or_default(),
                filter: change.filter,
            };
            update(context, request).await
        }
        Command::Delete { group, yes: _ } => delete(context, &group).await,
        Command::Dlq(command) => super::dlq::run(context, command).await,
        Command::List => list(context).await,
        Command::ResetOffset { group, topic, to, dry_run } => reset(context, &group, &topic, &to, dry_run).await,
        Command::Describe { group } => describe(context, &group).await,
        Command::Stats { group } => stats::run(context, What::Groups(group.as_deref())).await,
    }
}

async fn create(context: &Context, request: CreateGroupRequest) -> Result<Exit, Failure> {
    let name = request.name.clone();
    match context.admin.create_group(request).await {
        Ok(group) => print_one(context, "created", row(group)),
        Err(error) => Err(Failure::of(&error, Subject::Group(&name))),
    }
}

async fn update(context: &Context, request: UpdateGroupRequest) -> Result<Exit, Failure> {
    let name = request.name.clone();
    match context.admin.update_group(request).await {
        Ok(group) => print_one(context, "changed", row(group)),
        Err(error) => Err(context.failure(&error, Subject::Group(&name)).await),
    }
}

fn print_one(context: &Context, what: &str, group: GroupRow) -> Result<Exit, Failure> {
    let text = match context.global.output {
        Format::Table | Format::Wide => format!("{what} group {}  retries {}\n", group.group, group.retries_max),
        Format::Json => {
            render::document(&serde_json::json!({ "schema": format!("raftmq.group.{what}.v1"), "group": group }))?
        }
        Format::Jsonl => render::line(&group)?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

async fn delete(context: &Context, name: &str) -> Result<Exit, Failure> {
    if let Err(error) = context.admin.delete_group(name).await {
        return Err(context.failure(&error, Subject::Group(name)).await);
    }
    let text = match context.global.output {
        Format::Table | Format::Wide => format!("deleted group {name}\n"),
        Format::Json => render::document(&serde_json::json!({ "schema": "raftmq.group.deleted.v1", "group": name }))?,
        Format::Jsonl => render::line(&serde_json::json!({ "group": name }))?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

async fn reset(context: &Context, group: &str, topic: &str, target: &Target, dry_run: bool) -> Result<Exit, Failure> {
    let to = match (target.to, target.to_time, target.to_offset) {
        (Some(End::Earliest), ..) => To::Earliest(true),
        (Some(End::Latest), ..) => To::Latest(true),
        (Some(End::Unsettled), ..) => To::Unsettled(true),
        (None, Some(at), _) => To::TimestampMs(at.0),
        (None, None, offset) => To::Offset(offset.unwrap_or_default()),
    };
    let moved = match context.admin.reset_offset(group, topic, to, dry_run).await {
        Ok(moved) => moved,
        Err(error) => return Err(context.failure(&error, Subject::Group(group)).await),
    };
    Listing {
        schema: "raftmq.group.moved.v1",
        key: "positions",
        columns: &[Column::Number("QUEUE"), Column::Number("FROM"), Column::Number("TO")],
        rows: moved.into_iter().map(MovedRow::from).collect(),
        cells: |row: &MovedRow| vec![row.queue.to_string(), grouped(row.from), grouped(row.to)],
    }
    .print(context.global.output)?;
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let groups = match context.admin.list_groups().await {
        Ok(groups) => groups,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    Listing {
        schema: "raftmq.groups.v1",
        key: "groups",
        columns: &[
            Column::Text("GROUP"),
            Column::Text("TYPE"),
            Column::Number("MEMBERS"),
            Column::Number("TOPICS"),
            Column::Number("INFLIGHT"),
            Column::Number("LAG"),
            Column::Number("RETRIES"),
        ],
        rows: groups.into_iter().map(row).collect(),
        cells: |row: &GroupRow| {
            vec![
                row.group.clone(),
                row.r#type.to_owned(),
                row.members.to_string(),
                row.topics.to_string(),
                grouped(row.in_flight),
                grouped(row.lag),
                row.retries_max.to_string(),
            ]
        },
    }
    .print(context.global.output)?;
    Ok(Exit::Ok)
}

async fn describe(context: &Context, name: &str) -> Result<Exit, Failure> {
    let response = match context.admin.describe_group(name).await {
        Ok(response) => response,
        Err(error) => return Err(context.failure(&error, Subject::Group(name)).await),
    };
    if context.global.output == Format::Json {
        render::print(&render::document(&groups::one(response))?)?;
        return Ok(Exit::Ok);
    }
    let group =
        row(response.group.ok_or_else(|| Failure::new(Exit::Failed, "the server told nothing of the group"))?);
    let positions: Vec<PositionRow> = response.positions.into_iter().map(PositionRow::from).collect();
    let members: Vec<MemberRow> = response.members.into_iter().map(member).collect();
    let text = match context.global.output {
        Format::Jsonl => positions.iter().map(render::line).collect::<Result<String, _>>()?,
        Format::Table | Format::Wide | Format::Json => {
            describe_text(&group, &positions, &members, &response.inconsistencies, crate::env::clock::wall())
        }
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

fn describe_text(
    group: &GroupRow,
    positions: &[PositionRow],
    members: &[MemberRow],
    inconsistencies: &[String],
    now: Timestamp,
) -> String {
    let oldest = group.oldest_unsettled_at_ms.map(|at| rough(now.since(Timestamp(at))));
    let mut text = format!(
        "{}  type {}  members {}  retries {}  backoff {}  from {}  created {} ago\n\
         lag {}  in flight {}  returning {}  dead {}  oldest unsettled {}\n",
        group.group,
        group.r#type,
        group.members,
        group.retries_max,
        group.backoff,
        group.consume_from,
        rough(now.since(Timestamp(group.created_at_ms))),
        grouped(group.lag),
        grouped(group.in_flight),
        grouped(group.returning),
        grouped(group.dead),
        known(oldest),
    );
    if !group.filter.is_empty() {
        text.push_str(&format!("filter {}\n", group.filter));
    }
    for inconsistency in inconsistencies {
        text.push_str(&format!("WARNING members want different messages of {inconsistency}\n"));
    }
    let mut columns = vec![
        Column::Text("TOPIC"),
        Column::Number("QUEUE"),
        Column::Number("MAX"),
        Column::Number("COMMITTED"),
        Column::Number("INFLIGHT"),
        Column::Number("LAG"),
    ];
    let lost: u64 = positions.iter().map(|position| position.lost).sum();
    if lost > 0 {
        columns.push(Column::Number("LOST"));
        text.push_str(&format!("lost {}: they were deleted before the group had consumed them\n", grouped(lost)));
    }
    if positions.is_empty() {
        text.push_str("no positions: nothing was consumed yet\n");
    } else {
        let cells = |row: &PositionRow| {
            let numbers = [u64::from(row.queue), row.max_offset, row.group_offset, row.in_flight, row.lag];
            let mut cells = vec![row.topic.clone()];
            cells.extend(numbers.map(|number| number.to_string()));
            cells.extend((lost > 0).then(|| row.lost.to_string()));
            cells
        };
        text.push_str(&render::table(&columns, positions.iter().map(cells)));
    }
    if !members.is_empty() {
        let columns = [
            Column::Text("MEMBER"),
            Column::Text("LANGUAGE"),
            Column::Text("VERSION"),
            Column::Text("ADDR"),
            Column::Text("SEEN"),
            Column::Text("NODE"),
            Column::Text("WANTS"),
        ];
        let cells = |row: &MemberRow| {
            let seen = rough(now.since(Timestamp(row.last_seen_at_ms)));
            vec![
                row.client_id.clone(),
                row.language.clone(),
                row.version.clone(),
                row.address.clone(),
                format!("{seen} ago"),
                row.node.clone(),
                if row.subscriptions.is_empty() { "-".to_owned() } else { row.subscriptions.join("; ") },
            ]
        };
        text.push_str(&render::table(&columns, members.iter().map(cells)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::admin::Group;

    #[test]
    fn a_description_has_positions_and_members() {
        let group = row(Group {
            name: "g".into(),
            retries_max: 16,
            members: 1,
            backoff: "default".into(),
            consume_from: "default".into(),
            lag: 104,
            dead: 2,
            oldest_unsettled_at_ms: Some(30_000),
            ..Default::default()
        });
        let position = || PositionRow {
            group: "g".into(),
            topic: "orders".into(),
            queue: 0,
            max_offset: 1204,
            group_offset: 1100,
            in_flight: 4,
            lag: 104,
            lost: 0,
            ..PositionRow::default()
        };
        let one = MemberRow {
            client_id: "h@1".into(),
            language: "JAVA".into(),
            version: "5.2.1".into(),
            address: "10.0.0.7".into(),
            last_seen_at_ms: 58_000,
            node: "n1".into(),
            subscriptions: vec!["orders TAG *".into()],
        };
        assert_eq!(
            describe_text(&group, &[position()], &[one], &["topic 'x': a against b".into()], Timestamp(60_000)),
            "g  type normal  members 1  retries 16  backoff default  from default  created 1m ago\n\
             lag 104  in flight 0  returning 0  dead 2  oldest unsettled 30s\n\
             WARNING members want different messages of topic 'x': a against b\n\
             TOPIC   QUEUE   MAX  COMMITTED  INFLIGHT  LAG\n\
             orders      0  1204       1100         4  104\n\
             MEMBER  LANGUAGE  VERSION  ADDR      SEEN    NODE  WANTS\n\
             h@1     JAVA      5.2.1    10.0.0.7  2s ago  n1    orders TAG *\n"
        );
        assert!(describe_text(&group, &[], &[], &[], Timestamp(0)).contains("no positions"));
        let lossy = PositionRow { lost: 1100, ..position() };
        let text = describe_text(&group, &[position(), lossy], &[], &[], Timestamp(60_000));
        assert!(
            text.ends_with(
                "oldest unsettled 30s\n\
                 lost 1,100: they were deleted before the group had consumed them\n\
                 TOPIC   QUEUE   MAX  COMMITTED  INFLIGHT  LAG  LOST\n\
                 orders      0  1204       1100         4  104     0\n\
                 orders      0  1204       1100         4  104  1100\n"
            ),
            "{text}"
        );
    }
}
