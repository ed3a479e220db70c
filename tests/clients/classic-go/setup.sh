#!/usr/bin/env bash
# Builds the program with the classic Go client from the module proxy; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-go
source ../common.sh
need go
folder="$(environment go.mod go.sum main.go)"
if [ ! -e "$folder/ready" ]; then
    echo "classic-go: building with rocketmq-client-go v2 and what it needs into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    go build -o "$folder/check" . >&2
    touch "$folder/ready"
fi
