#!/usr/bin/env bash
# Runs all tests. Further arguments go to `cargo test`, e.g. `scripts/test.sh --lib machine`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh --tests
source scripts/env.sh
# Most tests start nodes and wait for them: two threads leave two cores idle for two thirds of the time.
RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}" cargo test --locked "$@"
