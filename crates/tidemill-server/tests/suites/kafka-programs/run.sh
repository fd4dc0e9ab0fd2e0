#!/bin/sh
# Kafka Streams (a word count, at least once and exactly once) and Kafka Connect (standalone, a
# file into a topic and into a file again, with a restart in between) against a server:
#   run.sh FOLDER HOST:PORT
# FOLDER keeps the jars (Maven, once). Needs a JDK of 17 and Maven. Ends with 0 only if all holds.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
address=$2

if ! cmp -s "$here/pom.xml" "$folder/pom.xml"; then
    rm -rf "$folder/libs"
    mvn --quiet --batch-mode --file "$here/pom.xml" \
        dependency:copy-dependencies -DoutputDirectory="$folder/libs"
    cp "$here/pom.xml" "$folder/pom.xml"
fi
rm -rf "$folder/classes" "$folder/run"
mkdir -p "$folder/run"
javac -d "$folder/classes" -cp "$folder/libs/*" "$here/"*.java
java="java -XX:TieredStopAtLevel=1 -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=error"

for guarantee in at_least_once exactly_once_v2; do
    # shellcheck disable=SC2086
    timeout 300 $java -cp "$folder/classes:$folder/libs/*" \
        WordCount "$address" "$folder/run" "$guarantee"
done

cd "$folder/run"
cat >worker.properties <<EOF
bootstrap.servers=$address
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename=$folder/run/offsets
offset.flush.interval.ms=500
listeners=http://127.0.0.1:0
EOF
cat >source.properties <<EOF
name=source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
tasks.max=1
file=$folder/run/in.txt
topic=connected
topic.creation.default.partitions=1
topic.creation.default.replication.factor=1
EOF
cat >sink.properties <<EOF
name=sink
connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector
tasks.max=1
file=$folder/run/out.txt
topics=connected
EOF

# A worker that copies until the two files are the same.
copy() {
    # shellcheck disable=SC2086
    $java -cp "$folder/libs/*" org.apache.kafka.connect.cli.ConnectStandalone \
        worker.properties source.properties sink.properties >>connect.log 2>&1 &
    worker=$!
    for _ in $(seq 120); do
        if cmp -s in.txt out.txt || ! kill -0 "$worker"; then
            break
        fi
        sleep 1
    done
    kill -TERM "$worker"
    wait "$worker" || true
    cmp in.txt out.txt || { tail -40 connect.log; exit 1; }
}
seq -f 'line %g' 1 2000 >in.txt
copy
seq -f 'line %g' 2001 4000 >>in.txt
copy
echo "holds: Connect copies a file over a topic, and goes on after a restart"
