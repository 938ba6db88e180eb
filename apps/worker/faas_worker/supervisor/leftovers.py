"""What handlers leave outside of their processes: files in temporary folders, System V objects.

`FAAS_SCRATCH` names what holds nothing else: folders, and `ipc` where the worker's user, or its
namespace for inter-process communication, is its function's alone.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from ..settings import Settings
from ..system import ContainerMemory
from .code import lay_code_out_again

_IPC_RMID = 0
_IPC = (("shm", "shmid", "shmctl"), ("sem", "semid", "semctl"), ("msg", "msqid", "msgctl"))
# So much of a turn of the supervisor clearing may take.
_TURN_SECONDS = 0.1
# So long memory may stay in use that nobody holds; removing files may take longer, for as many as
# there are inodes.
_SECONDS, _FILES_SECONDS = 3.0, 30.0
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)


class Leftovers:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        names = settings.scratch
        self._has_ipc = "ipc" in names
        self._folders = [name for name in names if name != "ipc"]
        # The copy of the code is laid out anew; it may lie in one of the folders.
        self._has_code = bool(names) and settings.code is not None
        app_dir = os.path.abspath(settings.app_dir)
        self._spared = {app_dir, os.path.abspath(settings.socket_path or app_dir)}
        self._memory = ContainerMemory(os.getpid() == 1)
        self._is_cleared = True
        self._until = math.inf

    def may_be_there(self) -> None:
        """A runner has ended."""
        self._is_cleared = False

    def are_gone(self, now: float) -> bool:
        """To be asked while there is no runner, again and again until it is true."""
        if not self._is_cleared:
            # Processes that are still dying may hold some memory.
            files_gone = self.clear(_TURN_SECONDS)
            self._is_cleared = files_gone and not self._memory.has_grown()
            seconds = _SECONDS if files_gone else _FILES_SECONDS
            self._until = math.inf if self._is_cleared else min(self._until, now + seconds)
        return self._is_cleared

    def stay(self, now: float) -> bool:
        """They can't be removed."""
        return now >= self._until

    def clear(self, seconds: float) -> bool:
        """False when the time was over before all was gone; then it goes on where it was."""
        end = time.monotonic() + seconds
        if self._has_ipc:
            _remove_ipc()
        emptied = [self._empty(folder, end) for folder in self._folders]
        done = all(emptied)
        if done and self._has_code:
            done = self._empty(self._settings.app_dir, end)
            if done:
                # Runners load what is in memory: without a copy they go on, too.
                with suppress(OSError):
                    lay_code_out_again(self._settings)
        return done

    def _empty(self, folder: str, end: float) -> bool:
        try:
            root = os.open(folder, os.O_RDONLY | _FOLDER)
        except OSError:
            return True
        try:
            spared = {os.path.basename(path) for path in self._spared if _is_in(path, folder)}
            # What is in a folder of it is moved to its top first: no path gets long, however deep
            # it is, and no link is followed.
            while time.monotonic() < end:
                names = list(_own(root, spared, end))
                removed = [name for name in names if _remove(root, name, end)]
                if not removed:
                    return True
            return False
        except OSError:
            return True
        finally:
            os.close(root)


def _is_in(path: str, folder: str) -> bool:
    return os.path.dirname(path) == os.path.abspath(folder)


_BATCH = 10_000


def _own(root: int, spared: set[str], end: float) -> Iterator[str]:
    """So many at a time that a list of them is short."""
    user = os.geteuid()
    with os.scandir(root) as entries:
        count = 0
        for entry in entries:
            with suppress(OSError):
                if entry.name not in spared and entry.stat(follow_symlinks=False).st_uid == user:
                    yield entry.name
                    count += 1
            if count >= _BATCH or time.monotonic() > end:
                return


def _remove(root: int, name: str, end: float) -> bool:
    """False when it can't be removed."""
    try:
        try:
            os.unlink(name, dir_fd=root)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=root)
            except OSError:
                _dissolve(root, name, end)
        return True
    except OSError:
        return False


def _dissolve(root: int, name: str, end: float) -> None:
    """Its files go, its folders move up."""
    # Neither listing nor moving needs a right that its owner can't have again.
    handle = os.open(name, os.O_PATH | _FOLDER, dir_fd=root)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        folder = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=root)
    finally:
        os.close(handle)
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if entry.is_dir(follow_symlinks=False):
                    _move_up(root, folder, entry.name, f".{time.monotonic_ns()}.{number}")
                else:
                    os.unlink(entry.name, dir_fd=folder)
                if time.monotonic() > end:
                    return
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=root)


def _move_up(root: int, folder: int, name: str, new: str) -> None:
    with suppress(OSError):
        os.rmdir(name, dir_fd=folder)
        return
    handle = os.open(name, os.O_PATH | _FOLDER, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
    os.rename(name, new, src_dir_fd=folder, dst_dir_fd=root)


def _remove_ipc() -> None:
    """Of this user, in this namespace."""
    user = str(os.geteuid())
    for kind, id_column, control in _IPC:
        with suppress(OSError), open(f"/proc/sysvipc/{kind}") as table:
            columns = table.readline().split()
            for line in table:
                row = dict(zip(columns, line.split(), strict=False))
                if user in (row["uid"], row["cuid"]):
                    number = int(row[id_column])
                    arguments = (number, 0, _IPC_RMID) if kind == "sem" else (number, _IPC_RMID, 0)
                    getattr(_libc, control)(*arguments)
