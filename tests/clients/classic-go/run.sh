#!/usr/bin/env bash
# run.sh VERSION …: the program; there is one version of the client.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-go
source ../common.sh
shift
exec "$(environment go.mod go.sum main.go)/check" "$@"
