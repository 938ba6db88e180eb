#!/bin/sh
# Builds kustomize from source into .cache/kustomize, for the tests of k8s/ where there is no kubectl. It is the oldest
# that the manifests must work with (kubectl has had its like since 1.27), and Debian 12's Go can build it; sooner
# where it inlines nothing.
set -eu
cd "$(dirname "$0")/.."
version=v5.0.3
folder=$PWD/.cache/kustomize
if [ -x "$folder/kustomize" ] && [ "$(cat "$folder/version" 2>/dev/null)" = "$version" ]; then
  echo "kustomize $version is there"
  exit
fi
command -v go >/dev/null || { echo "Go is missing: install golang-go, 1.19 or newer" >&2; exit 1; }
rm -rf "$folder"
GOBIN=$folder CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local GOWORK=off \
  go install -gcflags=all=-l "sigs.k8s.io/kustomize/kustomize/v5@$version" 2>"$folder.log" || { cat "$folder.log" >&2; exit 1; }
echo "$version" >"$folder/version"
echo "kustomize $version built"
