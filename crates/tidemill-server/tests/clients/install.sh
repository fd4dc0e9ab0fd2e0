#!/bin/sh
# Installs the stock clients into the folder given: a Python environment and a Node
# folder. A second run finds them there. Exits 0 only if both are usable.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder/node"

python=$folder/venv/bin/python
if ! "$python" -c 'import socketio, websocket, requests, openapi_spec_validator, standardwebhooks' 2>/dev/null; then
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi

cp "$here/package.json" "$folder/node/package.json"
if ! (cd "$folder/node" && node -e 'require("socket.io-client")' 2>/dev/null); then
    (cd "$folder/node" && npm install --silent --no-audit --no-fund --no-package-lock)
fi
