#!/bin/sh
# Installs Apache Kafka's own tools (jars, by Maven) into the folder given. A second run finds them
# there. Exits 0 only if they are usable.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

usable() {
    java -cp "$folder/libs/*" kafka.tools.DumpLogSegments --version >/dev/null 2>&1
}

if ! usable; then
    rm -rf "$folder/libs"
    cp "$here/pom.xml" "$folder/pom.xml"
    mvn --quiet --batch-mode --file "$folder/pom.xml" \
        dependency:copy-dependencies -DoutputDirectory="$folder/libs"
    usable
fi
