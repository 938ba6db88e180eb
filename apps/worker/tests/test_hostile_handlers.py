"""Whatever one call does, it gets the right answer and the next one is served at once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support import Worker, eventually, is_zombie, recovers_after

Start = Callable[..., Worker]
SYNC, ASYNC = "hostile.handle", "hostile.handle_async"
SHORT = {"X_Faas_Timeout_Ms": "400"}

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("handler", [SYNC, ASYNC])
@pytest.mark.parametrize(
    ("payload", "reason", "word"),
    [
        ("exit", "exit", "status 3"),
        ("segfault", "signal", "SIGSEGV"),
        ("kill", "signal", "SIGKILL"),
    ],
)
def test_a_call_that_ends_its_process_is_cut_off_and_health_says_why(
    start: Start, handler: str, payload: str, reason: str, word: str
) -> None:
    worker = start(handler)

    def hostile() -> None:
        assert worker.is_cut_off(payload)

    recovers_after(worker, hostile)
    last_exit = worker.last_exit()
    assert last_exit["reason"] == reason
    assert word in last_exit["message"]
    assert last_exit["runner"] < worker.health()["worker"]["runner"]


def test_recursion_past_every_limit_costs_at_most_a_runner(start: Start) -> None:
    worker = start(SYNC)

    def hostile() -> None:
        # Whether the interpreter notices before its stack ends depends on its version.
        with suppress(ConnectionError):
            assert worker.call("recurse without limit").status == 400

    recovers_after(worker, hostile)


def test_an_endless_loop_in_a_thread_times_out_and_spares_the_other_calls(start: Start) -> None:
    worker = start(SYNC)
    other = worker.start_call("sleep:1.2")

    def hostile() -> None:
        answer = worker.call("spin", **SHORT)
        assert answer.status == 504
        assert answer.error["code"] == "handler_timeout"
        assert 0.4 <= answer.seconds < 0.8

    recovers_after(worker, hostile)
    answer = other.result()
    assert answer.result == "sleep:1.2"
    assert answer.runner == 1
    assert answer.headers["connection"] == "close"
    assert worker.last_exit()["reason"] == "stuck"
    eventually(lambda: len(worker.runner_pids()) == 1, "the stuck runner is gone")


def test_an_endless_loop_on_the_event_loop_leaves_new_connections_answered(start: Start) -> None:
    worker = start(ASYNC, FAAS_TIMEOUT_MS="1500")
    stuck = worker.start_call("spin")
    eventually(lambda: "runner_silent" in worker.log(), "the silence is noticed")
    answer = worker.call("good")
    assert answer.result == "good"
    assert answer.seconds < 1.0
    assert answer.runner == 2
    assert not stuck.done()
    with pytest.raises(ConnectionError):
        stuck.result()
    assert worker.last_exit()["reason"] == "stuck"
    recovers_after(worker, lambda: None)
    eventually(lambda: len(worker.runner_pids()) == 1, "the stuck runner is gone")


def test_a_task_left_behind_that_jams_the_loop_costs_the_call_that_left_it(start: Start) -> None:
    worker = start(ASYNC, FAAS_TIMEOUT_MS="400")

    def hostile() -> None:
        assert worker.is_cut_off("leave spinning")

    recovers_after(worker, hostile)


def test_a_loop_jammed_after_its_call_was_answered_is_replaced(start: Start) -> None:
    worker = start(ASYNC)
    assert worker.call("spin later").result == "good"
    eventually(lambda: "runner_silent" in worker.log(), "the silence is noticed")
    recovers_after(worker, lambda: None)
    assert worker.last_exit()["reason"] == "stuck"


def test_code_that_never_lets_go_of_the_interpreter_is_replaced(start: Start) -> None:
    worker = start(SYNC, FAAS_TIMEOUT_MS="700")

    def hostile() -> None:
        assert worker.is_cut_off("hold the gil")

    recovers_after(worker, hostile)
    assert worker.last_exit()["reason"] == "stuck"


def test_a_stopped_runner_counts_as_silent(start: Start) -> None:
    worker = start(SYNC)
    (pid,) = eventually(
        lambda: len(found := worker.runner_pids()) == 1 and found, "the worker has settled"
    )
    os.kill(pid, signal.SIGSTOP)
    answer = worker.call("good")
    assert answer.result == "good"
    assert answer.runner == 2
    assert answer.seconds < 1.0
    eventually(lambda: pid not in worker.runner_pids(), "the stopped runner is gone")
    assert worker.last_exit()["reason"] == "stuck"


def test_a_runner_that_was_only_slow_keeps_serving_alone(start: Start) -> None:
    worker = start(ASYNC)
    assert worker.call("sleep:0.5").result == "sleep:0.5"
    eventually(lambda: "runner_back" in worker.log(), "its return is noticed")
    eventually(lambda: len(worker.runner_pids()) == 1, "one runner is left")
    assert worker.call("good").runner == 1
    assert worker.health()["worker"]["last_exit"] is None


def test_a_stand_in_that_is_no_longer_needed_still_answers_its_callers(start: Start) -> None:
    worker = start(ASYNC)
    eventually(lambda: len(worker.runner_pids()) == 1, "the worker has settled")
    slow = worker.start_call("sleep:0.5")
    eventually(lambda: len(worker.runner_pids()) == 2, "a stand-in has come")
    kept = worker.connect()

    def answer() -> http.client.HTTPResponse:
        kept.request("POST", "/", b'{"payload": "good"}')
        response = kept.getresponse()
        response.read()
        return response

    assert answer().getheader("x-faas-runner") == "2"
    assert slow.result().runner == 1
    eventually(lambda: "runner_back" in worker.log(), "its return is noticed")

    def is_last() -> bool:
        # The stand-in may answer once more before it hears that it is no longer needed.
        response = answer()
        assert (response.status, response.getheader("x-faas-runner")) == (200, "2")
        return response.getheader("connection") == "close"

    eventually(is_last, "an answer says that its connection ends")
    eventually(lambda: len(worker.runner_pids()) == 1, "the stand-in is gone")


def test_jamming_runner_after_runner_never_makes_more_than_three(start: Start) -> None:
    worker = start(ASYNC, FAAS_TIMEOUT_MS="8000")
    for silent in range(1, 6):
        worker.start_call("spin")
        eventually(
            lambda silent=silent: worker.log().count("runner_silent") >= silent, "it is noticed"
        )
        assert len(worker.runner_pids()) <= 3
    assert worker.call("good").result == "good"


def test_a_coroutine_that_refuses_to_be_cancelled_times_out(start: Start) -> None:
    worker = start(ASYNC)

    def hostile() -> None:
        answer = worker.call("refuse cancelling", **SHORT)
        assert answer.status == 504
        assert answer.error["code"] == "handler_timeout"

    recovers_after(worker, hostile)
    assert worker.last_exit()["reason"] == "stuck"


def test_a_coroutine_past_its_limit_is_cancelled_without_a_new_runner(
    start: Start, tmp_path: Path
) -> None:
    worker = start(ASYNC)
    mark = tmp_path / "cancelled"
    assert worker.call(f"mark when cancelled:{mark}", **SHORT).status == 504
    eventually(mark.exists, "the handler is cancelled")
    assert worker.call("good").runner == 1


def test_the_limit_of_a_call_can_only_be_shortened(start: Start) -> None:
    worker = start(ASYNC, FAAS_TIMEOUT_MS="300")
    answer = worker.call("async sleep:5", X_Faas_Timeout_Ms="60000")
    assert answer.status == 504
    assert "300 ms" in answer.json["detail"]
    assert 0.3 <= answer.seconds < 0.6


def test_the_caller_hanging_up_cancels_a_coroutine(start: Start, tmp_path: Path) -> None:
    worker = start(ASYNC)
    mark = tmp_path / "cancelled"
    with pytest.raises(TimeoutError):
        worker.call(f"mark when cancelled:{mark}", timeout=0.1)
    eventually(mark.exists, "the handler is cancelled")
    assert worker.call("good").runner == 1


def test_the_caller_hanging_up_leaves_a_thread_until_its_limit(start: Start) -> None:
    worker = start(SYNC, FAAS_TIMEOUT_MS="600")
    with pytest.raises(TimeoutError):
        worker.call("spin", timeout=0.1)
    assert worker.call("good").runner == 1
    eventually(lambda: worker.health()["worker"]["runner"] == 2, "the stuck runner is replaced")


def test_a_few_callers_hanging_up_cost_no_runner_and_no_slot(start: Start, tmp_path: Path) -> None:
    worker = start(SYNC, FAAS_CONCURRENCY="8")
    hang_up(worker, "sleep:8", 2)
    gates = [tmp_path / str(number) for number in range(8)]
    calls = [worker.start_call(f"wait for:{gate}") for gate in gates]
    eventually(
        lambda: all(Path(f"{gate}.reached").exists() for gate in gates), "all eight run at once"
    )
    for gate in gates:
        gate.touch()
    assert all(call.result().runner == 1 for call in calls)


def test_many_callers_hanging_up_cost_a_runner_but_neither_the_next_call_nor_those_in_flight(
    start: Start,
) -> None:
    worker = start(SYNC)

    def hostile() -> None:
        hang_up(worker, "sleep:20", 40)

    other = worker.start_call("sleep:1.5")
    recovers_after(worker, hostile)
    assert other.result().result == "sleep:1.5"
    last_exit = worker.last_exit()
    assert last_exit["reason"] == "stuck"
    assert "callers" in last_exit["message"]
    eventually(lambda: len(worker.runner_pids()) == 1, "the abandoned calls are gone")


@pytest.mark.parametrize("handler", [SYNC, ASYNC])
def test_many_callers_hanging_up_on_short_calls_cost_nothing(start: Start, handler: str) -> None:
    worker = start(handler)
    for _ in range(3):
        hang_up(worker, "sleep:0.02", 30)
    # It outlasts the time that they are given.
    assert worker.call("sleep:0.6").result == "sleep:0.6"
    assert worker.health()["worker"]["last_exit"] is None


def test_slots_lent_in_place_of_abandoned_calls_are_given_back(
    start: Start, tmp_path: Path
) -> None:
    worker = start(SYNC, FAAS_CONCURRENCY="8")
    for turn in range(5):
        gate = tmp_path / f"turn {turn}"
        hang_up(worker, f"wait for:{gate}", 1, Path(f"{gate}.reached"))
        gate.touch()
        eventually(Path(f"{gate}.left").exists, "the abandoned call has ended")
        assert worker.call("good").runner == 1
    gates = [tmp_path / f"gate {number}" for number in range(9)]
    calls = [worker.start_call(f"wait for:{gate}") for gate in gates]

    def reached() -> int:
        return sum(Path(f"{gate}.reached").exists() for gate in gates)

    eventually(lambda: reached() == 8, "every slot is taken")
    # Answered after the ninth call was read, which therefore waits.
    assert worker.request("GET", "/health").status == 200
    assert reached() == 8
    for gate in gates:
        gate.touch()
    assert all(call.result().runner == 1 for call in calls)


def test_calls_that_wait_for_a_thread_are_not_run_once_their_callers_have_gone(
    start: Start, tmp_path: Path
) -> None:
    worker = start(SYNC, FAAS_CONCURRENCY="1")
    gate = tmp_path / "gate"
    busy = worker.start_call(f"wait for:{gate}")
    eventually(Path(f"{gate}.reached").exists, "the only thread is taken")
    mark = tmp_path / "never"
    hang_up(worker, f"wait for:{mark}", 3)
    gate.touch()
    assert busy.result().status == 200
    assert worker.call("good").runner == 1
    assert not Path(f"{mark}.reached").exists()


def hang_up(worker: Worker, payload: str, times: int, mark: Path | None = None) -> None:
    """So many callers leave once their calls are on their way."""
    body = json.dumps({"payload": payload}).encode()
    connections = [worker.connect() for _ in range(times)]
    for connection in connections:
        connection.request("POST", "/", body)
    # Answered after those were read, for they came first.
    assert worker.request("GET", "/health").status == 200
    if mark is not None:
        eventually(mark.exists, "the handler is running")
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("payload", ["memory", "keep memory"])
def test_memory_past_the_limit_costs_the_call_that_takes_it(start: Start, payload: str) -> None:
    worker = start(SYNC, FAAS_LIMIT_MEMORY_BYTES=str(256 * 2**20))

    def hostile() -> None:
        assert worker.is_cut_off(payload)

    recovers_after(worker, hostile)
    assert worker.last_exit()["reason"] == "out_of_memory"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run the worker as a user of its own")
@pytest.mark.parametrize("handler", [SYNC, ASYNC])
def test_a_fork_bomb_is_bounded_and_cleaned_up(start: Start, handler: str) -> None:
    uid = 61_000 + os.getpid() % 1000
    worker = start(handler, uid=uid, FAAS_LIMIT_PIDS="60", FAAS_TIMEOUT_MS="1000")

    def running() -> int:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return sum(_uid(pid) == uid and not is_zombie(pid) for pid in pids)

    def hostile() -> None:
        with suppress(ConnectionError):
            assert worker.call("fork bomb").status in (400, 504)

    recovers_after(worker, hostile)
    # A handler that saw the limit itself keeps its runner, with a few children it never waits for.
    eventually(lambda: running() <= 3, "no process of the bomb runs")


def _uid(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


@pytest.mark.parametrize(("handler", "payload"), [(SYNC, "fork"), (ASYNC, "fork and wait")])
def test_a_forked_copy_of_the_handler_never_answers(
    start: Start, handler: str, payload: str
) -> None:
    worker = start(handler)
    for _ in range(3):
        answer = worker.call(payload)
        assert answer.result == 1
        assert answer.runner == 1
    recovers_after(worker, lambda: None)


def test_threads_left_behind_do_no_harm(start: Start) -> None:
    worker = start(SYNC)
    recovers_after(worker, lambda: worker.call("threads").result == "left")
    assert worker.terminate() == 0


def test_processes_left_behind_end_with_their_runner(start: Start) -> None:
    worker = start(SYNC)
    pids = worker.call("processes").result
    assert worker.is_cut_off("exit")
    worker.call("good")
    eventually(lambda: not any(_alive(pid) for pid in pids), "the leftovers are gone")


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("handler", [SYNC, ASYNC])
def test_closing_every_descriptor_costs_one_runner(start: Start, handler: str) -> None:
    worker = start(handler)

    def hostile() -> None:
        assert worker.is_cut_off("close descriptors", X_Faas_Timeout_Ms="2000")

    recovers_after(worker, hostile)


def test_shutting_the_shared_listener_down_is_repaired(start: Start) -> None:
    worker = start(SYNC)
    worker.is_cut_off("shut listener down")

    def good() -> bool:
        try:
            return worker.call("good").result == "good"
        except OSError:
            return False

    eventually(lambda: "listener_shut_down" in worker.log(), "it is noticed")
    eventually(good, "the worker listens again", seconds=2)


def test_flooding_the_supervisor_costs_at_most_a_runner(start: Start) -> None:
    worker = start(SYNC)
    worker.is_cut_off("flood")
    recovers_after(worker, lambda: None)
    assert worker.process.poll() is None


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_stopping_the_loop_or_exiting_from_a_task_changes_nothing(start: Start, loop: str) -> None:
    worker = start(ASYNC, FAAS_EVENT_LOOP=loop)
    assert worker.call("stop loop").result == "still here"
    assert worker.call("good").runner == 1


def test_a_crash_in_every_call_never_delays_the_first_good_one_for_long(start: Start) -> None:
    worker = start(SYNC)
    for _ in range(6):
        assert worker.is_cut_off("exit")
    started = time.monotonic()
    assert worker.call("good").result == "good"
    assert time.monotonic() - started < 2
    recovers_after(worker, lambda: worker.is_cut_off("exit") and None)


def test_asking_for_the_health_does_not_make_crashes_count_less(start: Start) -> None:
    """Or a manager that asks how each of them ended would have runners forked without a pause."""
    worker = start(SYNC)
    for _ in range(7):
        worker.health()
        assert worker.is_cut_off("exit")
    assert worker.request("GET", "/health").seconds > 0.3
