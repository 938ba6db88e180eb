"""The contract on `POST /` and `GET /health`, and what the worker adds to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from support import Worker, eventually

Start = Callable[..., Worker]
SYNC, ASYNC = "hostile.handle", "hostile.handle_async"


@pytest.fixture(scope="module", params=[SYNC, ASYNC])
def worker(request: pytest.FixtureRequest, start_shared: Start) -> Worker:
    return start_shared(request.param)


def test_any_string_comes_back_as_it_went_in(worker: Worker) -> None:
    for payload in ["", "good", "héllo \U0001f40d", "\0", "\ud800", "a\udfffb", "x" * 6 * 2**20]:
        assert worker.call(payload).result == payload


def test_a_call_meant_for_another_function_never_reaches_the_handler(start: Start) -> None:
    worker = start(SYNC, FAAS_FUNCTION="mine")
    answer = worker.call("good", X_Faas_Function="another")
    assert (answer.status, answer.json["error"]["code"]) == (421, "worker_misdirected")
    assert worker.call("good", X_Faas_Function="mine").result == "good"
    assert worker.call("good").result == "good"


def test_health_names_the_protocol_and_the_runner(worker: Worker) -> None:
    answer = worker.request("GET", "/health")
    document = answer.json
    assert document["status"] == "ok"
    assert document["worker"] == {"protocol": 1, "runner": answer.runner, "last_exit": None}
    assert datetime.fromisoformat(document["timestamp"]).tzinfo is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"payload"',
        b"{}",
        b'{"payload": 3}',
        b'{"payload": null}',
        b'{"payload": ["x"]}',
        b"\xff\xfe\xfd",
        b'{"payload": "\xff"}',
        b"[" * 200_000,
        b'{"payload": "x", "n": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_body_of_another_form_is_refused(worker: Worker, body: bytes) -> None:
    answer = worker.request("POST", "/", body)
    assert answer.status == 422
    assert isinstance(answer.json["detail"], str)
    assert "error" not in answer.json


def test_a_body_past_the_limit_is_refused(start: Start) -> None:
    worker = start(SYNC, FAAS_MAX_BODY_BYTES="1000")
    assert worker.call("x" * 2000).status == 413
    assert worker.call("x" * 900).result == "x" * 900


def test_other_paths_and_methods_are_the_frameworks_business(worker: Worker) -> None:
    assert worker.request("GET", "/").status == 405
    assert worker.request("POST", "/health").status == 405
    assert worker.request("GET", "/elsewhere").status == 404


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [
        ("sys.exit", "SystemExit", "4"),
        ("keyboard interrupt", "KeyboardInterrupt", ""),
        ("generator exit", "GeneratorExit", ""),
        ("cancelled", "CancelledError", ""),
        ("strange error", "StrangeError", "can't be shown"),
        ("number error", "NumberError", "can't be shown"),
        ("group", "ExceptionGroup", "several (2 sub-exceptions)"),
        ("recurse", "RecursionError", "maximum recursion depth exceeded"),
        ("input", "EOFError", "EOF when reading a line"),
    ],
)
def test_whatever_a_handler_raises_is_its_error(
    worker: Worker, payload: str, kind: str, words: str
) -> None:
    answer = worker.call(payload)
    assert answer.status == 400
    assert answer.error["code"] == "handler_error"
    assert answer.error["type"] == kind
    assert words in answer.error["message"]
    prefix = f"Error executing handler function: {answer.error['message']}"
    assert answer.json["detail"].startswith(prefix)
    assert worker.call("good").result == "good"
    assert worker.health()["worker"]["last_exit"] is None


def test_a_traceback_starts_at_the_handlers_own_file(worker: Worker) -> None:
    lines = worker.call("group").error["traceback"].splitlines()
    files = [line for line in lines if 'File "' in line]
    assert "hostile.py" in files[0]
    assert not any("faas_worker/" in line for line in files)


@pytest.mark.parametrize("letter", ["x", "語", "\U0001f40d"])
def test_a_huge_error_is_cut_to_what_a_manager_reads(worker: Worker, letter: str) -> None:
    answer = worker.call(f"huge error:{letter}")
    assert answer.status == 400
    assert len(answer.body) < 64 * 1024
    assert answer.error["type"] == "HugeError"
    assert answer.error["message"].startswith(letter * 1000)
    assert "hostile.py" in answer.error["traceback"]


def test_a_coroutine_that_cancels_itself_has_failed(start: Start) -> None:
    worker = start(ASYNC)
    answer = worker.call("cancel self")
    assert answer.status == 400
    assert answer.error["type"] == "CancelledError"


@pytest.mark.parametrize("payload", ["nan", "cycle", "deep", "object", "tuple key"])
def test_a_result_that_is_not_json_is_the_handlers_fault(worker: Worker, payload: str) -> None:
    answer = worker.call(payload)
    assert answer.status == 500
    assert answer.error["code"] == "handler_result_invalid"
    assert worker.call("good").result == "good"
    assert worker.health()["worker"]["last_exit"] is None


def test_a_result_past_the_limit_is_refused(start: Start) -> None:
    worker = start(SYNC, FAAS_MAX_RESULT_BYTES="1000000")
    answer = worker.call("large")
    assert answer.status == 500
    assert answer.error["code"] == "handler_result_invalid"
    assert answer.error["type"] == "ResultTooLarge"


def test_a_function_that_returns_an_awaitable_is_awaited(start: Start) -> None:
    worker = start(SYNC)
    assert worker.call("awaitable:async sleep:0.01").result == "async sleep:0.01"
    assert worker.call("awaitable:cancel self").error["type"] == "CancelledError"


@pytest.mark.parametrize(("handler", "payload"), [(SYNC, "sleep:0.1"), (ASYNC, "async sleep:0.1")])
def test_calls_run_at_once_up_to_the_bound(start: Start, handler: str, payload: str) -> None:
    worker = start(handler)

    def seconds(count: int) -> float:
        started = time.monotonic()
        for call in [worker.start_call(payload) for _ in range(count)]:
            assert call.result().result == payload
        return time.monotonic() - started

    assert min(seconds(32) for _ in range(3)) < 0.25
    assert seconds(64) >= 0.2


def test_further_calls_wait_inside_the_worker(start: Start, tmp_path: Path) -> None:
    worker = start(SYNC, FAAS_CONCURRENCY="1")
    gate = tmp_path / "gate"
    first = worker.start_call(f"wait for:{gate}")
    eventually((tmp_path / "gate.reached").exists, "the first call runs")
    late = worker.call("good", X_Faas_Timeout_Ms="200")
    assert late.status == 504
    second = worker.start_call("good")
    gate.touch()
    assert first.result().result == f"wait for:{gate}"
    assert second.result().result == "good"
    assert worker.call("good").runner == 1


def test_calls_waiting_behind_a_stuck_one_go_elsewhere_when_its_limit_has_passed(
    start: Start, tmp_path: Path
) -> None:
    worker = start(SYNC, FAAS_CONCURRENCY="1")
    gate = tmp_path / "never"
    stuck = worker.start_call(f"wait for:{gate}", X_Faas_Timeout_Ms="500")
    eventually((tmp_path / "never.reached").exists, "the first call runs")
    waiting = [worker.start_call("good") for _ in range(3)]
    assert stuck.result().status == 504
    # Its thread is the handler's only one, so no handler was called for them.
    for call in waiting:
        assert (call.result().status, call.result().error["code"]) == (503, "worker_draining")
    eventually(lambda: worker.call("good").status == 200, "the next runner serves")
    assert worker.call("good").runner == 2


def test_one_connection_carries_many_calls(worker: Worker) -> None:
    connection = worker.connect()
    for number in range(20):
        connection.request("POST", "/", json.dumps({"payload": str(number)}).encode())
        response = connection.getresponse()
        assert json.loads(response.read()) == {"result": str(number)}
        assert response.getheader("connection") is None
    connection.close()


def test_each_printed_line_names_its_call(worker: Worker) -> None:
    worker.call("print:one\ntwo", X_Request_Id="call-7")
    worker.call("print:three", X_Request_Id="nasty\tid]")
    worker.call("print strangely", X_Request_Id="call-8")
    eventually(lambda: "bytes" in worker.log(), "the output arrives")
    lines = worker.log().splitlines()
    assert "[call-7] one" in lines
    assert "[call-7] two" in lines
    assert "[nasty?id]] three" in lines
    assert "[call-8] lone \\ud800, nul \\x00bytes \\xff" in lines


@pytest.mark.parametrize("handler", [SYNC, ASYNC])
def test_printing_without_end_is_cut_and_does_not_delay_the_call(
    start: Start, handler: str
) -> None:
    worker = start(handler)
    answer = worker.call("print much", X_Request_Id="loud")
    assert answer.result == "printed"
    assert answer.seconds < 5
    eventually(lambda: "of this call's output dropped" in worker.log(), "the cut is told")
    assert len(worker.log()) < 3 * 2**20
    assert worker.call("good").result == "good"


def test_nobody_reading_the_output_does_not_delay_calls(tmp_path: Path) -> None:
    import os
    import subprocess

    (tmp_path / "1").mkdir()
    reader, writer = os.pipe()
    try:
        worker = Worker(tmp_path / "1", output=writer, HANDLER_FUNCTION=SYNC)
        worker.wait_ready()
        for _ in range(2):
            assert worker.call("print much").result == "printed"
        assert worker.is_cut_off("exit")
        assert worker.call("good").result == "good"
        assert worker.terminate() == 0
    except subprocess.TimeoutExpired:
        worker.process.kill()
        raise
    finally:
        os.close(reader)
        os.close(writer)
