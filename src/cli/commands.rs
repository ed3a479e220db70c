//! The command line: all commands, their grouped help, and where each goes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::client::ListArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options::{Context, Format, Global};
use crate::cli::stats::What;
use crate::cli::{
    backup, bench, broker, check, client, cluster, config, consume, debug, drill, group, message, namesrv, options,
    produce, stats, top, topic,
};

/// Commands by what one wants to do; clap cannot group subcommands, and a test holds this to the real ones.
const HELP: &str = "\
raftmq - message broker for RocketMQ 5 clients, replicated with Raft

Usage: raftmq [OPTIONS] <COMMAND>

Run
  broker      Start a broker node               raftmq broker -c conf/dledger/broker-n0.conf
  namesrv     Start a name server for classic clients
Use
  produce     Send messages from arguments, a count or stdin
  consume     Receive and acknowledge messages
  bench       Measure: send, receive, e2e, null, raw, compare, failover, picture
  drill       Hurt a cluster and check that nothing was lost
Manage
  topic       list, create, update, describe, stats, delete
  group       list, create, update, describe, stats, delete, reset-offset, dlq
  client      list
  message     get, find, trace, resend, delayed, recall, move
  cluster     status, members, add, replace, remove, cancel, transfer-leader, trim, events
  backup      create, verify, restore
  config      check, show
Diagnose
  check       Look for problems and say what to do (exit 0 ok, 5 unhealthy)
  top         Live rates, lag and Raft state
  debug       log-level
Options
  -n, --endpoints <ADDR[;ADDR]>  Nodes or name servers [env: RAFTMQ_ENDPOINTS, NAMESRV_ADDR] [default: 127.0.0.1:8081]
  -o, --output <FMT>             table, wide, json, jsonl [default: table]
      --timeout <DUR>            Per request, such as 5s or 500ms [default: 5s]
      --tls, --tls-ca <FILE>     Speak TLS [env: RAFTMQ_TLS=true, RAFTMQ_TLS_CA]
      --tls-insecure             The same with any certificate [env: RAFTMQ_TLS_INSECURE=true]
  -q, --quiet                    No progress, no talk
  -v, --verbose                  Say what is tried again and why
  -h, --help                     -V, --version

mqadmin's names also work: raftmq clusterList, statsAll, brokerConsumeStats, consumerConnection, producerConnection
First steps: scripts/fast-try.sh start   |   raftmq help produce
";

#[derive(Debug, Parser)]
#[command(name = "raftmq", version, override_help = HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a broker node
    Broker(broker::BrokerArgs),
    /// Start a name server for classic clients
    Namesrv(namesrv::NamesrvArgs),
    /// Send messages from arguments, a count or stdin
    Produce(produce::Args),
    /// Receive and acknowledge messages
    Consume(consume::Args),
    /// Measure this or another broker
    #[command(subcommand)]
    Bench(bench::Command),
    /// Hurt a cluster on purpose and check that nothing was lost, doubled or reordered
    Drill(drill::DrillArgs),
    /// Manage topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Manage consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Look at the clients that are connected
    #[command(subcommand)]
    Client(client::Command),
    /// Look at stored messages, and at those that wait for their delivery time
    #[command(subcommand)]
    Message(message::Command),
    /// Look at the nodes of the cluster, say who leads, and delete old messages
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Check and show configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Back a cluster up, check a backup, and start from one
    #[command(subcommand)]
    Backup(backup::Command),
    /// Watch nodes, topics and groups, live in the terminal
    Top(top::Args),
    /// Look for problems and say what to do
    Check(check::Args),
    /// Look into running nodes
    #[command(subcommand)]
    Debug(debug::Command),
    /// mqadmin's name for `cluster status`
    #[command(name = "clusterList", hide = true)]
    ClusterList {
        /// With the totals of today and yesterday, as `-o wide`
        #[arg(short, long = "moreStats")]
        more: bool,
    },
    /// mqadmin's name for the statistics of each topic with each of its groups
    #[command(name = "statsAll", hide = true)]
    StatsAll {
        /// Only what moved in the last 24 hours
        #[arg(short, long)]
        active: bool,
        /// One topic
        #[arg(short, long)]
        topic: Option<String>,
    },
    /// mqadmin's name for `client list --kind consumer`
    #[command(name = "consumerConnection", hide = true)]
    ConsumerConnection {
        #[arg(short, long = "consumerGroup")]
        group: String,
    },
    /// mqadmin's name for `client list --kind producer`
    #[command(name = "producerConnection", hide = true)]
    ProducerConnection {
        #[arg(short, long = "producerGroup")]
        group: String,
        /// Without those that publish to other topics only
        #[arg(short, long)]
        topic: Option<String>,
    },
    /// mqadmin's name for `group stats`
    #[command(name = "brokerConsumeStats", hide = true)]
    BrokerConsumeStats,
}

/// What the library says of numbers, and what it means.
const NUMBERS: [(&str, &str); 6] = [
    ("invalid digit found in string", "it is not a whole number"),
    ("cannot parse integer from empty string", "it is empty, and not a whole number"),
    ("number too large to fit in target type", "it is too large"),
    ("number too small to fit in target type", "it is too small"),
    ("is not in 1..18446744073709551615", "is below 1"),
    ("is not in 1..4294967295", "is not between 1 and 4294967294"),
];

/// A refusal of a number in words that need no knowledge of how it is read; `None` if it is not about one.
fn in_plain_words(error: &str) -> Option<String> {
    let mut text = error.to_owned();
    for (library, plain) in NUMBERS {
        text = text.replace(library, plain);
    }
    if let Some((before, after)) = text.split_once(" is not in ")
        && let Some((least, rest)) = after.split_once("..=")
    {
        text = format!("{before} is not between {least} and {rest}");
    }
    (text != error).then_some(text)
}

/// Runs the command of this process's arguments and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            match in_plain_words(&error.to_string()) {
                Some(text) => eprint!("{text}"),
                // If this cannot be printed, nothing can.
                None => drop(error.print()),
            }
            return exit.into();
        }
    };
    let Cli { global, command } = cli;
    match command {
        Command::Broker(args) => broker::run(&args),
        Command::Namesrv(args) => namesrv::run(&args),
        Command::Config(command) => config::run(
            &command,
            global.output,
            &mut std::io::stdout(),
            &mut std::io::stderr(),
            crate::env::disk::read_text,
        )
        .unwrap_or(Exit::Failed),
        Command::Bench(command) => bench::run(&global, command),
        Command::Drill(args) => drill::run(&global, &args),
        Command::Produce(args) => with_cluster(global, async |context| produce::run(context, args).await),
        Command::Consume(args) => with_cluster(global, async |context| consume::run(context, args).await),
        Command::Topic(command) => with_cluster(global, async |context| topic::run(context, command).await),
        Command::Group(command) => with_cluster(global, async |context| group::run(context, command).await),
        Command::Client(command) => with_cluster(global, async |context| client::run(context, command).await),
        Command::ConsumerConnection { group } => {
            let args = ListArgs::consumers(group);
            with_cluster(global, async |context| client::list(context, &args).await)
        }
        Command::ProducerConnection { group, topic } => {
            let args = ListArgs::producers(group, topic);
            with_cluster(global, async |context| client::list(context, &args).await)
        }
        Command::Message(command) => with_cluster(global, async |context| message::run(context, command).await),
        Command::Cluster(command) => with_cluster(global, async |context| cluster::run(context, command).await),
        Command::Backup(command) => with_cluster(global, async |context| backup::run(context, command).await),
        Command::Check(args) => with_cluster(global, async |context| check::run(context, args).await),
        Command::Debug(command) => with_cluster(global, async |context| debug::run(context, command).await),
        Command::Top(args) => with_cluster(global, async |context| top::run(context, args).await),
        Command::ClusterList { more } => {
            let output = if more && global.output == Format::Table { Format::Wide } else { global.output };
            let global = Global { output, ..global };
            with_cluster(global, async |context| cluster::run(context, cluster::Command::Status).await)
        }
        Command::StatsAll { active, topic } => with_cluster(global, async |context| {
            stats::run(context, What::All { topic: topic.as_deref(), active }).await
        }),
        Command::BrokerConsumeStats => {
            with_cluster(global, async |context| stats::run(context, What::Groups(None)).await)
        }
    }
    .into()
}

/// Runs a command that talks to a cluster, and prints why it failed if it did.
fn with_cluster(global: Global, command: impl AsyncFnOnce(&Context) -> Result<Exit, Failure>) -> Exit {
    options::start_log(&global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(Exit::Failed, format!("no runtime: {error}")).print(),
    };
    let outcome = runtime.block_on(async {
        let context = Context::new(global)?;
        command(&context).await
    });
    // A thread that waits for stdin must not delay the end.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|failure| failure.print())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_in_the_grouped_help() {
        let command = Cli::command();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let line = HELP.lines().find(|line| line.starts_with(&format!("  {:<12}", sub.get_name())));
            let line = line.unwrap_or_else(|| panic!("{} is not in the help", sub.get_name()));
            for verb in sub.get_subcommands() {
                assert!(line.contains(verb.get_name()), "{} {} is not in the help", sub.get_name(), verb.get_name());
            }
        }
        for option in command.get_arguments() {
            let long = format!("--{}", option.get_long().unwrap());
            assert!(HELP.contains(&long), "{long} is not in the help");
        }
        let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for line in HELP.lines().filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('-')) {
            let name = line.split_whitespace().next().unwrap();
            assert!(known.contains(&name), "the help tells of {name}, which does not exist");
        }
    }

    #[test]
    fn every_command_of_the_client_shows_two_examples() {
        fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
            if command.has_subcommands() { command.get_subcommands().flat_map(leaves).collect() } else { vec![command] }
        }
        let command = Cli::command();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            for leaf in leaves(sub) {
                let text = leaf.get_after_long_help().map(ToString::to_string).unwrap_or_default();
                let count = text.lines().filter(|line| line.trim_start().starts_with("raftmq ")).count();
                assert!(count >= 2, "{} {} shows {count} examples", sub.get_name(), leaf.get_name());
            }
        }
    }

    #[test]
    fn the_help_of_produce_shows_the_number_s_placeholder() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("produce").unwrap().render_long_help().to_string();
        assert!(help.contains("--key 'k-{n}'"), "{help}");
        assert!(help.contains("Search key; {n} is"), "{help}");
    }

    #[test]
    fn mqadmin_s_name_for_the_status_is_understood() {
        let cli = Cli::try_parse_from(["raftmq", "clusterList", "-m", "-n", "a:1"]).unwrap();
        assert!(matches!(cli.command, Command::ClusterList { more: true }));
        let stats = Cli::try_parse_from(["raftmq", "statsAll", "-a", "-t", "orders"]).unwrap();
        assert!(matches!(stats.command, Command::StatsAll { active: true, topic: Some(topic) } if topic == "orders"));
        assert_eq!(cli.global.endpoints.as_deref(), Some("a:1"));
    }

    #[test]
    fn numbers_are_refused_in_plain_words() {
        let said = |args: &[&str]| {
            let error = Cli::try_parse_from([&["raftmq"], args].concat()).map(drop).unwrap_err().to_string();
            in_plain_words(&error).unwrap_or(error).lines().next().unwrap_or_default().to_owned()
        };
        for (args, what) in [
            (&["message", "get", "t", "x", "1"][..], "'x' for '<QUEUE>': it is not a whole number"),
            (&["message", "get", "t", "", "1"], "'' for '<QUEUE>': it is empty, and not a whole number"),
            (&["message", "get", "t", "4294967296", "1"], "4294967296 is not between 0 and 4294967295"),
            (&["topic", "create", "t", "--queues", "0"], "0 is not between 1 and 1024"),
            (&["topic", "create", "t", "--queues", "many"], "it is not a whole number"),
            (&["produce", "t", "--count", "0"], "0 is below 1"),
        ] {
            let said = said(args);
            assert!(said.contains(what), "{args:?}: {said}");
        }
    }
}
