"""`python -m faas_builder.server <folder>`: builds once, for whoever knows the token, and ends.

Where a manager doesn't share a machine's files with a builder. `POST /build` with the job is
answered with lines of JSON: `{"line": …}` for each that is printed, at last `{"result": …,
"lock": …, "archive": <bytes>}`, and then the archive. The build ends with the connection. Until
then `GET /health` answers as a generic worker's does, and whoever shows the token there renews the
lease.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

from .places import ARCHIVE

#: For the job: a manager that neither comes nor renews has died, and its pod takes the room of
#: another.
_LEASE_SECONDS = int(os.environ.get("FAAS_BUILD_LEASE_SECONDS", "60"))
#: For handing out what was built.
_HAND_OUT_SECONDS = 120
_REQUEST_SECONDS = 10
_TOKEN_HEADER = "X-Faas-Token"
#: Requirements of 1 MiB, of which JSON may write each character as two, and what else there is.
_LARGEST_JOB = 4 * 1024 * 1024
_CHUNK = 1024 * 1024
#: Of both versions of control groups.
_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_KILLED = re.compile(r"oom_kill [1-9]\d*\s*")
#: uv lies beside this package in its image.
_UV = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin", "uv")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, folder: str, sha256: str) -> None:
        is_dual = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if is_dual or ":" in host else socket.AF_INET
        self.folder = folder
        self.digest = bytes.fromhex(sha256)
        self._lock = threading.Lock()
        self._is_taken = False
        # It has started by the time that the job is there.
        self.builder = start_builder(folder)
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def take(self) -> bool:
        """True for the first who asks."""
        with self._lock:
            is_first, self._is_taken = not self._is_taken, True
        return is_first

    def waits(self, *, renews: bool) -> bool:
        """Whether it can take a job. A job that is under way has its own time."""
        with self._lock:
            if self._is_taken or self.builder.poll() is not None:
                return False
            if renews:
                signal.alarm(_LEASE_SECONDS)
            return True


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        if self.path != "/health":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        renews = self.headers.get("X-Faas-Lease") == "renew" and self.knows(_TOKEN_HEADER)
        waits = self.server.waits(renews=renews)
        body = json.dumps({"status": "generic" if waits else "building"}).encode()
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def knows(self, header: str, scheme: str = "") -> bool:
        said = self.headers.get(header) or ""
        shown = hashlib.sha256(said.removeprefix(scheme).encode("latin-1", "replace")).digest()
        return said.startswith(scheme) and hmac.compare_digest(shown, self.server.digest)

    def do_POST(self) -> None:
        if not self.knows("Authorization", "Bearer "):
            return self.send_error(HTTPStatus.FORBIDDEN)
        length = self.headers.get("Content-Length") or ""
        if self.path != "/build" or not length.isdecimal() or int(length) > _LARGEST_JOB:
            return self.send_error(HTTPStatus.BAD_REQUEST)
        if not self.server.take():
            return self.send_error(HTTPStatus.CONFLICT)
        try:
            self.build(json.loads(self.rfile.read(int(length))))
        finally:
            os._exit(1)

    def build(self, job: dict[str, Any]) -> NoReturn:
        folder = self.server.folder
        signal.alarm(job["seconds"] + _HAND_OUT_SECONDS)
        job |= {"uv": os.environ.get("FAAS_UV", _UV), "cache": cache_of(folder)}
        self.connection.settimeout(None)
        builder = self.server.builder
        assert builder.stdin is not None
        # What became of one that has ended is told below. Closing writes what was kept back.
        with contextlib.suppress(BrokenPipeError), builder.stdin as stdin:
            json.dump(job, stdin)
        threading.Thread(target=self.end_with_connection, args=(builder,), daemon=True).start()
        self.send_response(HTTPStatus.OK)
        self.send_header("Connection", "close")
        self.end_headers()
        for line in builder.stdout or ():
            self.tell({"line": line.rstrip("\n")})
        self.hand_out(builder.wait())
        self.connection.shutdown(socket.SHUT_WR)
        # What is under way to the manager would be lost with this network.
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        os._exit(0)

    def end_with_connection(self, builder: subprocess.Popen[str]) -> None:
        """Whoever asked is gone: nobody wants it any more."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        poll.poll()
        builder.kill()
        os._exit(1)

    def hand_out(self, status: int) -> None:
        out = os.path.join(self.server.folder, "out")
        if status != 0:
            result = {"status": "failed", **fault_of(status)}
        else:
            with open(os.path.join(out, "result.json"), encoding="utf-8") as file:
                result = json.load(file)
        if result["status"] != "built":
            if has_run_out_of_memory():
                result["kind"] = "out_of_memory"
            self.tell({"result": result, "lock": "", "archive": 0})
            return
        with open(os.path.join(out, "lock.txt"), encoding="utf-8") as file:
            lock = file.read()
        with open(os.path.join(out, ARCHIVE), "rb") as archive:
            size = os.fstat(archive.fileno()).st_size
            self.tell({"result": result, "lock": lock, "archive": size})
            shutil.copyfileobj(archive, self.wfile, _CHUNK)

    def tell(self, what: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(what).encode() + b"\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def start_builder(folder: str) -> subprocess.Popen[str]:
    for name in ("out", "layer", "tmp"):
        os.makedirs(os.path.join(folder, name), 0o700, exist_ok=True)
    os.makedirs(cache_of(folder), 0o700, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "faas_builder", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def cache_of(folder: str) -> str:
    return os.environ.get("FAAS_CACHE", os.path.join(folder, "cache"))


def fault_of(status: int) -> dict[str, str]:
    return {"kind": "failed", "message": f"The builder ended with status {status}."}


def has_run_out_of_memory() -> bool:
    """The kernel has ended something here: the builder, or a program that uv has started."""
    for path in _EVENTS:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as events:
            if any(re.fullmatch(_KILLED, line) for line in events):
                return True
    return False


def main() -> int:
    # The first process of a container is ended by no signal that it doesn't take.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: os._exit(1))
    signal.alarm(_LEASE_SECONDS)
    host, port = os.environ.get("FAAS_HOST", ""), int(os.environ.get("FAAS_PORT", "8000"))
    Server(host, port, sys.argv[1], os.environ["FAAS_BUILD_SHA256"]).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
