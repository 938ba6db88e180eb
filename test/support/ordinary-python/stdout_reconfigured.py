import sys

sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)


def handle(payload):
    print("reconfigured: grüße 你好", payload)
    return sys.stdout.encoding.lower()
