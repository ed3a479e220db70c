#!/usr/bin/env bash
# run.sh VERSION …: the program; there is one version of the client.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-python
source ../common.sh
shift
# The C++ client writes its logs into the home folder.
export HOME="$(environment requirements.txt)"
exec "$HOME/bin/python" check.py "$@"
