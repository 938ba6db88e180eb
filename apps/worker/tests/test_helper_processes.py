"""Handlers may start processes of their own and end them again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support import Worker, eventually

Start = Callable[..., Worker]


def test_a_handler_can_terminate_a_program_it_started(start: Start) -> None:
    answer = start("helpers.terminate").call("")
    assert answer.result == -signal.SIGTERM
    assert answer.seconds < 5


def test_a_handler_can_terminate_a_fork_of_itself(start: Start) -> None:
    worker = start("helpers.terminate_fork")
    for _ in range(3):
        assert worker.call("").result == -signal.SIGTERM


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes_does_its_work_and_ends(start: Start, context: str) -> None:
    worker = start("helpers.pool")
    for _ in range(4):
        assert worker.call(context).result == [0, 1, 4, 9, 16]


def test_signals_from_its_own_handler_do_not_end_a_runner(start: Start) -> None:
    worker = start("hostile.handle")
    assert worker.call("good").runner == 1
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.call(f"signal self:{int(number)}")
    assert worker.call("good").runner == 1


def test_a_call_that_leaves_processes_made_by_spawning_costs_its_runner(start: Start) -> None:
    worker = start("helpers.spawn_and_leave")
    assert worker.call("20").result == 20
    assert worker.call("0").runner == 2


@pytest.mark.parametrize("handler", ["helpers.fork_and_raise", "helpers.fork_and_raise_async"])
def test_a_fork_ends_with_the_status_that_python_gives_it(start: Start, handler: str) -> None:
    worker = start(handler)
    assert worker.call("raise").result == 1
    eventually(lambda: "ValueError: in the fork" in worker.log(), "the traceback is in the log")
    assert worker.call("exit 7").result == 7
    assert worker.call("return").result == 0


def test_a_file_can_terminate_a_fork_of_its_process_while_it_is_loaded(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "code.py").write_text(
        "import multiprocessing, time\n"
        "process = multiprocessing.get_context('fork').Process(target=time.sleep, args=(30,))\n"
        "process.start()\n"
        "process.terminate()\n"
        "process.join(5)\n"
        "status = process.exitcode\n"
        "def handle(payload): return status\n"
    )
    worker = start("code.handle", FAAS_APP_DIR=str(tmp_path))
    assert worker.call("").result == -signal.SIGTERM
