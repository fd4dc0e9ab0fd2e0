#!/bin/sh
# Installs Kafka's own Java clients, an old and a new version with its tools (jars, by Maven),
# into the folder given, and compiles the programs beside this script with them. A second run
# finds what is there. Exits 0 only if all is usable. Needs a JDK of 17 and Maven.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

jars() {
    mvn --quiet --batch-mode "$@" --file "$here/pom.xml" --activate-profiles "$version" \
        dependency:copy-dependencies -DoutputDirectory="$folder/$version/libs"
}

for version in old new; do
    mkdir -p "$folder/$version"
    if ! cmp -s "$here/pom.xml" "$folder/$version/pom.xml"; then
        rm -rf "$folder/$version/libs" "$folder/$version/sources"
        # What Maven has already needs no network.
        jars --offline >/dev/null 2>&1 || jars
        cp "$here/pom.xml" "$folder/$version/pom.xml"
    fi
    sources=$(ls "$here"/*.java)
    if [ "$version" = old ]; then
        # The tools are there in the new version alone, and so are the newer group protocols.
        sources=$(ls "$here"/*.java | grep -v -e /Tools.java -e /Consumers.java -e /Shares.java -e /Victim.java)
    fi
    # shellcheck disable=SC2086
    sum=$(cat $sources | cksum)
    if [ "$sum" != "$(cat "$folder/$version/sources" 2>/dev/null)" ]; then
        rm -rf "$folder/$version/classes"
        # shellcheck disable=SC2086
        javac -d "$folder/$version/classes" -nowarn -cp "$folder/$version/libs/*" $sources
        echo "$sum" >"$folder/$version/sources"
    fi
done
