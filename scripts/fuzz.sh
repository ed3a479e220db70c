#!/usr/bin/env bash
# Odd bytes for everything that a stranger reaches: each target for so many seconds, ten minutes unless said otherwise.
#   scripts/fuzz.sh            all targets, 600 s each, one after the other
#   scripts/fuzz.sh 120        two minutes each
#   scripts/fuzz.sh 60 sql     one target: those whose name has this in it
# Each prints its seed, and how many inputs were tried and taken. What it finds it prints with the shortest input that shows it;
# FUZZ_SEED=… tries the same inputs again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/env.sh

seconds="${1:-600}" name="fuzz_${2:-}"
export FUZZ_SECONDS="$seconds"
cargo test --locked --lib -- "$name" --nocapture --test-threads 1
cargo test --locked --test it -- "odd_input::$name" --nocapture --test-threads 1
