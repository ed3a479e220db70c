//! `raftmq group dlq`: list, redrive.

use crate::documents::messages::MessageRow;
use crate::proto::admin::StoredMessage;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::message::print_rows;
use crate::cli::options::{Context, Format};
use crate::cli::render;

/// Dead letters redriven by one request.
const BATCH: usize = 256;
/// Dead letters listed by one request.
const PAGE: u32 = 256;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List a group's dead letters
    #[command(
        after_long_help = "Examples:\n  raftmq group dlq list billing\n  raftmq group dlq list billing --limit 10 -o json"
    )]
    List {
        /// The group
        group: String,
        /// From this offset of the dead letters on
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: u64,
        /// Most dead letters
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Deliver dead letters to their group again, each once, with all its attempts
    #[command(after_long_help = "Examples:\n  raftmq group dlq redrive billing --all\n  \
                           raftmq group dlq redrive billing --offset 3 --offset 4")]
    Redrive {
        /// The group
        group: String,
        #[command(flatten)]
        which: Which,
    },
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Those at these offsets
    #[arg(long = "offset", value_name = "OFFSET")]
    offsets: Vec<u64>,
    /// All that were not redriven before
    #[arg(long)]
    all: bool,
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List { group, from, limit } => {
            let (mut rows, mut from) = (Vec::new(), from);
            while (rows.len() as u64) < u64::from(limit) {
                let left = limit - u32::try_from(rows.len()).unwrap_or(limit);
                let (messages, next, end) = page(context, &group, from, left.min(PAGE)).await?;
                rows.extend(messages.into_iter().map(MessageRow::of));
                from = next;
                if next >= end {
                    break;
                }
            }
            print_rows(context, rows)
        }
        Command::Redrive { group, which } => redrive(context, &group, which).await,
    }
}

async fn page(
    context: &Context,
    group: &str,
    from: u64,
    limit: u32,
) -> Result<(Vec<StoredMessage>, u64, u64), Failure> {
    match context.admin.list_dead_letters(group, from, limit).await {
        Ok(answer) => Ok((answer.messages, answer.next_offset, answer.end_offset)),
        Err(error) => Err(context.failure(&error, Subject::Group(group)).await),
    }
}

async fn redrive(context: &Context, group: &str, which: Which) -> Result<Exit, Failure> {
    let mut offsets = which.offsets;
    if which.all {
        let mut from = 0;
        loop {
            let (messages, next, end) = page(context, group, from, PAGE).await?;
            let is_left = |message: &&StoredMessage| {
                message.origin.as_ref().is_some_and(|origin| origin.redriven_at_ms.is_none())
            };
            offsets.extend(messages.iter().filter(is_left).filter_map(|message| message.offset));
            from = next;
            if next >= end {
                break;
            }
        }
    }
    let (mut redriven, mut left) = (0, Vec::new());
    for batch in offsets.chunks(BATCH) {
        let answers = match context.admin.redrive(group, batch.to_vec()).await {
            Ok(answers) => answers,
            Err(error) => return Err(context.failure(&error, Subject::Group(group)).await),
        };
        redriven += answers.iter().filter(|is| **is).count();
        left.extend(batch.iter().zip(answers).filter(|(_, is)| !is).map(|(offset, _)| *offset));
    }
    let facts = serde_json::json!({ "group": group, "redriven": redriven, "left": left });
    let text = match context.global.output {
        Format::Table | Format::Wide if left.is_empty() => format!("redriven {redriven}\n"),
        Format::Table | Format::Wide => {
            format!("redriven {redriven}, left {} (redriven before, or what they came from is gone)\n", left.len())
        }
        Format::Json => render::document(&serde_json::json!({ "schema": "raftmq.redriven.v1", "redriven": facts }))?,
        Format::Jsonl => render::line(&facts)?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}
