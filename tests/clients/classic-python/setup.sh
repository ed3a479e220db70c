#!/usr/bin/env bash
# Makes a virtual environment with the classic Python client, which brings the C++ one; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-python
source ../common.sh
need python3
folder="$(environment requirements.txt)"
if [ ! -e "$folder/ready" ]; then
    echo "classic-python: installing $(tr '\n' ' ' < requirements.txt)into $folder"
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt >&2
    touch "$folder/ready"
fi
