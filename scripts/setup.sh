#!/usr/bin/env bash
# Brings this machine to where `cargo build` works: system packages, Rust, the RocksDB archive.
# Safe to repeat: what is there is left alone. `--check` installs nothing and fails if something is missing.
# `--tests` also brings what only the tests need: Node.js and npm for the official Node client,
# libfaketime for clocks that are wrong, Prometheus for metrics and alerts, Chromium for the dashboard.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check_only=false
for_tests=false
for argument in "$@"; do
    case "$argument" in
        --check) check_only=true ;;
        --tests) for_tests=true ;;
        -h | --help) sed -n '2,5s/^# //p' scripts/setup.sh; exit 0 ;;
        *) echo "usage: scripts/setup.sh [--check] [--tests]" >&2; exit 64 ;;
    esac
done

missing=0
ok() { printf 'setup: %-14s ok      %s\n' "$1" "$2"; }
lacking() { printf 'setup: %-14s missing %s\n' "$1" "$2"; missing=1; }
step() { printf 'setup: %-14s %s\n' "$1" "$2"; }
fail() { printf 'setup: error: %s\n' "$1" >&2; exit 1; }

# --- System packages -------------------------------------------------------------------------------

has_libclang() {
    # bindgen loads it while RocksDB's bindings are made; without it that build fails after minutes.
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    # libclang-cpp.so is another library, which Debian installs without this one.
    compgen -G '/usr/lib/llvm-*/lib/libclang[.-][!c]*' >/dev/null && return 0
    compgen -G '/usr/lib*/libclang[.-][!c]*' >/dev/null && return 0
    compgen -G '/usr/lib/*/libclang[.-][!c]*' >/dev/null
}

# Prints the package names whose use fails on this machine.
missing_packages() {
    { command -v c++ && command -v cc && command -v make; } >/dev/null 2>&1 || echo build-essential
    has_libclang || echo libclang-dev
    command -v pkg-config >/dev/null 2>&1 || echo pkg-config
    command -v curl >/dev/null 2>&1 || echo curl
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || [ -e /etc/ssl/cert.pem ] || echo ca-certificates
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
    command -v git >/dev/null 2>&1 || echo git
    if $for_tests; then
        command -v node >/dev/null 2>&1 || echo nodejs
        command -v npm >/dev/null 2>&1 || echo npm
        compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || compgen -G '/usr/lib/faketime/libfaketimeMT.so.1' >/dev/null || echo libfaketime
        { command -v prometheus && command -v promtool; } >/dev/null 2>&1 || echo prometheus
        command -v chromium >/dev/null 2>&1 || echo chromium
        # Any font with Chinese letters: the dashboard speaks Chinese too.
        compgen -G '/usr/share/fonts/truetype/wqy/*' >/dev/null || compgen -G '/usr/share/fonts/*/noto/*CJK*' >/dev/null || echo fonts-wqy-microhei
    fi
}

install_packages() {
    command -v apt-get >/dev/null 2>&1 || fail "install the equivalent of these Debian packages, then run again: $*"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "not root and no sudo; run as root: apt-get install $*"
        # Without a terminal a password prompt would wait for ever.
        if [ -t 0 ]; then as_root=(sudo); else as_root=(sudo -n); fi
    fi
    step packages "installing $* with apt-get"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -eq 0 ]; then
    ok packages "compiler, libclang, pkg-config, curl, certificates, python3 venv, git"
elif $check_only; then
    lacking packages "${packages[*]}"
else
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after apt-get: ${packages[*]}"
    ok packages "installed"
fi

# --- Rust ------------------------------------------------------------------------------------------

export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
wanted="$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"

# True when the cargo and rustc found here are the wanted version or newer.
has_rust() {
    local tool version
    for tool in cargo rustc; do
        version="$("$tool" --version 2>/dev/null | cut -d' ' -f2)" || return 1
        [ -n "$version" ] || return 1
        [ "$(printf '%s\n%s\n' "$wanted" "$version" | sort -V | head -n1)" = "$wanted" ] || return 1
    done
}

has_components() { cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; }

if has_rust; then
    ok rust "$(rustc --version)"
elif $check_only; then
    lacking rust "$wanted or newer"
else
    if command -v rustup >/dev/null 2>&1; then
        step rust "installing toolchain $wanted with rustup"
        rustup toolchain install "$wanted" --profile minimal --component rustfmt --component clippy --no-self-update
    else
        step rust "installing rustup and toolchain $wanted into ${CARGO_HOME:-$HOME/.cargo}"
        installer="$(mktemp)"
        trap 'rm -f "$installer"' EXIT
        curl --proto '=https' --tlsv1.2 -fsSL --retry 3 --max-time 120 https://sh.rustup.rs -o "$installer" ||
            fail "cannot download rustup; install Rust $wanted or newer by other means and run again"
        sh "$installer" -y --profile minimal --default-toolchain "$wanted" --component rustfmt,clippy --no-modify-path </dev/null
    fi
    has_rust || fail "Rust $wanted is still not usable"
    ok rust "$(rustc --version)"
fi
if has_rust && ! has_components; then
    # Only .ci/run needs them, so their absence does not stop a user.
    step rust "note: rustfmt or clippy is missing; .ci/run needs them"
fi

# --- RocksDB ---------------------------------------------------------------------------------------

# Compiled once per machine, not once per clone or profile; env.sh points cargo at the archive.
source scripts/env.sh
# The compiler's version is part of the name, so without packages there is no name to look for.
folder="$(raftmq_rocksdb_dir)"
archive="$folder/librocksdb.a"

# Prints the folder of a crate's sources as cargo unpacked them.
crate_dir() { cargo metadata --locked --format-version 1 | grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"]*/Cargo.toml\"" | head -n1 | cut -d'"' -f4 | xargs -r dirname; }

# Compiles the sources of the crate 24 to a translation unit: most of the time of a file of RocksDB goes into the headers
# it shares with the others. Defines and flags are those of the crate's build.rs on Linux; the list of sources is its own.
# Prints the archive. Fails where it does not know how; the crate's own build is for that.
build_rocksdb_in_units() {
    [ "$(uname -s)" = Linux ] || return 1
    local flags=() sys lz4 work source unit='' count=0
    case "$(uname -m)" in
        x86_64) flags=(-m64 -msse2) ;;
        aarch64) ;;
        *) return 1 ;;
    esac
    sys="$(crate_dir librocksdb-sys)"
    lz4="$(crate_dir lz4-sys)"
    [ -s "$sys/rocksdb_lib_sources.txt" ] && [ -s "$sys/build_version.cc" ] && [ -s "$lz4/liblz4/lib/lz4.h" ] || return 1
    work="$_raftmq_cache/rocksdb-units"
    rm -rf "$work"
    mkdir -p "$work"
    while read -r source; do
        # The crate has this file ready made beside its list.
        [ "$source" != util/build_version.cc ] || continue
        [ $((count % 24)) -ne 0 ] || unit="$work/unit$(printf %02d $((count / 24))).cc"
        printf '#include "%s"\n' "$sys/rocksdb/$source" >>"$unit"
        count=$((count + 1))
    done <"$sys/rocksdb_lib_sources.txt"
    printf '#include "%s"\n' "$sys/build_version.cc" >>"$unit"
    flags+=(-std=c++20 -O3 -fPIC -ffunction-sections -fdata-sections -w -include cstdint
        -I"$sys/rocksdb/include" -I"$sys/rocksdb" -I"$lz4/liblz4/lib" -I"$sys"
        -DNDEBUG=1 -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX
        -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
    # The biggest units first, so that no core waits long for the other's last one.
    ls -S "$work"/unit*.cc | xargs -P "$(nproc)" -I{} "${CXX:-c++}" "${flags[@]}" -c {} -o {}.o >&2 || return 1
    ar crs "$work/librocksdb.a" "$work"/unit*.o || return 1
    printf '%s\n' "$work/librocksdb.a"
}

# Compiles RocksDB as the crate does by itself, file by file, and prints the archive.
build_rocksdb_as_the_crate() {
    local out
    out="$(
        unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
        CARGO_TARGET_DIR="$_raftmq_cache/rocksdb-build" cargo build --release --locked -p librocksdb-sys \
            --message-format=json-render-diagnostics |
            sed -n '/"reason":"build-script-executed"/{/librocksdb-sys/s/.*"out_dir":"\([^"]*\)".*/\1/p;}'
    )"
    [ -s "$out/librocksdb.a" ] || fail "RocksDB was built but its archive is not in '$out'"
    printf '%s\n' "$out/librocksdb.a"
}

build_rocksdb() {
    local built
    step rocksdb "compiling it once for this machine; about 6 minutes on 2 cores"
    if ! built="$(build_rocksdb_in_units)"; then
        step rocksdb "not in few large units here, so file by file: about 15 minutes on 2 cores"
        built="$(build_rocksdb_as_the_crate)"
    fi
    mkdir -p "$folder"
    # Renamed at the end: a run that dies here must not leave half an archive under the final name.
    cp "$built" "$archive.$$"
    mv "$archive.$$" "$archive"
    rm -rf "$_raftmq_cache/rocksdb-units"
}

if [ -s "$archive" ]; then
    ok rocksdb "$archive"
elif $check_only; then
    lacking rocksdb "$archive"
else
    mkdir -p "$_raftmq_cache"
    (
        if command -v flock >/dev/null 2>&1; then
            flock -n 9 || { step rocksdb "waiting for another setup that compiles it"; flock 9; }
        fi
        if [ ! -s "$archive" ]; then build_rocksdb; fi
    ) 9>"$_raftmq_cache/rocksdb.lock"
    ok rocksdb "$archive"
fi

# A plain `cargo build --release` in this clone links the same archive. The file is this machine's own.
config=.cargo/config.toml
if [ -s "$archive" ] && ! $check_only; then
    if [ ! -e "$config" ] || grep -q '^# Written by scripts/setup.sh' "$config"; then
        mkdir -p .cargo
        printf '# Written by scripts/setup.sh: RocksDB as compiled once for this machine.\n[env]\nROCKSDB_LIB_DIR = "%s"\nROCKSDB_STATIC = "1"\n' \
            "$folder" >"$config"
    fi
fi

exit "$missing"
