#!/usr/bin/env bash
# How long a node takes to come back from an empty disk, and a backup to be made, under a load with 64 in flight: one line each,
# with the p99 of the sends before and meanwhile.
#
#   scripts/replace.sh FOLDER [MIB]     [2048] MiB of log; the cluster's data is in FOLDER, and removed afterwards
#
# A cluster of its own on fast-try's ports. The node is killed and wiped, and replaced as an operator would.
# SECONDS_EACH  length of each window of load   [5]
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
mib="${2:-2048}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
export RAFTMQ_BIN RAFTMQ_DATA="$folder/data" RAFTMQ_CONF_cleanFileForciblyEnable=false
endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'
raftmq() { "$RAFTMQ_BIN" -n "$endpoints" "$@"; }
trap 'scripts/fast-try.sh stop >/dev/null 2>&1; scripts/fast-try.sh clean >/dev/null 2>&1; rm -rf "$folder/backup"' EXIT

# One window of load: its rate and p99.
window() {
    raftmq -o json bench send --in-flight 64 --duration "${SECONDS_EACH:-5}s" --no-check |
        python3 -c 'import json, sys
report = json.load(sys.stdin)
print("%d msg/s, p99 %.1f ms" % (report["messages_per_second"], report["latency"]["p99_us"] / 1000))'
}
log_mib() { du -sm "$RAFTMQ_DATA/$1" | cut -f1; }
# Runs a command under windows of load.
under_load() {
    local before passed job
    before="$(date +%s%N)"
    ("$@" >"$folder/command.out" 2>&1; date +%s%N >"$folder/ended") &
    job=$!
    while kill -0 "$job" 2>/dev/null; do echo "  meanwhile: $(window)"; done
    wait "$job" || { cat "$folder/command.out" >&2; exit 1; }
    passed=$((($(cat "$folder/ended") - before) / 1000000))
    printf '  took %s ms\n' "$passed"
}

scripts/fast-try.sh start >/dev/null
raftmq topic create bench >/dev/null
# Batches of 1 MiB.
while [ "$(log_mib n1)" -lt "$mib" ]; do
    raftmq bench send --size 32KiB --batch 32 --in-flight 4 --count 1024 --no-check --warm-up 1ms >/dev/null
done
echo "before, $(log_mib n1) MiB on each node: $(window)"
node="$(raftmq -o json cluster status | python3 -c 'import json, sys
status = json.load(sys.stdin)
print(next(node["node"] for node in status["nodes"] if node["node"] != status["leader"]))')"
others="$(sed "s/127.0.0.1:808$((${node#n} + 1));\?//; s/;$//" <<<"$endpoints")"
replace() {
    scripts/fast-try.sh kill "$node"
    rm -rf "${RAFTMQ_DATA:?}/$node"
    scripts/fast-try.sh replace "$node"
}
echo "$node, a follower, killed, wiped and replaced:"
# A driver does not begin with a node that is down.
endpoints="$others" under_load replace
echo "  it has $(log_mib "$node") MiB; after: $(window)"
echo "backup of $node:"
under_load raftmq backup create "$folder/backup"
echo "  it has $(du -sm "$folder/backup" | cut -f1) MiB"
