#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=go
source ../common.sh
exec "$(environment go.mod go.sum main.go)/check" "$@"
