#!/usr/bin/env bash
# How long a node takes from its start to the first acknowledged send, with ever more log: one line for each start.
#
#   scripts/restart.sh FOLDER [MIB ...]     [100 1024 10240]; the node's data is in FOLDER, and removed afterwards
#
# A node of its own, a group of one, on ports 41080 to 41090. It is stopped by kill -9. Cold starts have nothing of its files
# in the page cache, which takes root; without, they are left out.
# STARTS  starts of each kind   [5]
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
shift
[ "$#" -gt 0 ] || set -- 100 1024 10240
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
raftmq() { "$RAFTMQ_BIN" -n 127.0.0.1:41081 "$@"; }

pid=
start() {
    "$RAFTMQ_BIN" broker -D dLegerGroup=restart -D brokerName=restart -D 'dLegerPeers=n0-127.0.0.1:41091' -D dLegerSelfId=n0 \
        -D listenPort=41080 -D grpcServerPort=41081 -D "storePathRootDir=$folder/node" -D logHome=none \
        -D diskMaxUsedSpaceRatio=95 -D cleanFileForciblyEnable=false >>"$folder/node.log" 2>&1 &
    pid=$!
}
stop() {
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
until_acknowledged() {
    until raftmq produce bench --count 1 >/dev/null 2>&1; do sleep 0.005; done
}
trap 'stop; rm -rf "$folder/node"' EXIT

# Milliseconds from exec to the first acknowledged send.
restart() {
    local before
    before="$(date +%s%N)"
    start
    until_acknowledged
    printf '%s' "$((($(date +%s%N) - before) / 1000000))"
    stop
}

rm -rf "$folder/node"
start
until raftmq topic create bench --queues 8 >/dev/null 2>&1; do sleep 0.1; done
for mib in "$@"; do
    while size="$(du -sm "$folder/node/log" | cut -f1)" && [ "$size" -lt "$mib" ]; do
        # Batches of 1 MiB.
        raftmq bench send --topic bench --size 32KiB --batch 32 --in-flight 4 --count "$(((mib - size) * 32 + 32))" --no-check --warm-up 1ms >/dev/null
    done
    stop
    for kind in warm cold; do
        if [ "$kind" = cold ]; then
            sync
            { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null || { echo "$mib MiB, cold: left out, needs root" ; continue; }
        fi
        for ((number = 0; number < ${STARTS:-5}; number++)); do
            [ "$kind" = warm ] || echo 3 >/proc/sys/vm/drop_caches
            printf '%s MiB, %s: %s ms\n' "$mib" "$kind" "$(restart)"
        done
    done
    start
    until_acknowledged
    printf '%s MiB: RSS %s MiB, %s descriptors\n' "$mib" "$(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status")" "$(ls "/proc/$pid/fd" | wc -l)"
done
