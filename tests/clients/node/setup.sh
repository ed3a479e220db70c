#!/usr/bin/env bash
# Installs the official Node client from the lock file; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=node
source ../common.sh
need node npm
folder="$(environment package.json package-lock.json)"
if [ ! -e "$folder/ready" ]; then
    echo "node: installing rocketmq-client-nodejs and what it needs into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp package.json package-lock.json "$folder"
    (cd "$folder" && npm ci --silent --no-audit --no-fund >&2)
    touch "$folder/ready"
fi
