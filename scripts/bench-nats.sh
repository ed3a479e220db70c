#!/usr/bin/env bash
# Measures raftmq beside NATS JetStream on this machine, in turn, each side by its own driver: about eight minutes.
#
#   scripts/bench-nats.sh FOLDER     everything that was printed goes there; medians to stdout
#
# Three servers of each with three replicas on disk: raftmq as it is, NATS with `sync_interval: always` (the same
# promise as ours) and NATS as it comes (synced every two minutes). Needs nats-server and nats in the PATH
# (go install github.com/nats-io/nats-server/v2@v2.12.1 and github.com/nats-io/natscli/nats@v0.1.5).
# ROUNDS  how often each is measured   [5]
set -euo pipefail
[ "$#" -eq 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
export RAFTMQ_DATA="$folder/data"
[ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
export RAFTMQ_BIN
binary="$RAFTMQ_BIN"
endpoints='127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083'

# Servers of one kind: name, first port, what goes into the block about the disk.
nats_up() {
    local name="$1" port="$2" disk="$3" node
    for node in 0 1 2; do
        cat >"$folder/$name-$node.conf" <<CONF
server_name: $name-$node
listen: 127.0.0.1:$((port + node))
jetstream { store_dir: "$folder/$name-$node", $disk }
cluster { name: $name, listen: 127.0.0.1:$((port + 10 + node)), routes: [nats://127.0.0.1:$((port + 10)), nats://127.0.0.1:$((port + 11)), nats://127.0.0.1:$((port + 12))] }
CONF
        nats-server -c "$folder/$name-$node.conf" -l "$folder/$name-$node.log" -P "$folder/$name-$node.pid" >/dev/null 2>&1 &
    done
}
down() {
    scripts/fast-try.sh stop >/dev/null 2>&1 || true
    scripts/fast-try.sh clean >/dev/null 2>&1 || true
    # Not cat: these files end without a line end.
    sed '' "$folder"/*-?.pid 2>/dev/null | xargs -r -n1 kill -9 2>/dev/null || true
    rm -rf "$folder"/synced-? "$folder"/plain-?
}
trap down EXIT

cpu() { cat $(sed 's|.*|/proc/&/stat|' "$@") | awk '{ sum += $14 + $15 } END { print sum }'; }

# One figure: what, which side, messages, then the command. Writes `what side msg/s µs/msg`.
measure() {
    local what="$1" side="$2" messages="$3" before after rate
    shift 3
    local pids=("$RAFTMQ_DATA"/n?.pid)
    [ "$side" = raftmq ] || pids=("$folder/$side"-?.pid)
    before="$(cpu "${pids[@]}")"
    "$@" >"$folder/last.txt" 2>&1 || { cat "$folder/last.txt" >&2; return 1; }
    after="$(cpu "${pids[@]}")"
    cat "$folder/last.txt" >>"$folder/$what-$side.txt"
    if [ "$side" = raftmq ]; then
        # Its CPU is that of the measured window.
        python3 -c 'import json,sys; r=json.load(open(sys.argv[1])); print(sys.argv[2], "raftmq", round(r["messages_per_second"]), round(r["server_cpu_us"], 1))' \
            "$folder/last.txt" "$what"
    else
        rate="$(grep -oE '[0-9,]+ msgs/sec' "$folder/last.txt" | head -1 | tr -d ', a-z/')"
        printf '%s %s %s %s\n' "$what" "$side" "$rate" "$(awk "BEGIN { printf \"%.1f\", ($after - $before) * 10000 / $messages }")"
    fi | tee -a "$folder/figures.txt" >&2
}

ours() { "$binary" -n "$endpoints" -o json bench "$@"; }
bench() { local port="$1"; shift; nats -s "nats://127.0.0.1:$port" bench bench --js --replicas 3 --storage file --size 1024 --maxbytes 8GB --no-progress "$@"; }

down
rm -f "$folder"/figures.txt
scripts/fast-try.sh start >/dev/null
"$binary" -n "$endpoints" topic create bench >/dev/null
nats_up synced 14222 'sync_interval: always'
nats_up plain 15222 'sync_interval: 2m'
sleep 10
for port in 14222 15222; do bench $port --pub 8 --syncpub --msgs 2000 >/dev/null; done
for _ in $(seq "${ROUNDS:-5}"); do
    measure one-in-flight raftmq 0 ours send --in-flight 1 --duration 3s --no-check
    measure one-in-flight synced 1500 bench 14222 --pub 1 --syncpub --msgs 1500
    measure one-in-flight plain 4000 bench 15222 --pub 1 --syncpub --msgs 4000
    measure 64-in-flight raftmq 0 ours send --in-flight 64 --duration 3s --no-check
    measure 64-in-flight synced 4992 bench 14222 --pub 64 --syncpub --msgs 4992
    measure 64-in-flight plain 59904 bench 15222 --pub 64 --syncpub --msgs 59904
    measure batched raftmq 0 ours send --in-flight 16 --batch 32 --duration 3s --no-check
    measure batched plain 199680 bench 15222 --pub 16 --pubbatch 32 --msgs 199680
done
for side in raftmq synced plain; do
    pids=("$RAFTMQ_DATA"/n?.pid)
    [ "$side" = raftmq ] || pids=("$folder/$side"-?.pid)
    printf '%s: %s MiB RSS\n' "$side" "$(cat $(sed 's|.*|/proc/&/status|' "${pids[@]}") | awk '/VmRSS/ { sum += $2 } END { print int(sum / 1024) }')"
done
python3 - "$folder/figures.txt" <<'P'
import collections, statistics, sys
figures = collections.defaultdict(list)
for line in open(sys.argv[1]):
    what, side, rate, cpu = line.split()
    figures[what, side].append((float(rate), float(cpu)))
print("| | | msg/s | server CPU µs/msg | raftmq over it, median of the rounds (least .. most) |")
print("|---|---|---|---|---|")
for (what, side), rows in sorted(figures.items()):
    ratios = sorted(a[0] / b[0] for a, b in zip(figures[what, "raftmq"], rows))
    rate, cpu = (statistics.median(column) for column in zip(*rows))
    print(f"| {what} | {side} | {rate:,.0f} | {cpu:.0f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f}) |")
P
