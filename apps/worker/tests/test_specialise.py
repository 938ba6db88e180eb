"""A worker that was started without a function and is given one, once."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from support import PATIENCE_SECONDS, TOKEN, Answer, Worker, eventually, running

HANDLER = "function.handler.handle"
ECHO = b"def handle(payload):\n    return payload\n"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    yield from _generic(tmp_path)


def _generic(tmp_path: Path, **env: str) -> Iterator[Worker]:
    worker = Worker(tmp_path, generic=True, HANDLER_FUNCTION=HANDLER, **env)
    try:
        yield worker.wait_generic()
    finally:
        worker.close()


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Worker]:
    yield from _generic(tmp_path, FAAS_GENERIC_LEASE_MS="400")


def given(worker: Worker, source: str | bytes, **environment: str) -> Worker:
    code = source if isinstance(source, bytes) else source.encode()
    answer = worker.specialise(code, **environment)
    assert (answer.status, answer.json) == (202, {"status": "specialised"})
    return worker


def has_ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def exit_status(worker: Worker) -> int:
    return worker.process.wait(PATIENCE_SECONDS)


# Before


def test_a_generic_worker_says_that_it_serves_nothing(worker: Worker) -> None:
    answer = worker.request("GET", "/health")
    assert answer.status == 503
    assert answer.json["status"] == "generic"
    assert answer.json["worker"] == {"protocol": 1}
    call = worker.call("good", X_Faas_Function="any")
    assert (call.status, call.error["code"]) == (421, "worker_misdirected")
    assert worker.request("GET", "/specialise").status == 404


def test_a_generic_worker_answers_a_look_at_its_health_without_a_body(worker: Worker) -> None:
    answer = worker.request("HEAD", "/health")
    assert (answer.status, answer.body) == (503, b"")


def test_a_generic_worker_ends_when_nobody_renews_its_lease(leased: Worker) -> None:
    eventually(lambda: not _is_up(leased), "asking alone doesn't keep it")
    assert exit_status(leased) == 0
    assert not os.path.exists(leased.socket_path)


def test_a_lease_that_is_renewed_keeps_a_generic_worker(leased: Worker) -> None:
    end = time.monotonic() + 1.2

    def renewed() -> bool:
        assert leased.request("GET", "/health", X_Faas_Lease="renew").status == 503
        return time.monotonic() > end

    eventually(renewed, "three leases have passed")


def _is_up(worker: Worker) -> bool:
    with suppress(OSError):
        return worker.request("GET", "/health").status == 503
    return False


def test_a_worker_with_a_function_has_no_lease(leased: Worker) -> None:
    given(leased, "import time\ndef handle(payload):\n    time.sleep(1)\n    return payload\n")
    assert leased.call("still here").result == "still here"


def test_a_stop_ends_a_generic_worker_at_once(worker: Worker) -> None:
    assert worker.terminate() == 0
    assert not os.path.exists(worker.socket_path)


def test_what_it_has_ready_ends_with_a_killed_supervisor(worker: Worker) -> None:
    standby, specialiser = worker.runner_pids()
    worker.process.kill()
    worker.process.wait()
    for pid in (standby, specialiser):
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), "nothing is left")


def test_a_worker_whose_specialiser_is_killed_ends_with_its_standby(worker: Worker) -> None:
    standby, specialiser = worker.runner_pids()
    os.kill(specialiser, signal.SIGKILL)
    assert exit_status(worker) == 70
    eventually(lambda: not os.path.exists(f"/proc/{standby}"), "nothing is left")


def test_the_runner_that_stands_by_is_the_first_to_serve(worker: Worker) -> None:
    standby, _ = worker.runner_pids()
    given(worker, b"import os\ndef handle(payload):\n    return os.getpid()\n")
    assert worker.call("").result == standby


def test_a_runner_that_has_ended_while_it_stood_by_is_replaced(worker: Worker) -> None:
    standby, _ = worker.runner_pids()
    os.kill(standby, signal.SIGKILL)
    eventually(lambda: has_ended(standby), "it has ended")
    given(worker, ECHO)
    assert worker.call("good").result == "good"
    eventually(lambda: standby not in worker.runner_pids(), "it has been reaped")


# Once, and by whoever knows the token


def test_it_takes_one_function_and_then_is_like_any_other(worker: Worker) -> None:
    given(worker, ECHO, FAAS_FUNCTION="mine")
    answer = worker.call("good", X_Faas_Function="mine")
    assert answer.result == "good"
    assert answer.runner == 1
    assert worker.health()["worker"] == {"protocol": 1, "runner": 1, "last_exit": None}
    assert worker.call("good", X_Faas_Function="another").status == 421


def test_a_second_function_is_refused_as_any_unknown_path_is(worker: Worker) -> None:
    given(worker, ECHO)
    again = worker.specialise(b"def handle(payload):\n    return 'another'\n")
    unknown = worker.request("POST", "/unknown", b"{}")
    assert (again.status, again.body) == (unknown.status, unknown.body) == (404, unknown.body)
    assert worker.call("good").result == "good"


def test_of_many_at_once_one_is_taken(worker: Worker) -> None:
    together = threading.Barrier(12)

    def attempt(number: int) -> int | None:
        together.wait()
        with suppress(OSError):
            answer = worker.specialise(f"def handle(payload):\n    return {number}\n".encode())
            return answer.status
        return None

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(attempt, range(12)))
    assert statuses.count(202) == 1
    assert {status for status in statuses if status != 202} <= {404, 409, None}
    for _ in range(3):
        assert worker.call("").result == statuses.index(202)


def test_a_wrong_token_is_refused(worker: Worker) -> None:
    for token in ["wrong", ""]:
        answer = worker.specialise(ECHO, token=token)
        assert (answer.status, answer.json) == (403, {"detail": "The token is wrong."})
    given(worker, ECHO)
    assert worker.call("good").result == "good"


@pytest.mark.parametrize("header", [None, TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_a_token_of_another_form_is_wrong(worker: Worker, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = worker.request("POST", "/specialise", b"{}", **headers)
    assert answer.status == 403
    given(worker, ECHO)


def test_wrong_tokens_are_refused_slowly_and_never_end_the_worker(worker: Worker) -> None:
    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(lambda _: worker.specialise(ECHO, token="wrong"), range(8)))
    assert {answer.status for answer in refused} == {403}
    assert min(answer.seconds for answer in refused) > 0.4
    given(worker, ECHO)
    assert worker.call("good").result == "good"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON object"),
        (b"{", "JSON object"),
        (b"[" * 100_000, "JSON object"),
        (b"[]", "JSON object"),
        (b'{"environment": []}', "environment"),
        (b'{"environment": {"A": 1}}', "environment"),
        (b'{"environment": {"A=B": "c"}}', "environment"),
        (b'{"environment": {"A": "\\u0000"}}', "environment"),
        (b'{"environment": {"A": "\\ud800"}}', "environment"),
        (b'{"environment": {"FAAS_SPECIALISE_SHA256": ""}}', "environment"),
        (b'{"environment": {"FAAS_TIMEOUT_MS": "soon"}}', "FAAS_TIMEOUT_MS"),
        (b'{"code": "not base64"}', "base64"),
        (b'{"code": 1}', "base64"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_and_ends_the_worker(
    worker: Worker, body: bytes, words: str
) -> None:
    answer = worker.specialise_with(body)
    assert answer.status == 422
    assert words in answer.json["detail"]
    assert exit_status(worker) == 64
    assert words in worker.log()


def test_a_request_that_is_cut_off_ends_the_worker(worker: Worker) -> None:
    connection = worker.connect()
    connection.putrequest("POST", "/specialise")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b'{"environment": {')
    other = eventually(lambda: _refused(worker), "the token counts as used")
    assert other.status == 409
    connection.close()
    assert exit_status(worker) == 75


def _refused(worker: Worker) -> Answer | None:
    # With a body that would end the worker if it were taken first.
    answer = worker.request("POST", "/specialise", b"", Authorization=f"Bearer {TOKEN}")
    return answer if answer.status == 409 else None


# What the function gets


ENVIRONMENT = "import os\ndef handle(payload):\n    return sorted(os.environ.items())\n"


def test_its_environment_is_that_of_a_worker_started_with_the_function(tmp_path: Path) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "handler.py").write_text(ENVIRONMENT)
    seen = []
    for generic in (False, True):
        with running(
            _folder(tmp_path, str(generic)),
            generic=generic,
            HANDLER_FUNCTION=HANDLER,
            FAAS_APP_DIR=str(tmp_path),
            MINE="x",
        ) as worker:
            environment = dict(worker.call("").result)
        assert environment.pop("FAAS_SOCKET") == worker.socket_path
        seen.append(environment)
    assert seen[0] == seen[1]
    assert seen[1]["MINE"] == "x"


def test_programs_it_starts_have_its_environment_and_its_time_zone(worker: Worker) -> None:
    source = (
        "import subprocess, time\ndef handle(payload):\n"
        "    return [subprocess.check_output(['sh', '-c', 'echo $MINE'], text=True), time.tzname]\n"
    )
    given(worker, source, MINE="x", TZ="XYZ-3")
    assert worker.call("").result == ["x\n", ["XYZ", "XYZ"]]


def test_an_error_names_the_file_and_shows_its_lines(worker: Worker) -> None:
    given(worker, "def handle(payload):\n    raise ValueError(payload)  # here\n")
    answer = worker.call("no")
    assert answer.status == 400
    lines = answer.error["traceback"].splitlines()
    assert lines[1].endswith('function/handler.py", line 2, in handle')
    assert lines[2].strip() == "raise ValueError(payload)  # here"


def test_code_that_cannot_be_loaded_is_reported_as_ever(worker: Worker) -> None:
    given(worker, "def handle(payload):\n    return 1\n\nraise LookupError('no region')\n")
    assert exit_status(worker) == 65
    report = json.loads(worker.log().splitlines()[-1])
    assert report["faas"] == "handler_not_loadable"
    assert (report["type"], report["message"], report["line"]) == ("LookupError", "no region", 4)
    assert "function/handler.py" in report["traceback"]
    assert "raise LookupError" in report["traceback"]


# Whoever stands beside the runner, and was started with it.
SIBLINGS = b"""import os, signal
def siblings():
    parent = os.getppid()
    pids = open(f"/proc/{parent}/task/{parent}/children").read().split()
    return {int(pid) for pid in pids} - {os.getpid()}
"""


def test_code_that_ends_all_it_can_reach_is_reported_as_what_cannot_be_loaded(
    tmp_path: Path,
) -> None:
    source = SIBLINGS + b"for pid in siblings(): os.kill(pid, signal.SIGKILL)\n"
    for _ in range(10):
        for worker in _generic(tmp_path):
            with suppress(ConnectionError, http.client.IncompleteRead):
                worker.specialise(source)
            assert exit_status(worker) == 65
            assert json.loads(worker.log().splitlines()[-1])["faas"] == "handler_not_loadable"


def test_code_that_stops_all_it_can_reach_has_a_supervisor_all_the_same(tmp_path: Path) -> None:
    stop = b"for pid in siblings(): os.kill(pid, signal.SIGSTOP)\n"
    handler = b"def handle(payload):\n    os._exit(3) if payload == 'exit' else None\n"
    # Some of them are fast enough to meet the one that is about to leave.
    for _ in range(10):
        for worker in _generic(tmp_path):
            with suppress(ConnectionError, http.client.IncompleteRead):
                worker.specialise(SIBLINGS + stop + handler)
            with suppress(ConnectionError):
                worker.call("exit")
            eventually(partial(_serves, worker), "the next runner serves")
            assert worker.terminate() == 0


def test_signals_do_not_put_off_the_end_of_what_the_function_has_stopped(worker: Worker) -> None:
    source = (
        b"import threading, time\n"
        b"parent = os.getppid()\n"
        b"for pid in siblings(): os.kill(pid, signal.SIGSTOP)\n"
        b"def disturb():\n"
        b"    for _ in range(60):\n"
        b"        os.kill(parent, signal.SIGCHLD)\n"
        b"        time.sleep(0.2)\n"
        b"threading.Thread(target=disturb, daemon=True).start()\n"
        b"def handle(payload): return payload\n"
    )
    _, specialiser = worker.runner_pids()
    # Its answer takes a while, and the specialiser waits for it for a moment.
    refused = worker.connect()
    refused.request("POST", "/specialise", b"", {"Authorization": "Bearer wrong"})
    began = time.monotonic()
    with suppress(OSError, http.client.HTTPException):
        worker.specialise(SIBLINGS + source)
    eventually(lambda: specialiser not in worker.runner_pids(), "it has been ended")
    assert time.monotonic() - began < 8


_MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Of processes that have 64 MiB."""
    group = _MEMORY_GROUPS / f"faas-test-{os.getpid()}"
    group.mkdir()
    for limit in "memory.limit_in_bytes", "memory.memsw.limit_in_bytes":
        if (group / limit).exists():
            (group / limit).write_text(str(64 * 2**20))
    yield group

    def removed() -> bool:
        with suppress(OSError):
            group.rmdir()
        return not group.exists()

    eventually(removed, "all of its processes have ended")


@pytest.mark.skipif(
    not os.access(_MEMORY_GROUPS / "cgroup.procs", os.W_OK),
    reason="needs a cgroup (version 1) of its own",
)
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (b"kept = [bytearray(2**20) for _ in range(2**10)]", "out_of_memory"),
        (b"os.kill(os.getpid(), signal.SIGKILL)", "signal"),
    ],
)
def test_how_a_runner_ended_before_there_is_a_supervisor_is_told(
    memory_group: Path, tmp_path: Path, end: bytes, reason: str
) -> None:
    # While the specialiser stands still there is no supervisor: the worker waits for its end.
    stop = b"def handle(payload):\n    for pid in siblings(): os.kill(pid, signal.SIGSTOP)\n    "
    for worker in _generic(tmp_path):
        for pid in worker.process.pid, *worker.runner_pids():
            (memory_group / "cgroup.procs").write_text(str(pid))
        given(worker, SIBLINGS + stop + end + b"\n")
        assert worker.is_cut_off("now")
        assert worker.last_exit()["reason"] == reason


def test_what_it_prints_does_not_wait_for_the_end_of_what_has_read_it(worker: Worker) -> None:
    source = (
        b"for pid in siblings(): os.kill(pid, signal.SIGSTOP)\n"
        b"print('the key is', os.environ['KEY'], flush=True)\n"
        b"def handle(payload): return payload\n"
    )
    _, specialiser = worker.runner_pids()
    with ThreadPoolExecutor(1) as pool:
        given = pool.submit(
            worker.specialise, SIBLINGS + source, FAAS_SECRETS="KEY", KEY="not-for-the-log"
        )
        eventually(lambda: "the key is ***\n" in worker.log(), "its line is there")
        assert specialiser in worker.runner_pids()
        with suppress(OSError, http.client.HTTPException):
            given.result()
    assert "not-for-the-log" not in worker.log()


def _serves(worker: Worker) -> bool:
    with suppress(OSError):
        return worker.call("good", timeout=1).status == 200
    return False


def test_a_worker_whose_packages_were_removed_leaves_in_place_of_using_its_own(
    worker: Worker, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "idna.py").write_text("NAME = 'the layer'\n")
    source = (
        b"import os, idna\n"
        b"def handle(payload):\n"
        b"    return os._exit(3) if payload == 'exit' else idna.NAME\n"
    )
    given(worker, source, FAAS_LAYER=str(layer))
    assert worker.call("good").result == "the layer"
    shutil.rmtree(layer)
    with suppress(ConnectionError, http.client.HTTPException):
        worker.call("exit")
    assert exit_status(worker) == 76
    last = json.loads(worker.log().splitlines()[-1])
    assert last == {
        "faas": "worker_failed",
        "message": "The packages of the function are gone from its machine.",
    }


def test_code_arrives_byte_for_byte_and_may_be_large(worker: Worker) -> None:
    head = b"# coding: latin-1\nTEXT = '\xe9'\ndef handle(payload):\n    return TEXT\n"
    hashing = b"import hashlib\nSUM = hashlib.sha256(open(__file__, 'rb').read()).hexdigest()\n"
    code = head.replace(b"return TEXT", b"return [TEXT, SUM]") + hashing + b"#" + b"x" * 10 * 2**20
    given(worker, code)
    assert worker.call("").result == ["é", hashlib.sha256(code).hexdigest()]


INSPECTING = """import inspect, sys

def handle(payload):
    with open(__file__) as file:
        lines = len(file.read().splitlines())
    return [__name__, lines, inspect.getsource(handle).splitlines()[0], __spec__.origin == __file__]
"""


def test_code_can_look_at_itself(worker: Worker) -> None:
    given(worker, INSPECTING)
    seen = ["function.handler", 6, "def handle(payload):", True]
    assert worker.call("").result == seen


SPAWNING = """import multiprocessing

def square(number):
    return number * number

def handle(payload):
    with multiprocessing.get_context(payload).Pool(2) as pool:
        return pool.map(square, range(4))
"""


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_code_can_be_loaded_by_its_own_processes(worker: Worker, context: str) -> None:
    given(worker, SPAWNING)
    assert worker.call(context).result == [0, 1, 4, 9]


def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "app" / "function" / "handler.py"
    place.parent.mkdir(parents=True)
    place.write_text("THERE BEFORE")
    for worker in _generic(tmp_path):
        given(worker, ECHO)
        assert worker.call("good").result == "good"
    assert place.read_text() == "THERE BEFORE"


# Against its own handler

TAMPERING = """import os, shutil

def handle(payload):
    if payload == "tamper":
        os.chmod(__file__, 0o644)
        with open(__file__, "w") as file:
            file.write("def handle(payload):\\n    return 'tampered'\\n")
        os.makedirs(os.path.join(os.path.dirname(__file__), "__pycache__"), exist_ok=True)
        import py_compile
        py_compile.compile(__file__)
        os._exit(1)
    if payload == "remove":
        shutil.rmtree(os.path.dirname(__file__))
        os._exit(1)
    return payload
"""


@pytest.mark.parametrize("how", ["tamper", "remove"])
def test_a_handler_cannot_change_the_code_of_the_next_runner(worker: Worker, how: str) -> None:
    given(worker, TAMPERING)
    assert worker.is_cut_off(how)
    answer = worker.call("good")
    assert (answer.result, answer.runner) == ("good", 2)


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user of its own")
def test_the_copy_of_the_code_is_laid_out_anew_though_it_lies_in_no_package(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    uid = 62_000 + os.getpid() % 1000
    source = TAMPERING.replace("return payload", "return open(__file__).read()")
    worker = Worker(
        tmp_path, uid=uid, generic=True, HANDLER_FUNCTION="alone.handle", FAAS_SCRATCH="/none"
    )
    try:
        given(worker.wait_generic(), source)
        assert worker.is_cut_off("tamper")
        assert worker.call("look").result == source
    finally:
        worker.close()


def memory_of(pid: int) -> Iterator[bytes]:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, permissions, *_ = line.split()
            if not permissions.startswith("r") or "[v" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            with suppress(OSError):
                yield memory.read(end - start)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to read another process's memory")
def test_the_token_is_nowhere_that_a_handler_could_look(worker: Worker) -> None:
    given(worker, ECHO, MINE="a-variable-of-its-own")
    assert worker.call("good").result == "good"
    (runner,) = eventually(
        lambda: len(found := worker.runner_pids()) == 1 and found, "the specialiser is gone"
    )
    needles: dict[bytes, bool] = {TOKEN.encode(): False, b"a-variable-of-its-own": True}
    for pid in (runner, worker.supervisor_pid()):
        for needle, expected in needles.items():
            found = any(needle in part for part in memory_of(pid))
            assert found == expected, (pid, needle)
        for name in ("environ", "cmdline"):
            assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert TOKEN not in worker.log()


DESCRIPTORS = """import os

def handle(payload):
    kinds = (os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if open_(fd))
    return sorted(kind.partition(":")[0] for kind in kinds)

def open_(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")
"""


def test_its_runner_has_the_descriptors_of_one_started_with_the_function(tmp_path: Path) -> None:
    (tmp_path / "descriptors.py").write_text(DESCRIPTORS)
    seen = []
    for generic in (False, True):
        with running(
            _folder(tmp_path, str(generic)),
            generic=generic,
            HANDLER_FUNCTION="descriptors.handle",
            FAAS_APP_DIR=str(tmp_path),
        ) as worker:
            seen.append([os.path.basename(kind) for kind in worker.call("").result])
    assert seen[0] == seen[1]


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
