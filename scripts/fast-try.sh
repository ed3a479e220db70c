#!/usr/bin/env bash
# Runs a three-node raftmq cluster on this machine for trying things out.
#
#   scripts/fast-try.sh start [n0|n1|n2]          build if needed, start all nodes or one, wait for a leader
#   scripts/fast-try.sh start --namesrv 3         the same with so many name servers, 0 to 3 [1]
#   scripts/fast-try.sh stop [n0|n1|n2]           stop all nodes and name servers, or one node
#   scripts/fast-try.sh status                    who runs, who leads
#   scripts/fast-try.sh restart [n0|n1|n2]        stop and start all nodes or one
#   scripts/fast-try.sh kill n0|n1|n2|leader      kill -9 one node and say which
#   scripts/fast-try.sh add n3                    start another node, up to n8, and take it into the group
#   scripts/fast-try.sh remove n3                 let such a node go, stop it and remove its data
#   scripts/fast-try.sh replace n1                put a new replica in the place of a node, running or not
#   scripts/fast-try.sh clean                     remove the data of a stopped cluster
#
# RAFTMQ_DATA  folder of data, logs and pid files   [/tmp/raftmq-fast-try]
# RAFTMQ_BIN   a binary to use instead of building one
#
# Exit codes: 0 done, 1 failed, 2 wrong use, 5 no leader in time.
set -euo pipefail
# Read before the folder changes: both may be relative to where the user is.
data="$(realpath -m "${RAFTMQ_DATA:-/tmp/raftmq-fast-try}")"
[ -z "${RAFTMQ_BIN:-}" ] || RAFTMQ_BIN="$(realpath -m "$RAFTMQ_BIN")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nodes=(n0 n1 n2)
name_servers=(ns0 ns1 ns2)
name_servers_wanted=
first_nodes=3
most_nodes=9
leader_wait_tenths=300
stop_wait_tenths=100

fail() {
    printf 'fast-try: error: %s\n' "$1" >&2
    exit "${2:-1}"
}

# The nodes that were added have a folder of data; the first three may not have one yet.
find_nodes() {
    local number
    for ((number = first_nodes; number < most_nodes; number++)); do
        [ ! -d "$data/n$number" ] || nodes+=("n$number")
    done
    endpoints="$(endpoints_of "${nodes[@]}")"
}

# Prints where clients reach these nodes.
endpoints_of() {
    local node text=''
    for node in "$@"; do text+="${text:+;}127.0.0.1:$((8081 + ${node#n}))"; done
    printf '%s\n' "$text"
}

# Prints dLegerPeers with these nodes.
peers_of() {
    local node text=''
    for node in "$@"; do text+="${text:+;}$node-127.0.0.1:$((40911 + ${node#n}))"; done
    printf '%s\n' "$text"
}

usage() { sed -n '2,/^set /{/^# \{0,1\}/s/^# \{0,1\}//p;}' scripts/fast-try.sh; }

is_node() {
    local node
    for node in "${nodes[@]}"; do [ "$1" != "$node" ] || return 0; done
    return 1
}

# Whether a node may be added and removed: the first three have files of their own.
is_more() { case "$1" in n[3-8]) return 0 ;; *) return 1 ;; esac }

# The port of a name server.
port_of() { printf '%s\n' "$((9876 + ${1#ns}))"; }

# Prints namesrvAddr with these name servers.
name_servers_text() {
    local server text=''
    for server in "$@"; do text+="${text:+;}127.0.0.1:$(port_of "$server")"; done
    printf '%s\n' "$text"
}

# Prints the name servers that run.
running_name_servers() {
    local server
    for server in "${name_servers[@]}"; do
        if runs "$server"; then printf '%s\n' "$server"; fi
    done
}

log_of() { printf '%s/%s.log\n' "$data" "$1"; }
pid_file_of() { printf '%s/%s.pid\n' "$data" "$1"; }

# --- The binary ------------------------------------------------------------------------------------

# Sets $binary, building it first unless the caller brought one. Needs no cargo when only looking.
find_binary() {
    local may_build="$1"
    if [ -n "${RAFTMQ_BIN:-}" ]; then
        binary="$RAFTMQ_BIN"
        [ -x "$binary" ] || fail "RAFTMQ_BIN is $binary, which is not an executable file"
        return
    fi
    if $may_build; then
        scripts/setup.sh >&2
        source scripts/env.sh
        binary="$CARGO_TARGET_DIR/release/raftmq"
        [ -x "$binary" ] || echo "building raftmq; the first build takes about 7 minutes on 2 cores" >&2
        cargo build --release --locked >&2
    else
        source scripts/env.sh
        binary="$CARGO_TARGET_DIR/release/raftmq"
    fi
    [ -x "$binary" ] || fail "no binary at $binary; scripts/fast-try.sh start builds it"
}

# --- Processes -------------------------------------------------------------------------------------

# Prints the process id of a running node or name server; fails when it does not run. A pid file left by a crash or a
# reboot may name a process of someone else, so the process must be a broker with this node's folder, or a name server with
# this port. One that starts itself again, which a replaced node does, has no words for a moment; a zombie never has.
pid_of() {
    local node="$1" pid word has_words mark="storePathRootDir=$data/$1"
    case "$node" in ns*) mark="listenPort=$(port_of "$node")" ;; esac
    pid="$(cat "$(pid_file_of "$node")" 2>/dev/null)" || return 1
    case "$pid" in '' | *[!0-9]*) return 1 ;; esac
    for _ in {1..100}; do
        has_words=false
        while IFS= read -r -d '' word; do
            has_words=true
            if [ "$word" = "$mark" ]; then
                printf '%s\n' "$pid"
                return 0
            fi
        done 2>/dev/null <"/proc/$pid/cmdline" || return 1
        if $has_words || ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" 2>/dev/null; then return 1; fi
        sleep 0.02
    done
    return 1
}

runs() { pid_of "$1" >/dev/null; }

some_run() {
    local node
    for node in "${nodes[@]}"; do
        if runs "$node"; then return 0; fi
    done
    return 1
}

# Starts a name server, which keeps nothing.
launch_name_server() {
    local server="$1" pid
    mkdir -p "$data"
    printf '=== start %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$(log_of "$server")"
    setsid "$binary" namesrv -D "listenPort=$(port_of "$server")" </dev/null >>"$(log_of "$server")" 2>&1 9>&- &
    pid="$!"
    printf '%s\n' "$pid" >"$(pid_file_of "$server")"
    for _ in {1..100}; do
        if runs "$server" || ! kill -0 "$pid" 2>/dev/null; then return 0; fi
        sleep 0.02
    done
}

# Starts as many name servers as are wanted, and sets $name_servers_at.
start_name_servers() {
    local server text='' wanted=("${name_servers[@]:0:${name_servers_wanted:-1}}")
    for server in "${wanted[@]}"; do
        runs "$server" && continue
        launch_name_server "$server"
        text+="${text:+, }$server pid $(cat "$(pid_file_of "$server")")"
    done
    name_servers_at="$(name_servers_text "${wanted[@]}")"
    [ -z "$text" ] || echo "starting $text"
}

# Starts one node in a session of its own, so that ctrl-c at the terminal does not reach it.
launch() {
    local node="$1"
    local conf="conf/dledger/broker-$node.conf" pid number="${node#n}" own=()
    if is_more "$node"; then
        conf="conf/dledger/broker-n0.conf"
        own=(-D "dLegerSelfId=$node" -D "dLegerPeers=$(peers_of "${nodes[@]}")"
            -D "grpcServerPort=$((8081 + number))" -D "listenPort=$((30911 + 10 * number))"
            -D "metricsPromExporterPort=$((5557 + 10 * number))")
    fi
    [ -r "$conf" ] || fail "no $conf"
    mkdir -p "$data"
    printf '=== start %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$(log_of "$node")"
    setsid "$binary" broker -c "$conf" -D "storePathRootDir=$data/$node" -D logHome=none \
        -D "namesrvAddr=$name_servers_at" "${own[@]}" \
        </dev/null >>"$(log_of "$node")" 2>&1 9>&- &
    pid="$!"
    printf '%s\n' "$pid" >"$(pid_file_of "$node")"
    # For a moment the new process is still a copy of this script, which does not look like a broker.
    for _ in {1..100}; do
        if runs "$node" || ! kill -0 "$pid" 2>/dev/null; then return 0; fi
        sleep 0.02
    done
}

# Ends nodes: asks all at once, then waits for each, and kills what does not listen.
end() {
    local node pid waited=0 left
    for node in "$@"; do
        if pid="$(pid_of "$node")"; then
            echo "stopping $node pid $pid"
            kill -TERM "$pid" 2>/dev/null || true
        else
            echo "$node is not running"
        fi
    done
    while :; do
        left=()
        for node in "$@"; do
            if runs "$node"; then left+=("$node"); fi
        done
        [ "${#left[@]}" -gt 0 ] || break
        if [ "$waited" -eq "$stop_wait_tenths" ]; then
            for node in "${left[@]}"; do
                if pid="$(pid_of "$node")"; then
                    echo "$node pid $pid did not stop in $((stop_wait_tenths / 10)) s: kill -9"
                    kill -KILL "$pid" 2>/dev/null || true
                fi
            done
        fi
        [ "$waited" -lt $((stop_wait_tenths + 50)) ] || fail "${left[*]} cannot be killed"
        sleep 0.1
        waited=$((waited + 1))
    done
    for node in "$@"; do rm -f "$(pid_file_of "$node")"; done
}

# --- The cluster -----------------------------------------------------------------------------------

# Prints the status as JSON; the exit code 5 of a cluster without leader is not our failure.
status_json() { "$binary" -n "$endpoints" --timeout 2s -q cluster status -o json 2>/dev/null || true; }

# Prints the leader's name from the status on stdin; nothing without a leader.
leader_in() { sed -n 's/^  "leader": "\([^"]*\)".*/\1/p'; }

# True when every running node of ours is in the status, by process id: another cluster may hold the ports.
all_answer_in() {
    local json="$1" node pid
    for node in "${nodes[@]}"; do
        pid="$(pid_of "$node")" || continue
        grep -Eq "\"process_id\": $pid,?\$" <<<"$json" || return 1
    done
}

# Fails with the end of the log when a node of ours has ended by itself.
must_run() {
    local node
    for node in "$@"; do
        runs "$node" && continue
        echo "fast-try: error: $node ended; the end of $(log_of "$node"):" >&2
        tail -n 8 "$(log_of "$node")" | sed 's/^/    /' >&2
        rm -f "$(pid_file_of "$node")"
        exit 1
    done
}

count_running() {
    local node count=0
    for node in "${nodes[@]}"; do
        if runs "$node"; then count=$((count + 1)); fi
    done
    printf '%s\n' "$count"
}

# Waits until a leader is known and every running node answers; $leader is set then.
wait_for_leader() {
    local json began now
    began="$(date +%s%N)"
    leader=
    while :; do
        must_run "$@"
        json="$(status_json)"
        leader="$(leader_in <<<"$json")"
        now="$(date +%s%N)"
        if [ -n "$leader" ] && all_answer_in "$json"; then break; fi
        if [ $(((now - began) / 100000000)) -ge "$leader_wait_tenths" ]; then
            echo "fast-try: error: no leader, or not all nodes answer, after $((leader_wait_tenths / 10)) s; logs: $data/n*.log" >&2
            exit 5
        fi
        sleep 0.1
    done
    waited_tenths=$(((now - began) / 100000000))
}

# --- Commands --------------------------------------------------------------------------------------

start() {
    local wanted=("$@") new=() node pid text='' leader waited_tenths
    find_binary true
    [ "$#" -eq 1 ] || start_name_servers
    for node in "${wanted[@]}"; do
        if pid="$(pid_of "$node")"; then
            echo "$node runs already, pid $pid"
            continue
        fi
        launch "$node"
        new+=("$node")
        text+="${text:+, }$node pid $(cat "$(pid_file_of "$node")")"
    done
    if [ "$(count_running)" -lt 2 ]; then
        # One node of three has no majority: there is nothing to wait for but the process itself.
        sleep 1
        [ "${#new[@]}" -eq 0 ] || must_run "${new[@]}"
        echo "starting ${text:-nothing} ... running; no leader before a second node runs"
        return
    fi
    [ -z "$text" ] || printf 'starting %s ... ' "$text"
    wait_for_leader "${wanted[@]}"
    if [ -n "$text" ]; then
        printf 'leader %s after %d.%d s\n' "$leader" $((waited_tenths / 10)) $((waited_tenths % 10))
    else
        echo "leader $leader"
    fi
    [ "$#" -gt 1 ] || return 0
    must_run "${name_servers[@]:0:${name_servers_wanted:-1}}"
    echo "clients: $endpoints"
    [ -z "$name_servers_at" ] || echo "classic: $name_servers_at (name servers)"
    echo "http:    http://127.0.0.1:5557 (5567, 5577): /metrics, /healthz?verbose; Prometheus: conf/prometheus"
    echo "logs:    $data/n0.log $data/n1.log $data/n2.log"
    echo "next:    alias raftmq=$binary; export RAFTMQ_ENDPOINTS='$endpoints'"
    echo "         raftmq topic create demo"
    echo "         raftmq produce demo --count 1000"
    echo "         raftmq consume demo --group demo-cg --max 1000"
    echo "stop:    scripts/fast-try.sh stop"
}

status() {
    local node pid
    for node in "${name_servers[@]}"; do
        if pid="$(pid_of "$node")"; then echo "$node pid $pid, port $(port_of "$node")"; fi
    done
    for node in "${nodes[@]}"; do
        if pid="$(pid_of "$node")"; then echo "$node pid $pid"; else echo "$node is not running"; fi
    done
    some_run || return 1
    find_binary false
    "$binary" -n "$endpoints" --timeout 2s cluster status
}

members_json() { "$binary" -n "$endpoints" --timeout 2s -q cluster members -o json 2>/dev/null || true; }

# Whether a node is among the members on stdin, by its name.
is_member_in() { sed -n '/^  "members": \[/,/^  \]/p' | grep "\"name\": \"$1\"" >/dev/null; }

# Prints a field of the change that ended last, from the members on stdin.
ended_in() { sed -n '/^  "ended": {/,/^  }/s/^    "'"$1"'": //p' | sed 's/,$//; s/^"//; s/"$//'; }

# How far the nodes are that pull a snapshot.
pulled() { "$binary" -n "$endpoints" --timeout 2s -q cluster status -o json 2>/dev/null | grep '"snapshot_percent"' || true; }

# Waits until the change of this number is over, and fails unless it was done, or if nothing moves: with a large log it takes
# minutes.
wait_for_change() {
    local number="$1" json waited=0 before='' now
    while :; do
        json="$(members_json)"
        if grep -q '"pending": null' <<<"$json" && [ "$(ended_in number <<<"$json")" = "$number" ]; then break; fi
        if [ "$waited" -ge "$leader_wait_tenths" ]; then
            now="$(pulled)"
            [ "$now" != "$before" ] || fail "the change is still under way; see: $binary cluster members" 5
            before="$now" waited=0
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    [ "$(ended_in end <<<"$json")" = done ] ||
        fail "the change was $(ended_in end <<<"$json"): $(ended_in why <<<"$json")"
    "$binary" -n "$endpoints" --timeout 2s cluster members
}

# Ends a node that was added, and removes what it left.
forget_node() {
    end "$1"
    rm -rf "${data:?}/$1" "$(log_of "$1")"
}

add_node() {
    local node="$1" is_new=false is_launched=false status=0
    some_run || fail "the cluster does not run; scripts/fast-try.sh start"
    find_binary true
    is_node "$node" || nodes+=("$node")
    [ -d "$data/$node" ] || is_new=true
    if runs "$node"; then
        echo "$node runs already, pid $(pid_of "$node")"
    else
        launch "$node"
        is_launched=true
    fi
    "$binary" -n "$endpoints" cluster add "$node" --peer "127.0.0.1:$((40911 + ${node#n}))" || status=$?
    if [ "$status" -ne 0 ]; then
        # 2: it was refused, so nothing is under way, and a node that waits to be taken in answers nobody.
        if [ "$status" -eq 2 ] && $is_new; then forget_node "$node"; fi
        if [ "$status" -eq 2 ] && $is_launched && ! $is_new; then end "$node"; fi
        exit "$status"
    fi
    is_member_in "$node" <<<"$(members_json)" || fail "$node is no member; see: $binary cluster members"
    endpoints="$(endpoints_of "${nodes[@]}")"
    "$binary" -n "$endpoints" --timeout 2s cluster members
    echo "clients: $endpoints"
}

remove_node() {
    local node="$1" status=0 json
    find_binary false
    "$binary" -n "$endpoints" cluster remove "$node" --yes || status=$?
    if [ "$status" -ne 0 ]; then
        # The answer may have been lost, and the change goes on by itself.
        json="$(members_json)"
        if ! grep -q '"members"' <<<"$json" || is_member_in "$node" <<<"$json"; then
            echo "fast-try: $node is still there; when it is no member any more, run this again" >&2
            exit "$status"
        fi
    fi
    forget_node "$node"
}

replace_node() {
    local node="$1" said number
    some_run || fail "the cluster does not run; scripts/fast-try.sh start"
    find_binary true
    said="$("$binary" -n "$endpoints" cluster replace "$node" --yes --no-wait 2>&1)" || {
        printf '%s\n' "$said" >&2
        exit 1
    }
    printf '%s\n' "$said"
    number="$(sed -n 's/^change \([0-9]*\): .*/\1/p' <<<"$said")"
    if ! runs "$node"; then
        launch "$node"
        echo "started $node pid $(cat "$(pid_file_of "$node")")"
    fi
    # Without a number there was nothing to do.
    if [ -n "$number" ]; then wait_for_change "$number"; fi
}

kill_node() {
    local node="$1" pid leader='' leader_wait_tenths=50 waited_tenths
    if [ "$node" = leader ]; then
        find_binary false
        some_run || fail "the cluster does not run; scripts/fast-try.sh start"
        wait_for_leader
        is_node "$leader" || fail "the leader $leader is not one of ${nodes[*]}"
        node="$leader"
    fi
    pid="$(pid_of "$node")" || fail "$node is not running"
    kill -KILL "$pid"
    for _ in {1..500}; do
        runs "$node" || break
        sleep 0.02
    done
    if runs "$node"; then fail "$node pid $pid does not die"; fi
    rm -f "$(pid_file_of "$node")"
    if [ -n "$leader" ]; then
        echo "killed $node pid $pid (leader)"
    else
        echo "killed $node pid $pid"
    fi
}

clean() {
    if some_run || [ -n "$(running_name_servers)" ]; then fail "the cluster runs; scripts/fast-try.sh stop"; fi
    local node
    # Only what this script and its nodes made; the folder may be the user's own.
    for node in "${nodes[@]}" "${name_servers[@]}"; do rm -rf "${data:?}/$node" "$(log_of "$node")" "$(pid_file_of "$node")"; done
    rm -f "$data/lock"
    rmdir "$data" 2>/dev/null || true
    echo "removed the data in $data"
}

# One command at a time: two starts at once would fight over ports and pid files.
exclusive() {
    mkdir -p "$data"
    exec 9>"$data/lock"
    if command -v flock >/dev/null 2>&1; then
        flock -w 600 9 || fail "another fast-try.sh is at work on $data"
    fi
}

find_nodes
command="${1:-}"
[ "$#" -eq 0 ] || shift
if [ "${1:-}" = --namesrv ]; then
    [ "$command" = start ] && [ "$#" -eq 2 ] || { usage >&2; exit 2; }
    case "$2" in [0-3]) name_servers_wanted="$2" ;; *) fail "--namesrv takes 0 to 3, not '$2'" 2 ;; esac
    shift 2
fi
[ "$#" -le 1 ] || { usage >&2; exit 2; }
case "$command" in
    start | stop | restart)
        [ "$#" -eq 0 ] || is_node "$1" || fail "'$1' is none of ${nodes[*]}" 2
        ;;
    kill)
        [ "$#" -eq 1 ] || fail "kill what? n0, n1, n2 or leader" 2
        is_node "$1" || [ "$1" = leader ] || fail "'$1' is none of ${nodes[*]} leader" 2
        ;;
    add | remove)
        [ "$#" -eq 1 ] && is_more "$1" || fail "$command what? n3 to n8" 2
        [ "$command" = add ] || is_node "$1" || fail "$1 was not added" 2
        ;;
    replace)
        [ "$#" -eq 1 ] && is_node "$1" || fail "replace what? ${nodes[*]}" 2
        ;;
    *) [ "$#" -eq 0 ] || { usage >&2; exit 2; } ;;
esac
# Nodes that are started one by one report to the name servers that run.
mapfile -t name_servers_now < <(running_name_servers)
name_servers_at="$(name_servers_text "${name_servers_now[@]}")"
one=true
[ "$#" -gt 0 ] || { one=false; set -- "${nodes[@]}"; }

case "$command" in
    start)
        exclusive
        start "$@"
        ;;
    stop)
        exclusive
        end "$@"
        $one || end "${name_servers_now[@]}"
        ;;
    restart)
        exclusive
        # Built before anything stops: a build may take long and fail.
        find_binary true
        name_servers_wanted="${#name_servers_now[@]}"
        end "$@"
        $one || end "${name_servers_now[@]}"
        start "$@"
        ;;
    status) status ;;
    add)
        exclusive
        add_node "$1"
        ;;
    remove)
        exclusive
        remove_node "$1"
        ;;
    replace)
        exclusive
        replace_node "$1"
        ;;
    kill)
        exclusive
        kill_node "$1"
        ;;
    clean)
        exclusive
        clean
        ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac
