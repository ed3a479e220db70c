//! `raftmq cluster`: status (who leads, who follows, who lags, what each disk has), transfer of leadership, members, trim,
//! events.

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::{cluster_status, events, members, trim};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show each node's role, term, position and lag (mqadmin: clusterList)
    #[command(
        visible_alias = "clusterList",
        after_long_help = "Examples:\n  raftmq cluster status\n  raftmq cluster status -o wide\n  raftmq -n 127.0.0.1:8082 cluster status -o json"
    )]
    Status,
    /// Make a node the leader; refused, with the reason, if it cannot lead now
    #[command(
        after_long_help = "Sends wait for some milliseconds meanwhile, and none fails. To have a node lead whenever it can, set
preferredLeaderId in the configuration of all nodes.

Examples:
  raftmq cluster transfer-leader n1
  raftmq -n 127.0.0.1:8082 cluster transfer-leader n2 -o json"
    )]
    TransferLeader {
        /// The node, as in `raftmq cluster status`
        #[arg(value_name = "NAME")]
        node: String,
    },
    /// Show the members of the group, how far each follows, and what change of them is under way
    #[command(after_long_help = "Examples:\n  raftmq cluster members\n  raftmq -o json cluster members")]
    Members,
    /// Take a new member in: it catches up first, and votes only then
    #[command(
        after_long_help = "Examples:\n  raftmq cluster add n3 --peer 10.0.0.4:40911\n  raftmq cluster add n3 --peer 10.0.0.4:40911 --no-wait\n\n\
                           The new node is started with dLegerSelfId=n3 and with all members in dLegerPeers, before or after \
                           this command. The others keep their dLegerPeers."
    )]
    Add(members::AddArgs),
    /// Put a new replica in the place of a member whose disk is lost, wiped, rolled back or damaged
    #[command(
        after_long_help = "Examples:\n  raftmq cluster replace n2\n  raftmq cluster replace n2 --peer 10.0.0.7:40911 --yes\n\n\
                           The name stays. The node drops what is in its folder and gets everything anew from the others; \
                           start it if it is down."
    )]
    Replace(members::ReplaceArgs),
    /// Let a member go
    #[command(after_long_help = "Examples:\n  raftmq cluster remove n4 --dry-run\n  raftmq cluster remove n4 --yes")]
    Remove(members::RemoveArgs),
    /// Undo the change of members that is under way, if it has not come too far
    #[command(after_long_help = "Examples:\n  raftmq cluster cancel\n  raftmq -n 127.0.0.1:8082 cluster cancel")]
    Cancel,
    /// Delete messages that were stored before a time; consumers that had not come to them go on with the next
    #[command(after_long_help = "Examples:\n  raftmq cluster trim --before 2h --dry-run\n  \
                           raftmq cluster trim --before 7d --topic orders --yes")]
    Trim(trim::Args),
    /// Show what operators did, from where, and when who began to lead; the newest 10,000 are kept
    #[command(after_long_help = "Examples:\n  raftmq cluster events\n  raftmq cluster events --since 2h -o json\n\n\
                           Every node answers from what it has applied itself. Acts are noted from when all nodes know them \
                           (cluster version 4); nothing is noted per message.")]
    Events(events::Args),
}

/// Runs one of the commands; a status without a leader has an exit code that says so.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Status => cluster_status::run(context).await,
        Command::TransferLeader { node } => transfer_leader(context, &node).await,
        Command::Members => members::list(context).await,
        Command::Add(args) => members::add(context, args).await,
        Command::Replace(args) => members::replace(context, args).await,
        Command::Remove(args) => members::remove(context, args).await,
        Command::Cancel => members::cancel(context).await,
        Command::Trim(args) => trim::run(context, args).await,
        Command::Events(args) => events::run(context, args).await,
    }
}

async fn transfer_leader(context: &Context, node: &str) -> Result<Exit, Failure> {
    let from = match context.admin.transfer_leader(node).await {
        Ok(from) => from,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    let text = match (context.global.output, from.as_deref()) {
        (Format::Table | Format::Wide, Some(from)) if from == node => format!("{node} leads already\n"),
        (Format::Table | Format::Wide, Some(from)) => format!("{node} leads; before it was {from}\n"),
        (Format::Table | Format::Wide, None) => format!("{node} leads\n"),
        (Format::Json, _) => render::document(&serde_json::json!({
            "schema": "raftmq.transfer-leader.v1",
            "leader": node,
            "from": from,
        }))?,
        (Format::Jsonl, _) => render::line(&serde_json::json!({ "leader": node, "from": from }))?,
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}
