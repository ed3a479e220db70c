//! Families about what this node stores and holds in memory.

use std::fmt;

use crate::edge::http::metrics::families::{Families, about, about_in};
use crate::edge::http::metrics::snapshot::Snapshot;

/// As RocketMQ's own store is labelled.
const STORAGE: [(&str, &str); 2] = [("storage_type", "local"), ("storage_medium", "disk")];

pub(super) fn put(out: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Some(node) = &snapshot.node else { return Ok(()) };
    let (measures, store) = (&node.measures, &node.measures.store);
    let log_bytes = node.status.log.map_or(0, |log| log.bytes);
    let help = "What the log and the state take on this node's disk";
    out.gauges(about_in("rocketmq_storage_size", "bytes", help), [(STORAGE, log_bytes + store.table_bytes)])?;
    let help = "What was appended and does not wait for its sync yet, but for being written";
    out.gauges(about_in("rocketmq_storage_flush_behind", "bytes", help), [(STORAGE, measures.waiting_bytes)])?;
    if let Some(oldest) = node.oldest_at {
        let help = "How long ago the first message was stored that is still in this node's log";
        let age = [(STORAGE, node.now.since(oldest).0)];
        out.gauges(about_in("rocketmq_storage_message_reserve_time", "milliseconds", help), age)?;
    }
    let help = "Bytes of records written to this node's log";
    out.counter(about_in("raftmq_log_written", "bytes", help), measures.log_written_bytes)?;
    let damage = &node.status.damage;
    let help = "Segments of the log with something that cannot be read and is not repaired yet";
    out.gauge(about("raftmq_log_damaged_segments", help), damage.damaged_segments)?;
    let help = "Entries that were damaged and are replaced by what peers have";
    out.counter(about("raftmq_log_repaired_entries", help), damage.repaired_entries)?;
    let help = "Whole segments that were replaced so";
    out.counter(about("raftmq_log_rebuilt_segments", help), damage.rebuilt_segments)?;
    let memory = [
        ("tail_cache", measures.tail_cache_bytes),
        ("log_places", measures.log_places_bytes),
        ("log_waiting", measures.waiting_bytes),
        ("proposed", measures.proposed_bytes),
        ("state_memtables", store.memtable_bytes),
        ("state_block_cache", store.block_cache_bytes),
        ("state_table_readers", store.table_reader_bytes),
    ];
    let help = "Memory by what it is for; process_resident_memory_bytes is all of it and more";
    out.gauges(about_in("raftmq_memory", "bytes", help), memory.map(|(kind, bytes)| ([("kind", kind)], bytes)))?;
    let help = "How much of what waits to become entries there may be before requests are refused";
    out.gauge(about_in("raftmq_proposed_max", "bytes", help), measures.proposed_bytes_max)?;
    let help = "What the block cache of the state store may take";
    out.gauge(about_in("raftmq_rocksdb_block_cache_max", "bytes", help), store.block_cache_bytes_max)?;
    out.gauge(about_in("raftmq_rocksdb_tables", "bytes", "Tables of the state store on the disk"), store.table_bytes)?;
    out.gauge(about("raftmq_rocksdb_keys", "About how many keys the state store has"), store.keys)?;
    let help = "What compactions of the state store still have to rewrite";
    out.gauge(about_in("raftmq_rocksdb_pending_compaction", "bytes", help), store.pending_compaction_bytes)?;
    let help = "Compactions under way";
    out.gauge(about("raftmq_rocksdb_running_compactions", help), store.running_compactions)?;
    out.gauge(about("raftmq_rocksdb_running_flushes", "Flushes under way"), store.running_flushes)?;
    let help = "Whether writes to the state store wait for compactions";
    out.gauge(about("raftmq_rocksdb_is_write_stopped", help), i64::from(store.is_write_stopped))?;
    let help = "Errors of the state store's background work since it was opened";
    out.counter(about("raftmq_rocksdb_background_errors", help), store.background_errors)
}
