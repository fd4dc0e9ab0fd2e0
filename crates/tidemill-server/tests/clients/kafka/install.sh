#!/bin/sh
# Installs stock Kafka clients into the folder given: one Python environment with today's, one
# with an old kafka-python, and a Node folder. A second run finds them there. Exits 0 only if all
# are usable.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder/node"

new=$folder/new/bin/python
if ! "$new" -c 'import kafka, confluent_kafka, aiokafka' 2>/dev/null; then
    rm -rf "$folder/new"
    python3 -m venv "$folder/new"
    "$new" -m pip install --quiet --disable-pip-version-check -r "$here/groups_new.txt"
fi

old=$folder/old/bin/python
if ! "$old" -c 'import kafka' 2>/dev/null; then
    rm -rf "$folder/old"
    python3 -m venv "$folder/old"
    "$old" -m pip install --quiet --disable-pip-version-check -r "$here/groups_old.txt"
fi

cp "$here/package.json" "$folder/node/package.json"
if ! (cd "$folder/node" && node -e 'require("kafkajs")' 2>/dev/null); then
    (cd "$folder/node" && npm install --silent --no-audit --no-fund --no-package-lock)
fi
