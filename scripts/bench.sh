#!/usr/bin/env bash
# Takes the figures of docs/benchmarks.md on this machine: about nine minutes.
#
#   scripts/bench.sh FOLDER     reports as JSON and the pictures go there; a Markdown table to stdout
#
# A cluster of its own is started on fast-try's ports, with its data in FOLDER, and stopped again.
# SECONDS_EACH  length of each window   [6]
set -euo pipefail
[ "$#" -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
export RAFTMQ_DATA="$folder/data"
length="${SECONDS_EACH:-6}s"
endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
export RAFTMQ_BIN
binary="$RAFTMQ_BIN"

raftmq() { "$binary" -n "$endpoints" "$@"; }
say() { printf '%s\n' "$*" >&2; }

# Puts free memory to use, as on a machine that has run for a while. Where the host takes back what is free (free page
# reporting of virtual machines), a page used again costs up to 10 µs, and the log takes one for every four messages
# of 1 KiB. The holes of a file take memory when they are read, and no disk.
warm() {
    [ -e "$folder/sparse" ] || truncate -s "$(awk '/^MemAvailable/ { print int($2 * 7 / 8) "K" }' /proc/meminfo)" "$folder/sparse"
    cat "$folder/sparse" >/dev/null
}

# Name, then the arguments of `raftmq bench`; what was run is kept beside the report.
bench() {
    local name="$1"
    shift
    warm
    say "$name: raftmq bench $*"
    printf 'raftmq bench %s\n' "$*" >"$folder/$name.command"
    raftmq -o json bench "$@" >"$folder/$name.json"
}

cluster() {
    scripts/fast-try.sh stop >/dev/null 2>&1 || true
    scripts/fast-try.sh clean >/dev/null 2>&1 || true
    scripts/fast-try.sh start >/dev/null
    raftmq topic create bench >/dev/null
}
trap 'scripts/fast-try.sh stop >/dev/null 2>&1; scripts/fast-try.sh clean >/dev/null 2>&1; rm -f "$folder/sparse"' EXIT

# CPU of all brokers, in hundredths of a second.
cpu() { cat $(sed 's|.*|/proc/&/stat|' "$RAFTMQ_DATA"/n?.pid) | awk '{ sum += $14 + $15 } END { print sum }'; }
rss() { cat $(sed 's|.*|/proc/&/status|' "$RAFTMQ_DATA"/n?.pid) | awk '/VmRSS/ { sum += $2 } END { print int(sum / 1024) }'; }

bench raw-1KiB raw --folder "$folder" --flush 1KiB --duration 3s
bench raw-3x256KiB raw --folder "$folder" --flush 256KiB --writers 3 --duration 3s
bench null-1 null --in-flight 1 --duration "$length"
bench null-64 null --in-flight 64 --duration "$length"

cluster
sleep 3
before="$(cpu)"; sleep 10; after="$(cpu)"
printf 'idle: %s MiB RSS, %s %% of a core\n' "$(rss)" "$(awk "BEGIN { print ($after - $before) / 10 }")" | tee "$folder/idle.txt" >&2
for in_flight in 1 16 64 256; do bench "send-$in_flight" send --in-flight $in_flight --duration "$length"; done
bench send-64-128B send --in-flight 64 --size 128 --duration "$length"
bench send-16KiB send --in-flight 16 --size 16KiB --duration "$length"
bench send-batch-32 send --in-flight 16 --batch 32 --duration "$length"
bench receive receive --count 200000
bench receive-64 receive --count 200000 --consumers 64
bench receive-singly receive --count 50000 --acks singly --consumers 16
bench e2e-2000 e2e --rate 2000 --duration "$length"
raftmq topic create queues-1 --queues 1 >/dev/null
ten=queues-10k-0
raftmq topic create $ten --queues 1000 >/dev/null
for number in 1 2 3 4 5 6 7 8 9; do
    raftmq topic create "queues-10k-$number" --queues 1000 >/dev/null
    ten="$ten,queues-10k-$number"
done
bench queues-1 send --topic queues-1 --connections 10 --in-flight 64 --duration "$length"
bench queues-10k send --topic "$ten" --connections 10 --consumers 10 --in-flight 64 --duration "$length"
bench null-batch-32 null --in-flight 16 --batch 32 --duration "$length"
bench null-64-again null --in-flight 64 --duration "$length"
# In turn: what the machine does meanwhile is in both.
for pair in 1 2 3 4 5; do
    bench "all-up-$pair" send --in-flight 64 --duration "$length"
    scripts/fast-try.sh kill n0 >/dev/null
    endpoints='127.0.0.1:8082;127.0.0.1:8083'
    sleep 2
    bench "one-down-$pair" send --in-flight 64 --duration "$length"
    endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'
    scripts/fast-try.sh start n0 >/dev/null
    # What it missed is not to be in the next figure.
    until raftmq -o json cluster status | python3 -c 'import json, sys
sys.exit(any(node.get("behind") != 0 for node in json.load(sys.stdin)["nodes"]))'; do sleep 0.2; done
    sleep 2
done
# From the start of the processes, with what they have stored, to the first acknowledged send.
for attempt in 1 2 3 4 5; do
    scripts/fast-try.sh stop >/dev/null
    before="$(date +%s%N)"
    scripts/fast-try.sh start >/dev/null &
    until raftmq produce bench --count 1 >/dev/null 2>&1; do sleep 0.02; done
    printf 'start %s: %s ms to the first acknowledged send\n' "$attempt" "$((($(date +%s%N) - before) / 1000000))" |
        tee -a "$folder/start.txt" >&2
    wait $!
done
export RAFTMQ_CONF_flushDiskType=ASYNC_FLUSH
cluster
bench async-64 send --in-flight 64 --duration "$length"

python3 - "$folder" <<'P'
import json, pathlib, statistics, sys
folder = pathlib.Path(sys.argv[1])
rate = lambda name: json.loads((folder / f"{name}.json").read_text())["messages_per_second"]
print("| | msg/s | MB/s | p50 ms | p99 ms | p99.9 ms | server CPU µs/msg | bytes written per payload byte | RSS MiB | command |")
print("|---|---|---|---|---|---|---|---|---|---|")
for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
    report, command = json.loads(path.read_text()), path.with_suffix(".command").read_text().strip()
    if "messages_per_second" not in report:
        latency = report["latency"]
        print(f"| {path.stem} | {report['syncs_per_second']:.0f} syncs | {report['megabytes_per_second']:.1f} | {latency['p50_us']/1000:.2f} | {latency['p99_us']/1000:.2f} | {latency['p999_us']/1000:.2f} | | | | `{command}` |")
        continue
    latency = report["end_to_end"] if report["settings"]["what"] == "e2e" else report["latency"]
    print(f"| {path.stem} | {report['messages_per_second']:.0f} | {report['megabytes_per_second']:.1f} | {latency['p50_us']/1000:.2f} | {latency['p99_us']/1000:.2f} | {latency['p999_us']/1000:.2f} | {report['server_cpu_us']:.1f} | {report['write_amplification']:.2f} | {report['server_mib']:.0f} | `{command}` |")
ratios = sorted(rate(f"one-down-{pair}") / rate(f"all-up-{pair}") for pair in range(1, 6))
print(f"\none node down over all up, 5 pairs: {statistics.median(ratios):.2f} (least {ratios[0]:.2f}, most {ratios[-1]:.2f})")
P
raftmq bench picture "null, 64 in flight=$folder/null-64.json" "1 in flight=$folder/send-1.json" "16 in flight=$folder/send-16.json" \
    "64 in flight=$folder/send-64.json" "256 in flight=$folder/send-256.json" "64 in flight, ASYNC_FLUSH=$folder/async-64.json" \
    "16 in flight × 32=$folder/send-batch-32.json" "receive + ack=$folder/receive.json" >"$folder/throughput.svg"
