//! `raftmq debug`: what one looks into when a node does not do what it should.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::proto::admin::{LogLevelRequest, LogLevelResponse, Node};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, duration};
use crate::cli::render::{Column, Listing, known};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show or change the level of the nodes' logs, at once and without a restart
    #[command(
        after_long_help = "Without --for the level stays until the node ends; logLevel in its file is what it starts with.

Examples:
  raftmq debug log-level
  raftmq debug log-level debug --for 10m --node n1
  raftmq -o json debug log-level info"
    )]
    LogLevel(LogLevelArgs),
}

#[derive(Debug, clap::Args)]
pub struct LogLevelArgs {
    /// The new level; without one, the levels are shown
    #[arg(value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: Option<String>,
    /// After this time the configured level counts again
    #[arg(long = "for", value_name = "DUR", value_parser = duration, requires = "level")]
    lasts: Option<Duration>,
    /// Only this node, as in `raftmq cluster status`; may be repeated [default: all]
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
}

/// The level of a node's log. Keys of the JSON.
#[derive(Debug, Serialize)]
struct LevelRow {
    node: String,
    level: Option<String>,
    configured: Option<String>,
    falls_back_in_ms: Option<u64>,
    /// Why nothing is known.
    error: Option<String>,
}

/// Runs one of the commands.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::LogLevel(args) => log_level(context, args).await,
    }
}

async fn log_level(context: &Context, args: LogLevelArgs) -> Result<Exit, Failure> {
    let status = match context.admin.cluster_status().await {
        Ok(status) => status,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    let nodes = chosen(status.nodes, &args.nodes)?;
    let for_ms = args.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    let request = LogLevelRequest { level: args.level, for_ms };
    let mut rows = Vec::new();
    for node in nodes {
        rows.push(match context.admin_of(&node.address)?.log_level(request.clone()).await {
            Ok(LogLevelResponse { node, level, configured, falls_back_in_ms }) => {
                LevelRow { node, level: Some(level), configured: Some(configured), falls_back_in_ms, error: None }
            }
            Err(error) => LevelRow {
                node: node.node,
                level: None,
                configured: None,
                falls_back_in_ms: None,
                error: Some(error.to_string()),
            },
        });
    }
    let failed: Vec<_> = rows.iter().filter_map(|row| Some(format!("{}: {}", row.node, row.error.as_ref()?))).collect();
    let all = rows.len();
    let listing = Listing { schema: "raftmq.log-level.v1", key: "nodes", columns: &COLUMNS, rows, cells };
    listing.print(context.global.output)?;
    match failed.len() {
        0 => Ok(Exit::Ok),
        count => {
            let exit = if count == all { Exit::Unavailable } else { Exit::Partly };
            Err(Failure::new(exit, failed.join("; ")).remedy("look:", "raftmq cluster status"))
        }
    }
}

/// The nodes that were named, or all.
fn chosen(nodes: Vec<Node>, names: &[String]) -> Result<Vec<Node>, Failure> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
    if let Some(stranger) = names.iter().find(|name| !known.contains(name.as_str())) {
        let known: Vec<&str> = known.into_iter().collect();
        return Err(Failure::new(Exit::NotFoundOrExists, format!("there is no node '{stranger}'"))
            .remedy("nodes:", known.join(", ")));
    }
    Ok(nodes.into_iter().filter(|node| names.is_empty() || names.contains(&node.node)).collect())
}

const COLUMNS: [Column; 4] =
    [Column::Text("NODE"), Column::Text("LEVEL"), Column::Text("CONFIGURED"), Column::Number("FALLS BACK IN")];

fn cells(row: &LevelRow) -> Vec<String> {
    let left = row.falls_back_in_ms.map(|left| format!("{:?}", Duration::from_secs(left.div_ceil(1000))));
    vec![row.node.clone(), known(row.level.clone()), known(row.configured.clone()), known(left)]
}
