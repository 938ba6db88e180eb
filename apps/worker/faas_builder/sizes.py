"""How much there is in a folder, and whether a build takes more than there may be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .job import Job

#: What an index says of its packages is kept as well.
_INDEX_BYTES = 64 * 2**20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def files_in(folder: str) -> Iterator[os.DirEntry[str]]:
    # What uv is at work on comes and goes.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_in(entry.path)
            else:
                yield entry


def size_of(folder: str) -> int:
    total = 0
    for entry in files_in(folder):
        with contextlib.suppress(OSError):
            total += entry.stat(follow_symlinks=False).st_size
    return total


class Intake:
    """What a run of uv brings in, unpacked."""

    def __init__(self, job: Job, uv: int) -> None:
        self._job = job
        self._uv = uv
        self._archives = os.path.join(job.cache, "archive-v0")
        self._before = set(_names(self._archives))

    def is_too_much(self) -> bool:
        most = self._job.most_bytes
        layer = size_of(self._job.path("layer"))
        if layer > most:
            return True
        written = _written_by(self._uv) if self._job.shares_cache else None
        if written is not None:
            # Other builds fill the same cache: what counts is what this one writes, but for its
            # own copy of it.
            return written - layer > most + _INDEX_BYTES
        # Source distributions are unpacked and compiled beside.
        return size_of(self._job.path("tmp")) > most or self._added() > most

    def _added(self) -> int:
        cache = self._job.cache
        drafts = [os.path.join(cache, name) for name in _names(cache) if name.startswith(".tmp")]
        added = [name for name in _names(self._archives) if name not in self._before]
        return sum(map(size_of, [*drafts, *(os.path.join(self._archives, name) for name in added)]))


def memory_of_family(root: int) -> int:
    """What a process and all that descend from it keep in memory, in bytes."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, _names("/proc")):
        # The command in brackets may itself hold blanks and brackets.
        fields = _text(f"/proc/{name}/stat").rpartition(")")[2].split()
        if len(fields) > 1:
            parents.setdefault(int(fields[1]), []).append(int(name))
    family = [root]
    # Grows while it is walked.
    for pid in family:
        family.extend(parents.get(pid, ()))
    pages = (_text(f"/proc/{pid}/statm").split() for pid in family)
    return sum(int(found[1]) for found in pages if len(found) > 1) * _PAGE_BYTES


def _written_by(pid: int) -> int | None:
    """None where the kernel doesn't count it."""
    for line in _text(f"/proc/{pid}/io").splitlines():
        name, _, number = line.partition(": ")
        if name == "wchar":
            return int(number)
    return None


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []
