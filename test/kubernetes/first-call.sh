#!/bin/sh
# Uploads a function to the manager that k8s/overlays/dev installed, calls it, and removes it: where the five commands
# of docs/kubernetes.md lead. Takes the cluster that kubectl takes. With EXPECT_ISOLATION=1 the handler must find the
# cluster's names and nothing else: for clusters that enforce network policies.
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
cat >"$work/handler.py" <<'PY'
import os
import socket


def reached(host: str, port: int) -> str:
    try:
        address = socket.gethostbyname(host)
    except OSError:
        return "no such name"
    try:
        socket.create_connection((address, port), timeout=2).close()
        return "open"
    except OSError:
        return "shut"


def handle(payload: str) -> str:
    return " ".join(
        [
            payload.upper(),
            reached(os.environ["KUBERNETES_SERVICE_HOST"], 443),
            reached("faas-manager.faas-system.svc.cluster.local", 80),
            reached("169.254.169.254", 80),
        ]
    )
PY
created=$(request -F "python_file=@$work/handler.py" -F function_name=handle "$base/functions")
id=$(printf '%s' "$created" | sed -n 's/.*"id":"\([a-z2-7]*\)".*/\1/p')
echo "created $id: $(kubectl -n scadable-faas get deployment "faas-worker-$id" --no-headers)"
answer=$(request -d '{"payload": "hello"}' "$base/functions/$id/execute")
echo "answered $answer (API server, manager, metadata)"
request -X DELETE "$base/functions/$id"
left=$(kubectl -n scadable-faas get deployments,services,configmaps,hpa,pods --selector "func=$id" --output name)
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }
echo 'removed, nothing left'
case "${EXPECT_ISOLATION:-} $answer" in
  '1 {"result":"HELLO shut shut shut"}' | ' {"result":"HELLO '*) ;;
  *) echo 'the answer is not what it should be' >&2; exit 1 ;;
esac
