#!/usr/bin/env bash
# run.sh VERSION NAMESRV: the program with the client of that version. No property of the client is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-kills
source ../common.sh
folder="$(environment ../classic-java/pom.xml ./*.java setup.sh)/$1"
shift
exec java -Xmx512m -Dfile.encoding=UTF-8 "-Duser.home=$folder" -cp "$folder/classes:$folder/lib/*" Kills "$@"
