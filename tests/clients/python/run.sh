#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=python
source ../common.sh
exec "$(environment requirements.txt)/bin/python" check.py "$@"
