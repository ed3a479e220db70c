#!/usr/bin/env bash
# Fetches the classic Java clients with Maven and compiles the program against each; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-java
source ../common.sh
need mvn javac
folder="$(environment pom.xml ./*.java setup.sh)"
if [ ! -e "$folder/ready" ]; then
    echo "classic-java: fetching rocketmq-client 4.9.8, 5.3.3 and 5.5.0 and what they need into $folder"
    rm -rf "$folder"
    for version in 4.9.8 5.3.3 5.5.0; do
        mkdir -p "$folder/$version"
        mvn --quiet --batch-mode -f pom.xml dependency:copy-dependencies "-Dclient.version=$version" \
            "-DoutputDirectory=$folder/$version/lib" >&2
        javac -encoding UTF-8 -cp "$folder/$version/lib/*" -d "$folder/$version/classes" ./*.java >&2
    done
    touch "$folder/ready"
fi
