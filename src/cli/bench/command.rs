//! The subcommands of `raftmq bench`, with their help, and where each goes.

use clap::Subcommand;

use crate::bench::RunKind;
use crate::cli::bench::compare::CompareArgs;
use crate::cli::bench::failover::FailoverArgs;
use crate::cli::bench::load::{LoadArgs, NullArgs};
use crate::cli::bench::picture::PictureArgs;
use crate::cli::bench::raw::RawArgs;
use crate::cli::bench::{compare, failover, load, picture, raw};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options;
use crate::cli::options::Global;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send as fast as it goes, or on a schedule
    #[command(after_long_help = "\
Every message that was acknowledged is received again afterwards and checked: count, order, body.
The topic must exist. With --rate, latencies count from the scheduled time.

Examples:
  raftmq bench send --topic bench --in-flight 64 --duration 10s
  raftmq bench send --topic bench --rate 5000 --size 128 --batch 8
  raftmq -n 127.0.0.1:9876 bench send --protocol remoting --watch 127.0.0.1:10911 --topic bench")]
    Send(LoadArgs),
    /// Receive and ack what was sent before
    #[command(after_long_help = "\
Sends --count messages first, then measures how fast they are received and acknowledged.

Examples:
  raftmq bench receive --topic bench --count 200000
  raftmq bench receive --topic bench --acks singly --consumers 16")]
    Receive(LoadArgs),
    /// Send and receive at once; the way from one to the other
    #[command(
        name = "e2e",
        after_long_help = "\
Examples:
  raftmq bench e2e --topic bench --rate 5000 --size 1KiB --duration 30s
  raftmq -o json bench e2e --topic bench --rate 200
  raftmq bench e2e --topic reminders --rate 1000 --delay 10s"
    )]
    EndToEnd(LoadArgs),
    /// The same sends against a server that answers at once and keeps nothing
    #[command(after_long_help = "\
A plain tonic server of the same protocol, in a process of its own: what RPCs alone cost on this machine.

Examples:
  raftmq bench null --in-flight 64
  raftmq bench null --in-flight 1 --duration 5s")]
    Null(NullArgs),
    /// Write and sync, over and over: what the disk alone can do
    #[command(after_long_help = "\
Examples:
  raftmq bench raw --folder /var/lib/raftmq --flush 1KiB
  raftmq bench raw --folder /tmp --flush 256KiB --writers 3")]
    Raw(RawArgs),
    /// Two servers in turn: A B A B ..., and the median ratio with its interval
    #[command(after_long_help = "\
A and B are addresses, or `null` for the server that answers at once.

Examples:
  raftmq bench compare 127.0.0.1:8081 null --topic bench --pairs 9
  raftmq bench compare 127.0.0.1:8081 127.0.0.1:9081 --what receive --topic bench")]
    Compare(CompareArgs),
    /// Kill a node under load: the gap, what is lost, what comes again after its ack
    #[command(after_long_help = "\
Sends --rate messages a second through all addresses in turn and consumes them; kills the process that listens on
the --kill address of this machine with SIGKILL; nothing is tried twice. Name the leader's address for a failover.
The group must exist where the server does not make it.

Examples:
  raftmq -n '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' bench failover --kill 127.0.0.1:8082
  raftmq -n 127.0.0.1:9001 bench failover --kill 127.0.0.1:9001 --after 30s --settle 60s")]
    Failover(FailoverArgs),
    /// Draw reports side by side, as SVG
    #[command(after_long_help = "\
Each FILE is what `raftmq -o json bench send` (or receive, e2e, null) printed.

Examples:
  raftmq bench picture 'raftmq=ours.json' 'RocketMQ 5.3.3=theirs.json' > throughput.svg
  raftmq bench picture '1 in flight=1.json' '64 in flight=64.json' > load.svg")]
    Picture(PictureArgs),
}

/// Runs a measurement and prints it.
pub fn run(global: &Global, command: Command) -> Exit {
    options::start_log(global);
    match measure(global, command) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.print(),
    }
}

fn measure(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Send(args) => load::run(global, &args, RunKind::Send),
        Command::Receive(args) => load::run(global, &args, RunKind::Receive),
        Command::EndToEnd(args) => load::run(global, &args, RunKind::EndToEnd),
        Command::Null(args) => load::null(global, &args),
        Command::Raw(args) => raw::run(global, &args),
        Command::Compare(args) => compare::run(global, &args),
        Command::Failover(args) => failover::run(global, &args),
        Command::Picture(args) => picture::run(&args),
    }
}
