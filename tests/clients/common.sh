# For the setup.sh and run.sh of each language; to be sourced with `language` set and the working folder
# that of the language. What a setup.sh says of itself is on stdout; what its tools say is on stderr.

here="$PWD"
cache="${RAFTMQ_CACHE:-$HOME/.cache/raftmq}/clients"

# The folder of the environment: one for each state of the files that pin it.
environment() {
    printf '%s/%s-%s\n' "$cache" "$language" "$(cat "$@" | sha256sum | cut -c1-16)"
}

# Ends with 3 when a tool is missing: the caller may skip the language, aloud.
need() {
    local tool
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null 2>&1; then
            echo "$language: $tool is missing" >&2
            exit 3
        fi
    done
}
