#!/bin/sh
# Installs the generators of clients, Java included, into .cache/client-generators, for test/e2e/generated-clients.spec.ts.
# The lock file is made by: pip-compile --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
set -eu
cd "$(dirname "$0")/.."
lock=$PWD/test/clients/requirements.lock
folder=$PWD/.cache/client-generators
if cmp -s "$lock" "$folder/installed.lock"; then
  echo "the generators of clients are there"
  exit
fi
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --require-hashes --no-deps -r "$lock"
cp "$lock" "$folder/installed.lock"
echo "the generators of clients are installed"
