#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=node
source ../common.sh
folder="$(environment package.json package-lock.json)"
NODE_PATH="$folder/node_modules" exec node check.js "$@"
