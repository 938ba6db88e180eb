#!/bin/sh
# Uploads a function to the manager that k8s/overlays/dev installed, calls it, and removes it: the five commands of
# docs/kubernetes.md end here. Takes the cluster that kubectl takes.
set -eu
port=${PORT:-18080}
key=$(kubectl -n faas-system get secret faas-manager --output 'jsonpath={.data.API_KEYS}' | base64 --decode)
work=$(mktemp -d)
kubectl -n faas-system port-forward service/faas-manager "$port:80" >"$work/forward.log" 2>&1 &
forward=$!
trap 'kill $forward 2>/dev/null; rm -rf "$work"' EXIT
request() { curl --silent --show-error --fail-with-body --max-time 120 -H "X-Api-Key: $key" "$@"; }

base=http://127.0.0.1:$port
until curl --silent --output "$work/ready" "$base/readyz"; do
  kill -0 "$forward" || { cat "$work/forward.log" >&2; exit 1; }
  sleep 0.2
done
printf 'def handle(payload: str):\n    return payload.upper()\n' >"$work/handler.py"
created=$(request -F "python_file=@$work/handler.py" -F function_name=handle "$base/functions")
id=$(printf '%s' "$created" | sed -n 's/.*"id":"\([a-z2-7]*\)".*/\1/p')
echo "created $id: $(kubectl -n scadable-faas get deployment "faas-worker-$id" --no-headers)"
answer=$(request -d '{"payload": "hello"}' "$base/functions/$id/execute")
[ "$answer" = '{"result":"HELLO"}' ] || { echo "unexpected answer: $answer" >&2; exit 1; }
echo "answered $answer"
request -X DELETE "$base/functions/$id"
left=$(kubectl -n scadable-faas get deployments,services,configmaps,hpa,pods --selector "func=$id" --output name)
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }
echo 'removed, nothing left'
