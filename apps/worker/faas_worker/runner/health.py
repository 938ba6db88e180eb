"""Whether a runner can go on, whatever its handler has done to it. What is found is not repaired:
the runner takes no new calls, and the next one serves."""

from __future__ import annotations

import asyncio
import builtins
import gc
import json
import math
import os
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import Any

from ..protocol import Reason
from ..settings import Settings
from ..system import ContainerMemory, are_lowered, count_threads, most_tasks, own_limits
from .app import PAYLOAD_REFUSED

# While other calls run, much of what is in use is theirs and goes with them.
_DESCRIPTORS_SHARE, _DESCRIPTORS_SHARE_IN_USE = 0.8, 0.97
_FREE_SHARE, _FREE_SHARE_IN_USE = 0.1, 0.02
# Code that takes up more of its folder says nothing of what the handler has put there.
_CODE_SHARE = 0.8
# What a successor and its supervisor need beside the threads of its calls.
_SPARE_TASKS = 16
_REQUEST = b"POST / HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
_CALL = _REQUEST.replace(b": 2", b": 14").replace(b"{}", b'{"payload":""}')
_HEALTH = b"GET /health HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n\r\n"
_STATUS = b"HTTP/1.1 %d " % PAYLOAD_REFUSED.status
#: Audit events.
SETTING_LIMITS = frozenset({"resource.setrlimit", "resource.prlimit"})
# A request takes one turn of the loop; but a handler may hold up that turn.
_TURNS = 3
_WARM_UP_SECONDS = 10.0
_Anything, _callable = BaseException, callable


class Health:
    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], asyncio.Protocol],
        own: tuple[int, ...],
        threads: int,
    ) -> None:
        """`own`: descriptors without which it is out of reach. `threads`: so many are its own."""
        self._connect = connect
        self._own = {fd: _identity(fd) for fd in own}
        self._streams = {fd: stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in (0, 1, 2)}
        self._open = (*own, *self._streams)
        self._limits = own_limits()
        # Told by an event: asking for all limits after each call takes as long as all else.
        self.has_set_limits = False
        self._descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._recursion_limit = sys.getrecursionlimit()
        self._watch = _Watch()
        self._trial: _Trial | None = None
        self._turns = 0
        in_container = os.getppid() == 1
        self._memory = ContainerMemory(in_container)
        self._code_bytes = len(settings.code or b"")
        self._folders = _own_folders(settings, self._code_bytes) if in_container else []
        of_container = (most_tasks(), settings.most_tasks) if in_container else ()
        known = [most for most in (*of_container, settings.limit_pids) if most]
        spare = threads + _SPARE_TASKS
        self._most_threads = max(min(known) - spare, spare) if known else math.inf

    def after_call(self, *, in_use: bool) -> Reason | None:
        """Quickly. `in_use`: other calls run."""
        if self._is_damaged():
            return Reason.DAMAGED
        if len(threading._active) > self._most_threads:  # type: ignore[attr-defined]
            return Reason.THREADS
        try:
            # The lowest number that is free is about as high as there are open ones.
            lowest = os.dup(0)
            os.close(lowest)
        except OSError:
            return Reason.DESCRIPTORS
        if lowest > self._most_descriptors(in_use=in_use):
            return Reason.DESCRIPTORS
        return None

    def look(self, *, in_use: bool) -> Reason | None:
        """At all that there is, which takes a fraction of a millisecond."""
        self.has_set_limits = True
        found = self.after_call(in_use=in_use)
        self.has_set_limits = False
        if found is not None:
            return found
        if _open_descriptors() > self._most_descriptors(in_use=in_use):
            return Reason.DESCRIPTORS
        if count_threads() > self._most_threads:
            return Reason.THREADS
        free = _FREE_SHARE_IN_USE if in_use else _FREE_SHARE
        if any(_is_full(folder, free) for folder in self._folders):
            return Reason.FILES
        return Reason.SHARED_MEMORY if self._memory.is_full_of_shared(self._code_bytes) else None

    def answers(self) -> bool:
        """To be asked regularly: whether the request that it has made of itself has its answer."""
        if any(_identity(fd) != own for fd, own in self._own.items()):
            return False
        # A socket in place of a closed stream would get what the handler prints.
        if any(_is_socket(fd) != was for fd, was in self._streams.items()):
            return False
        trial = self._trial
        if trial is not None:
            if not trial.written and self._turns + 1 < _TURNS:
                self._turns += 1
                return True
            trial.end()
            if not trial.is_right:
                return False
        self._turns = 0
        self._trial = _Trial(self._connect(), _REQUEST)
        return True

    def stop(self) -> None:
        """Leaves no request open: it would count as a connection of somebody's."""
        if self._trial is not None:
            self._trial.end()
            self._trial = None

    def _is_damaged(self) -> bool:
        try:
            for fd in self._open:
                os.get_inheritable(fd)
        except OSError:
            return True
        if sys.getrecursionlimit() < self._recursion_limit:
            return True
        if self.has_set_limits and are_lowered(self._limits):
            return True
        return self._watch.are_lost()

    def _most_descriptors(self, *, in_use: bool) -> float:
        share = _DESCRIPTORS_SHARE_IN_USE if in_use else _DESCRIPTORS_SHARE
        return math.inf if self._descriptors < 0 else share * self._descriptors


class _Watch:
    """Names of modules that programs can't do without, at a few nanoseconds each."""

    def __init__(self) -> None:
        self._names = [_Names(*which) for which in _WATCHED]
        # Nothing in here is Python's own code.
        self._looks = [names.look for names in self._names]
        self._seen: list[object] = [look() for look in self._looks]

    def are_lost(self) -> bool:
        """One is gone, or is nothing that a program could use in its place."""
        try:
            # Before it is judged: what changes meanwhile differs from it the next time.
            seen = [look() for look in self._looks]
            if seen == self._seen:
                return False
        except _Anything:  # a name is gone, or its value's comparison is the handler's own
            seen = []
        if any(names.are_lost() for names in self._names):
            return True
        self._seen = seen
        return False


class _Names:
    """Of one module or type."""

    def __init__(self, names: Mapping[str, object], only: str = "") -> None:
        wanted = only.split() or [*names]
        self._names = names
        self.look: Callable[[], object] = (
            partial(itemgetter(*wanted), names) if only else partial(tuple, names.values())
        )
        self._is_fixed = names is vars(builtins)
        self._originals = {name: names[name] for name in wanted}

    def are_lost(self) -> bool:
        for name, original in self._originals.items():
            current = self._names.get(name)
            if current is original or original is None:
                continue
            if current is None or (_callable(original) and not _callable(current)):
                return True
            if self._is_fixed and _callable(original) and name not in _REPLACEABLE:
                return True
        return False


# Programs do replace these and call what was there; the other functions and types nobody does.
_REPLACEABLE = frozenset({"print", "open", "input", "breakpoint", "__import__"})
_WATCHED: tuple[tuple[Mapping[str, object], str], ...] = (
    (vars(builtins), ""),
    (vars(gc), ""),
    (vars(signal), "alarm getsignal setitimer signal"),
    (vars(json.JSONEncoder), "default encode iterencode"),
    (vars(json.JSONDecoder), "decode raw_decode"),
    (vars(threading.Thread), "is_alive join run start"),
    (vars(sys), ""),
    (vars(time), ""),
    (vars(json), ""),
    (vars(threading), ""),
    (
        vars(os),
        "_exit chdir close dup2 environ execv fork fsdecode fsencode fspath getcwd getenv getpid"
        " getppid kill listdir makedirs mkdir open path pipe read remove rename scandir stat"
        " urandom waitpid write",
    ),
    (
        vars(asyncio),
        "CancelledError Event Future Lock Queue Semaphore Task create_task current_task"
        " ensure_future gather get_event_loop get_running_loop run sleep timeout wait wait_for",
    ),
)


async def warm_up(connect: Callable[[], asyncio.Protocol]) -> None:
    """Uses what answers requests. Raises TimeoutError."""
    async with asyncio.timeout(_WARM_UP_SECONDS):
        for request in (_HEALTH, _REQUEST, _CALL, _CALL):
            trial = _Trial(connect(), request)
            while not trial.written:
                await asyncio.sleep(0)
            trial.end()


class _Trial:
    """A request that a runner makes of itself, through all but the sockets."""

    def __init__(self, protocol: Any, request: bytes) -> None:
        self.written = b""
        self._protocol = protocol
        protocol.connection_made(self)
        protocol.data_received(request)

    def end(self) -> None:
        self._protocol.connection_lost(None)

    @property
    def is_right(self) -> bool:
        return self.written.startswith(_STATUS) and self.written.endswith(PAYLOAD_REFUSED.body)

    # What the protocol asks of its transport.

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def _own_folders(settings: Settings, code_bytes: int) -> list[str]:
    """Those in memory: of other folders others make use, too."""
    with suppress(OSError), open("/proc/self/mounts") as file:
        rows = [line.split() for line in file]
        mounts = {row[1] for row in rows if row[2] == "tmpfs"}
        folders = {*settings.scratch, settings.app_dir} & mounts
        return [folder for folder in folders if code_bytes < _CODE_SHARE * _folder_size(folder)]
    return []


def _folder_size(folder: str) -> int:
    with suppress(OSError):
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize
    return 0


def _is_full(folder: str, free: float) -> bool:
    with suppress(OSError):
        found = os.statvfs(folder)
        return found.f_bavail < free * found.f_blocks or found.f_favail < free * found.f_files
    return False


def _open_descriptors() -> float:
    try:
        # Before Linux 6.2 the size of this folder says nothing.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return math.inf


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)
