#!/bin/sh
# As much of the public PostgreSQL image's behaviour as docker-compose.yml relies on.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin)
data=${PGDATA:-/var/lib/postgresql/data}
if [ ! -s "$data/PG_VERSION" ]; then
  install -d -o postgres -g postgres -m 0700 "$data"
  secret=$(mktemp)
  printf '%s' "$POSTGRES_PASSWORD" >"$secret"
  chown postgres "$secret"
  as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
  as_postgres "$bin/initdb" -D "$data" -U "$POSTGRES_USER" --auth=scram-sha-256 --pwfile="$secret" >/dev/null
  rm "$secret"
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\";" | as_postgres "$bin/postgres" --single -D "$data" postgres >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups \
  "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
