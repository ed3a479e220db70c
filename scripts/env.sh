# Build environment; to be sourced by bash: `source scripts/env.sh`.
#
# Nothing here is needed for a correct build: `cargo build --release` alone works and compiles RocksDB
# from source. With it, the archive that scripts/setup.sh keeps for this machine is linked instead.

_raftmq_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_raftmq_cache="${RAFTMQ_CACHE:-$HOME/.cache/raftmq}"

# Rust installed by setup.sh a moment ago is not on the PATH of an already open shell.
if ! command -v cargo >/dev/null 2>&1 && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

# Prints the folder of the RocksDB archive: whatever changes its bytes is in the name.
raftmq_rocksdb_dir() {
    local version features compiler
    version="$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print; exit }' "$_raftmq_root/Cargo.lock")"
    features="$(sed -n 's/^rocksdb = .*features = \[\([^]]*\)\].*/\1/p' "$_raftmq_root/Cargo.toml" | tr -d '" ' | tr ',' '\n' | sort | paste -sd-)"
    compiler="$("${CXX:-c++}" -dumpversion 2>/dev/null | cut -d. -f1 || true)"
    printf '%s\n' "$_raftmq_cache/rocksdb-${version:?no librocksdb-sys in Cargo.lock}-$features-$(uname -m)-cxx${compiler:-none}"
}

# One target folder for all clones, so that a second clone does not compile the dependencies again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$_raftmq_cache/target}"

# Set together or not at all: an archive of another version would link and then misbehave.
if [ -s "$(raftmq_rocksdb_dir)/librocksdb.a" ]; then
    ROCKSDB_LIB_DIR="$(raftmq_rocksdb_dir)"
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
else
    unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
fi

# Builds what is packaged and benchmarked, which takes longer than fast-try's build, and prints where it is.
raftmq_dist() {
    (cd "$_raftmq_root" && scripts/setup.sh && cargo build --profile dist --locked) >&2 || return 1
    printf '%s\n' "$CARGO_TARGET_DIR/dist/raftmq"
}
