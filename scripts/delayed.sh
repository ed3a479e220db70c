#!/usr/bin/env bash
# Messages that wait ten times as long as the log is kept: each is carried again and again, and must come once, on time,
# although the leader is killed and all nodes are restarted while they wait.
#
#   scripts/delayed.sh FOLDER [COUNT [MINUTES]]     [300000 messages, 20 minutes]; samples and verdict go to FOLDER
#
# A cluster of its own is started on fast-try's ports, with its data in FOLDER, and stopped again. The log is kept for a
# tenth of the delay, in segments of 1 MiB.
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
count="${2:-300000}"
minutes="${3:-20}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
export RAFTMQ_DATA="$folder/data"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
export RAFTMQ_BIN
export RAFTMQ_CONF_mappedFileSizeCommitLog=1MiB RAFTMQ_CONF_deleteWhen=always RAFTMQ_CONF_timerMaxDelaySec=86400
export RAFTMQ_CONF_fileReservedTime="$((minutes * 6))s"
endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'
raftmq() { "$RAFTMQ_BIN" -n "$endpoints" "$@"; }

scripts/fast-try.sh stop >/dev/null 2>&1 || true
scripts/fast-try.sh clean >/dev/null 2>&1 || true
trap 'kill $(jobs -p) 2>/dev/null || true; scripts/fast-try.sh stop >/dev/null 2>&1; scripts/fast-try.sh clean >/dev/null 2>&1' EXIT
scripts/fast-try.sh start >/dev/null
raftmq topic create later --type DELAY >/dev/null
raftmq group create readers --consume-from first >/dev/null 2>&1 || raftmq group create readers >/dev/null

# Every 20 seconds: seconds, then of each node CPU in hundredths of a second since it started, RSS and log in MiB.
sample() {
    local node pid
    while sleep 20; do
        printf '%s' "$SECONDS"
        for node in n0 n1 n2; do
            pid="$(cat "$RAFTMQ_DATA/$node.pid" 2>/dev/null || true)"
            printf ',%s,%s,%s' "$(awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null || true)" \
                "$(awk '/VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status" 2>/dev/null || true)" \
                "$(du -sm "$RAFTMQ_DATA/$node/log" 2>/dev/null | cut -f1)"
        done
        echo
    done
}

# In parts of which each says when its first message is due.
parts=30
began="$SECONDS"
for ((part = 0; part < parts; part++)); do
    raftmq produce later --count "$((count / parts))" --rate 15000 --delay "${minutes}m" -q \
        --property "due=$(($(date +%s%3N) + minutes * 60000))" >/dev/null
done
due=$((SECONDS + minutes * 60))
echo "sent within $((SECONDS - began)) s"
sample >"$folder/samples.csv" &
sleep $((minutes * 24))
echo "killed $(scripts/fast-try.sh kill leader)"
scripts/fast-try.sh start >/dev/null
sleep $((minutes * 18))
scripts/fast-try.sh restart >/dev/null
echo "restarted all nodes"
# From now on one reader at each node.
for port in 8081 8082 8083; do
    "$RAFTMQ_BIN" -n "127.0.0.1:$port" consume later -g readers -o jsonl 2>>"$folder/readers.log" |
        python3 -uc 'import sys, time
for line in sys.stdin: print(time.time_ns() // 1000000, line, end="")' >"$folder/reader-$port.txt" &
done
while [ "$SECONDS" -lt "$((due + 120))" ] && [ "$(cat "$folder"/reader-*.txt | wc -l)" -lt "$((count / parts * parts))" ]; do sleep 1; done
sleep 5
raftmq -o json topic describe later >"$folder/topic.json"
python3 - "$folder" "$count" <<'P'
import collections, json, pathlib, sys
folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
seen, late, last_due = collections.Counter(), [], 0
for path in folder.glob("reader-*.txt"):
    for line in path.read_text().splitlines():
        at, message = line.split(" ", 1)
        message = json.loads(message)
        seen[message["id"]] += 1
        due = int(message["properties"]["due"])
        late.append(int(at) - due)
        last_due = max(last_due, due)
again = sum(times - 1 for times in seen.values())
count = count // 30 * 30
print(f"{len(seen)} of {count} messages came, {again} deliveries more than one each")
late.sort()
last_stored = max(queue["last_stored_at_ms"] for queue in json.loads((folder / "topic.json").read_text())["queues"])
print(f"the last one entered its queue {last_stored - last_due} ms after the first one of the last part was due")
if late: print(f"received, after the first one of their part was due, in ms: least {late[0]}, p50 {late[len(late) // 2]}, most {late[-1]}")
sys.exit(len(seen) != count)
P
