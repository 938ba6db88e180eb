"""A real worker process and a plain HTTP client for it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER_DIR = Path(__file__).parent.parent
HANDLERS_DIR = Path(__file__).parent / "handlers"
AS_USER = Path(__file__).parent / "as_user.py"
PATIENCE_SECONDS = 15.0
RECOVERY_SECONDS = 0.25
TOKEN = "a-token-that-is-used-once"
CALL_TOKEN = "a-token-for-every-call"
# What a generic worker is started with; the rest comes with its function.
_PLACE = (
    "PATH",
    "PYTHONPATH",
    "FAAS_SOCKET",
    "FAAS_HOST",
    "FAAS_PORT",
    "FAAS_TEST_PIDS",
    "FAAS_LAYERS_DIR",
)


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    end = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < end:
        if value := condition():
            return value
        pause.wait(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        assert self.status == 200, self.body[:2000]
        return self.json["result"]

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def runner(self) -> int:
        return int(self.headers["x-faas-runner"])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("worker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Worker:
    def __init__(
        self,
        tmp_path: Path,
        uid: int | None = None,
        real_uid: int | None = None,
        output: int | None = None,
        namespace: bool = False,
        generic: bool = False,
        guarded: bool = False,
        **env: str,
    ) -> None:
        """`generic`: starts without its function, which `specialise` then gives it. `guarded`: it
        answers only whoever shows CALL_TOKEN, as requests do unless they say otherwise."""
        self.namespace = namespace
        self.generic = generic
        self.headers = {"X-Faas-Token": CALL_TOKEN} if guarded else {}
        self.socket_path = str(tmp_path / "worker.sock")
        self.log_path = tmp_path / "log"
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(WORKER_DIR),
            "FAAS_APP_DIR": str(HANDLERS_DIR),
            "FAAS_SOCKET": self.socket_path,
            "FAAS_TIMEOUT_MS": "10000",
            **env,
        }
        if uid is not None:
            # The checkout may lie where only its owner may look.
            environ["FAAS_APP_DIR"] = str(
                shutil.copytree(environ["FAAS_APP_DIR"], tmp_path / "handlers")
            )
        self.environ = environ
        if generic:
            environ = {name: value for name, value in environ.items() if name in _PLACE}
            environ["FAAS_SPECIALISE_SHA256"] = hashlib.sha256(TOKEN.encode()).hexdigest()
            environ["FAAS_APP_DIR"] = str(tmp_path / "app")
            environ |= {name: value for name, value in env.items() if "GENERIC" in name}
        if guarded:
            environ["FAAS_CALL_SHA256"] = hashlib.sha256(CALL_TOKEN.encode()).hexdigest()
        with self.log_path.open("wb") as log:
            command = (
                ["-m", "faas_worker"]
                if uid is None
                else [str(AS_USER), str(uid), str(real_uid or uid)]
            )
            command.insert(0, sys.executable)
            if namespace:
                command = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", *command]
            self.process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
            )

    def connect(self, timeout: float = PATIENCE_SECONDS) -> http.client.HTTPConnection:
        return _UnixConnection(self.socket_path, timeout)

    def request(
        self, method: str, path: str, body: bytes | None = None, timeout: float = 15, **headers: str
    ) -> Answer:
        connection = self.connect(timeout)
        started = time.monotonic()
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            names = {name: value for name, value in (self.headers | names).items() if value}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        seconds = time.monotonic() - started
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content, seconds)

    def call(self, payload: str, timeout: float = 15, **headers: str) -> Answer:
        body = json.dumps({"payload": payload}).encode()
        return self.request("POST", "/", body, timeout, **headers)

    def start_call(self, payload: str, **headers: str) -> Future[Answer]:
        future: Future[Answer] = Future()

        def run() -> None:
            try:
                future.set_result(self.call(payload, **headers))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def is_cut_off(self, payload: str, **headers: str) -> bool:
        try:
            self.call(payload, **headers)
        except (ConnectionError, http.client.HTTPException):
            return True
        return False

    def wait_generic(self) -> Worker:
        def answers() -> bool:
            assert self.process.poll() is None, self.log()
            with suppress(OSError):
                return self.request("GET", "/health").json["status"] == "generic"
            return False

        eventually(answers, "the generic worker answers")
        return self

    def specialise(
        self,
        code: bytes | None = None,
        token: str = TOKEN,
        files: dict[str, str] | None = None,
        layer: dict[str, Any] | None = None,
        **environment: str,
    ) -> Answer:
        given = {n: v for n, v in self.environ.items() if n not in _PLACE and "GENERIC" not in n}
        if code is not None:
            del given["FAAS_APP_DIR"]
        document: dict[str, Any] = {"environment": given | environment}
        if code is not None:
            document["code"] = base64.b64encode(code).decode()
        if files is not None:
            document["files"] = files
        if layer is not None:
            document["layer"] = layer
        return self.specialise_with(json.dumps(document).encode(), token)

    def specialise_with(self, body: bytes, token: str = TOKEN) -> Answer:
        return self.request("POST", "/specialise", body, Authorization=f"Bearer {token}")

    def health(self) -> dict[str, Any]:
        answer = self.request("GET", "/health")
        assert answer.status == 200
        return answer.json

    def last_exit(self) -> dict[str, Any]:
        return eventually(lambda: self.health()["worker"]["last_exit"], "an exit is reported")

    def wait_ready(self) -> Worker:
        def ready() -> bool:
            assert self.process.poll() is None, self.log()
            with suppress(OSError):
                return self.health()["status"] == "ok"
            return False

        eventually(ready, "the worker answers")
        return self

    def runner_pids(self) -> list[int]:
        return _children(self.supervisor_pid())

    def supervisor_pid(self) -> int:
        pid = self.process.pid
        return _children(pid)[0] if self.namespace else pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def terminate(self) -> int:
        os.kill(self.supervisor_pid(), signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                with suppress(OSError, IndexError):
                    os.kill(self.supervisor_pid(), number)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def masked_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """As a client of a WebSocket sends it."""
    first, size = bytes(((0x80 if final else 0) | opcode,)), len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 0x10000:
        length = bytes((0x80 | 126,)) + size.to_bytes(2)
    else:
        length = bytes((0x80 | 127,)) + size.to_bytes(8)
    # The same each time, as tests have it in their names.
    mask = b"\x37\xfa\x21\x3d"
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return first + length + mask + body


class WebSocketClient:
    """Of a worker: what stands for its manager."""

    def __init__(self, worker: Worker, path: str, **headers: str) -> None:
        self.connection = worker.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        names = worker.headers | {name.replace("_", "-"): text for name, text in headers.items()}
        self.connection.connect()
        self.socket: socket.socket = self.connection.sock
        lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        self.socket.sendall(
            f"GET /.http{path} HTTP/1.1\r\nHost: worker\r\nConnection: upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{lines}\r\n".encode()
        )
        self.arrived = b""
        while b"\r\n\r\n" not in self.arrived:
            self._read()
        head, _, self.arrived = self.arrived.partition(b"\r\n\r\n")
        status, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.response = dict(line.lower().split(": ", 1) for line in rest)
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        self.accept = base64.b64encode(digest).decode()

    def _read(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError(self.arrived)
        self.arrived += data

    def send(self, opcode: int, payload: bytes = b"", *, final: bool = True) -> None:
        self.socket.sendall(masked_frame(opcode, payload, final=final))

    def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""

        def need(count: int) -> None:
            while len(self.arrived) < count:
                self._read()

        need(2)
        length, start = self.arrived[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            need(start)
            length = int.from_bytes(self.arrived[2:start])
        need(start + length)
        opcode, payload = self.arrived[0] & 15, self.arrived[start : start + length]
        self.arrived = self.arrived[start + length :]
        return opcode, payload

    def body(self) -> bytes:
        """Of an answer that is none to a WebSocket."""
        with suppress(EOFError, ConnectionError):
            while True:
                self._read()
        return self.arrived

    def ends(self) -> bool:
        """Once nothing more comes."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.connection.close()


def is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
    return []


@contextmanager
def running(tmp_path: Path, **env: Any) -> Iterator[Worker]:
    worker = Worker(tmp_path, **env)
    try:
        if worker.generic:
            assert worker.wait_generic().specialise().status == 202
        yield worker.wait_ready()
    finally:
        worker.close()


def recovers_after(worker: Worker, hostile: Callable[[], None]) -> None:
    """The next good call is quick: the best of several, for the machine may be busy."""
    times: list[float] = []
    for _ in range(6):
        hostile()
        answer = worker.call("good")
        assert answer.result == "good"
        times.append(answer.seconds)
        if answer.seconds < RECOVERY_SECONDS:
            return
    raise AssertionError(f"the next good call took {times} seconds")
