//! Families about the process and the disk it is on.

use std::fmt;

use crate::edge::http::metrics::families::{Families, about, about_in};
use crate::edge::http::metrics::snapshot::Snapshot;
use crate::env::process::OwnProcess;
use crate::model::RoomState;

pub(super) fn put(out: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    process(out, &snapshot.process)?;
    out.gauges(
        about("raftmq_build_info", "Which build this is; always 1"),
        [([("version", env!("CARGO_PKG_VERSION"))], 1)],
    )?;
    let Some(node) = &snapshot.node else { return out.gauge(about("raftmq_ready", READY), 0) };
    out.gauge(about("raftmq_ready", READY), i64::from(node.is_ready))?;
    let status = &node.status;
    if let Some(offset) = status.clock_offset_ms {
        let help = "What this node's time of day is ahead of what most nodes agree on";
        out.gauge(about_in("raftmq_clock_offset", "seconds", help), offset as f64 / 1000.0)?;
    }
    let help = "Whether this node's disk took more than a second for a sync, now or a moment ago";
    out.gauge(about("raftmq_disk_is_slow", help), i64::from(status.slow_disk))?;
    let Some(room) = status.room else { return Ok(()) };
    let bytes = [
        ("total", room.total),
        ("free", room.free),
        ("reserve", room.reserve),
        ("soft_mark", room.soft),
        ("hard_mark", room.hard),
    ];
    let help = "The file system of storePathRootDir: its size, what is free, what this node holds in reserve, and the marks \
                below which retention runs early and sends are refused";
    out.gauges(about_in("raftmq_disk", "bytes", help), bytes.map(|(of, bytes)| ([("of", of)], bytes)))?;
    let states = RoomState::ALL.map(|state| ([("state", state.name())], i64::from(state == room.state)));
    out.gauges(about("raftmq_disk_state", "1 for the state that the room on the disk is in"), states)
}

const READY: &str = "Whether this node serves clients well, as /readyz says";

fn process(out: &mut Families<'_>, process: &OwnProcess) -> fmt::Result {
    let OwnProcess { cpu_seconds, resident_bytes, virtual_bytes, .. } = *process;
    out.counter(about_in("process_cpu", "seconds", "CPU time of this process"), cpu_seconds)?;
    out.gauge(about_in("process_resident_memory", "bytes", "Memory of this process in RAM"), resident_bytes)?;
    out.gauge(about_in("process_virtual_memory", "bytes", "Address space of this process"), virtual_bytes)?;
    let help = "When this process started, since 1970";
    out.gauge(about_in("process_start_time", "seconds", help), process.started_at_seconds)?;
    out.gauge(about("process_open_fds", "Files that this process has open"), process.open_files)?;
    out.gauge(about("process_max_fds", "Files that it may have open"), process.open_files_max)?;
    out.gauge(about("process_threads", "Threads of this process"), process.threads)
}
