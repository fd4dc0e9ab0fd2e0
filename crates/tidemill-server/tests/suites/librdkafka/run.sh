#!/bin/sh
# librdkafka's own tests (v2.15.0) against a server, as if it were Apache Kafka 4.1.1:
#   run.sh FOLDER HOST:PORT [TEST,...]
# FOLDER/source holds librdkafka, which is cloned where it is not there, and built once; FOLDER/kafka
# has Kafka's tools (Maven, once), which the tests call. Needs gcc, g++, make, git, a JDK and Maven,
# and the headers of zlib, zstd and OpenSSL. What each test did is in FOLDER/run/out.log; prints
# which passed and failed, and ends with 0 only if none failed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
address=$2
version=v2.15.0

if [ ! -d "$folder/source" ]; then
    git clone --quiet --depth 1 --branch "$version" \
        https://github.com/confluentinc/librdkafka "$folder/source"
fi
if [ ! -x "$folder/source/tests/test-runner" ]; then
    (
        cd "$folder/source"
        ./configure
        make -j2 libs
        make -j2 -C tests test-runner
    ) >"$folder/build.log" 2>&1 || { tail -20 "$folder/build.log"; exit 1; }
fi
sh "$here/../../clients/kafka/java/install.sh" "$folder/kafka"

mkdir -p "$folder/bin" "$folder/run"
tool() {
    cat >"$folder/bin/$1" <<EOF
#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -Xmx128m -cp "$folder/kafka/new/libs/*" $2 "\$@"
EOF
    chmod +x "$folder/bin/$1"
}
tool kafka-topics.sh org.apache.kafka.tools.TopicCommand
tool kafka-acls.sh org.apache.kafka.tools.AclCommand
tool kafka-run-class.sh ''

cd "$folder/run"
rm -f ./*.json
echo "metadata.broker.list=$address" >test.conf
export RDKAFKA_TEST_CONF="$folder/run/test.conf" BROKERS="$address" KAFKA_PATH="$folder"
export TEST_KAFKA_VERSION=4.1.1
export LD_LIBRARY_PATH="$folder/source/src:$folder/source/src-cpp"
if [ $# -gt 2 ]; then
    export TESTS="$3"
fi
# Tests that cut connections (0076, 0086) write into closed ones, which would end the runner.
trap '' PIPE
ended=0
# By lines: where threads are left after a failure it ends by a signal, and what waits is lost.
timeout 3600 stdbuf -oL "$folder/source/tests/test-runner" -L -Q -p3 >out.log 2>&1 || ended=$?
sed 's/\x1b\[[0-9;]*m//g' out.log | grep -aE '^\| [0-9]{4}_.*\| +(PASSED|FAILED) \|' >told || true
cut -c1-160 told
echo "$(grep -c PASSED told) passed, $(grep -c FAILED told) failed, test-runner ended with $ended"
grep -q PASSED told && ! grep -q FAILED told
