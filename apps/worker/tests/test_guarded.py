"""Where a worker has a user of its own, what its handler may do to the supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from support import Worker, eventually, recovers_after

Start = Callable[..., Worker]
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run as other users")
UID = 63_000 + os.getpid() % 1000
REAL_UID = 64_500


def start_guarded(start: Start) -> Worker:
    return start("hostile.handle", uid=UID, real_uid=REAL_UID)


def test_a_handler_may_not_signal_its_supervisor(start: Start) -> None:
    worker = start_guarded(start)
    for payload in ("kill parent", "terminate parent"):
        answer = worker.call(payload)
        assert answer.status == 400
        assert answer.error["type"] == "PermissionError"
    assert worker.call("good").runner == 1


def test_killing_all_that_it_may_kill_leaves_the_supervisor(start: Start) -> None:
    worker = start_guarded(start)

    def hostile() -> None:
        # The kernel leaves out whoever asks for it.
        assert worker.call("kill all of its user").status == 200

    recovers_after(worker, hostile)
    assert worker.process.poll() is None


def test_the_supervisor_may_still_end_a_runner(start: Start) -> None:
    worker = start_guarded(start)
    assert worker.call("spin", X_Faas_Timeout_Ms="300").status == 504
    assert worker.call("good").runner == 2
    eventually(lambda: len(worker.runner_pids()) == 1, "the stuck runner is gone")


@pytest.mark.parametrize("real_uid", [REAL_UID, UID], ids=["as another user", "as its user"])
def test_a_handler_may_not_look_into_its_supervisor(start: Start, real_uid: int) -> None:
    worker = start("hostile.handle", uid=UID, real_uid=real_uid)
    answer = worker.call("look into parent")
    assert answer.status == 400
    assert answer.error["type"] == "PermissionError"


def test_a_handler_has_one_user_only(start: Start) -> None:
    worker = start_guarded(start)
    assert worker.call("users").result == [UID] * 3
