"""What the kernel counts for a process or a user is bounded in the worker, on every engine."""

from __future__ import annotations

from collections.abc import Callable

from support import Worker

Start = Callable[..., Worker]


def test_a_handler_may_use_a_part_of_what_the_host_has_for_all(start: Start) -> None:
    worker = start("counting.handle")
    assert worker.call("limits").result == {
        "CORE": [0, 0],
        "NOFILE": [4096, 4096],
        "MEMLOCK": [65_536, 65_536],
        "MSGQUEUE": [0, 0],
        "SIGPENDING": [4096, 4096],
    }


def test_descriptors_end_long_before_the_host_has_none_left(start: Start) -> None:
    worker = start("counting.handle")
    assert worker.call("3000").result == "all"
    assert worker.call("20000").result == "4 thousand, then Too many open files"
    assert worker.call("after").result == "after"
