import io
import sys

sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="replace", line_buffering=True)


def handle(payload):
    print("wrapped: grüße 你好", payload)
    return sys.stdout.encoding.lower()
