#!/usr/bin/env bash
# Fetches the official Java client with Maven and compiles the program; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=java
source ../common.sh
need mvn javac
folder="$(environment pom.xml Check.java)"
if [ ! -e "$folder/ready" ]; then
    echo "java: fetching rocketmq-client-java and what it needs into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    mvn --quiet --batch-mode -f pom.xml dependency:copy-dependencies "-DoutputDirectory=$folder/lib" >&2
    javac -encoding UTF-8 -cp "$folder/lib/*" -d "$folder/classes" Check.java >&2
    touch "$folder/ready"
fi
