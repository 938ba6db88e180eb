import io
import sys

sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8", errors="replace", line_buffering=True)
sys.stderr = open(sys.stderr.fileno(), "w", encoding="utf-8", closefd=False, buffering=1)


def handle(payload):
    print("detached: grüße 你好", payload)
    print("reopened: grüße 你好", payload, file=sys.stderr)
    return sys.stdout.encoding.lower()
