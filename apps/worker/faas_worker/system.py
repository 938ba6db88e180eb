"""The Linux calls the standard library lacks, and what the kernel bounds and counts."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Container

from .settings import Settings

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
# A signal's number and its sender, of 128 bytes.
_SIGINFO = struct.Struct("=I8xI112x")

_libc = ctypes.CDLL(None, use_errno=True)


def stand_apart() -> None:
    """Keeps runners from reaching this process, from which they are forked.

    Nobody may look into its memory. Where it was started with a real user other than the
    effective one, its runners have the latter only: it may signal them, and they may not signal
    it, for that goes by the real and the saved user.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    real, effective, _ = os.getresuid()
    if real != effective:
        os.setresuid(real, effective, real)


def be_a_runner() -> None:
    _be_its_user()
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    if os.getppid() == 1:
        # Alone in a container, so that it yields to its supervisor and to nobody else.
        os.nice(19)


def _be_its_user() -> None:
    user = os.geteuid()
    os.setresuid(user, user, user)


def kill_all_of_runners() -> None:
    """All at once, as nothing can fork its way out of that. Where runners have no user of their
    own there is no such way."""
    if os.getpid() == 1:
        # It spares the first process of a container, and only that.
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        return
    real, effective, _ = os.getresuid()
    if real == effective:
        return
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            try:
                _be_its_user()
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)


def become_subreaper() -> None:
    """Orphans of a runner come to this process, which reaps and kills them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class SignalFile:
    """Signals as something to poll, with the sender's pid (0: from outside our namespace)."""

    def __init__(self, signals: set[signal.Signals]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        mask = sum(1 << (number - 1) for number in signals)
        self.signals = signals
        self.fd = _libc.signalfd(-1, mask.to_bytes(8, sys.byteorder) + bytes(120), _SFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "signalfd failed")

    def read(self) -> list[tuple[int, int]]:
        """The pending signals, as (number, sender's pid)."""
        with contextlib.suppress(BlockingIOError):
            return list(_SIGINFO.iter_unpack(os.read(self.fd, 16 * _SIGINFO.size)))
        return []

    def release_in_child(self) -> None:
        os.close(self.fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)


def is_from_within(sender: int, runners: Container[int]) -> bool:
    """A signal from handler code. In a container whoever may stop us is outside of it."""
    return sender in runners or (os.getpid() == 1 and sender != 0)


def prefer_as_oom_victim() -> None:
    """Raising one's own score needs no privilege; the kernel then spares the supervisor."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


# What the kernel counts for each process or for each user of the host. Docker's containers have
# the same limits; pods and plain processes have no other place for them. Descriptors: the largest
# concurrency is 1,000 calls, with one connection of their own and one of the manager each.
_COUNTED_BY_THE_HOST = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 4096,
    resource.RLIMIT_MEMLOCK: 65_536,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_SIGPENDING: 4096,
}


def apply_limits(settings: Settings) -> None:
    for limit, most in _COUNTED_BY_THE_HOST.items():
        soft, _ = resource.getrlimit(limit)
        _lower(limit, most if soft == resource.RLIM_INFINITY else min(soft, most), most)
    if settings.limit_pids is not None and os.getuid() != 0:
        _lower(resource.RLIMIT_NPROC, settings.limit_pids, settings.limit_pids)


_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK")
)


def own_limits() -> list[float]:
    """Of this process, as long as nobody lowers one."""
    soft = [resource.getrlimit(limit)[0] for limit in _LIMITS]
    return [math.inf if limit == resource.RLIM_INFINITY else limit for limit in soft]


def are_lowered(limits: list[float]) -> bool:
    return any(now < before for now, before in zip(own_limits(), limits, strict=True))


def private_bytes(pid: int) -> int:
    """What a process uses of memory that is its own alone; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/statm") as file:
        resident, shared = map(int, file.read().split()[1:3])
        return (resident - shared) * resource.getpagesize()
    return 0


def count_threads() -> int:
    """Of this process."""
    return os.stat("/proc/self/task").st_nlink - 2


def most_tasks() -> int | None:
    """How many processes and threads there may be in this container (cgroup version 2 or 1)."""
    for path in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            return int(file.read())
    return None


def _lower(limit: int, soft: int, hard: int) -> None:
    _, current_hard = resource.getrlimit(limit)
    if current_hard != resource.RLIM_INFINITY:
        soft, hard = min(soft, current_hard), min(hard, current_hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (soft, hard))


# Processes


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
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1]) == parent
    return False


def descendants(parent: int, enough: int = 1000) -> list[int]:
    """Some more than `enough` at most."""
    if parent == 1:
        # All that is in a container but the first process: one look.
        return [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and pid != "1"]
    found, unseen = list[int](), [parent]
    while unseen and len(found) < enough:
        below = children(unseen.pop())
        found += below
        unseen += below
    return found


def count_below(parent: int, enough: int, without: Container[int | None] = ()) -> int:
    """How many descendants a process has, up to `enough`, without those of some groups."""
    found = descendants(parent, enough)
    return sum(group_of(pid) not in without for pid in found) if without else len(found)


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


# Memory of a container


_NO_LIMIT = 2**60
_MEMORY_SHARE, _SHARED_SHARE = 0.9, 0.25
_VERSIONS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.stat", "anon", "shmem"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_rss",
        "total_shmem",
    ),
)


class ContainerMemory:
    """What a container holds that the kernel can't get back, of what it may have (cgroup version 2
    or 1). Nothing is known of it outside of a container."""

    def __init__(self, in_container: bool) -> None:
        self._version = None
        for version in _VERSIONS if in_container else ():
            with contextlib.suppress(OSError, ValueError), open(version[0]) as file:
                self.limit = int(file.read())
                self._version = version if self.limit < _NO_LIMIT else None
        self._at_first = self.private_and_shared()

    def private_and_shared(self) -> tuple[int, int]:
        if self._version is None:
            return 0, 0
        _, path, private, shared = self._version
        found = {private: 0, shared: 0}
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name in found:
                    found[name] = int(value)
        return found[private], found[shared]

    def is_full_of_shared(self, own: int) -> bool:
        """`own`: so many bytes of what is shared are the worker's own."""
        private, shared = self.private_and_shared()
        return self._version is not None and (
            shared - own > _SHARED_SHARE * self.limit
            and private + shared > _MEMORY_SHARE * self.limit
        )

    def has_grown(self) -> bool:
        """To be asked when no runner is left."""
        grown = sum(self.private_and_shared()) - sum(self._at_first)
        return self._version is not None and grown > _SHARED_SHARE * self.limit
