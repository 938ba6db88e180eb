"""The least a worker image may be: the fixed HTTP contract and nothing more."""

import asyncio
import datetime
import importlib
import inspect
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, "/app")


def load():
    path = os.environ.get("HANDLER_FUNCTION", "function.handler.handle")
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class Worker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    handler = staticmethod(lambda payload: payload)

    def do_GET(self):
        if self.path != "/health":
            return self.answer(404, {"detail": "Not Found"})
        now = datetime.datetime.now(datetime.timezone.utc).isoformat()
        return self.answer(200, {"status": "ok", "timestamp": now})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            payload = json.loads(body)["payload"]
            if not isinstance(payload, str):
                raise TypeError("payload is not a string")
        except (ValueError, KeyError, TypeError) as error:
            return self.answer(422, {"detail": str(error)})
        try:
            result = self.handler(payload)
            if inspect.isawaitable(result):
                result = asyncio.run(result)
            return self.answer(200, {"result": result})
        except Exception as error:
            return self.answer(400, {"detail": f"Error executing handler function: {error}"})

    def answer(self, status, body):
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    Worker.handler = staticmethod(load())
except Exception as error:
    raise RuntimeError("The handler could not be loaded") from error
ThreadingHTTPServer(("0.0.0.0", 8000), Worker).serve_forever()
