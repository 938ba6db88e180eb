"""The processes below this one, as /proc tells them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection

MAX_LEFT_BEHIND = 16
# More than any sensible handler runs at once; what reaches it is ended before it fills the machine.
MAX_PROCESSES = 64


def children(parent: int) -> list[int]:
    """The direct children of all threads of a process; none when it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children") as file:
                found += [int(pid) for pid in file.read().split()]
    except OSError:
        # Not every kernel lists children, and threads come and go.
        return [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and _is(pid, parent)]
    return found


def _is(pid: str, parent: int) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_stat(pid)[1]) == parent
    return False


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return _stat(pid)[0] == "Z"
    return False


def _stat(pid: int | str) -> list[str]:
    """State, parent and so on; the name before them may hold anything."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def kill_strays(signalled: set[int], runners: set[int]) -> set[int]:
    """Kills our children that are not runners (orphans come to us); returns their groups.

    Adds what it kills to `signalled` and takes no notice of those already in it: a process may
    take a while to die of its signal.
    """
    groups: set[int] = set()
    for pid in children(os.getpid()):
        if pid in runners or pid in signalled:
            continue
        signalled.add(pid)
        group = pid
        with contextlib.suppress(OSError):
            group = os.getpgid(pid)
            if group != os.getpgrp() and group not in runners:
                os.killpg(group, signal.SIGKILL)
        groups.add(group)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return groups


def left_behind(runner: int, in_flight: int) -> int:
    """Processes a runner's handler has forgotten: ended ones nobody waited for, and, once no
    call is in flight, those still running."""
    found = children(runner)
    return len(found) if in_flight == 0 else sum(map(is_zombie, found))


def count_all(enough: int, doomed: Collection[int]) -> int:
    """How many descendants this process has: see `count_below`."""
    if os.getpid() != 1:
        return count_below(os.getpid(), enough, doomed)
    # All that is in a container but the first process; one look, however many threads there are.
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdecimal()]
    found = sum(_group(pid) not in doomed for pid in pids) if doomed else len(pids)
    return min(found - 1, enough)


def count_below(parent: int, enough: int, doomed: Collection[int] = ()) -> int:
    """How many descendants a process has, counted up to `enough`, without those of doomed groups:
    these have been sent SIGKILL, and take a while to die of it."""
    found = 0
    unseen = [parent]
    while unseen and found < enough:
        below = children(unseen.pop())
        found += sum(_group(pid) not in doomed for pid in below) if doomed else len(below)
        unseen += below
    return min(found, enough)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None
