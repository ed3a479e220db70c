#!/usr/bin/env bash
# run.sh VERSION …: the program; there is one version of the client.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-node
source ../common.sh
shift
folder="$(environment package.json package-lock.json)"
NODE_PATH="$folder/node_modules" exec node check.js "$@"
