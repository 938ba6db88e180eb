"""Whether what is kept after a call leaves too little for the calls after it."""

from __future__ import annotations

import math
import os
import resource
from contextlib import suppress

from ..settings import Settings

#: What the supervisor is told, and what it says of it.
REASONS = {
    b"descriptors": "Its handler kept nearly all of the file descriptors there may be.",
    b"files": "Its handler filled a temporary folder.",
    b"memory": "Its handler kept much memory outside of its process (temporary files, shared"
    " memory), and little is left.",
}
_DESCRIPTORS_SHARE = 0.8
_FREE_SHARE = 0.1
# While calls run, much of that is theirs and goes with them: only what fails them counts.
_DESCRIPTORS_SHARE_IN_USE = 0.97
_FREE_SHARE_IN_USE = 0.02
_MEMORY_SHARE = 0.9
_SHARED_SHARE = 0.25
# Code that takes up more of its folder says nothing of what the handler has put there.
_CODE_SHARE = 0.8
_NO_LIMIT = 2**60
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
            with suppress(OSError, ValueError), open(version[0]) as file:
                self.limit = int(file.read())
                self._version = version if self.limit < _NO_LIMIT else None
        self._at_first = self.private_and_shared()

    def private_and_shared(self) -> tuple[int, int]:
        if self._version is None:
            return 0, 0
        _, path, private, shared = self._version
        found = {private: 0, shared: 0}
        with suppress(OSError, ValueError), open(path) as file:
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


class Fullness:
    """Asked by a runner, after calls."""

    def __init__(self, settings: Settings) -> None:
        in_container = os.getppid() == 1
        self._memory = ContainerMemory(in_container)
        # Of other folders others make use, too.
        mounts = _memory_file_systems() if in_container else set()
        self._code = size = len(settings.code or b"")
        self._folders = [
            folder
            for folder in (*settings.scratch, settings.app_dir)
            if folder in mounts and size < _CODE_SHARE * _size(folder)
        ]

    def found(self, *, in_use: bool) -> bytes | None:
        """One of the REASONS. `in_use`: calls run."""
        if _has_few_descriptors(_DESCRIPTORS_SHARE_IN_USE if in_use else _DESCRIPTORS_SHARE):
            return b"descriptors"
        free = _FREE_SHARE_IN_USE if in_use else _FREE_SHARE
        if any(_is_full(folder, free) for folder in self._folders):
            return b"files"
        return b"memory" if self._memory.is_full_of_shared(self._code) else None


def many_descriptors(share: float = _DESCRIPTORS_SHARE) -> float:
    """So many open ones leave too few."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if most == resource.RLIM_INFINITY else share * most


def are_few_descriptors_left(many: float) -> bool:
    """Quickly: the lowest number that is free is about as high as there are open ones. Where there
    is none left, the event loop ends new connections instead of accepting them."""
    try:
        lowest = os.dup(0)
        os.close(lowest)
    except OSError:
        return True
    return lowest > many


def _has_few_descriptors(share: float) -> bool:
    many = many_descriptors(share)
    if many == math.inf:
        return False
    try:
        # Before Linux 6.2 the size of this folder says nothing.
        used = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return True
    return used > many


def _memory_file_systems() -> set[str]:
    with suppress(OSError), open("/proc/self/mounts") as file:
        rows = [line.split() for line in file]
        return {row[1] for row in rows if row[2] == "tmpfs"}
    return set()


def _size(folder: str) -> int:
    with suppress(OSError):
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize
    return 0


def _is_full(folder: str, free: float) -> bool:
    with suppress(OSError):
        found = os.statvfs(folder)
        return found.f_bavail < free * found.f_blocks or found.f_favail < free * found.f_files
    return False
