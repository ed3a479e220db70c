#!/usr/bin/env bash
# Runs all tests. Further arguments go to `cargo test`, e.g. `scripts/test.sh --lib machine`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh --tests
source scripts/env.sh
cargo test --locked "$@"
