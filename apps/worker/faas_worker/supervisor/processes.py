"""Ends the processes of handlers that nobody waits for any more, or that are too many."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Callable

from ..protocol import MAX_PROCESSES
from ..system import children, count_below, group_of, kill_all_of_runners
from .fleet import Fleet
from .reports import log

_FEW_PROCESSES = 16
_PAUSE_SECONDS = 1.0
# In a container counting costs little, and tells of processes that were made unheard.
_CONTAINER_PAUSE_SECONDS = 0.04
# While there are any, they are counted so soon again, and twice as late each time that there are no
# more: a bomb takes all memory of a container in a tenth of a second.
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.04
# When the kernel has ended so many for want of memory, the others go too: it takes them one by one.
_OUT_OF_MEMORY = 3
# Looks in a row that each found new orphans.
_MULTIPLYING = 8
_ROUNDS = 50
# What was killed is still dying, and takes up its places until then.
_ROOM_SECONDS = 0.3
_DYING_SECONDS = 5.0


class Processes:
    def __init__(self, fleet: Fleet, reap: Callable[[float], None]) -> None:
        self._fleet = fleet
        self._reap = reap
        self._due = 0.0
        self._rest = _CONTAINER_PAUSE_SECONDS if os.getpid() == 1 else _PAUSE_SECONDS
        self._is_postponed = False
        self._pause = _FIRST_PAUSE_SECONDS
        self._counted = 0
        #: Processes besides runners.
        self._others = True
        # What the kernel had ended for want of memory when there were only runners.
        self._ooms = 0
        self._looks_with_orphans = 0
        # Orphans that were sent SIGKILL and have not died of it yet.
        self._dying: set[int] = set()
        # Groups of processes that were, and until when some may still be dying.
        self._doomed: dict[int, float] = {}
        self._made_room_at = 0.0

    def hurry(self) -> None:
        self._due, self._pause, self._others = 0.0, _FIRST_PAUSE_SECONDS, True

    def postpone(self, now: float) -> None:
        """The next look, once, where there was nothing to be seen."""
        if not self._others and not self._is_postponed:
            self._is_postponed = True
            self._due = max(self._due, now + self._rest)

    def reaped(self, pid: int) -> None:
        self._dying.discard(pid)

    def seconds_until_look(self, now: float) -> float:
        return max(self._due - now, 0.0) if self._others else math.inf

    def look_if_due(self, now: float) -> None:
        if now < self._due:
            return
        self._is_postponed = False
        for group in [group for group, until in self._doomed.items() if now > until]:
            del self._doomed[group]
        count = count_below(os.getpid(), MAX_PROCESSES, self._doomed)
        self._others = others = count > sum(pid not in self._doomed for pid in self._fleet.runners)
        ooms = self._fleet.oom.read()
        if not others:
            self._ooms = ooms
        has_orphans = self._kill_orphans(now)
        self._looks_with_orphans = self._looks_with_orphans + 1 if has_orphans else 0
        if (
            count >= MAX_PROCESSES
            or ooms - self._ooms >= _OUT_OF_MEMORY
            or self._looks_with_orphans >= _MULTIPLYING
        ):
            log("processes_multiply")
            self.make_room(now)
            self._pause = _LONGEST_PAUSE_SECONDS
        elif count > self._counted:
            self._pause = _FIRST_PAUSE_SECONDS
        else:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._counted = count
        self._due = now + (self._pause if others else self._rest)

    def make_room(self, now: float) -> None:
        """Handler code has taken all processes there may be."""
        fleet = self._fleet
        forkers = [r for r in fleet.runners.values() if r.forked and r.pid not in self._doomed]
        if now < self._made_room_at + _ROOM_SECONDS and not forkers:
            return
        self._made_room_at = now
        self._looks_with_orphans = 0
        # What it started is mostly in the group of its runner, and other runners needn't pay.
        for runner in forkers:
            fleet.kill_forker(runner)
            self._doomed[runner.pid] = now + _DYING_SECONDS
        if not forkers or count_below(os.getpid(), MAX_PROCESSES, self._doomed) >= _FEW_PROCESSES:
            kill_all_of_runners()
            fleet.kill_bystanders()

    def _kill_orphans(self, now: float) -> bool:
        """Those come to us (see `become_subreaper`). True when some are new."""
        found = False
        for _ in range(_ROUNDS):
            orphans = set(children(os.getpid())) - self._dying - self._fleet.runners.keys()
            if not orphans:
                break
            found = found or any(group_of(pid) not in self._doomed for pid in orphans)
            self._dying |= orphans
            for pid in orphans:
                self.kill(pid)
            self._reap(now)
        return found

    def kill(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            group = os.getpgid(pid)
            if group != os.getpgrp() and group not in self._fleet.runners:
                os.killpg(group, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
