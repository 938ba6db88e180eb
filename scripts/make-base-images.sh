#!/bin/sh
# Makes the base images of the two Dockerfiles without any image registry: Debian by debootstrap, Node from npm's
# "node" package. For machines that can't pull; everyone else builds on the Dockerfiles' pinned public defaults.
#
#   scripts/make-base-images.sh [python] [node] [postgres]      python and node without arguments; run as root
#   scripts/make-base-images.sh debian                          only the tree that all of them are made from
#
# DEBIAN_SUITE (bookworm), DEBIAN_MIRROR (debootstrap's own default), FORCE=1 to make them again.
set -eu

cd "$(dirname "$0")/.."
suite=${DEBIAN_SUITE:-bookworm}
mirror=${DEBIAN_MIRROR:-}
cache=$PWD/.cache/base-images
mkdir -p "$cache"

there() { # name of a tree
  [ "${FORCE:-}" != 1 ] && [ -e "$cache/$1.done" ]
}

logged() { # name of a tree, command …
  log=$cache/$1.log
  shift
  "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
}

debian_tree() {
  target=$cache/debian
  if there debian || [ -n "${debian_made:-}" ]; then return; fi
  rm -rf "$target" "$target.done" "$target.log"
  echo "debootstrap $suite ..."
  logged debian debootstrap --variant=minbase --include=ca-certificates "$suite" "$target" ${mirror:+"$mirror"}
  # A machine behind a TLS-inspecting proxy trusts more than Debian does; builds on these bases must as well.
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/ca-certificates.crt"
  fi
  clean "$target"
  touch "$target.done"
  debian_made=yes
}

tree() { # name, packages
  if there "$1"; then return; fi
  debian_tree
  target=$cache/$1
  rm -rf "$target" "$target.done" "$target.log"
  cp -a "$cache/debian" "$target"
  [ -z "$2" ] || add "$1" "$2"
  touch "$target.done"
}

add() { # name of a tree, packages
  target=$cache/$1
  cp -L /etc/resolv.conf "$target/etc/resolv.conf"
  # What is installed there is not started here.
  printf '#!/bin/sh\nexit 101\n' >"$target/usr/sbin/policy-rc.d"
  chmod 0755 "$target/usr/sbin/policy-rc.d"
  logged "$1" chroot "$target" apt-get update -qq
  # shellcheck disable=SC2086 -- packages are words
  logged "$1" chroot "$target" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $2
  rm "$target/usr/sbin/policy-rc.d"
  clean "$target"
}

clean() { # folder of a tree
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* \
    "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/* "$1"/usr/share/info/*
  rm -f "$1/etc/resolv.conf" "$1/etc/hostname"
}

made() { # tag
  [ "${FORCE:-}" != 1 ] && docker image inspect "$1" >/dev/null 2>&1 && echo "$1 is there"
}

image() { # tag, tree, import changes …
  tag=$1 source=$cache/$2
  shift 2
  tar -C "$source" --numeric-owner --one-file-system -c . | docker import "$@" - "$tag" >/dev/null
  echo "$tag made"
}

python_base() {
  if made faas-base-python:local; then return; fi
  tree python "python3 python3-venv"
  image faas-base-python:local python --change 'CMD ["python3"]' --change 'ENV LANG=C.UTF-8'
}

node_base() {
  if made faas-base-node:local; then return; fi
  tree node ""
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
  image faas-base-node:local node --change 'CMD ["node"]' --change 'ENV LANG=C.UTF-8'
}

# Only tests need it: it plays the public image for which docker-compose.yml is written.
postgres_base() {
  if made faas-base-postgres:local; then return; fi
  tree postgres postgresql
  image faas-base-postgres:local postgres --change 'ENV LANG=C.UTF-8'
}

[ $# -gt 0 ] || set -- python node
for base in "$@"; do
  case $base in
    debian) debian_tree ;;
    python) python_base ;;
    node) node_base ;;
    postgres) postgres_base ;;
    *) echo "unknown base $base: python, node or postgres" >&2; exit 2 ;;
  esac
done
