"""Ends processes that handler code has left behind."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from .fleet import Fleet
from .processes import (
    MAX_LEFT_BEHIND,
    MAX_PROCESSES,
    count_all,
    count_below,
    kill_strays,
    left_behind,
)
from .reports import log
from .watching import TICK_SECONDS

_PAUSE_SECONDS = 1.0
_ROUNDS = 50
# Between two looks that tell whether processes still become more.
_GROWTH_SECONDS = 0.05
# After a handler has made its first process they are counted so soon again, and twice as late each
# time that there are no more: a bomb takes all memory of a container in a tenth of a second.
_FIRST_LOOK_SECONDS = 0.005
# Counting may take one part in so many of the supervisor's time.
_COUNT_SHARE = 10
# When the kernel has ended so many for want of memory, the others go too: it takes them one by one.
_OUT_OF_MEMORY = 3
# Sweeps in a row that each found new strays.
_MULTIPLYING = 4
_HOPELESS = 16
# How long calls in flight may share the machine with processes that multiply.
_BOMB_SECONDS = 1.0


class Sweeper:
    def __init__(self, fleet: Fleet, reap: Callable[[float], None]) -> None:
        self._fleet = fleet
        self._reap = reap
        self._due = 0.0
        # When the processes are counted next, between two sweeps, and whether to wake up for it.
        self._count_due = 0.0
        self._may_grow = True
        self._count_pause = _FIRST_LOOK_SECONDS
        self._counted = 0
        # What the kernel had ended for want of memory when there were only runners.
        self._ooms = 0
        self._sweeps_with_strays = 0
        # Strays that were sent SIGKILL and have not died of it yet.
        self._signalled: set[int] = set()

    def hurry(self) -> None:
        self._due = 0.0

    def reaped(self, pid: int) -> None:
        if pid in self._signalled:
            self._signalled.remove(pid)
            if not self._signalled:
                self.hurry()

    def seconds_until_count(self, now: float) -> float:
        if self._fleet.forking:
            return 0.0
        return max(self._count_due - now, 0.0) if self._may_grow else math.inf

    def sweep_if_due(self, now: float) -> bool:
        """True when processes come faster than they can be killed one by one."""
        is_due = now >= self._due
        if not is_due and now < self._count_due and not self._fleet.forking:
            return False
        if self._too_many(now):
            log("processes_multiply")
            self._due = now + TICK_SECONDS
            return True
        if not is_due:
            return False
        self._due = now + _PAUSE_SECONDS
        self._check_left_behind(now)
        groups = self._kill_strays(now)
        self._sweeps_with_strays = self._sweeps_with_strays + 1 if groups else 0
        if self._sweeps_with_strays >= _MULTIPLYING:
            self._stop_multiplying(groups, now)
        if self._sweeps_with_strays >= _HOPELESS:
            self._sweeps_with_strays = 0
            return True
        self._settle(bool(groups), now)
        return False

    def _too_many(self, now: float) -> bool:
        """Counts, and knows from what it finds when to count again."""
        fleet = self._fleet
        for group in [group for group, until in fleet.doomed.items() if now > until]:
            del fleet.doomed[group]
        began = time.process_time()
        count = count_all(MAX_PROCESSES, fleet.doomed)
        took = time.process_time() - began
        alive = sum(pid not in fleet.doomed for pid in fleet.runners)
        too_many = count >= MAX_PROCESSES or self._out_of_memory(count > alive)
        if fleet.forking or too_many or count > self._counted:
            self._count_pause = _FIRST_LOOK_SECONDS
        else:
            self._count_pause = min(2 * self._count_pause, TICK_SECONDS)
        self._count_pause = max(self._count_pause, _COUNT_SHARE * took)
        self._may_grow = fleet.forking or fleet.loading() or count > alive
        # In a container counting costs little, and tells of processes that were made unheard.
        is_watched = self._may_grow or os.getpid() == 1
        self._count_due = now + self._count_pause if is_watched else math.inf
        self._counted = count
        fleet.forking = False
        return too_many

    def _out_of_memory(self, others: bool) -> bool:
        ooms = self._fleet.oom.read()
        if not others:
            self._ooms = ooms
        return ooms - self._ooms >= _OUT_OF_MEMORY

    def _settle(self, strays: bool, now: float) -> None:
        """Lets calls go on that wait for this, once nothing multiplies and others can follow."""
        fleet = self._fleet
        for runner in fleet.runners.values():
            if not runner.settling:
                continue
            count = count_below(runner.pid, MAX_LEFT_BEHIND)
            if count != runner.descendants:
                runner.descendants, runner.changed_at = count, now
            # Whoever hurries this must not cut that short.
            steady_at = runner.changed_at + _GROWTH_SECONDS if count else now
            if strays or self._signalled or not (fleet.serving() or fleet.draining):
                self._due = min(self._due, now)
            elif now < steady_at:
                self._due = min(self._due, steady_at)
            else:
                runner.settling = False
                runner.order(b"settled")

    def _kill_strays(self, now: float) -> set[int]:
        groups: set[int] = set()
        for _ in range(_ROUNDS):
            found = kill_strays(self._signalled, set(self._fleet.runners))
            if not found:
                break
            groups |= found
            self._reap(now)
        if self._signalled:
            self._due = now + TICK_SECONDS
        return groups

    def _stop_multiplying(self, groups: set[int], now: float) -> None:
        """What forks faster than it can be killed one by one goes with its process group."""
        log("processes_multiply")
        for runner in self._fleet.runners.values():
            if runner.pid in groups and runner.state == "serving":
                self._fleet.let_go(runner, "Its handler left processes that multiply.", now)
                runner.settles_at = 0.0
                runner.end_by = min(runner.end_by or now, now + _BOMB_SECONDS)

    def _check_left_behind(self, now: float) -> None:
        for runner in self._fleet.serving():
            if runner.settling:
                count = count_below(runner.pid, MAX_LEFT_BEHIND)
            else:
                count = left_behind(runner.pid, runner.pulse.in_flight)
            if count >= MAX_LEFT_BEHIND:
                self._fleet.let_go(runner, f"Its handler left {count} processes behind.", now)
