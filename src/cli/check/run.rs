//! Asks every node, has the rules judge, prints.

use futures_util::future::join_all;

use crate::proto::admin::Node;

use crate::cli::check::finding::{Finding, Verdict};
use crate::cli::check::rules::{Asked, findings};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each line is ok, warn or FAIL, with what to do. The exit code is 0 without a FAIL, else 5.

Examples:
  raftmq check
  raftmq -n 10.0.0.1:8081 check -o json")]
pub struct Args {}

/// Looks at everything; a FAIL among it is the exit code of an unhealthy cluster.
pub async fn run(context: &Context, _args: Args) -> Result<Exit, Failure> {
    let status = match context.admin.cluster_status().await {
        Ok(status) => status,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    let answer = status.nodes.iter().filter(|node| node.term.is_some());
    let asked = join_all(answer.map(|node| ask(context, node))).await;
    // Without a leader nobody knows; that there is none is said.
    let groups =
        if status.leader.is_some() { context.admin.list_groups().await.unwrap_or_default() } else { Vec::new() };
    let found = findings(&status, &asked, &groups, crate::env::clock::wall());
    let count = |verdict| found.iter().filter(|finding| finding.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Fail), count(Verdict::Warn));
    let text = match context.global.output {
        Format::Json => render::document(&serde_json::json!({
            "schema": "raftmq.check.v1",
            "healthy": failed == 0,
            "failed": failed,
            "warnings": warnings,
            "findings": found,
        }))?,
        Format::Jsonl => found.iter().map(render::line).collect::<Result<_, _>>()?,
        Format::Table | Format::Wide => found.iter().map(Finding::to_text).collect(),
    };
    render::print(&text)?;
    context.say(&match (failed, warnings) {
        (0, 0) => "nothing to do".to_owned(),
        (failed, warnings) => {
            format!("{failed} failed, {warnings} {}", if warnings == 1 { "warning" } else { "warnings" })
        }
    });
    Ok(if failed == 0 { Exit::Ok } else { Exit::Unavailable })
}

async fn ask(context: &Context, node: &Node) -> Asked {
    let facts = match context.admin_of(&node.address) {
        Ok(admin) => admin.node_facts().await.map_err(|error| error.to_string()),
        Err(failure) => Err(failure.text().trim().to_owned()),
    };
    Asked { node: node.node.clone(), facts }
}
