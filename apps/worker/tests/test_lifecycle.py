"""How a worker starts, can't start, and leaves."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE_SECONDS, WORKER_DIR, Worker, eventually

Start = Callable[..., Worker]
SYNC, ASYNC = "hostile.handle", "hostile.handle_async"


def run_worker(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "faas_worker"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(WORKER_DIR),
            "FAAS_APP_DIR": str(tmp_path),
            "FAAS_SOCKET": str(tmp_path / "worker.sock"),
            **env,
        },
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def run_specialised(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    env = {"HANDLER_FUNCTION": "function.handler.handle", **env}
    worker = Worker(tmp_path, generic=True, FAAS_APP_DIR=str(tmp_path), **env)
    try:
        assert worker.wait_generic().specialise().status == 202
        status = worker.process.wait(PATIENCE_SECONDS)
    finally:
        worker.close()
    return subprocess.CompletedProcess([], status, stderr=worker.log_path.read_bytes())


RUN = {"started with it": run_worker, "specialised": run_specialised}


REPORT = ["type", "message", "line", "traceback"]


def load_failure(
    tmp_path: Path, source: str | bytes, birth: str = "started with it", **env: str
) -> dict[str, Any]:
    package = tmp_path / "function"
    package.mkdir()
    code = source if isinstance(source, bytes) else source.encode()
    (package / "handler.py").write_bytes(code)
    done = RUN[birth](tmp_path, **env)
    assert done.returncode == 65, done.stderr
    lines = done.stderr.splitlines()
    (line,) = [line for line in lines if line.startswith(b'{"faas": "handler_not_loadable"')]
    assert len(line) < 65_536
    report = json.loads(line)
    assert report.pop("faas") == "handler_not_loadable"
    assert set(report) - {"advice", "available", "stderr"} == set(REPORT)
    return report


FORGER = """
import json, os, socket
forged = json.dumps({"faas": "x", "type": "T" * 999, "message": "", "line": {}, "traceback": [1]})
for fd in range(3, 64):
    try:
        socket.socket(fileno=os.dup(fd)).send(forged.encode() + WORDS)
    except OSError:
        pass
os.write(2, b'{"faas": "handler_not_loadable", "message": "raw"}' + bytes([10]))
os._exit(3)
"""


@pytest.mark.parametrize("words", [b"", b'\n{"faas": "listener_shut_down"}'])
def test_what_handler_code_says_in_place_of_its_runner_is_at_most_a_failure(
    tmp_path: Path, birth: str, words: bytes
) -> None:
    source = f"WORDS = {words!r}\n{FORGER}"
    report = load_failure(tmp_path, source, birth)
    assert report["line"] is None
    assert len(report["type"]) < 300
    assert "raw" not in report["message"]


def test_a_syntax_error_is_reported_with_its_line(tmp_path: Path, birth: str) -> None:
    report = load_failure(tmp_path, "def handle(payload):\n    return 1\n  oops\n", birth)
    assert report["type"] == "IndentationError"
    assert report["line"] == 3
    assert "handler.py" in report["traceback"]


def test_an_exception_at_import_is_reported_from_the_handlers_file_on(
    tmp_path: Path, birth: str
) -> None:
    source = "import json\n\ndef read():\n    json.loads('{')\n\nread()\n"
    report = load_failure(tmp_path, source, birth)
    assert report["type"] == "JSONDecodeError"
    assert report["line"] == 4
    assert "handler.py" in report["traceback"].splitlines()[1]
    assert "importlib" not in report["traceback"]


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError", "no_such_module"),
        ("import sys; sys.exit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("import os; os._exit(3)", "ProcessExit", "status 3"),
        ("import os; os.kill(os.getpid(), 9)", "ProcessExit", "SIGKILL"),
        ("def other(payload): pass", "AttributeError", "handle"),
        ("handle = 3", "TypeError", "not callable"),
        ("def handle(): pass", "TypeError", "one positional argument"),
        ("def handle(a, b, c): pass", "TypeError", "one positional argument"),
        ("def handle(*, payload): pass", "TypeError", "one positional argument"),
        ("raise ValueError('x' * 10_000_000)", "ValueError", "xxx"),
        ("raise ValueError('\\N{SNAKE}' * 1_000_000)", "ValueError", "\N{SNAKE}"),
        (b"# caf\xe9\n\xff\xfe\n", "SyntaxError", "utf-8"),
        (b"def handle(payload):\0 pass\n", None, "null bytes"),
    ],
)
def test_a_handler_that_cannot_be_loaded_ends_the_worker(
    tmp_path: Path, source: str | bytes, kind: str | None, words: str
) -> None:
    report = load_failure(tmp_path, source)
    assert kind is None or report["type"] == kind
    assert words in report["message"]


@pytest.mark.parametrize("name", ["__init__", "__class__", "__dir__", "__builtins__", "__name__"])
def test_what_every_module_has_is_no_handler_of_the_file(tmp_path: Path, name: str) -> None:
    source = "def handle(payload): pass"
    report = load_failure(tmp_path, source, HANDLER_FUNCTION=f"function.handler.{name}")
    assert report["type"] in {"AttributeError", "TypeError"}


@pytest.mark.parametrize("path", ["handle", "function..handle", "function/handler.handle", "a b.c"])
def test_a_handler_path_of_another_form_is_reported(tmp_path: Path, path: str) -> None:
    report = load_failure(tmp_path, "def handle(payload): pass", HANDLER_FUNCTION=path)
    assert report["type"] == "ValueError"
    assert "HANDLER_FUNCTION" in report["message"]


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    done = run_worker(tmp_path)
    assert done.returncode == 65
    assert json.loads(done.stderr)["type"] == "ModuleNotFoundError"


def test_settings_that_cannot_be_used_are_named_all_at_once(tmp_path: Path) -> None:
    done = run_worker(tmp_path, FAAS_TIMEOUT_MS="soon", FAAS_CONCURRENCY="0")
    assert done.returncode == 64
    assert b"FAAS_TIMEOUT_MS" in done.stderr
    assert b"FAAS_CONCURRENCY" in done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "class Handler:\n    def __call__(self, p): return p\nhandle = Handler()",
        "class Handler:\n    async def __call__(self, p): return p\nhandle = Handler()",
        "import functools\ndef f(a, p): return p\nhandle = functools.partial(f, 1)",
        "import functools\nasync def f(a, p): return p\nhandle = functools.partial(f, 1)",
        "class Handler:\n    @staticmethod\n    def handle(p): return p\nhandle = Handler.handle",
        "import functools\nasync def f(p): return p\n"
        "@functools.wraps(f)\ndef handle(*a): return f(*a)",
        "handle = lambda p, *rest, extra=None: p",
        "handle = str",
    ],
)
def test_any_callable_of_one_argument_will_do(start: Start, tmp_path: Path, source: str) -> None:
    (tmp_path / "shape.py").write_text(source)
    worker = start("shape.handle", FAAS_APP_DIR=str(tmp_path))
    assert worker.call("good").result == "good"


def test_a_later_runner_that_cannot_load_is_retried(start: Start, tmp_path: Path) -> None:
    source = "import os\ndef handle(p): return p if p == 'good' else os._exit(1)\n"
    code = tmp_path / "code.py"
    code.write_text(source)
    worker = start("code.handle", FAAS_APP_DIR=str(tmp_path))
    code.write_text("not Python")
    assert worker.is_cut_off("die")
    eventually(lambda: "load_failed" in worker.log(), "the failure is noticed")
    code.write_text(source)
    assert worker.call("good").result == "good"
    code.write_text("not Python")
    assert worker.is_cut_off("die")
    assert worker.process.wait(PATIENCE_SECONDS) == 65
    assert "handler_not_loadable" in worker.log()


def test_a_first_load_that_was_killed_is_tried_once_more(start: Start, tmp_path: Path) -> None:
    """The kernel may end any process of a machine that runs out of memory."""
    source = (
        "import os, signal\n"
        f"marks = {str(tmp_path)!r}\n"
        "try: os.mkdir(marks + '/loaded')\n"
        "except FileExistsError: pass\n"
        "else: os.kill(os.getpid(), signal.SIGKILL)\n"
        "def handle(payload): return payload\n"
    )
    (tmp_path / "code.py").write_text(source)
    worker = start("code.handle", FAAS_APP_DIR=str(tmp_path))
    assert worker.call("good").result == "good"
    assert worker.log().count("load_failed") == 1


ONCE = """import os, tempfile, time
tempfile.mkdtemp(prefix="loaded-", dir={marks!r})
def main(payload):
    if payload == "die":
        os._exit(3)
    time.sleep(float(payload))
    return "done"
async def main_async(payload):
    return main(payload)
"""


@pytest.fixture
def once(start: Start, tmp_path: Path) -> Callable[[str], Worker]:
    """A worker whose code is called once, as managers call it."""
    (tmp_path / "code.py").write_text(ONCE.format(marks=str(tmp_path)))
    env = {"FAAS_APP_DIR": str(tmp_path), "FAAS_TIMEOUT_MS": "3000"}
    return lambda name: start(
        f"code.{name}", FAAS_CALLED_ONCE="yes", FAAS_FUNCTION="a-function", **env
    )


@pytest.mark.parametrize("name", ["main", "main_async"])
@pytest.mark.parametrize("payload", ["die", "60"])
def test_code_that_is_called_once_is_never_loaded_again(
    once: Callable[[str], Worker], tmp_path: Path, name: str, payload: str
) -> None:
    worker = once(name)
    if payload == "die":
        assert worker.is_cut_off("die", X_Faas_Function="a-function")
        assert worker.last_exit()["reason"] == "exit"
    else:
        with suppress(ConnectionError):
            assert worker.call(payload, X_Faas_Function="a-function").status == 504

    def late() -> str:
        with suppress(ConnectionError):
            answer = worker.call("late", X_Faas_Function="a-function")
            return str(answer.json.get("error", {}).get("message"))
        return ""

    eventually(lambda: "not run again" in late(), "what comes after it answers")
    assert len(list(tmp_path.glob("loaded-*"))) == 1


@pytest.mark.parametrize("name", ["main", "main_async"])
def test_code_that_is_called_once_is_left_alone_while_it_blocks(
    once: Callable[[str], Worker], tmp_path: Path, name: str
) -> None:
    worker = once(name)
    assert worker.call("1.5", X_Faas_Function="a-function").result == "done"
    assert worker.health()["worker"]["runner"] == 1
    assert len(list(tmp_path.glob("loaded-*"))) == 1


def test_code_that_is_called_once_is_not_loaded_again_when_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "import os, tempfile\n"
        f"tempfile.mkdtemp(prefix='loaded-', dir={str(tmp_path)!r})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = run_worker(tmp_path, HANDLER_FUNCTION="code.handle", FAAS_CALLED_ONCE="yes")
    assert done.returncode == 65
    assert b"SIGKILL" in done.stderr
    assert len(list(tmp_path.glob("loaded-*"))) == 1


def test_it_listens_on_tcp_before_the_handler_is_loaded(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "def handle(p): return p\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"FAAS_HOST": "127.0.0.1", "FAAS_PORT": str(port), "FAAS_SOCKET": ""}
    worker = Worker(tmp_path, HANDLER_FUNCTION="slow.handle", FAAS_APP_DIR=str(tmp_path), **env)
    try:

        def connected() -> socket.socket | None:
            try:
                return socket.create_connection(("127.0.0.1", port), 5)
            except ConnectionRefusedError:
                return None

        with eventually(connected, "the socket is bound") as probe:
            probe.sendall(b"GET /health HTTP/1.1\r\nHost: worker\r\n\r\n")
            gate.touch()
            assert probe.recv(4096).startswith(b"HTTP/1.1 200 OK")
    finally:
        worker.close()


def test_a_stale_socket_file_is_replaced(tmp_path: Path, start: Start) -> None:
    (tmp_path / "1").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "1" / "worker.sock"))
    worker = Worker(tmp_path / "1", HANDLER_FUNCTION=SYNC)
    try:
        assert worker.wait_ready().call("good").result == "good"
    finally:
        worker.close()


@pytest.mark.parametrize("idle_seconds", [0, 0.5, 6])
def test_an_idle_worker_leaves_at_once(start: Start, idle_seconds: float) -> None:
    """Also when it has begun to look after itself, and when it has come to rest."""
    worker = start(SYNC)
    worker.call("good")
    time.sleep(idle_seconds)
    started = time.monotonic()
    assert worker.terminate() == 0
    assert time.monotonic() - started < 0.5
    assert not os.path.exists(worker.socket_path)


@pytest.mark.parametrize(("handler", "payload"), [(SYNC, "sleep:0.6"), (ASYNC, "async sleep:0.6")])
def test_calls_in_flight_finish_before_the_worker_leaves(
    start: Start, handler: str, payload: str
) -> None:
    worker = start(handler)
    call = worker.start_call(payload)
    assert worker.call("good").result == "good"
    assert worker.terminate() == 0
    assert call.result().result == payload
    assert call.result().headers["connection"] == "close"


@pytest.mark.parametrize(("handler", "payload"), [(SYNC, "sleep:0.7"), (ASYNC, "async sleep:0.7")])
def test_calls_that_wait_their_turn_finish_before_the_worker_leaves(
    start: Start, handler: str, payload: str
) -> None:
    worker = start(handler, FAAS_CONCURRENCY="1")
    connections = [worker.connect() for _ in range(3)]
    body = json.dumps({"payload": payload}).encode()
    for connection in connections:
        connection.request("POST", "/", body)
    assert worker.health()["status"] == "ok"
    worker.process.send_signal(signal.SIGTERM)
    responses = [connection.getresponse() for connection in connections]
    assert [json.loads(response.read()) for response in responses] == [{"result": payload}] * 3
    assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_a_runner_that_was_only_slow_finishes_its_calls_though_the_worker_is_to_leave(
    start: Start,
) -> None:
    worker = start(SYNC)
    (runner,) = eventually(
        lambda: len(found := worker.runner_pids()) == 1 and found, "the worker has settled"
    )
    connection = worker.connect()
    connection.request("GET", "/health")
    connection.getresponse().read()
    os.kill(runner, signal.SIGSTOP)
    eventually(lambda: "runner_silent" in worker.log(), "its silence is noticed")
    # What is to come is seen at once, in whatever order it came.
    worker.process.send_signal(signal.SIGSTOP)
    os.kill(runner, signal.SIGCONT)
    # Longer than a silent runner without calls may have.
    connection.request("POST", "/", b'{"payload": "sleep:1.5"}')
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGCONT)
    assert json.loads(connection.getresponse().read()) == {"result": "sleep:1.5"}
    assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_a_call_that_came_while_its_runner_could_not_run_is_answered_though_the_worker_is_to_leave(
    start: Start,
) -> None:
    for _ in range(10):
        worker = start(SYNC)
        (runner,) = eventually(
            lambda worker=worker: len(found := worker.runner_pids()) == 1 and found,
            "the worker has settled",
        )
        looks, waits = worker.connect(), worker.connect()
        health(looks), health(waits)
        worker.process.send_signal(signal.SIGTERM)
        with suppress(ConnectionError):
            while health(looks).headers["connection"] != "close":
                pass
        os.kill(runner, signal.SIGSTOP)
        eventually(lambda runner=runner: is_stopped(runner), "the runner has stopped")
        if hung_up(waits):
            continue  # It had waited long enough before it was stopped.
        waits.request("POST", "/", b'{"payload": "good"}')
        # Longer than a worker that leaves waits for what is on its way.
        time.sleep(0.2)
        os.kill(runner, signal.SIGCONT)
        assert json.loads(waits.getresponse().read()) == {"result": "good"}
        assert worker.process.wait(PATIENCE_SECONDS) == 0
        return
    pytest.fail("The machine is too busy to stop a runner within 50 ms.")


def health(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    connection.request("GET", "/health")
    response = connection.getresponse()
    response.read()
    return response


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def hung_up(connection: http.client.HTTPConnection) -> bool:
    connection.sock.setblocking(False)
    try:
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        connection.sock.settimeout(PATIENCE_SECONDS)


def test_calls_finish_though_the_worker_is_to_leave_as_soon_as_it_has_loaded_its_handler(
    tmp_path: Path,
) -> None:
    gate, begun, loading = (tmp_path / name for name in ("gate", "begun", "loading"))
    code = (
        "import os, time\n"
        f"open({str(loading)!r}, 'w').close()\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "def handle(payload):\n"
        f"    open({str(begun)!r}, 'w').close()\n"
        "    time.sleep(0.5)\n"
        "    return payload\n"
    )
    worker = Worker(tmp_path, generic=True, HANDLER_FUNCTION="function.handler.handle")
    try:
        assert worker.wait_generic().specialise(code.encode()).status == 202
        eventually(loading.exists, "its first runner has the function")
        worker.process.send_signal(signal.SIGSTOP)
        gate.touch()
        call = worker.start_call("good")
        eventually(begun.exists, "the call has begun")
        worker.process.send_signal(signal.SIGTERM)
        worker.process.send_signal(signal.SIGCONT)
        assert call.result(PATIENCE_SECONDS).result == "good"
        assert worker.process.wait(PATIENCE_SECONDS) == 0
    finally:
        worker.close()


def test_calls_that_no_runner_has_taken_are_told_that_the_worker_leaves(tmp_path: Path) -> None:
    began = tmp_path / "began"
    code = (
        "import os, time\n"
        f"if os.path.exists({str(began)!r}): time.sleep(60)\n"
        f"open({str(began)!r}, 'w').close()\n"
        "def handle(payload): os._exit(1)\n"
    )
    (tmp_path / "code.py").write_text(code)
    worker = Worker(tmp_path, HANDLER_FUNCTION="code.handle", FAAS_APP_DIR=str(tmp_path))
    try:
        assert worker.wait_ready().is_cut_off("die")
        connection = worker.connect()
        connection.request("POST", "/", b'{"payload": "good"}')
        worker.process.send_signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.status == 503
        assert json.loads(response.read())["error"]["code"] == "worker_draining"
        assert worker.process.wait(PATIENCE_SECONDS) == 0
    finally:
        worker.close()


def test_calls_that_no_runner_takes_do_not_wait_for_those_that_finish(
    start: Start, tmp_path: Path
) -> None:
    began, asleep = tmp_path / "began", tmp_path / "asleep"
    (tmp_path / "code.py").write_text(
        "import os, sys, time\n"
        f"if os.path.exists({str(began)!r}): time.sleep(60)\n"
        f"open({str(began)!r}, 'w').close()\n"
        "def handle(payload):\n"
        f"    if payload == 'sleep': open({str(asleep)!r}, 'w').close(); time.sleep(3)\n"
        "    else: sys.setrecursionlimit(sys.getrecursionlimit() - 1)\n"
        "    return payload\n"
    )
    worker = start("code.handle", FAAS_APP_DIR=str(tmp_path))
    slow = worker.start_call("sleep")
    eventually(asleep.exists, "the slow call has begun")
    # Its runner takes no more connections, and the next one is never there.
    assert worker.call("damage").result == "damage"
    connection = worker.connect()
    connection.request("POST", "/", b'{"payload": "good"}')
    worker.process.send_signal(signal.SIGTERM)
    response = connection.getresponse()
    assert (response.status, slow.done()) == (503, False)
    assert json.loads(response.read())["error"]["code"] == "worker_draining"
    assert slow.result(PATIENCE_SECONDS).result == "sleep"
    assert worker.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("handler", [SYNC, ASYNC])
def test_a_kept_connection_serves_those_who_hear_late_that_the_worker_leaves(
    start: Start, handler: str
) -> None:
    worker = start(handler)
    kept = worker.connect()
    health(kept)
    worker.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    kept.request("POST", "/", b'{"payload": "good"}')
    response = kept.getresponse()
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert json.loads(response.read()) == {"result": "good"}
    began = time.monotonic()
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < 0.5


def test_a_worker_does_not_wait_for_those_who_keep_a_connection_and_send_nothing(
    start: Start,
) -> None:
    worker = start(SYNC)
    kept = worker.connect()
    health(kept)
    began = time.monotonic()
    assert worker.terminate() == 0
    # Longer than a manager keeps an idle connection.
    assert 4.9 < time.monotonic() - began < 8
    assert hung_up(kept)


def test_a_request_that_comes_long_after_its_connection_is_refused_by_a_leaving_worker(
    start: Start,
) -> None:
    """A busy manager connects, and sends when the worker has stopped waiting for those who keep a
    connection."""
    worker = start(SYNC)
    kept = worker.connect()
    health(kept)
    silent = [worker.connect() for _ in range(3)]
    for connection in silent:
        connection.connect()
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: hung_up(kept), "the kept connection is closed")
    for connection in silent:
        connection.request("POST", "/", b'{"payload": "good"}')
        response = connection.getresponse()
        assert response.status == 503
        assert json.loads(response.read())["error"]["code"] == "worker_draining"
    began = time.monotonic()
    assert worker.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < 2


def test_a_request_on_a_kept_connection_is_refused_while_draining(start: Start) -> None:
    worker = start(SYNC)
    connection = worker.connect()
    connection.request("GET", "/health")
    connection.getresponse().read()
    busy = worker.start_call("sleep:0.5")
    assert worker.call("good").result == "good"
    worker.process.send_signal(signal.SIGTERM)
    try:
        connection.request("POST", "/", b'{"payload": "good"}')
        response = connection.getresponse()
        # The signal may not have arrived yet.
        assert response.status in (200, 503)
        response.read()
    except ConnectionError:
        pass  # The connection was idle when the drain began.
    assert busy.result().result == "sleep:0.5"
    assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_a_call_on_a_new_connection_is_refused_while_the_last_ones_finish(start: Start) -> None:
    worker = start(SYNC)
    busy = worker.start_call("sleep:7")
    assert worker.call("good").result == "good"
    worker.process.send_signal(signal.SIGTERM)
    answers = []

    def is_refused() -> bool:
        connection = worker.connect()
        connection.request("POST", "/", b'{"payload": "good"}')
        response = connection.getresponse()
        answers.append((response.status, json.loads(response.read())))
        return response.status == 503

    eventually(is_refused, "calls are refused")
    assert is_refused()
    assert {status for status, _ in answers} <= {200, 503}
    assert answers[-1][1]["error"]["code"] == "worker_draining"
    assert not busy.done(), "the refusal must come while a call is still running"
    assert busy.result().result == "sleep:7"
    assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_a_call_that_never_ends_holds_the_drain_no_longer_than_allowed(start: Start) -> None:
    worker = start(SYNC, FAAS_DRAIN_MS="300")
    call = worker.start_call("spin")
    worker.call("good")
    started = time.monotonic()
    assert worker.terminate() == 0
    assert time.monotonic() - started < 2
    with pytest.raises(ConnectionError):
        call.result()


def test_calls_finish_though_the_worker_is_told_twice_to_leave(start: Start) -> None:
    worker = start(SYNC)
    busy = worker.start_call("sleep:1")
    assert worker.call("good").result == "good"
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: worker.call("good").headers.get("connection") == "close", "it is leaving")
    worker.process.send_signal(signal.SIGTERM)
    assert busy.result().result == "sleep:1"
    assert worker.process.wait(PATIENCE_SECONDS) == 0


def test_an_interrupt_ends_a_worker_that_is_leaving_now(start: Start) -> None:
    worker = start(SYNC)
    worker.start_call("sleep:5")
    worker.call("good")
    worker.process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    eventually(
        lambda: worker.process.poll() is not None or worker.process.send_signal(signal.SIGINT),
        "it ends",
    )
    assert time.monotonic() - started < 1
    assert worker.process.returncode == 128 + signal.SIGINT


def test_runners_die_with_their_supervisor(start: Start) -> None:
    worker = start(SYNC)
    pid = worker.call("pid").result
    worker.process.kill()
    worker.process.wait()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the runner is gone")


def test_a_signal_from_handler_code_does_not_stop_the_worker(start: Start) -> None:
    worker = start(SYNC)
    assert worker.call("terminate parent").result is None
    assert worker.call("good").result == "good"
    assert worker.process.poll() is None
