#!/bin/sh
# Installs into the folder given what drives a browser (puppeteer-core) and what a page of somebody
# would load: the Socket.IO client, and Mermaid, of which one file is enough. The browser itself,
# Chromium, is the system's. A second run finds everything there. Exits 0 only if all is usable.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mermaid=mermaid-11.17.2
mkdir -p "$folder"

chromium --version >/dev/null 2>&1 || {
    echo "chromium is missing: install the system's package chromium" >&2
    exit 1
}

cp "$here/package.json" "$folder/package.json"
if ! (cd "$folder" && node -e 'require("puppeteer-core"); require("socket.io-client")' 2>/dev/null); then
    (cd "$folder" && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts)
fi

if ! [ -s "$folder/$mermaid.min.js" ]; then
    (cd "$folder" && npm pack --silent "mermaid@${mermaid#mermaid-}" >/dev/null)
    tar -xzOf "$folder/$mermaid.tgz" package/dist/mermaid.min.js >"$folder/$mermaid.part"
    rm "$folder/$mermaid.tgz"
    mv "$folder/$mermaid.part" "$folder/$mermaid.min.js"
fi
