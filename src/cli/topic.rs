//! `raftmq topic`: create, update, list, describe, stats, delete.

use crate::documents::topics;
use crate::documents::topics::{PositionRow, QueueRow, TopicRow, row};
use crate::model::{Millis, TopicType, limits};
use crate::proto::admin::{CreateTopicRequest, UpdateTopicRequest};

use crate::cli::confirm::is_confirmed;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format, retention};
use crate::cli::render;
use crate::cli::render::{Column, Listing, grouped, known};
use crate::cli::stats;
use crate::cli::stats::What;
use crate::cli::topic_table;
use crate::cli::topic_table::describe_text;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Create a topic
    #[command(
        after_long_help = "Examples:\n  raftmq topic create demo\n  raftmq topic create orders -a +message.type=NORMAL --queues 16"
    )]
    Create {
        /// Name: letters, digits, '%', '|', '_' and '-'
        topic: String,
        /// Kind of messages it takes
        #[arg(long = "type", value_name = "TYPE", value_parser = topic_type, conflicts_with = "attributes")]
        message_type: Option<&'static str>,
        /// mqadmin's form of the type: +message.type=NORMAL
        #[arg(short, long, value_name = "+KEY=VALUE", allow_hyphen_values = true, value_parser = attributes)]
        attributes: Option<&'static str>,
        /// Number of queues; the broker's default is 8
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::TOPIC_QUEUES_MAX)))]
        queues: Option<u32>,
        /// How long its messages are kept, such as 36h or 7d; the broker's default is fileReservedTime
        #[arg(long, value_name = "TIME", value_parser = retention)]
        retention: Option<Millis>,
    },
    /// Change a topic: its retention, more queues, its permission, or its type between NORMAL, DELAY, TRANSACTION and MIXED
    #[command(after_long_help = "Examples:\n  raftmq topic update demo --queues 16\n  \
                           raftmq topic update demo --permission R\n  raftmq topic update demo --retention 7d")]
    Update {
        /// Its name
        topic: String,
        #[command(flatten)]
        change: Change,
    },
    /// List topics
    #[command(after_long_help = "Examples:\n  raftmq topic list\n  raftmq topic list -o jsonl")]
    List,
    /// Show one topic's queues and the positions of its groups
    #[command(after_long_help = "Examples:\n  raftmq topic describe demo\n  raftmq topic describe demo -o json")]
    Describe {
        /// Its name
        topic: String,
    },
    /// Show what entered topics: per second, by hour and day, in all (mqadmin: statsAll)
    #[command(
        after_long_help = "Counts are of the node that leads, in its memory: the first line says since when.\n\n\
                           Examples:\n  raftmq topic stats\n  raftmq topic stats demo\n  raftmq topic stats -o json"
    )]
    Stats {
        /// One topic, with its groups
        topic: Option<String>,
    },
    /// Delete a topic and its messages
    #[command(after_long_help = "Examples:\n  raftmq topic delete demo\n  raftmq topic delete demo --yes")]
    Delete {
        /// Its name
        topic: String,
        /// Do not ask; required when there is no terminal
        #[arg(long)]
        yes: bool,
    },
}

/// What changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Change {
    /// Kind of messages it takes from now on
    #[arg(long = "type", value_name = "TYPE", value_parser = topic_type)]
    topic_type: Option<&'static str>,
    /// Number of queues; they are only added, and not to FIFO or MIXED topics
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::TOPIC_QUEUES_MAX)))]
    queues: Option<u32>,
    /// R, W or RW; mqadmin's 4, 2 and 6 are understood
    #[arg(long, value_name = "PERM", value_parser = permission_bits)]
    permission: Option<u32>,
    /// How long its messages are kept, such as 36h or 7d: longer than others, they are copied on as the log goes; 'default' for the broker's fileReservedTime
    #[arg(long, value_name = "TIME", value_parser = retention)]
    retention: Option<Millis>,
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create { topic, message_type, attributes, queues, retention } => {
            let request = CreateTopicRequest {
                name: topic,
                r#type: message_type.or(attributes).unwrap_or("NORMAL").to_owned(),
                queues: queues.unwrap_or(0),
                retention_ms: retention.unwrap_or_default().0,
            };
            create(context, request).await
        }
        Command::Update { topic, change } => update(context, &topic, &change).await,
        Command::List => list(context).await,
        Command::Describe { topic } => describe(context, &topic).await,
        Command::Stats { topic } => stats::run(context, What::Topics(topic.as_deref())).await,
        Command::Delete { topic, yes } => delete(context, &topic, yes).await,
    }
}

async fn create(context: &Context, request: CreateTopicRequest) -> Result<Exit, Failure> {
    let name = request.name.clone();
    match context.admin.create_topic(request).await {
        Ok(topic) => print_one(context, "created", row(topic)),
        // Not `context.failure`: a name that exists needs no similar one.
        Err(error) => Err(Failure::of(&error, Subject::Topic(&name))),
    }
}

async fn update(context: &Context, name: &str, change: &Change) -> Result<Exit, Failure> {
    let request = UpdateTopicRequest {
        name: name.to_owned(),
        r#type: change.topic_type.unwrap_or_default().to_owned(),
        queues: change.queues.unwrap_or_default(),
        permission: change.permission.unwrap_or_default(),
        retention_ms: change.retention.map(|kept_for| kept_for.0),
    };
    match context.admin.update_topic(request).await {
        Ok(topic) => print_one(context, "changed", row(topic)),
        Err(error) => Err(context.failure(&error, Subject::Topic(name)).await),
    }
}

fn print_one(context: &Context, what: &str, topic: TopicRow) -> Result<Exit, Failure> {
    let text = match context.global.output {
        Format::Table | Format::Wide => {
            let retention =
                topic.retention_ms.map(|kept_for| format!("  retention {}", Millis(kept_for).in_one_unit()));
            format!(
                "{what} topic {}  type {}  queues {}  perm {}{}\n",
                topic.topic,
                topic.r#type,
                topic.queues,
                topic.permission,
                retention.unwrap_or_default()
            )
        }
        Format::Json => {
            render::document(&serde_json::json!({ "schema": format!("raftmq.topic.{what}.v1"), "topic": topic }))?
        }
        Format::Jsonl => render::line(&topic)?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let topics = match context.admin.list_topics().await {
        Ok(topics) => topics,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    Listing {
        schema: "raftmq.topics.v1",
        key: "topics",
        columns: &[
            Column::Text("TOPIC"),
            Column::Text("TYPE"),
            Column::Number("QUEUES"),
            Column::Text("PERM"),
            Column::Number("MESSAGES"),
            Column::Number("GROUPS"),
            Column::Number("MAX LAG"),
            Column::Number("RETENTION"),
        ],
        rows: topics.into_iter().map(row).collect(),
        cells: |row: &TopicRow| {
            vec![
                row.topic.clone(),
                row.r#type.clone(),
                row.queues.to_string(),
                row.permission.to_owned(),
                grouped(row.messages),
                row.groups.to_string(),
                known(row.lag_max.map(grouped)),
                topic_table::retention(row),
            ]
        },
    }
    .print(context.global.output)?;
    Ok(Exit::Ok)
}

async fn describe(context: &Context, name: &str) -> Result<Exit, Failure> {
    let response = match context.admin.describe_topic(name).await {
        Ok(response) => response,
        Err(error) => return Err(context.failure(&error, Subject::Topic(name)).await),
    };
    if context.global.output == Format::Json {
        render::print(&render::document(&topics::one(response))?)?;
        return Ok(Exit::Ok);
    }
    let topic =
        row(response.topic.ok_or_else(|| Failure::new(Exit::Failed, "the server told nothing of the topic"))?);
    let queues: Vec<QueueRow> = response.queues.into_iter().map(QueueRow::from).collect();
    let positions: Vec<PositionRow> = response.positions.into_iter().map(PositionRow::from).collect();
    let text = match context.global.output {
        Format::Jsonl => queues.iter().map(render::line).collect::<Result<String, _>>()?,
        Format::Table | Format::Wide | Format::Json => {
            describe_text(&topic, &queues, &positions, crate::env::clock::wall())
        }
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

async fn delete(context: &Context, name: &str, yes: bool) -> Result<Exit, Failure> {
    let topic = match context.admin.describe_topic(name).await {
        Ok(response) => response.topic.unwrap_or_default(),
        Err(error) => return Err(context.failure(&error, Subject::Topic(name)).await),
    };
    if !yes {
        let what = format!("topic '{name}' with {} messages and {} groups", grouped(topic.messages), topic.groups);
        if !is_confirmed(&format!("delete {what}"), &format!("raftmq topic delete {name}"))? {
            context.say("nothing done");
            return Ok(Exit::Ok);
        }
    }
    match context.admin.delete_topic(name).await {
        Ok(()) => {}
        Err(error) => return Err(Failure::of(&error, Subject::Topic(name))),
    }
    let text = match context.global.output {
        Format::Table | Format::Wide => format!("deleted topic {name}\n"),
        Format::Json => render::document(&serde_json::json!({ "schema": "raftmq.topic.deleted.v1", "topic": name }))?,
        Format::Jsonl => render::line(&serde_json::json!({ "topic": name }))?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

fn topic_type(text: &str) -> Result<&'static str, String> {
    let names = || TopicType::SERVED.map(TopicType::name).join(", ");
    TopicType::parse(text).map(TopicType::name).ok_or_else(|| format!("'{text}' is none of {}", names()))
}

fn permission_bits(text: &str) -> Result<u32, String> {
    match text.to_ascii_uppercase().as_str() {
        "R" | "4" => Ok(4),
        "W" | "2" => Ok(2),
        "RW" | "6" => Ok(6),
        _ => Err(format!("'{text}' is none of R, W and RW")),
    }
}

fn attributes(text: &str) -> Result<&'static str, String> {
    let value = text.strip_prefix("+message.type=");
    topic_type(value.ok_or_else(|| format!("'{text}' is not +message.type=TYPE"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_in_both_forms() {
        assert_eq!(topic_type("fifo"), Ok("FIFO"));
        assert_eq!(attributes("+message.type=NORMAL"), Ok("NORMAL"));
        assert_eq!(topic_type("mixed"), Ok("MIXED"));
        assert!(topic_type("odd").is_err());
        assert!(attributes("message.type=NORMAL").is_err());
        assert!(attributes("+delete.policy=x").is_err());
    }

    #[test]
    fn permission_bits_read_as_letters() {
        assert_eq!(["rw", "4", "W"].map(permission_bits), [Ok(6), Ok(4), Ok(2)]);
        assert!(permission_bits("7").is_err());
    }
}
