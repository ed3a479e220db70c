#!/usr/bin/env bash
# Counts the instructions of pieces of the hot path with callgrind and compares them with docs/instructions.tsv.
#
#   scripts/instructions.sh            fails if any is more than 5 % above the baseline
#   scripts/instructions.sh --update   writes the baseline anew
#
# Instructions do not depend on how busy the machine is. Needs valgrind (Debian's package of that name).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh

limit_percent=5
baseline=docs/instructions.tsv
update=false
case "${1:-}" in
    "") ;;
    --update) update=true ;;
    *) sed -n '2,7s/^# \{0,1\}//p' scripts/instructions.sh; exit 2 ;;
esac
command -v valgrind >/dev/null || { echo "instructions: install valgrind: apt-get install valgrind" >&2; exit 1; }

cargo bench --locked --bench instructions --no-run 2>/dev/null
binary="$(cargo bench --locked --bench instructions --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p' | tail -n1)"

# Instructions of a whole run.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# Of one time more: the start costs the same in both runs.
each() {
    local name="$1" n="$2" once twice
    once="$(count "$name" "$n")"
    twice="$(count "$name" $((2 * n)))"
    echo $(((twice - once) / n))
}

measure() {
    local send pop
    printf 'decode-send-1\t%s\n' "$(each decode-send-1 500)"
    printf 'decode-send-32\t%s\n' "$(each decode-send-32 50)"
    printf 'encode-record-32KiB\t%s\n' "$(each encode-record-32KiB 100)"
    # Each of these does what the one before does, and one thing more.
    send="$(each apply-send-32 100)"
    pop="$(each pop-32 100)"
    printf 'apply-send-32\t%s\n' "$send"
    printf 'pop-32\t%s\n' "$((pop - send))"
    printf 'ack-32\t%s\n' "$(($(each ack-32 100) - pop))"
    # Per record of 1 KiB, whole segments of them.
    printf 'append-1KiB\t%s\n' "$(each append-1KiB 2000)"
    printf 'recover-1KiB\t%s\n' "$(($(each recover-1KiB 2000) - $(each append-to-one-1KiB 2000)))"
}

found="$(measure)"
if $update; then
    { printf '# instructions of each piece of work; scripts/instructions.sh\n'; printf '%s\n' "$found"; } >"$baseline"
    printf '%s\n' "$found"
    exit 0
fi
failed=0
while IFS=$'\t' read -r name now; do
    before="$(sed -n "s/^$name\t//p" "$baseline")"
    [ -n "$before" ] || { echo "$name is not in $baseline" >&2; failed=1; continue; }
    change=$(((now - before) * 1000 / before))
    printf '%-20s %9s  before %9s  %+d.%d %%\n' "$name" "$now" "$before" $((change / 10)) $((${change#-} % 10))
    [ $((now * 100)) -le $((before * (100 + limit_percent))) ] || failed=1
done <<<"$found"
[ "$failed" -eq 0 ] || { echo "instructions: more than $limit_percent % above the baseline; say why and run --update" >&2; exit 1; }
