#!/usr/bin/env bash
# setup.sh VERSION: fetches that classic Java client with Maven and compiles the program against it; prints what it installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
language=classic-kills
source ../common.sh
need mvn javac
folder="$(environment ../classic-java/pom.xml ./*.java setup.sh)/$1"
if [ ! -e "$folder/ready" ]; then
    echo "classic-kills: fetching rocketmq-client $1 and what it needs into $folder"
    rm -rf "$folder"
    mkdir -p "$folder"
    mvn --quiet --batch-mode -f ../classic-java/pom.xml dependency:copy-dependencies "-Dclient.version=$1" \
        "-DoutputDirectory=$folder/lib" >&2
    javac -encoding UTF-8 -cp "$folder/lib/*" -d "$folder/classes" ./*.java >&2
    touch "$folder/ready"
fi
