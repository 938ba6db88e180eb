"""A handler is ordinary Python: what works in a plain process works here, with the same values."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support import PATIENCE_SECONDS, Worker, eventually

Start = Callable[..., Worker]
Serve = Callable[..., Worker]


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Serve:
    """Starts a worker with a file's text."""

    def serve(source: str, handler: str = "handle", **env: str) -> Worker:
        (tmp_path / "written.py").write_text(source)
        return start(f"written.{handler}", FAAS_APP_DIR=str(tmp_path), **env)

    return serve


# Context variables


SET_AT_IMPORT = """
import contextvars, decimal, threading
decimal.getcontext().prec = 40
region = contextvars.ContextVar("region", default="none")
region.set("north")
local = threading.local()
local.connection = "open"
def handle(payload):
    third = str(decimal.Decimal(2) / 3)
    return [len(third), region.get(), getattr(local, "connection", None)]
async def handle_async(payload):
    return handle(payload)
"""


@pytest.mark.parametrize("handler", ["handle", "handle_async"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_a_file_sets_when_it_is_loaded_holds_in_every_call(
    serve: Serve, handler: str, loop: str
) -> None:
    worker = serve(SET_AT_IMPORT, handler, FAAS_EVENT_LOOP=loop)
    calls = [worker.start_call("") for _ in range(8)]
    assert {tuple(call.result().result[:2]) for call in calls} == {(42, "north")}


def test_one_call_at_a_time_has_what_is_local_to_the_thread_that_loaded_the_file(
    serve: Serve,
) -> None:
    worker = serve(SET_AT_IMPORT, FAAS_CONCURRENCY="1")
    assert [worker.call("").result for _ in range(3)] == [[42, "north", "open"]] * 3


KEEPS_CALLER = """
import contextvars
caller = contextvars.ContextVar("caller", default="nobody")
def handle(payload):
    if payload:
        caller.set(payload)
    return caller.get()
async def handle_async(payload):
    return handle(payload)
def handle_later(payload):
    handle(payload)
    return handle_async("")
"""


@pytest.mark.parametrize("handler", ["handle", "handle_async", "handle_later"])
@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_what_a_call_sets_is_its_own(serve: Serve, handler: str, concurrency: str) -> None:
    worker = serve(KEEPS_CALLER, handler, FAAS_CONCURRENCY=concurrency)
    connection = worker.connect()
    for payload in ("alice", "", "bob", ""):
        assert worker.call(payload).result == (payload or "nobody")
        connection.request("POST", "/", b'{"payload": "%b"}' % payload.encode())
        response = connection.getresponse()
        assert response.read() == b'{"result":"%b"}' % (payload or "nobody").encode()
    connection.close()


# The main thread


MAIN_THREAD = """
import asyncio, signal, sqlite3, threading
database = sqlite3.connect(":memory:")
database.execute("create table seen (name text)")
loop = asyncio.get_event_loop_policy().get_event_loop()
class TooLong(Exception): pass
def raise_too_long(*_): raise TooLong
signal.signal(signal.SIGALRM, raise_too_long)
def handle(payload):
    if payload == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            threading.Event().wait(5)
        except TooLong:
            return "interrupted"
    if payload == "loop":
        return loop.run_until_complete(asyncio.sleep(0.01, "slept"))
    if payload == "run":
        return asyncio.run(asyncio.sleep(0.01, "ran"))
    if payload == "raise":
        raise ValueError("no")
    database.execute("insert into seen values (?)", (payload,))
    count = database.execute("select count(*) from seen").fetchone()[0]
    return [count, threading.current_thread() is threading.main_thread()]
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_one_call_at_a_time_runs_in_the_main_thread(serve: Serve, loop: str) -> None:
    worker = serve(MAIN_THREAD, FAAS_CONCURRENCY="1", FAAS_EVENT_LOOP=loop)
    assert worker.call("a").result == [1, True]
    assert worker.call("alarm").result == "interrupted"
    assert worker.call("loop").result == "slept"
    assert worker.call("raise").error["type"] == "ValueError"
    assert worker.call("loop").result == "slept"
    assert worker.call("run").result == "ran"
    assert worker.call("b").result == [2, True]
    assert worker.health()["worker"]["runner"] == 1


def test_a_call_in_the_main_thread_that_never_ends_costs_only_itself(serve: Serve) -> None:
    source = "def handle(payload):\n    while payload == 'spin': pass\n    return payload\n"
    worker = serve(source, FAAS_CONCURRENCY="1")
    assert worker.call("spin", X_Faas_Timeout_Ms="300").status == 504
    answer = worker.call("good")
    assert (answer.result, answer.runner) == ("good", 2)
    assert answer.seconds < 1


EVENT_LOOP = """
import asyncio
async def handle(payload):
    return type(asyncio.get_running_loop()).__module__
"""


def test_the_event_loop_can_be_the_standard_librarys(serve: Serve) -> None:
    assert serve(EVENT_LOOP).call("").result == "uvloop"
    worker = serve(EVENT_LOOP, FAAS_EVENT_LOOP="asyncio")
    assert worker.call("").result.startswith("asyncio.")


RETURNS_COROUTINE = """
import asyncio, contextvars, threading
caller = contextvars.ContextVar("caller", default="nobody")
loop = asyncio.get_event_loop_policy().get_event_loop()
async def work():
    await asyncio.sleep(0)
    in_main_thread = threading.current_thread() is threading.main_thread()
    return [caller.get(), in_main_thread, asyncio.get_running_loop() is loop]
def handle(payload):
    caller.set(payload)
    if payload == "run":
        return asyncio.run(asyncio.sleep(0, "ran"))
    if payload == "close":
        loop.close()
    if payload == "wait":
        return asyncio.sleep(60)
    return work()
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_it_returns_to_be_awaited_is_awaited_in_the_main_thread(
    serve: Serve, loop: str
) -> None:
    worker = serve(RETURNS_COROUTINE, FAAS_CONCURRENCY="1", FAAS_EVENT_LOOP=loop)
    for caller in ("alice", "bob"):
        assert worker.call(caller).result == [caller, True, True]
        assert worker.call("run").result == "ran"
    assert worker.call("wait", X_Faas_Timeout_Ms="200").status == 504
    assert worker.call("run").runner == 1
    for caller in ("close", "carol"):
        assert worker.call(caller).result == [caller, True, False]


# Streams


def lines_of(worker: Worker, payload: str, last: str) -> list[str]:
    worker.call(payload, X_Request_Id="it")
    eventually(lambda: last in worker.log(), f"{last} is in the log")
    return worker.log().splitlines()


RECONFIGURES = """
import io, sys
sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding="utf-8")
def handle(payload):
    print("größe", payload)
    print("warned", file=sys.stderr)
    print("last")
    return [sys.stdout.encoding, isinstance(sys.stdout, io.TextIOWrapper)]
"""


def test_streams_can_be_set_up_anew_when_the_file_is_loaded(serve: Serve) -> None:
    worker = serve(RECONFIGURES)
    for _ in range(2):
        assert worker.call("x").result == ["utf-8", True]
    lines = lines_of(worker, "9", "[it] last")
    assert {"[it] größe 9", "[it] warned", "[it] last"} <= {*lines}
    assert worker.health()["worker"]["runner"] == 1


BUFFERS = """
import sys
def handle(payload):
    sys.stdout.reconfigure(write_through=False)
    print("kept back", payload, end="")
    return "done"
"""


def test_what_a_stream_keeps_back_is_the_line_of_the_call_that_has_printed_it(serve: Serve) -> None:
    worker = serve(BUFFERS)
    for payload in "1", "2":
        assert f"[it] kept back {payload}" in lines_of(worker, payload, f"back {payload}")


WRAPS = """
import contextlib, io, sys, time
def handle(payload):
    if payload == "who":
        print("seen")
        return isinstance(sys.stdout, io.StringIO)
    if payload == "wrap":
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        print("not written yet", end="")
        return "done"
    if payload == "detach":
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")
        print("detached")
        return "done"
    if payload == "close":
        sys.stdout.close()
        return "done"
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        print("captured", payload)
        time.sleep(float(payload))
    return captured.getvalue()
"""


def test_what_calls_put_in_place_of_a_stream_goes_with_the_last_of_them(serve: Serve) -> None:
    worker = serve(WRAPS)
    first = worker.start_call("0.3")
    time.sleep(0.15)
    second = worker.start_call("0.6")
    assert first.result().status == second.result().status == 200
    assert worker.call("who", X_Request_Id="after").result is False
    eventually(lambda: "[after] seen" in worker.log(), "the line is in the log")


@pytest.mark.parametrize("how", ["wrap", "detach", "close"])
@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_a_stream_that_a_call_has_replaced_or_closed_is_there_for_the_next_one(
    serve: Serve, how: str, concurrency: str
) -> None:
    worker = serve(WRAPS, FAAS_CONCURRENCY=concurrency)
    for turn in range(3):
        assert worker.call(how).result == "done"
        assert worker.call("who", X_Request_Id=f"after-{turn}").result is False
        eventually(
            lambda turn=turn: f"[after-{turn}] seen" in worker.log(), "the line is in the log"
        )


LONG_LINES = """
import sys, threading
def handle(payload):
    def say(letter):
        for _ in range(5):
            print(letter * 30_000)
    threads = [threading.Thread(target=say, args=(letter,)) for letter in "ab"]
    for letter in "cd":
        say(letter)
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print("last")
"""


def test_long_lines_stay_whole(serve: Serve) -> None:
    worker = serve(LONG_LINES)
    lines = lines_of(worker, "", "[it] last")
    for letter in "cd":
        assert lines.count(f"[it] {letter * 30_000}") == 5


ELSEWHERE = """
import asyncio, threading
async def handle(payload):
    await asyncio.to_thread(print, "in a thread of asyncio")
    thread = threading.Thread(target=print, args=("in a thread of its own",))
    thread.start()
    thread.join()
    await asyncio.create_task(asyncio.to_thread(print, "last"))
"""


def test_lines_carry_the_id_of_their_call_where_python_hands_its_context_on(serve: Serve) -> None:
    lines = lines_of(serve(ELSEWHERE), "", "[it] last")
    assert "[it] in a thread of asyncio" in lines
    assert "in a thread of its own" in lines


# Processes and threads


FORKS = """
import logging, multiprocessing, random, sqlite3, threading
logging.basicConfig(level="INFO")
def child(number):
    print("child", number, random.random())
    logging.info("child %d", number)
    sqlite3.connect(":memory:").execute("select 1")
def handle(payload):
    context = multiprocessing.get_context("fork")
    for number in range(int(payload)):
        for line in range(20):
            print("part", number, line, "x" * 100)
            logging.info("part")
        process = context.Process(target=child, args=(number,))
        process.start()
        process.join()
        assert process.exitcode in (0, None)
    return "done"
"""


def test_forks_that_print_end_while_other_threads_print(serve: Serve) -> None:
    worker = serve(FORKS)
    calls = [worker.start_call("10", timeout=PATIENCE_SECONDS) for _ in range(4)]
    assert [call.result().result for call in calls] == ["done"] * 4
    eventually(lambda: worker.log().count("child 9") >= 8, "children's lines are in the log")


MANY_THREADS = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
def handle(payload):
    count = int(payload)
    started = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(lambda _: started.wait(10) >= 0, range(count)))
"""


def test_threads_count_for_what_they_use_and_not_for_their_stacks(serve: Serve) -> None:
    worker = serve(MANY_THREADS, FAAS_LIMIT_MEMORY_BYTES=str(256 * 2**20))
    for _ in range(3):
        assert worker.call("300").result == 300
    assert worker.call("10").runner == 1


SLEEPERS = """
import threading, time
def handle(payload):
    for _ in range(int(payload)):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return "left"
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a pid namespace of its own")
def test_threads_that_sleep_on_cost_no_call_after_theirs(serve: Serve) -> None:
    worker = serve(SLEEPERS, namespace=True, FAAS_MOST_TASKS="256")
    for _ in range(3):
        with suppress(OSError):
            assert worker.call("300").result == "left"
        calls = [worker.start_call("0") for _ in range(4)]
        assert [call.result().result for call in calls] == ["left"] * 4


HOGS = """
import socket, time
KEPT = []
def handle(payload):
    if payload == "hog":
        try:
            while True:
                KEPT.append(socket.socket())
        except OSError as error:
            return error.strerror
    time.sleep(0.1)
    return payload
"""


def test_calls_after_one_that_kept_all_descriptors_are_answered_at_once(serve: Serve) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        worker = serve(HOGS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for _ in range(3):
        assert worker.call("hog").result == "Too many open files"
        calls = [worker.start_call("good") for _ in range(4)]
        answers = [call.result() for call in calls]
        assert [answer.result for answer in answers] == ["good"] * 4
        assert max(answer.seconds for answer in answers) < 1


# The rest


def test_a_script_finds_no_arguments_that_are_not_its_own(serve: Serve) -> None:
    source = (
        "import argparse, sys\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--level', default='info')\n"
        "level = parser.parse_args().level\n"
        "def handle(payload): return [level, len(sys.argv)]\n"
    )
    assert serve(source).call("").result == ["info", 1]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_handler_may_import_what_the_worker_has_only_parts_of(serve: Serve, loop: str) -> None:
    source = (
        "import configparser, logging, click, uvicorn\n"
        "configparser.ConfigParser()\n"
        "logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)\n"
        "class Mine(uvicorn.Server): pass\n"
        "def handle(payload):\n"
        "    server = Mine(uvicorn.Config('app:app'))\n"
        "    return [callable(uvicorn.run), callable(click.echo), server.started]\n"
    )
    assert serve(source, FAAS_EVENT_LOOP=loop).call("").result == [True, True, False]


def test_a_handler_knows_its_user_and_its_home(serve: Serve) -> None:
    source = (
        "import getpass, os, pathlib\n"
        "def handle(payload):\n"
        "    return [getpass.getuser(), os.path.isdir(pathlib.Path.home())]\n"
    )
    name, has_home = serve(source).call("").result
    assert name
    assert has_home


TEE_AT_IMPORT = """
import sys
class Tee:
    def __init__(self, below):
        self.below = below
    def write(self, text):
        return self.below.write(text)
    def flush(self):
        self.below.flush()
sys.stdout = Tee(sys.stdout)
sys.stderr = None
def handle(payload):
    print("said", payload)
    return payload
"""


def test_a_stream_of_the_files_own_stays_and_costs_no_runner(serve: Serve) -> None:
    worker = serve(TEE_AT_IMPORT)
    assert [worker.call(str(number)).runner for number in range(5)] == [1] * 5
    eventually(lambda: "said 4" in worker.log_path.read_text(), "the line is in the log")


PRINTS_WHEN_COLLECTED = """
import gc
gc.set_threshold(1, 1, 1)
class Noisy:
    def __del__(self):
        print("collected")
def handle(payload):
    for number in range(200):
        one, other = Noisy(), Noisy()
        one.other, other.other = other, one
        del one, other
        print("line", number)
    return payload
"""


def test_a_finalizer_may_print_while_something_else_prints(serve: Serve) -> None:
    worker = serve(PRINTS_WHEN_COLLECTED, FAAS_TIMEOUT_MS="5000")
    calls = [worker.start_call(str(number)) for number in range(4)]
    assert [call.result().result for call in calls] == ["0", "1", "2", "3"]
    assert worker.call("").runner == 1


RUNS_A_PROGRAM = """
import subprocess
def handle(payload):
    return subprocess.run(["sleep", payload]).returncode
"""


def test_many_calls_may_run_a_program_each(serve: Serve) -> None:
    worker = serve(RUNS_A_PROGRAM)
    calls = [worker.start_call("2") for _ in range(24)]
    assert worker.call("0").runner == 1
    assert [call.result().runner for call in calls] == [1] * 24
    assert worker.call("0").runner == 1


CLOSES_A_STREAM = """
import asyncio, os
async def handle(payload):
    print("began", flush=True)
    if payload == "close":
        os.close(1)
    await asyncio.sleep(1)
    return payload
"""


def test_a_stream_closed_by_one_call_costs_no_other_its_answer(serve: Serve) -> None:
    worker = serve(CLOSES_A_STREAM)
    calls = [worker.start_call("good") for _ in range(2)]
    eventually(lambda: worker.log_path.read_text().count("began") == 2, "both are running")
    calls.append(worker.start_call("close"))
    assert [call.result().result for call in calls] == ["good", "good", "close"]
    eventually(lambda: worker.call("good").runner == 2, "the next runner serves")


REMEMBERS_IN_CONTEXT = """
import contextvars
seen = contextvars.ContextVar("seen", default=None)
async def handle(payload):
    before = seen.get()
    seen.set(payload)
    return before
"""


def test_a_pipelined_call_sees_nothing_of_the_one_before(serve: Serve) -> None:
    worker = serve(REMEMBERS_IN_CONTEXT)
    bodies = [f'{{"payload": "{name}"}}' for name in ["alice", "bob", "carol"]]
    requests = [
        f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        for body in bodies
    ]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(worker.socket_path)
        connection.sendall("".join(requests).encode())
        got = b""
        while got.count(b'{"result":') < 3:
            got += connection.recv(65536)
    assert got.count(b'{"result":null}') == 3
