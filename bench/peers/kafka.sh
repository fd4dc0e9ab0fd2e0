#!/bin/sh
# Apache Kafka 4.1.1 as a single KRaft node on loopback, in the foreground:
#   bench/peers/kafka.sh FOLDER PORT [line of server.properties...]
# Clients come to 127.0.0.1:PORT, the controller is on the next port. FOLDER keeps the jars
# (Maven, once), the properties and, in FOLDER/data-PORT, the records; remove that to start anew.
# JAVA_OPTS adds to the JVM's options (the heap is 512 MB without). Needs Java 17 and Maven.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
port=$2
shift 2
controller=$((port + 1))
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

usable() {
    java -cp "$folder/libs/*" kafka.tools.StorageTool random-uuid 2>/dev/null
}

if ! id=$(usable); then
    rm -rf "$folder/libs"
    cp "$here/pom.xml" "$folder/pom.xml"
    mvn --quiet --batch-mode --file "$folder/pom.xml" \
        dependency:copy-dependencies -DoutputDirectory="$folder/libs" >&2
    id=$(usable)
fi

properties=$folder/server-$port.properties
cat >"$properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$folder/data-$port
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
EOF
# Of two lines with one name the last one holds.
for line in "$@"; do
    printf '%s\n' "$line" >>"$properties"
done

if [ ! -e "$folder/data-$port/meta.properties" ]; then
    java -cp "$folder/libs/*" kafka.tools.StorageTool format -t "$id" -c "$properties" >&2
fi
# The words of JAVA_OPTS are options, one each.
# shellcheck disable=SC2086
exec java -Xmx512m ${JAVA_OPTS:-} -cp "$folder/libs/*" kafka.Kafka "$properties"
