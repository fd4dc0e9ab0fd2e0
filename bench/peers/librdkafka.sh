#!/bin/sh
# librdkafka v2.15.0 with its program for measuring, in FOLDER/librdkafka:
#   bench/peers/librdkafka.sh FOLDER
# Clones and builds once; where the source is there already it is taken. Needs git, gcc, g++, make and
# the headers of zlib.
set -eu
source=$1/librdkafka/source
mkdir -p "$1/librdkafka"
if [ ! -d "$source" ]; then
    git clone --quiet --depth 1 --branch v2.15.0 \
        https://github.com/confluentinc/librdkafka "$source"
fi
if [ ! -x "$source/examples/rdkafka_performance" ]; then
    (
        cd "$source"
        ./configure --enable-static --disable-gssapi --disable-curl
        make -j2 -C src
        make -C examples rdkafka_performance
    ) >"$1/librdkafka/build.log" 2>&1 || { tail -20 "$1/librdkafka/build.log" >&2; exit 1; }
fi
