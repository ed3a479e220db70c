//! `raftmq drill`: hurts a cluster, its own or one that runs here, and checks what became of everything.
//!
//! The verdict is the exit code: 0 the promises were kept, 1 they were not, 2 the run does not show it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::options;
use crate::cli::options::{Format, Global};
use crate::cli::render;
use crate::drill::check::Verdict;
use crate::drill::history;
use crate::drill::report::{self, Report, SCHEMA, Sums};
use crate::drill::{self, Build, Builds, DrillPlan, Length, RunningCluster, Scenario};
use crate::env::{disk, process, rng};

/// Seconds a round of a drill may take, and a drill beside its rounds, before it is ended as unknown.
const SECONDS_PER_ROUND_MAX: u64 = 120;
const SECONDS_BESIDE_MAX: u64 = 300;

/// Hurt a cluster on purpose and check that nothing was lost, doubled or reordered.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_long_help = "A cluster of its own is started from this program, in network namespaces when run as root, and removed again;
the folder keeps data, logs, history.jsonl, report.json and timeline.svg. Every kill takes what was not synced.

A tenth of the messages is delayed, a tenth are transactions, and some are never acknowledged and become dead letters.
A drill by --minutes holds its history in memory, tens of MB a minute; a long one is better run in parts: the numbers
under \"sums\" in report.json are made to be added up.

With --start the cluster behind --endpoints is hurt instead: three nodes n0, n1, n2 on this machine. They are killed,
paused or told to stop, and started by that command. The drill makes a topic of its own there and removes it again.

Exit codes: 0 the promises were kept, 1 they were not, 2 this run does not show it.

Examples:
  raftmq drill quick
  raftmq drill kill-leader --rounds 100 --folder /tmp/drill
  raftmq drill random --minutes 20 -o json
  raftmq drill upgrade --old-binary ./raftmq-before
  raftmq -n 127.0.0.1:8081 drill kill-leader --start 'scripts/fast-try.sh start {}'"
)]
pub struct DrillArgs {
    /// What is done
    #[arg(value_enum)]
    scenario: Scenario,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
    /// Again and again for so long instead; what parts found can be added up
    #[arg(long, value_name = "N", conflicts_with = "rounds", value_parser = clap::value_parser!(u16).range(1..=60))]
    minutes: Option<u16>,
    /// From the beginning of one step to that of the next, at least
    #[arg(long, value_name = "DUR", value_parser = options::duration)]
    every: Option<Duration>,
    /// Messages sent per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
    rate: u32,
    /// How late a message may come again after its lease ended, or enter its queue after its delivery time (there 1s at
    /// least); more on a busy machine
    #[arg(long, value_name = "DUR", default_value = "500ms", value_parser = options::duration)]
    lateness: Duration,
    /// Longest time without an acknowledged send while two nodes are well; more on a busy machine
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = options::duration)]
    gap: Duration,
    /// Decides what `random` does [default: drawn]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where everything is left [default: raftmq-drill-… in the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Hurt the cluster that runs here; this shell command starts the node whose name takes the place of {}
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["define", "plant"])]
    start: Option<String>,
    /// For upgrade: what all nodes run first [default: this program]
    #[arg(long, value_name = "PATH", conflicts_with = "start")]
    old_binary: Option<PathBuf>,
    /// For upgrade: what nodes run once they were upgraded [default: this program]
    #[arg(long, value_name = "PATH", conflicts_with = "start")]
    new_binary: Option<PathBuf>,
    /// A configuration key for the brokers
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
    /// Planted bugs, to see that the drill finds them; in an upgrade of the new build (debug builds only)
    #[arg(long, hide = true)]
    plant: Option<String>,
}

/// Runs a drill and prints its report.
pub fn run(global: &Global, args: &DrillArgs) -> Exit {
    options::start_log(global);
    match drill(global, args) {
        Ok(exit) => exit,
        Err(failure) => failure.print(),
    }
}

fn drill(global: &Global, args: &DrillArgs) -> Result<Exit, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("the drill came to no end: {error}"));
    let seed = args.seed.unwrap_or_else(rng::random_u64);
    let folder = args.folder.clone().unwrap_or_else(|| disk::temporary(&format!("raftmq-drill-{:08x}", seed as u32)));
    disk::make_empty(&folder).map_err(|error| failed(&format!("{}: {error}", folder.display())))?;
    let length = match args.minutes {
        Some(minutes) => Length::For(Duration::from_secs(u64::from(minutes) * 60)),
        None => Length::Rounds(args.rounds.into()),
    };
    let plan = DrillPlan {
        scenario: args.scenario,
        length,
        every: args.every.unwrap_or_default(),
        rate: args.rate,
        seed,
        lateness: args.lateness,
        gap: args.gap,
        folder: folder.clone(),
        settings: args.define.clone(),
        builds: builds(args)?,
        running: args.start.as_ref().map(|start| running(global, start)).transpose()?,
    };
    let scenario = args.scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let is_quiet = global.quiet;
    let tell = |text: &str| {
        if !is_quiet {
            eprintln!("{text}");
        }
    };
    let (how_long, seconds_max) = match args.minutes {
        // What is read after it takes about as long.
        Some(minutes) => (format!("{minutes} minutes"), u64::from(minutes) * 120 + SECONDS_PER_ROUND_MAX),
        None => (format!("{} rounds", args.rounds), u64::from(args.rounds) * SECONDS_PER_ROUND_MAX),
    };
    tell(&format!("{scenario}, {how_long}, {} messages a second, seed {seed}: {}", plan.rate, folder.display()));
    watch_over(seconds_max + SECONDS_BESIDE_MAX);
    let outcome = drill::run(&plan, tell).map_err(|error| failed(&error))?;
    let faults = report::faults(&outcome.history);
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        machine: process::machine(),
        scenario,
        seed,
        notes: outcome.notes,
        gaps: report::gaps(&faults),
        gaps_by_kind: report::gaps_by_kind(&faults),
        sums: Sums::of(&outcome.history, &outcome.checked, &faults),
        checked: outcome.checked,
        faults,
    };
    let write = |name: &str, text: &str| disk::write_text(&folder.join(name), text).map_err(|error| failed(&error));
    write("history.jsonl", &history::to_lines(&outcome.history).map_err(|error| failed(&error))?)?;
    write("report.json", &render::document(&report).map_err(|error| failed(&error))?)?;
    write("timeline.svg", &report::svg(&outcome.history))?;
    print(global, &report, &folder).map_err(|error| failed(&error))?;
    Ok(match report.checked.verdict {
        Verdict::True => Exit::Ok,
        Verdict::False => Exit::Failed,
        Verdict::Unknown => Exit::Usage,
    })
}

fn builds(args: &DrillArgs) -> Result<Builds, Failure> {
    let is_upgrade = args.scenario == Scenario::Upgrade;
    let (old, new) = (args.old_binary.clone(), args.new_binary.clone());
    if let Some(path) = old.iter().chain(&new).find(|_| !is_upgrade) {
        let text = format!("{}: only the scenario upgrade runs two builds", path.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    if let Some(path) = old.iter().chain(&new).find(|path| !disk::is_there(path)) {
        return Err(Failure::new(Exit::Usage, format!("there is no {}", path.display())));
    }
    let planted_bug = args.plant.clone();
    Ok(Builds {
        old: Build { program: old, planted_bug: planted_bug.clone().filter(|_| !is_upgrade) },
        new: Build { program: new, planted_bug },
    })
}

fn running(global: &Global, start: &str) -> Result<RunningCluster, Failure> {
    if !start.contains("{}") {
        let text = format!("--start '{start}' names no node; write {{}} where its name belongs");
        return Err(Failure::new(Exit::Usage, text));
    }
    let address = global.endpoints()?.addresses()[0].clone();
    Ok(RunningCluster { address, start: start.to_owned() })
}

/// A drill that does not end proves nothing: the process ends as unknown.
fn watch_over(seconds: u64) {
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        eprintln!("error: the drill did not end within {seconds} s: unknown");
        std::process::exit(i32::from(Exit::Usage as u8));
    });
}

fn print(global: &Global, report: &Report, folder: &Path) -> std::io::Result<()> {
    match global.output {
        Format::Json => return render::print(&render::document(report)?),
        Format::Jsonl => return render::print(&render::line(report)?),
        Format::Table | Format::Wide => {}
    }
    let (checked, sums) = (&report.checked, &report.sums);
    let [ok, unknown, refused] = checked.sends;
    let seen = checked.seen;
    let mut text = report::timeline(&report.faults);
    text.push_str(&report::gap_table(&report.gaps_by_kind));
    let lines = [
        format!("{} s, {} faults; with a majority left: {}", sums.seconds, sums.faults, sums.with_majority),
        format!("sends: {ok} acknowledged, {unknown} with unknown fate, {refused} refused"),
        format!("{} redeliveries, {} dead letters", checked.redeliveries, seen.dead_letters),
        format!("{} delayed messages delivered, {} recalled", seen.delayed, seen.recalled),
        format!(
            "transactions: {} committed, {} rolled back, {} asked about",
            seen.committed, seen.rolled_back, seen.questions
        ),
        format!("{} replicas compared at one entry", seen.compared),
        format!(
            "lost {}, doubled {}, delivered again after an ack {}; violations of all rules: {}",
            checked.lost, checked.duplicated, checked.redelivered_after_ack, sums.violations
        ),
    ];
    text.push_str(&(lines.join("\n") + "\n"));
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for finding in &checked.findings {
        text.push_str(&format!("{}: {} (events {:?})\n", finding.rule, finding.text, finding.events));
    }
    let verdict = match checked.verdict {
        Verdict::True => "true: every promise was kept",
        Verdict::False => "false",
        Verdict::Unknown => "unknown: the run saw too little",
    };
    text.push_str(&format!(
        "verdict {verdict}\n{}: history.jsonl, report.json, timeline.svg, n0.log …\n",
        folder.display()
    ));
    render::print(&text)
}
