#!/usr/bin/env bash
# Kills brokers (kill -9) under RocketMQ's classic Java client, unmodified: the leader, then the node that consumers read from.
# One line for each kill, then medians and maxima; fails if a rule is broken. About a minute and a half for each kill.
#
#   scripts/kills-classic.sh FOLDER [KILLS]     [10] of each kind; the nodes' data is in FOLDER, and removed afterwards
#
# Clients: sends of 16 threads whose queue the client chooses (plain), of 16 keys by SelectMessageQueueByHash (hashed), and of 16
# by the queue's number, under the next broker name if one is not reached (numbered), five a second each; two push consumers that
# consume concurrently and two in order. A send that fails is made again by the application, after 100 ms.
# Rules: every acknowledged message is received, committed offsets never go back, keys are in order, no queue is consumed in order
# by two at once, no plain and no numbered send fails more than once, and clients go on within two minutes.
# A killed node is started again when all clients went on; the next kill comes when they have looked for new routes, each 30 s.
#
# Nodes of its own on ports from PORTS on, with one name server.
# RAFTMQ_BIN  a binary to use instead of building one
# VERSION     of the client         [5.3.3]
# KINDS       whom to kill          [leader host]
# PORTS       the first port        [43000]
# SERVED_BY   node: the nodes are the clients' name servers; server: a name server of its own    [server]
# ROCKETMQ    Apache's brokers instead: a script that takes `up`, `node I`, `adm ARGS…` and `down`, keeps their process ids in
#             $W/b0.pid to b2.pid, and serves on RocketMQ's ports plus PORTS. Only the leader is killed, which is read from, too.
set -euo pipefail
[ "$#" -ge 1 ] || { sed -n '2,24s/^# \{0,1\}//p' "$0"; exit 2; }
folder="$(realpath -m "$1")"
kills="${2:-10}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh
mkdir -p "$folder"
version="${VERSION:-5.3.3}"
# What clients may take to find new routes.
look_every=32
tests/clients/classic-kills/setup.sh "$version"

# --- raftmq's nodes ----------------------------------------------------------------------------------

pids=()
port_of() { printf '%s\n' "$((PORTS + 10 * $2 + $1))"; } # what (11: classic, 12: gRPC, 13: peers, 14: metrics), node
list_of() { printf '127.0.0.1:%s;' "$(port_of "$1" 0)" "$(port_of "$1" 1)" "$(port_of "$1" 2)" | sed 's/;$//'; }
raftmq() { "$RAFTMQ_BIN" -n "$(list_of 12)" --timeout 2s "$@"; }
status() { raftmq -q cluster status -o json 2>/dev/null || true; }

raftmq_node() {
    local reports=()
    [ "${SERVED_BY:-server}" = node ] || reports=(-D "namesrvAddr=$name_servers")
    "$RAFTMQ_BIN" broker -D dLegerGroup=RaftNode00 -D brokerName=RaftNode00 -D "dLegerSelfId=n$1" \
        -D "dLegerPeers=n0-127.0.0.1:$(port_of 13 0);n1-127.0.0.1:$(port_of 13 1);n2-127.0.0.1:$(port_of 13 2)" \
        -D "listenPort=$(port_of 11 "$1")" -D "grpcServerPort=$(port_of 12 "$1")" \
        -D "metricsPromExporterPort=$(port_of 14 "$1")" -D "storePathRootDir=$folder/n$1" -D logHome=none "${reports[@]}" \
        </dev/null >>"$folder/n$1.log" 2>&1 &
    pids[$1]=$!
}
raftmq_up() {
    [ -n "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(raftmq_dist)"
    PORTS="${PORTS:-43000}"
    rm -rf "$folder"/n[012]
    name_servers="$(list_of 11)"
    if [ "${SERVED_BY:-server}" = server ]; then
        name_servers="127.0.0.1:$PORTS"
        "$RAFTMQ_BIN" namesrv -D "listenPort=$PORTS" </dev/null >"$folder/namesrv.log" 2>&1 &
        pids[3]=$!
    fi
    for node in 0 1 2; do raftmq_node "$node"; done
    until raftmq topic create kills-plain >/dev/null 2>&1; do sleep 0.2; done
    raftmq topic create kills-ordered >/dev/null
}
raftmq_leader() { status | sed -n 's/^  "leader": "n\([0-9]\)".*/\1/p'; }
raftmq_node_at() { printf '%s\n' "$(((${1##*:} - PORTS - 11) / 10))"; }
raftmq_all_up() {
    local json pid
    json="$(status)"
    for pid in "${pids[@]:0:3}"; do grep -Eq "\"process_id\": $pid,?\$" <<<"$json" || return 1; done
    [ -n "$(raftmq_leader)" ]
}
raftmq_pid() { printf '%s\n' "${pids[$1]}"; }
raftmq_down() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$folder"/n[012]
}

# --- Apache's nodes ----------------------------------------------------------------------------------

apache_up() {
    PORTS="${PORTS:-0}"
    export PORTS
    name_servers="127.0.0.1:$((9876 + PORTS))"
    rm -rf "$W/store"
    "$ROCKETMQ" up
    # The master's route is there when an election is over.
    until make_topic kills-plain && make_topic kills-ordered; do sleep 2; done
    for group in kills-concurrent kills-orderly; do
        "$ROCKETMQ" adm updateSubGroup -n "$name_servers" -c RaftCluster -g "$group" >/dev/null 2>&1
    done
}
make_topic() {
    local said
    said="$("$ROCKETMQ" adm updateTopic -n "$name_servers" -c RaftCluster -t "$1" -r 8 -w 8 2>&1)" && grep -q success <<<"$said"
}
apache_leader() { apache_node_at "$(ask host)"; }
apache_node_at() { printf '%s\n' "$(((${1##*:} - 30911 - PORTS) / 10))"; }
# Its leader after an election is a master ten seconds later; its followers do not serve.
apache_all_up() { for node in 0 1 2; do kill -0 "$(apache_pid "$node")" || return 1; done; }
apache_pid() { cat "$W/b$1.pid"; }
apache_node() { "$ROCKETMQ" node "$1"; }
apache_down() { "$ROCKETMQ" down; }

# --- Clients -----------------------------------------------------------------------------------------

# Says a word to the clients, and prints what they answer; what else they say is shown.
ask() {
    local line
    printf '%s\n' "$*" >&"${CLIENTS[1]}"
    while IFS= read -r line <&"${CLIENTS[0]}"; do
        case "$line" in
            '= '*) printf '%s\n' "${line#= }"; return ;;
            *) printf '%s\n' "$line" >&2 ;;
        esac
    done
    echo "the clients ended; see $folder/clients.log" >&2
    return 1
}

side=raftmq
kinds="${KINDS:-leader host}"
if [ -n "${ROCKETMQ:-}" ]; then side=apache kinds=leader; fi
trap '"${side}_down" >/dev/null 2>&1; [ -z "${CLIENTS_PID:-}" ] || kill "$CLIENTS_PID" 2>/dev/null' EXIT
"${side}_up"
coproc CLIENTS { exec tests/clients/classic-kills/run.sh "$version" "$name_servers" 2>"$folder/clients.log"; }
[ "$(ask well)" = well ] || { echo "the clients do not work; see $folder/clients.log" >&2; exit 1; }
sleep "$look_every"
exec 2>&1
for kind in $kinds; do
    for ((number = 1; number <= kills; number++)); do
        # At another time between two looks for routes.
        sleep "$((RANDOM % 10)).$((RANDOM % 10))"
        if [ "$kind" = leader ]; then node="$("${side}_leader")"; else node="$("${side}_node_at" "$(ask host)")"; fi
        ask kill "$kind" "$number n$node" >/dev/null
        pid="$("${side}_pid" "$node")"
        # The shell says of its own child that it was killed.
        { kill -9 "$pid" && { wait "$pid" || true; }; } 2>/dev/null
        ask back >/dev/null
        "${side}_node" "$node"
        until "${side}_all_up"; do sleep 0.5; done
        sleep "$look_every"
        ask close >/dev/null
    done
done
[ "$(ask end)" = good ]
