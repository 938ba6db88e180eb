#!/bin/sh
# Builds the images only the tests need, on the local bases (scripts/make-base-images.sh python postgres):
# faas-plain:test, the least a worker image may be, and faas-postgres:test, which stands in for the public one.
set -eu
cd "$(dirname "$0")"
docker build --quiet --force-rm -t faas-plain:test --build-arg BASE_IMAGE="${PYTHON_BASE:-faas-base-python:local}" plain-image
docker build --quiet --force-rm -t faas-postgres:test --build-arg BASE_IMAGE="${POSTGRES_BASE:-faas-base-postgres:local}" postgres-image
