//! `raftmq cluster`: status (who leads, who follows, who lags, what each disk has), trim.

use serde::Serialize;

use crate::model::Timestamp;
use crate::proto::admin::{ClusterStatusResponse, Node};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, bytes, known, rate, rough};
use crate::cli::trim;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show each node's role, term, position and lag (mqadmin: clusterList)
    #[command(
        visible_alias = "clusterList",
        after_long_help = "Examples:\n  raftmq cluster status\n  raftmq -n 127.0.0.1:8082 cluster status -o json"
    )]
    Status,
    /// Delete messages that were stored before a time; consumers that had not come to them go on with the next
    #[command(after_long_help = "Examples:\n  raftmq cluster trim --before 2h --dry-run\n  \
                           raftmq cluster trim --before 7d --topic orders --yes")]
    Trim(trim::Args),
}

/// A node as it is printed. Keys of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct NodeRow {
    cluster: String,
    broker: String,
    node: String,
    /// RocketMQ's broker id: 0 is the leader.
    broker_id: Option<u64>,
    role: String,
    address: String,
    version: Option<String>,
    process_id: Option<u32>,
    term: Option<u64>,
    committed: Option<u64>,
    applied: Option<u64>,
    behind: Option<u64>,
    last_log: Option<u64>,
    in_per_second: Option<f64>,
    out_per_second: Option<f64>,
    /// What its clock is ahead of what most nodes agree on; null while they do not agree.
    clock_offset_ms: Option<i64>,
    /// What is used of its disk.
    disk_used_percent: Option<u32>,
    disk_free_bytes: Option<u64>,
    disk_reserve_bytes: Option<u64>,
    disk_soft_mark_bytes: Option<u64>,
    disk_hard_mark_bytes: Option<u64>,
    /// ok; soft: retention runs early; hard: no sends; full: nothing is taken into the log.
    disk_state: Option<String>,
    slow_disk: bool,
    /// What its log takes, the first entry in it, and when that was stored.
    log_bytes: Option<u64>,
    log_first: Option<u64>,
    log_from_ms: Option<u64>,
    state: &'static str,
}

/// What is the same for all nodes stands above them, and what is rarely looked for only in the JSON: a row is to fit a
/// terminal.
const COLUMNS: [Column; 15] = [
    Column::Text("NODE"),
    Column::Text("ROLE"),
    Column::Text("ADDR"),
    Column::Number("PID"),
    Column::Number("TERM"),
    Column::Number("APPLIED"),
    Column::Number("BEHIND"),
    Column::Number("IN/s"),
    Column::Number("OUT/s"),
    Column::Number("CLOCK"),
    Column::Number("DISK"),
    Column::Number("LOG"),
    Column::Number("AGE"),
    Column::Number("FIRST"),
    Column::Text("STATE"),
];

/// A clock that is off by more than this is called wrong; the node itself warns then.
const CLOCK_WRONG_MS: u64 = 500;

/// Runs one of the commands; a status without a leader has an exit code that says so.
pub async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Status => status(context).await,
        Command::Trim(args) => trim::run(context, args).await,
    }
}

async fn status(context: &Context) -> Result<Exit, Failure> {
    let status = match context.admin.cluster_status().await {
        Ok(status) => status,
        Err(error) => return Err(context.failure(&error, Subject::Cluster).await),
    };
    let has_leader = status.leader.is_some();
    print(status, context.global.output)?;
    if !has_leader {
        return Err(Failure::new(Exit::Unavailable, "the cluster has no leader")
            .remedy("needs:", "more than half of the nodes, running and able to reach each other"));
    }
    Ok(Exit::Ok)
}

fn print(status: ClusterStatusResponse, format: Format) -> std::io::Result<()> {
    let rows: Vec<NodeRow> = status.nodes.into_iter().map(row).collect();
    let text = match format {
        Format::Table => text(status.leader.as_deref(), &rows, crate::env::clock::wall()),
        Format::Json => render::document(&serde_json::json!({
            "schema": "raftmq.cluster.v1",
            "leader": status.leader,
            "nodes": rows,
        }))?,
        Format::Jsonl => rows.iter().map(render::line).collect::<Result<_, _>>()?,
    };
    render::print(&text)
}

fn text(leader: Option<&str>, rows: &[NodeRow], now: Timestamp) -> String {
    let head = rows
        .first()
        .map(|row| format!("cluster {}  broker {}  leader {}\n", row.cluster, row.broker, leader.unwrap_or("-")));
    head.unwrap_or_default() + &render::table(&COLUMNS, rows.iter().map(|row| cells(row, now)))
}

fn row(node: Node) -> NodeRow {
    let number = node.node.strip_prefix('n').and_then(|digits| digits.parse::<u64>().ok());
    let broker_id = if node.role == "leader" { Some(0) } else { number.map(|number| number + 1) };
    let room = node.disk.as_ref().map_or("", |disk| &disk.state);
    let state = match (node.role.as_str(), node.behind) {
        ("unreachable", _) => "down",
        ("rolled back" | "other disk" | "refused", _) => "kept out",
        // The role says too that there is no quorum; a disk may be why.
        _ if room == "full" => "disk full",
        _ if node.slow_disk => "slow disk",
        _ if room == "hard" => "no room",
        ("no quorum", _) => "no quorum",
        (_, Some(behind)) if behind > 0 => "catching up",
        _ if node.clock_offset_ms.is_some_and(|offset| offset.unsigned_abs() > CLOCK_WRONG_MS) => "wrong clock",
        _ if room == "soft" => "short of room",
        _ => "ok",
    };
    NodeRow {
        cluster: node.cluster,
        broker: node.broker,
        node: node.node,
        broker_id,
        role: node.role,
        address: node.address,
        version: Some(node.version).filter(|version| !version.is_empty()),
        process_id: node.process_id,
        term: node.term,
        committed: node.committed,
        applied: node.applied,
        behind: node.behind,
        last_log: node.last_log,
        in_per_second: node.in_per_second,
        out_per_second: node.out_per_second,
        clock_offset_ms: node.clock_offset_ms,
        disk_used_percent: node.disk.as_ref().map(|disk| disk.used_percent),
        disk_free_bytes: node.disk.as_ref().map(|disk| disk.free),
        disk_reserve_bytes: node.disk.as_ref().map(|disk| disk.reserve),
        disk_soft_mark_bytes: node.disk.as_ref().map(|disk| disk.soft_mark),
        disk_hard_mark_bytes: node.disk.as_ref().map(|disk| disk.hard_mark),
        slow_disk: node.slow_disk,
        log_bytes: node.log_bytes,
        log_first: node.log_first,
        log_from_ms: node.log_from_ms,
        state,
        disk_state: node.disk.map(|disk| disk.state),
    }
}

fn cells(row: &NodeRow, now: Timestamp) -> Vec<String> {
    vec![
        row.node.clone(),
        row.role.clone(),
        row.address.clone(),
        known(row.process_id),
        known(row.term),
        known(row.applied),
        known(row.behind),
        known(row.in_per_second.map(rate)),
        known(row.out_per_second.map(rate)),
        known(row.clock_offset_ms.map(ahead)),
        known(row.disk_used_percent.map(|percent| format!("{percent}%"))),
        known(row.log_bytes.map(bytes)),
        known(row.log_from_ms.map(|at| rough(now.since(Timestamp(at))))),
        known(row.log_first),
        row.state.to_owned(),
    ]
}

/// What a clock is ahead, in milliseconds or, if it is much, in seconds: `+3ms`, `-120s`.
fn ahead(offset_ms: i64) -> String {
    if offset_ms.unsigned_abs() < 10_000 { format!("{offset_ms:+}ms") } else { format!("{:+}s", offset_ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, role: &str, behind: Option<u64>) -> Node {
        Node { node: name.into(), role: role.into(), behind, process_id: Some(41), ..Default::default() }
    }

    fn shown(row: &NodeRow) -> Vec<String> {
        cells(row, Timestamp(7_200_000))
    }

    #[test]
    fn a_row_fits_a_terminal_and_shows_the_log() {
        let full = row(Node {
            cluster: "RaftCluster".into(),
            broker: "RaftNode00".into(),
            address: "10.20.30.40:8081".into(),
            term: Some(12),
            applied: Some(23_456_789),
            in_per_second: Some(12_345.0),
            out_per_second: Some(12_345.0),
            clock_offset_ms: Some(-3),
            disk: Some(crate::proto::admin::DiskRoom { used_percent: 41, ..Default::default() }),
            log_bytes: Some(900 << 20),
            log_first: Some(20_000_001),
            log_from_ms: Some(3_600_000),
            ..node("n2", "leader", Some(0))
        });
        let text = text(Some("n2"), &[full], Timestamp(7_200_000));
        assert_eq!(
            text,
            "cluster RaftCluster  broker RaftNode00  leader n2\n\
             NODE  ROLE    ADDR              PID  TERM   APPLIED  BEHIND   IN/s  OUT/s  CLOCK  DISK      LOG  AGE     FIRST  STATE\n\
             n2    leader  10.20.30.40:8081   41    12  23456789       0  12.3k  12.3k   -3ms   41%  900 MiB   1h  20000001  ok\n"
        );
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }

    #[test]
    fn the_leader_is_broker_0_and_the_others_keep_their_number_plus_one() {
        assert_eq!(row(node("n2", "leader", Some(0))).broker_id, Some(0));
        assert_eq!(row(node("n0", "follower", Some(0))).broker_id, Some(1));
        assert_eq!(row(node("n2", "follower", Some(0))).broker_id, Some(3));
        assert_eq!(row(node("odd", "follower", Some(0))).broker_id, None);
    }

    #[test]
    fn a_state_follows_from_role_and_lag() {
        assert_eq!(row(node("n1", "follower", Some(14))).state, "catching up");
        assert_eq!(row(node("n1", "follower", Some(0))).state, "ok");
        assert_eq!(row(node("n1", "unreachable", None)).state, "down");
        assert_eq!(row(node("n1", "no quorum", None)).state, "no quorum");
        assert_eq!(row(node("n1", "rolled back", None)).state, "kept out");
    }

    #[test]
    fn p21_a_clock_that_is_off_by_more_than_half_a_second_is_shown() {
        for (offset, state, cell) in [
            (Some(3), "ok", "+3ms"),
            (Some(-500), "ok", "-500ms"),
            (Some(501), "wrong clock", "+501ms"),
            (Some(-120_000), "wrong clock", "-120s"),
            (Some(i64::MIN), "wrong clock", "-9223372036854775s"),
            (None, "ok", "-"),
        ] {
            let row = row(Node { clock_offset_ms: offset, ..node("n1", "follower", Some(0)) });
            assert_eq!(row.state, state, "{offset:?}");
            assert_eq!(shown(&row)[9], cell);
        }
    }

    #[test]
    fn p20_a_disk_without_room_and_a_slow_one_are_shown() {
        for (room, slow_disk, state) in [
            ("ok", false, "ok"),
            ("soft", false, "short of room"),
            ("hard", false, "no room"),
            ("full", true, "disk full"),
            ("ok", true, "slow disk"),
        ] {
            let disk = crate::proto::admin::DiskRoom { used_percent: 91, state: room.into(), ..Default::default() };
            let row = row(Node { disk: Some(disk), slow_disk, ..node("n1", "follower", Some(0)) });
            assert_eq!((row.state, row.disk_state.as_deref()), (state, Some(room)));
            assert_eq!(shown(&row)[10], "91%");
        }
        assert_eq!(shown(&row(node("n1", "follower", Some(0))))[10], "-", "an older build does not say it");
    }

    #[test]
    fn a_node_that_does_not_answer_shows_dashes() {
        let mut silent = node("n1", "unreachable", None);
        silent.process_id = None;
        let cells = shown(&row(silent));
        assert_eq!(cells.len(), COLUMNS.len());
        assert_eq!(cells[3..13], ["-"; 10].map(str::to_owned));
    }
}
