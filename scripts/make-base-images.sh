#!/bin/sh
# Makes the base images of the two Dockerfiles without any image registry: Debian by debootstrap, Node from npm's
# "node" package. For machines that can't pull; everyone else builds on the Dockerfiles' pinned public defaults.
#
#   scripts/make-base-images.sh [python] [node] [postgres]      python and node without arguments; run as root
#
# DEBIAN_SUITE (bookworm), DEBIAN_MIRROR (debootstrap's own default), FORCE=1 to make them again.
set -eu

cd "$(dirname "$0")/.."
suite=${DEBIAN_SUITE:-bookworm}
mirror=${DEBIAN_MIRROR:-}
cache=$PWD/.cache/base-images
mkdir -p "$cache/debs"

rootfs() { # name, extra packages
  target=$cache/$1
  if [ -e "$target.done" ] && [ "${FORCE:-}" != 1 ]; then return; fi
  rm -rf "$target" "$target.done"
  echo "debootstrap $suite for the $1 base ..."
  debootstrap --variant=minbase --cache-dir="$cache/debs" --include="$2" "$suite" "$target" ${mirror:+"$mirror"} \
    >"$cache/$1.log" 2>&1 || { tail -n 20 "$cache/$1.log" >&2; exit 1; }
  rm -rf "$target"/var/cache/apt/* "$target"/var/lib/apt/lists/* "$target"/var/log/* \
    "$target"/usr/share/doc/* "$target"/usr/share/man/* "$target"/usr/share/locale/* "$target"/usr/share/info/*
  rm -f "$target/etc/resolv.conf" "$target/etc/hostname"
  # A machine behind a TLS-inspecting proxy trusts more than Debian does; builds on these bases must as well.
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/ca-certificates.crt"
  fi
  touch "$target.done"
}

made() { # tag
  [ "${FORCE:-}" != 1 ] && docker image inspect "$1" >/dev/null 2>&1 && echo "$1 is there"
}

image() { # tag, rootfs, import changes …
  tag=$1 source=$2
  shift 2
  tar -C "$source" --numeric-owner --one-file-system -c . | docker import "$@" - "$tag" >/dev/null
  echo "$tag made"
}

python_base() {
  if made faas-base-python:local; then return; fi
  rootfs python ca-certificates,python3,python3-venv
  image faas-base-python:local "$cache/python" --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8'
}

node_base() {
  if made faas-base-node:local; then return; fi
  rootfs node ca-certificates
  node=node_modules/node/bin/node
  [ -x "$node" ] || { echo "$node is missing: run npm install first" >&2; exit 1; }
  npm=$(npm root -g)/npm
  [ -d "$npm" ] || { echo "npm's own folder was not found at $npm" >&2; exit 1; }
  install -D -m 0755 "$node" "$cache/node/usr/local/bin/node"
  mkdir -p "$cache/node/usr/local/lib/node_modules"
  rm -rf "$cache/node/usr/local/lib/node_modules/npm"
  cp -RL "$npm" "$cache/node/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$cache/node/usr/local/bin/npm"
  # The public node image has this user; the manager's Dockerfile relies on it.
  grep -q '^node:' "$cache/node/etc/passwd" || {
    echo 'node:x:1000:1000::/home/node:/bin/sh' >>"$cache/node/etc/passwd"
    echo 'node:x:1000:' >>"$cache/node/etc/group"
    install -d -o 1000 -g 1000 "$cache/node/home/node"
  }
  image faas-base-node:local "$cache/node" --change 'CMD ["node"]' --change 'ENV LANG=C.UTF-8'
}

# Only tests need it: it plays the public image for which docker-compose.yml is written.
postgres_base() {
  if made faas-base-postgres:local; then return; fi
  rootfs postgres ca-certificates,postgresql
  image faas-base-postgres:local "$cache/postgres" --change 'ENV LANG=C.UTF-8'
}

[ $# -gt 0 ] || set -- python node
for base in "$@"; do
  case $base in
    python) python_base ;;
    node) node_base ;;
    postgres) postgres_base ;;
    *) echo "unknown base $base: python, node or postgres" >&2; exit 2 ;;
  esac
done
