#!/usr/bin/env bash
# run.sh VERSION …: the program with the client of that version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-java
source ../common.sh
folder="$(environment pom.xml ./*.java setup.sh)/$1"
shift
# Queues that are locked elsewhere are asked for again each second, not each twenty.
exec java -Xmx256m -Drocketmq.client.rebalance.waitInterval=1000 -Dfile.encoding=UTF-8 "-Duser.home=$folder" -cp "$folder/classes:$folder/lib/*" Check "$@"
