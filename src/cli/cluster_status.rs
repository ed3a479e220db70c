//! `raftmq cluster status`: who leads, who follows, who lags, what each disk has, and what Raft says.

use crate::documents::cluster;
use crate::documents::cluster::{NodeRow, VoteRow};
use crate::model::{Millis, Timestamp};
use crate::proto::admin::ClusterStatusResponse;

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::options::{Context, Format};
use crate::cli::render;
use crate::cli::render::{Column, bytes, grouped, known, rate, rough, utc};

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

/// With `-o wide`.
const WIDE_COLUMNS: [Column; 23] = [
    Column::Text("NODE"),
    Column::Number("BID"),
    Column::Text("ROLE"),
    Column::Text("ADDR"),
    Column::Text("VERSION"),
    Column::Number("PID"),
    Column::Number("UPTIME"),
    Column::Number("TERM"),
    Column::Text("VOTE"),
    Column::Number("LAST"),
    Column::Number("MATCH"),
    Column::Number("COMMITTED"),
    Column::Number("APPLIED"),
    Column::Number("BEHIND"),
    Column::Number("HEARTBEAT"),
    Column::Number("IN/s"),
    Column::Number("OUT/s"),
    Column::Number("CLOCK"),
    Column::Number("DISK"),
    Column::Number("FREE"),
    Column::Number("LOG"),
    Column::Number("FIRST"),
    Column::Text("STATE"),
];

/// A status without a leader has an exit code that says so.
pub async fn run(context: &Context) -> Result<Exit, Failure> {
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
    if format == Format::Json {
        return render::print(&render::document(&cluster::document(status))?);
    }
    let (voters, quorum) = (status.voters, status.quorum);
    let rows = cluster::rows(status.nodes);
    let difference =
        status.difference.map(|what| format!("note: dLegerPeers of the node that answered is older: {what}\n"));
    let text = match format {
        Format::Wide => {
            let head = head(status.leader.as_deref(), &rows);
            let table = render::table(&WIDE_COLUMNS, rows.iter().map(wide_cells));
            let days = days(status.leader.as_deref(), &rows);
            format!("{}  voters {voters}  quorum {quorum}\n{table}{days}", head.trim_end())
                + &waiting(&rows)
                + &difference.unwrap_or_default()
        }
        Format::Jsonl => rows.iter().map(render::line).collect::<Result<_, _>>()?,
        Format::Table | Format::Json => {
            text(status.leader.as_deref(), &rows, crate::env::clock::wall()) + &difference.unwrap_or_default()
        }
    };
    render::print(&text)
}

/// The table of the nodes, as `cluster status` prints it.
pub(super) fn table_text(status: ClusterStatusResponse, now: Timestamp) -> String {
    let leader = status.leader;
    text(leader.as_deref(), &cluster::rows(status.nodes), now)
}

fn text(leader: Option<&str>, rows: &[NodeRow], now: Timestamp) -> String {
    head(leader, rows) + &render::table(&COLUMNS, rows.iter().map(|row| cells(row, now))) + &waiting(rows)
}

fn head(leader: Option<&str>, rows: &[NodeRow]) -> String {
    let Some(row) = rows.first() else { return String::new() };
    format!("cluster {}  broker {}  leader {}\n", row.cluster, row.broker, leader.unwrap_or("-"))
}

fn waiting(rows: &[NodeRow]) -> String {
    let waits =
        |row: &NodeRow| Some(format!("{} cannot catch up now: {}\n", row.node, row.snapshot_waits_for.as_ref()?));
    rows.iter().filter_map(waits).collect()
}

/// What the leader counted by day: mqadmin's InTotalToday and so on.
fn days(leader: Option<&str>, rows: &[NodeRow]) -> String {
    let counts = |row: &NodeRow| {
        let (since, taken_in, given_out) = (row.counted_since_ms?, row.in_today?, row.out_today?);
        let (in_yesterday, out_yesterday) = (row.in_yesterday?, row.out_yesterday?);
        Some(format!(
            "today in {} out {}  yesterday in {} out {}  (counted by {} since {})\n",
            grouped(taken_in),
            grouped(given_out),
            grouped(in_yesterday),
            grouped(out_yesterday),
            row.node,
            utc(Timestamp(since))
        ))
    };
    rows.iter().find(|row| Some(row.node.as_str()) == leader).and_then(counts).unwrap_or_default()
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
        row.state.clone(),
    ]
}

fn wide_cells(row: &NodeRow) -> Vec<String> {
    // A vote that has won says who leads the term; one that has not, who asked for it.
    let vote = |vote: &VoteRow| format!("{}{}@{}", vote.node, if vote.has_won { "" } else { "?" }, vote.term);
    vec![
        row.node.clone(),
        known(row.broker_id),
        row.role.clone(),
        row.address.clone(),
        known(row.version.clone()),
        known(row.process_id),
        known(row.uptime_ms.map(|length| rough(Millis(length)))),
        known(row.term),
        known(row.vote.as_ref().map(vote)),
        known(row.last_log),
        known(row.match_index),
        known(row.committed),
        known(row.applied),
        known(row.behind),
        known(row.heartbeat_age_ms.map(|age| format!("{age}ms"))),
        known(row.in_per_second.map(rate)),
        known(row.out_per_second.map(rate)),
        known(row.clock_offset_ms.map(ahead)),
        known(row.disk_used_percent.map(|percent| format!("{percent}%"))),
        known(row.disk_free_bytes.map(bytes)),
        known(row.log_bytes.map(bytes)),
        known(row.log_first),
        row.state.clone(),
    ]
}

/// What a clock is ahead, in milliseconds or, if it is much, in seconds: `+3ms`, `-120s`.
fn ahead(offset_ms: i64) -> String {
    if offset_ms.unsigned_abs() < 10_000 { format!("{offset_ms:+}ms") } else { format!("{:+}s", offset_ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::cluster::row;
    use crate::proto::admin::{Node, SnapshotPull};

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
            assert_eq!((&*row.state, row.disk_state.as_deref()), (state, Some(room)));
            assert_eq!(shown(&row)[10], "91%");
        }
        assert_eq!(shown(&row(node("n1", "follower", Some(0))))[10], "-", "an older build does not say it");
    }

    #[test]
    fn a_node_that_pulls_a_snapshot_shows_how_far_it_is_and_why_it_waits() {
        let pull = |done_bytes, total_bytes, waits_for: &str| {
            let pull = SnapshotPull { done_bytes, total_bytes, waits_for: waits_for.to_owned() };
            row(Node { catching_up: Some(pull), ..node("n1", "follower", Some(7)) })
        };
        for (done, total, state) in [
            (0, 0, "catching up by snapshot, 0 %"),
            (43, 100, "catching up by snapshot, 43 %"),
            (200, 100, "catching up by snapshot, 100 %"),
        ] {
            let row = pull(done, total, "");
            assert_eq!((&*row.state, row.snapshot_waits_for.as_deref()), (state, None));
        }
        let waiting = text(None, &[pull(43, 100, "make room")], Timestamp(0));
        assert!(waiting.ends_with("n1 cannot catch up now: make room\n"), "{waiting}");
    }

    #[test]
    fn p19_damage_that_is_not_repaired_yet_is_shown() {
        use crate::proto::admin::Damage;
        for (damage, state) in [
            (Damage::default(), "ok"),
            (Damage { repaired_entries: 7, rebuilt_segments: 1, ..Damage::default() }, "ok"),
            (Damage { damaged_segments: 1, ..Damage::default() }, "damaged"),
            (Damage { damaged_segments: 1, lacks_tail: true, ..Damage::default() }, "repairing"),
        ] {
            let row = row(Node { damage: Some(damage), ..node("n1", "follower", Some(0)) });
            assert_eq!((&*row.state, row.repaired_entries), (state, damage.repaired_entries));
        }
        assert_eq!(row(node("n1", "follower", Some(0))).state, "ok", "an older build does not say it");
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
