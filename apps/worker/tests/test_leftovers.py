"""What a handler leaves outside of its process goes with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faas_worker.settings import read_settings
from faas_worker.supervisor import leftovers
from faas_worker.supervisor.decisions import MOST_ALIKE, Failures
from faas_worker.supervisor.leftovers import Leftovers
from support import PATIENCE_SECONDS, Answer, Worker, eventually, recovers_after

Start = Callable[..., Worker]
KEEPING = "keeping.handle"


def start_with_few_descriptors(start: Start, handler: str = KEEPING) -> Worker:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        return start(handler)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def leaves_no_files(worker: Worker, payload: str) -> Answer:
    """Unless the next runner was there before it ended, for the machine may be busy."""
    for _ in range(5):
        assert worker.call(payload).result == "done"
        assert worker.is_cut_off("exit")
        answer = worker.call("look")
        if not answer.result[1] or "runner_silent" not in worker.log():
            break
    assert answer.result[1] == []
    return answer


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_files_go_with_the_runner_and_what_they_point_to_stays(
    start: Start, scratch: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    worker = start(
        KEEPING, FAAS_SCRATCH=str(scratch), TMPDIR=str(scratch), ELSEWHERE=str(elsewhere)
    )

    leaves_no_files(worker, "files")
    assert (elsewhere / "kept").read_text() == "kept"
    worker.call("files")
    assert worker.terminate() == 0
    assert list(scratch.iterdir()) == []


def test_no_other_folder_is_touched(start: Start, scratch: Path) -> None:
    worker = start(KEEPING, TMPDIR=str(scratch))
    worker.call("many:3")
    assert worker.is_cut_off("exit")
    assert len(worker.call("look").result[1]) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user of its own")
def test_objects_of_system_v_go_with_the_runner(start: Start) -> None:
    uid = 62_000 + os.getpid() % 1000
    worker = start(KEEPING, uid=uid, real_uid=uid + 1000, FAAS_SCRATCH="ipc")
    worker.call("objects")
    assert worker.call("look").result[0] == 22
    assert worker.is_cut_off("exit")
    assert worker.call("look").result[0] == 0
    worker.call("objects")
    assert worker.terminate() == 0
    rows = Path("/proc/sysvipc/sem").read_text().split()
    assert str(uid) not in rows


def test_thousands_of_files_keep_the_next_call_for_a_moment(start: Start, scratch: Path) -> None:
    worker = start(KEEPING, FAAS_SCRATCH=str(scratch), TMPDIR=str(scratch))
    assert leaves_no_files(worker, "many:3000").seconds < 5


def test_a_worker_does_not_give_up_while_files_are_being_removed(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch / "file").touch()
    found = Leftovers(read_settings({"FAAS_SCRATCH": str(scratch)}))
    found.may_be_there()
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_TURN_SECONDS", 0)
        assert not found.are_gone(0)
    assert not found.stay(10)
    assert found.are_gone(10)
    assert list(scratch.iterdir()) == []


def test_a_call_that_keeps_nearly_all_descriptors_costs_its_runner(start: Start) -> None:
    worker = start_with_few_descriptors(start)

    def hostile() -> None:
        assert worker.call("descriptors").result == "done"

    recovers_after(worker, hostile)
    assert "file descriptors" in worker.last_exit()["message"]
    for _ in range(10):
        # One that comes while the runner leaves may leave with it.
        with contextlib.suppress(http.client.RemoteDisconnected):
            hostile()
    assert worker.call("good").result == "good"


def test_a_loop_that_lacks_descriptors_to_run_again_costs_its_own_call_alone(start: Start) -> None:
    worker = start_with_few_descriptors(start, "keeping.stop")

    def hostile() -> None:
        began = time.monotonic()
        assert worker.is_cut_off("stop")
        # Not for its silence, once the time limit of its calls has passed.
        assert time.monotonic() - began < PATIENCE_SECONDS / 3

    recovers_after(worker, hostile)


def test_a_worker_whose_runners_fail_alike_again_and_again_ends(start: Start) -> None:
    worker = start_with_few_descriptors(start)

    def fail() -> Answer | None:
        # One that comes while the runner before leaves may leave with it.
        with contextlib.suppress(ConnectionError):
            return worker.call("descriptors, and fail")
        return None

    for count in (4, 5):
        for _ in range(count):
            assert eventually(fail, "the call is answered").status == 400
        if count == 4:
            assert worker.call("good").result == "good"
    assert worker.process.wait(PATIENCE_SECONDS) == 76
    note = json.loads(worker.log().splitlines()[-1])
    assert note["faas"] == "worker_failed"
    assert note["message"].startswith("Ended after 5 failures in a row: Its handler kept")
    assert note["reason"] == "stuck"


def test_one_more_failure_of_the_same_kind_is_one_too_many() -> None:
    failures = Failures()
    for _ in range(MOST_ALIKE):
        assert not failures.are_too_many(of_the_worker=True)
        failures.add(("exit", "status 3"), after_good=False)
    assert failures.are_too_many(of_the_worker=True)
    assert not failures.are_too_many(of_the_worker=False)
    failures.add(("exit", "status 3"), after_good=True)
    assert failures.count == 1
    failures.add(("exit", "status 4"), after_good=False)
    assert failures.count == 1
