#!/usr/bin/env bash
# Three nodes under load for a long time, with a small log and a leader that is killed every minute: disk, memory and
# file descriptors must stay flat, and the drill's messages, which are kept longer than the log, must all be there.
#
#   scripts/soak.sh FOLDER [MINUTES]     [15 minutes]; samples as CSV and the drill's report go to FOLDER
#
# A cluster of its own is started on fast-try's ports, with its data in FOLDER, and stopped again.
# RATE  messages a second beside those of the drill   [20000]
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
minutes="${2:-15}"
rate="${RATE:-20000}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
export RAFTMQ_DATA="$folder/data"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
export RAFTMQ_BIN
export RAFTMQ_CONF_logRetentionBytes=256MiB RAFTMQ_CONF_mappedFileSizeCommitLog=16MiB
endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'
raftmq() { "$RAFTMQ_BIN" -n "$endpoints" "$@"; }

scripts/fast-try.sh stop >/dev/null 2>&1 || true
scripts/fast-try.sh clean >/dev/null 2>&1 || true
trap 'kill $(jobs -p) 2>/dev/null || true; scripts/fast-try.sh stop >/dev/null 2>&1; scripts/fast-try.sh clean >/dev/null 2>&1' EXIT
scripts/fast-try.sh start >/dev/null
raftmq topic create load >/dev/null

# One line every ten seconds: seconds, then of each node RSS in MiB, descriptors, log and state in MiB.
sample() {
    local start="$SECONDS" node pid
    echo 'seconds,n0 rss,n0 files,n0 log,n0 state,n1 rss,n1 files,n1 log,n1 state,n2 rss,n2 files,n2 log,n2 state'
    while sleep 10; do
        printf '%s' "$((SECONDS - start))"
        for node in n0 n1 n2; do
            pid="$(cat "$RAFTMQ_DATA/$node.pid" 2>/dev/null || true)"
            printf ',%s,%s,%s,%s' \
                "$(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status" 2>/dev/null || true)" \
                "$(ls "/proc/$pid/fd" 2>/dev/null | wc -l)" \
                "$(du -sm "$RAFTMQ_DATA/$node/log" 2>/dev/null | cut -f1)" \
                "$(du -sm "$RAFTMQ_DATA/$node/state" 2>/dev/null | cut -f1)"
        done
        echo
    done
}

# The drill's topics are kept longer than the log: what it sent is carried until it is audited.
keep() {
    local kept=' '
    while sleep 1; do
        for topic in $(raftmq -o json topic list 2>/dev/null | grep -o '"[^"]*drill-[^"]*"' | tr -d '"' | sort -u); do
            # Once: an update is an entry, and the audit compares replicas while nothing is logged.
            case "$kept" in *" $topic "*) continue ;; esac
            if raftmq topic update "$topic" --retention 1d >/dev/null 2>&1; then kept="$kept$topic "; fi
        done
    done
}

# The load goes on through every kill: each run of it ends early, and the next one begins.
load() {
    # The audit compares replicas at one entry, so nothing else may be sent then.
    while [ "$SECONDS" -lt "$((minutes * 60 - 20))" ]; do
        raftmq -o json bench e2e --topic load --rate "$rate" --batch 32 --size 200 --consumers 8 --duration 20s --no-check >>"$folder/load.jsonl" 2>>"$folder/load.log" || sleep 1
    done
}

sample >"$folder/samples.csv" &
keep &
load &
raftmq drill kill-leader --minutes "$minutes" --every 60s --folder "$folder/drill" --gap 5s --lateness 5s \
    --start 'scripts/fast-try.sh start {}' | tee "$folder/drill.txt"
tail -n +1 "$folder/samples.csv" | awk -F, 'NR == 1 || NR % 6 == 2' | column -s, -t
