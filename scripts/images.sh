#!/bin/sh
# Builds faas-worker:local with faas-builder:local, and faas-manager:local, or one of them:
#   scripts/images.sh [worker] [manager]
#
#   BASES=local            on bases made on this machine (scripts/make-base-images.sh) instead of the public ones
#   DOCKER_BUILD_NETWORK   network of the build steps (host, where the builder's own network has no way out)
set -eu
cd "$(dirname "$0")/.."

build() { # tag, context, Dockerfile, local base
  tag=$1 context=$2 dockerfile=$3 base=$4
  set --
  [ "${BASES:-}" = local ] && set -- "$@" --build-arg "BASE_IMAGE=$base"
  [ -n "${DOCKER_BUILD_NETWORK:-}" ] && set -- "$@" --network "$DOCKER_BUILD_NETWORK"
  docker build --quiet -t "$tag" -f "$dockerfile" "$@" "$context" >/dev/null
  echo "$tag built"
}

base() { # name
  [ "${BASES:-}" != local ] || scripts/make-base-images.sh "$1"
}

[ $# -gt 0 ] || set -- worker manager
for name in "$@"; do
  case $name in
    worker)
      base python
      build faas-worker:local apps/worker apps/worker/Dockerfile faas-base-python:local
      # Builds packages for that worker.
      build faas-builder:local apps/worker apps/worker/builder.Dockerfile faas-base-python:local
      ;;
    manager)
      base node
      build faas-manager:local . apps/manager/Dockerfile faas-base-node:local
      ;;
    *) echo "unknown image $name: worker or manager" >&2; exit 2 ;;
  esac
done
