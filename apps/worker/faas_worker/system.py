"""The Linux calls the standard library lacks, and the limits a runner puts on itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from collections.abc import Container

from .runner.guarding import guard_first_process
from .settings import Settings

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_SIGINFO = struct.Struct("=IiiI")
_SIGINFO_SIZE = 128

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
        guard_first_process()


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
        mask = (ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong)))()
        bits = ctypes.sizeof(ctypes.c_ulong) * 8
        for number in signals:
            mask[(number - 1) // bits] |= 1 << ((number - 1) % bits)
        self.signals = signals
        self.fd = _libc.signalfd(-1, ctypes.byref(mask), _SFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "signalfd failed")

    def read(self) -> list[tuple[int, int]]:
        """The pending signals, as (number, sender's pid)."""
        try:
            data = os.read(self.fd, _SIGINFO_SIZE * 16)
        except BlockingIOError:
            return []
        received = []
        for offset in range(0, len(data), _SIGINFO_SIZE):
            number, _errno, _code, pid = _SIGINFO.unpack_from(data, offset)
            received.append((number, pid))
        return received

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


def apply_limits(settings: Settings, stacks_bytes: int) -> None:
    for limit, most in _COUNTED_BY_THE_HOST.items():
        soft, _ = resource.getrlimit(limit)
        _lower(limit, most if soft == resource.RLIM_INFINITY else min(soft, most), most)
    if settings.limit_pids is not None and os.getuid() != 0:
        _lower(resource.RLIMIT_NPROC, settings.limit_pids, settings.limit_pids)
    if settings.limit_memory_bytes is not None:
        # Thread stacks count as data: the soft limit grows by one stack per thread we start.
        hard = settings.limit_memory_bytes + stacks_bytes
        _lower(resource.RLIMIT_DATA, settings.limit_memory_bytes, hard)


def allow_one_more_stack(stack_bytes: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY and soft + stack_bytes <= hard:
        _lower(resource.RLIMIT_DATA, soft + stack_bytes, hard)


def share_of_memory() -> float:
    """How much this process has of what it may have; 0 where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY:
        return 0.0
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[5]) * resource.getpagesize() / soft
    except MemoryError:
        return 1.0


def most_tasks() -> int | None:
    """How many processes and threads there may be in this container (cgroup version 2 or 1)."""
    for path in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            return int(file.read())
    return None


def count_threads() -> int:
    """Of this process; 0 where it has no descriptor left to look."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 0


def _lower(limit: int, soft: int, hard: int) -> None:
    _, current_hard = resource.getrlimit(limit)
    if current_hard != resource.RLIM_INFINITY:
        soft, hard = min(soft, current_hard), min(hard, current_hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (soft, hard))
