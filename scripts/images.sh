#!/bin/sh
# Builds faas-worker:local and faas-manager:local.
#
#   BASES=local            on bases made on this machine (scripts/make-base-images.sh) instead of the public ones
#   DOCKER_BUILD_NETWORK   network of the build steps (host, where the builder's own network has no way out)
set -eu
cd "$(dirname "$0")/.."

build() { # tag, context, local base
  tag=$1 context=$2 base=$3
  set --
  [ "${BASES:-}" = local ] && set -- "$@" --build-arg "BASE_IMAGE=$base"
  [ -n "${DOCKER_BUILD_NETWORK:-}" ] && set -- "$@" --network "$DOCKER_BUILD_NETWORK"
  docker build --quiet -t "$tag" "$@" "$context" >/dev/null
  echo "$tag built"
}

[ "${BASES:-}" = local ] && scripts/make-base-images.sh
build faas-worker:local apps/worker faas-base-python:local
build faas-manager:local . faas-base-node:local
