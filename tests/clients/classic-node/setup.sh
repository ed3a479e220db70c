#!/usr/bin/env bash
# Installs the classic Node client from the lock file; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-node
source ../common.sh
need node npm
folder="$(environment package.json package-lock.json)"
if [ ! -e "$folder/ready" ]; then
    echo "classic-node: installing ali-ons and what it needs into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp package.json package-lock.json "$folder"
    (cd "$folder" && npm ci --silent --no-audit --no-fund >&2)
    touch "$folder/ready"
fi
