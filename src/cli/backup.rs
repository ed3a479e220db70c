//! `raftmq backup`: create (from a running node), verify, restore (into the folder of a node that does not run).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::backup::{Backup, BackupWriter, Error, Manifest, RecordId, Source, StateFile, Target, restore};
use crate::client::Error as ClientError;
use crate::env::clock;
use crate::env::disk::{self, Disk, RealDisk};
use crate::env::rng::random_u64;
use crate::model::{HostPort, LogIndex, MemberName, NodeId, Term, Timestamp};
use crate::proto::admin::backup_part::Part;
use crate::proto::admin::{BackupHeader, EntryId};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format, Global};
use crate::cli::render;
use crate::cli::render::{bytes, grouped, rough, utc};

/// Of the log of the restored node, until it makes its own.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write a backup of a running cluster into a new folder here
    #[command(
        after_long_help = "One of the nodes named by -n sends its state and the log that the state refers to, at snapshotRate at most; sends and
consumers go on. All that was acknowledged before is in the backup: messages, offsets, leases, delays, transactions.

Examples:
  raftmq backup create /backup/monday
  raftmq -n 10.0.0.2:8081 backup create /backup/monday -o json"
    )]
    Create {
        /// A folder that does not exist yet, or is empty
        folder: PathBuf,
    },
    /// Read a backup from end to end and compare every checksum
    #[command(
        after_long_help = "Examples:\n  raftmq backup verify /backup/monday\n  raftmq backup verify /backup/monday -o json"
    )]
    Verify {
        /// The folder of the backup
        folder: PathBuf,
    },
    /// Make the folder of a node from a backup; the node is a group of its own, to which others are added
    #[command(
        after_long_help = "The restored node is nobody of the old group: it has a new identity, and nodes of the old group and it refuse each other.
Topics, groups, offsets, leases, delayed and half messages are as they were, and handles that clients hold stay good.
Name it alone in its dLegerPeers, as the command says that this prints. Time went on meanwhile: leases have ended, delayed messages are due, and retention counts from when a message was stored.

Examples:
  raftmq backup restore /backup/monday --into /data/n0
  raftmq backup restore /backup/monday --into /data/n0 --node n0 --address 10.0.0.1:40911 --cluster Copy"
    )]
    Restore(RestoreArgs),
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The folder of the backup
    folder: PathBuf,
    /// storePathRootDir of the new node: a folder that does not exist yet, or is empty
    #[arg(long, value_name = "STOREPATH")]
    into: PathBuf,
    /// dLegerSelfId of the new node
    #[arg(long, value_name = "NAME", default_value = "n0", value_parser = node_name)]
    node: MemberName,
    /// Where its peers will reach it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:40911", value_parser = address)]
    address: HostPort,
    /// brokerClusterName [default: as in the backup]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// brokerName [default: as in the backup]
    #[arg(long, value_name = "NAME")]
    broker: Option<String>,
}

fn node_name(text: &str) -> Result<MemberName, String> {
    MemberName::parse(text).ok_or_else(|| format!("'{text}' is no name of a node; write n0"))
}

fn address(text: &str) -> Result<HostPort, String> {
    let parsed = HostPort::parse(text).filter(|address| address.port > 0);
    parsed.ok_or_else(|| format!("'{text}' is not HOST:PORT"))
}

/// Runs one of the commands; only `create` asks a cluster.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create { folder } => create(context, &folder).await,
        Command::Verify { folder } => verify(&context.global, &folder),
        Command::Restore(args) => restore_into(&context.global, &args),
    }
}

async fn create(context: &Context, folder: &Path) -> Result<Exit, Failure> {
    let failed = async |error: &ClientError| context.failure(error, Subject::Cluster).await;
    // Before the node begins to work.
    if disk::is_there(folder) {
        disk::make_empty(folder)
            .map_err(|error| Failure::new(Exit::NotFoundOrExists, format!("{}: {error}", folder.display())))?;
    }
    let mut parts = match context.admin.create_backup().await {
        Ok(parts) => parts,
        Err(error) => return Err(failed(&error).await),
    };
    let mut writer: Option<BackupWriter> = None;
    let mut bar = ProgressBar::hidden();
    loop {
        let part = match parts.message().await {
            Ok(Some(part)) => part.part,
            Ok(None) => break,
            Err(status) => {
                return Err(failed(&ClientError::Status(status)).await.remedy("what is left:", folder.display()));
            }
        };
        match (part, &mut writer) {
            (Some(Part::Header(header)), None) => {
                let records = header.records_bytes;
                let source = source(header).map_err(failure)?;
                bar = progress_bar(context.has_progress(), source.state_bytes().saturating_add(records));
                writer = Some(BackupWriter::begin(Arc::new(RealDisk), folder, source).map_err(failure)?);
            }
            (Some(Part::State(bytes)), Some(writer)) => writer.state(bytes).map_err(failure)?,
            (Some(Part::Records(bytes)), Some(writer)) => writer.records(bytes).map_err(failure)?,
            // A newer build may say more.
            (None, Some(_)) => {}
            (Some(Part::Header(_)), Some(_)) | (_, None) => {
                return Err(failure(Error::Unusable("another order of parts".to_owned())));
            }
        }
        if let Some(writer) = &writer {
            bar.set_position(writer.bytes());
        }
    }
    let writer = writer.ok_or_else(|| failure(Error::Unusable("nothing".to_owned())))?;
    let manifest = writer.finish().map_err(failure)?;
    bar.finish_and_clear();
    let next = format!("raftmq backup verify {}", folder.display());
    print(&context.global, &manifest, folder, &[("check it:", next)])
}

fn verify(global: &Global, folder: &Path) -> Result<Exit, Failure> {
    let backup = Backup::open(Arc::new(RealDisk), folder).map_err(failure)?;
    let bar = progress_bar(has_progress(global), backup.manifest().bytes());
    backup.verify(|bytes| bar.inc(bytes as u64)).map_err(failure)?;
    bar.finish_and_clear();
    let next = format!("raftmq backup restore {} --into STOREPATH", folder.display());
    print(global, backup.manifest(), folder, &[("all of it:", "is what was written".to_owned()), ("restore it:", next)])
}

fn restore_into(global: &Global, args: &RestoreArgs) -> Result<Exit, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let backup = Backup::open(disk.clone(), &args.folder).map_err(failure)?;
    let source = &backup.manifest().source;
    let target = Target {
        store: disk::absolute(&args.into)?,
        cluster: args.cluster.clone().unwrap_or_else(|| source.cluster.clone()),
        group: args.broker.clone().unwrap_or_else(|| source.group.clone()),
        node: NodeId::later_of(args.node, fresh_number(&source.members)),
        lineage: random_u64().max(1),
        address: args.address.to_string(),
        segment_bytes: SEGMENT_BYTES,
    };
    let bar = progress_bar(has_progress(global), backup.manifest().bytes());
    restore(&disk, &backup, &target, |bytes| bar.inc(bytes as u64)).map_err(failure)?;
    bar.finish_and_clear();
    let name = args.node;
    let start = format!(
        "raftmq broker -D storePathRootDir={} -D brokerClusterName={} -D brokerName={} -D dLegerSelfId={name} -D \
         dLegerPeers={name}-{}",
        target.store.display(),
        target.cluster,
        target.group,
        args.address
    );
    let notes = [
        ("restored:", format!("{} as {name}, a group of its own", target.store.display())),
        ("start it:", start),
        ("add others:", "raftmq cluster add n1 --peer HOST:PORT, once for each".to_owned()),
        ("keep more:", "set fileReservedTime first, if messages older than that are to stay".to_owned()),
    ];
    print(global, backup.manifest(), &args.folder, &notes)
}

/// The number of the replica that starts from a backup: above those of all members, who may come from a backup themselves,
/// because of two replicas with one name the higher one is the later. The old group counts its own from 1, and goes on doing
/// so.
fn fresh_number(members: &[String]) -> u32 {
    const FIRST: u32 = 1 << 30;
    const STEP_MAX: u64 = 1 << 20;
    let numbers = members.iter().filter_map(|member| NodeId::parse(member.split(' ').next()?)).map(NodeId::number);
    let highest = numbers.max().unwrap_or(0).max(FIRST);
    highest.saturating_add(1 + (random_u64() % STEP_MAX) as u32)
}

/// Fails for what no backup has.
fn source(header: BackupHeader) -> Result<Source, Error> {
    let id = |id: EntryId| RecordId { term: Term(id.term), node: NodeId(id.node), index: LogIndex(id.index) };
    let applied = header.applied.ok_or_else(|| Error::Unusable("no last entry".to_owned()))?;
    Ok(Source {
        cluster: header.cluster,
        group: header.broker,
        node: header.node,
        build: header.version,
        created_at: Timestamp(header.created_at_ms),
        cluster_version: header.cluster_version,
        applied: id(applied),
        first: LogIndex(header.first),
        before: header.before.map(id),
        members: header.members,
        state: header
            .state
            .into_iter()
            .map(|file| StateFile { name: file.name, bytes: file.bytes, crc32c: file.crc32c })
            .collect(),
    })
}

fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::NotEmpty(_) | Error::NoBackup(_) => Exit::NotFoundOrExists,
        Error::Busy(_) => Exit::FolderTaken,
        Error::NoRoom { .. } => Exit::NoRoom,
        Error::Damaged { .. } => Exit::Damaged,
        Error::Unusable(_) | Error::Io { .. } | Error::Store(_) => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn has_progress(global: &Global) -> bool {
    use std::io::IsTerminal;
    !global.quiet && std::io::stderr().is_terminal()
}

fn progress_bar(is_shown: bool, bytes: u64) -> ProgressBar {
    if !is_shown {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bytes} of {total_bytes} {bar:30} {bytes_per_sec}, {eta} left");
    ProgressBar::new(bytes).with_style(style.expect("the template is right"))
}

fn print(global: &Global, manifest: &Manifest, folder: &Path, notes: &[(&str, String)]) -> Result<Exit, Failure> {
    let source = &manifest.source;
    let records = source.applied.index.0 - source.first.0 + 1;
    let document = serde_json::json!({
        "schema": "raftmq.backup.v1",
        "folder": folder,
        "cluster": source.cluster,
        "broker": source.group,
        "node": source.node,
        "version": source.build,
        "cluster_version": source.cluster_version,
        "created_at_ms": source.created_at.0,
        "applied": source.applied.index.0,
        "first": source.first.0,
        "records": records,
        "state_files": source.state.len(),
        "bytes": manifest.bytes(),
        "members": source.members,
    });
    let text = match global.output {
        Format::Json => render::document(&document)?,
        Format::Jsonl => render::line(&document)?,
        Format::Table | Format::Wide => {
            let age = rough(clock::wall().since(source.created_at));
            let mut text = format!(
                "{}: a backup of {} in {}\nmade at {} ({age} ago) from {} by raftmq {}; {} entries up to {}, {}\n",
                folder.display(),
                source.group,
                source.cluster,
                utc(source.created_at),
                source.node,
                source.build,
                grouped(records),
                source.applied.index,
                bytes(manifest.bytes()),
            );
            for (what, how) in notes {
                text.push_str(&format!("  {what:<12} {how}\n"));
            }
            text
        }
    };
    render::print(&text)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MemberName;

    #[test]
    fn p18_a_replica_from_a_backup_is_later_than_all_before_it() {
        let founded = fresh_number(&["n0 a:1".to_owned(), "n1.7 b:2".to_owned()]);
        assert!(founded > 1 << 30, "the old group never counts so far");
        let mut number = founded;
        for _ in 0..100 {
            // A backup of what was restored.
            let replica = NodeId::later_of(MemberName(0), number);
            let next = fresh_number(&["n2 c:3".to_owned(), format!("{replica} a:1")]);
            assert!(next > number, "{next} {number}");
            number = next;
        }
    }
}
