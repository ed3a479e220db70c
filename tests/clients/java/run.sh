#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=java
source ../common.sh
folder="$(environment pom.xml Check.java)"
exec java -Xmx256m -Dfile.encoding=UTF-8 -cp "$folder/classes:$folder/lib/*" Check "$@"
