#!/bin/sh
# Installs the peers of the measures of doors into the folder given: a Python environment, a Node
# folder, and NATS. RabbitMQ is Debian's (apt-get install rabbitmq-server). Exits 0 only if all
# three are there.
set -eu
folder=$1
mkdir -p "$folder/node"
python=$folder/venv/bin/python
if ! "$python" -c 'import socketio, uvicorn, uvloop, websockets' 2>/dev/null; then
    python3 -m venv "$folder/venv"
    "$python" -m pip install --quiet --disable-pip-version-check \
        python-socketio==5.18.1 'uvicorn[standard]==0.54.0'
fi
if ! (cd "$folder/node" && node -e 'require("socket.io")' 2>/dev/null); then
    (cd "$folder/node" && npm install --silent --no-audit --no-fund --no-package-lock socket.io@4.8.4)
fi
if [ ! -x "$folder/bin/nats-server" ]; then
    GOBIN=$folder/bin go install github.com/nats-io/nats-server/v2@v2.14.5
fi
