"""How much there is in a folder, and whether uv is bringing in more than there may be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .job import Job


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
    """What has come into uv's cache, unpacked, since this was made."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._archives = os.path.join(job.cache, "archive-v0")
        self._before = set(_names(self._archives))

    def is_too_much(self) -> bool:
        drafts = [name for name in _names(self._job.cache) if name.startswith(".tmp")]
        added = [name for name in _names(self._archives) if name not in self._before]
        paths = [os.path.join(self._job.cache, name) for name in drafts]
        paths += [os.path.join(self._archives, name) for name in added]
        # Source distributions are unpacked and compiled beside.
        paths += [self._job.path("tmp"), self._job.path("out", "layer")]
        return any(size_of(path) > self._job.most_bytes for path in paths) or (
            sum(size_of(path) for path in paths[:-2]) > self._job.most_bytes
        )


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []
