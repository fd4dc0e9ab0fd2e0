#!/bin/sh
# The integration tests of kafka-python itself, against a broker that is there:
#   run.sh FOLDER HOST:PORT VERSION [ARG of pytest...]
# FOLDER keeps a Python environment and the client's source release with its tests (from PyPI,
# once). VERSION is the version of Apache Kafka that the tests take the broker for. The broker
# has the node id 0, 4 partitions a topic and session timeouts from 1 s on.
set -eu
release=3.0.11
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
address=$2
version=$3
shift 3
mkdir -p "$folder/root"
folder=$(cd "$folder" && pwd)

python=$folder/venv/bin/python
if ! "$python" -c 'import pytest, py, crc32c, lz4, snappy, zstandard, xxhash' 2>/dev/null; then
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi

tests=$folder/kafka_python-$release
if ! [ -f "$tests/test/service.py" ]; then
    rm -rf "$tests"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-binary :all: --dest "$folder" "kafka-python==$release"
    tar -xzf "$folder/kafka_python-$release.tar.gz" -C "$folder"
    # The release has its tests without these two; brokers that it would start are not used.
    touch "$tests/test/__init__.py"
    cp "$here/service.py" "$tests/test/service.py"
fi

# The tests of TLS start a broker of their own.
cd "$tests"
# It wants a folder of Apache Kafka, and looks for nothing in it.
KAFKA_ROOT=$folder/root KAFKA_VERSION=$version KAFKA_URI=kafka://$address \
    exec "$python" -m pytest test/integration --ignore test/integration/test_ssl_integration.py -q --timeout 90 -p no:cacheprovider -W ignore \
    --tb=short --show-capture=no -rsfE "$@"
