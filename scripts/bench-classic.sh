#!/usr/bin/env bash
# Compares two running brokers over RocketMQ's classic protocol, in pairs: about half an hour.
#
#   scripts/bench-classic.sh FOLDER OURS WATCH_OURS THEIRS WATCH_THEIRS
#
# OURS and THEIRS are name servers, WATCH_… the addresses by which the brokers' processes are found, each ADDR[;ADDR].
# Both have the topic `bench` with eight queues. For example raftmq of fast-try beside RocketMQ 5.3.3 with every port 1000
# higher, as its own name server and brokers say:
#
#   scripts/bench-classic.sh /tmp/classic '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' \
#       '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' 127.0.0.1:10876 '127.0.0.1:31911;127.0.0.1:31921;127.0.0.1:31931'
#
# The reports go to FOLDER as JSON, the ratios to stdout. A JVM wants two minutes of load before.
# PAIRS         of each load            [9]
# SECONDS_EACH  length of each window   [6]
# RAFTMQ_BIN    a binary to use instead of building one
set -euo pipefail
[ "$#" -eq 5 ] || { sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
ours="$2" watch_ours="$3" theirs="$4" watch_theirs="$5"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
length="${SECONDS_EACH:-6}s"

# Name, then what is measured and its load.
compare() {
    local name="$1" what="$2"
    shift 2
    printf '## %s\n' "$name"
    "$RAFTMQ_BIN" -o json bench compare "$ours" "$theirs" --protocol remoting --what "$what" --pairs "${PAIRS:-9}" \
        --watch "$watch_ours" --watch-b "$watch_theirs" --topic bench "$@" >"$folder/$name.json"
    python3 - "$folder/$name.json" <<'PYTHON'
import json, sys
for row in json.load(open(sys.argv[1]))["ratios"]:
    print(f'{row["figure"]:28} {row["a"]:12.1f} {row["b"]:12.1f} {row["ratio"]:8.3f} ({row["low"]:.3f} .. {row["high"]:.3f})')
PYTHON
}

# Without a check: that reads all messages back, which takes RocketMQ minutes for each window.
compare send-64 send --no-check --in-flight 64 --duration "$length"
compare batched send --no-check --in-flight 16 --batch 32 --duration "$length"
compare send-1 send --no-check --in-flight 1 --connections 2 --duration "$length"
compare pull-32 receive --count 200000 --receive-batch 32 --consumers 8
