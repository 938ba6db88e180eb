"""`python -m faas_worker.fetched_layer`: fetches the packages of a function, where no folder has
them, and unpacks them before its worker starts.

They come over plain HTTP from a manager. What counts is that they have the digest that was told.
The folder may be one that many pods share: whoever is first fills it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_CONNECT_SECONDS = 10.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_CHUNK = 1024 * 1024
#: A header and what fills the last block, for each file and for each folder on the way to it.
_ENTRY_BYTES = 8192
_PARTS_PER_FILE = 2
#: As a program: for all of it, and for tries. Whoever started it starts it again.
_LONGEST_SECONDS = 300
_PATIENCE_SECONDS = 40


class NotFetched(Exception):  # noqa: N818 - named for what happened
    """Trying again leads to the same; the message says why."""


class Archive(NamedTuple):
    """Where a layer's archive is, and what it must be."""

    url: str
    token: str
    sha256: str
    most_bytes: int
    most_files: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Archive:
        """Raises KeyError, TypeError or ValueError for what isn't one."""
        url, token, sha256 = given["url"], given["token"], given["sha256"]
        if not all(type(text) is str for text in (url, token, sha256)):
            raise TypeError
        return cls(url, token, sha256, int(given["bytes"]), int(given["files"]))


def fetch(
    archive: Archive,
    folder: str,
    seconds: float,
    patience: float | None = None,
    *,
    is_shared: bool = False,
) -> None:
    """Has it in this folder, whole or not at all. What fails after `patience` is not tried again.
    Raises NotFetched."""
    deadline = time.monotonic() + seconds
    tries_until = time.monotonic() + (seconds if patience is None else patience)
    pause = _FIRST_PAUSE
    # Of this pod alone, whose program has the same number again when it is started again.
    draft = f"{folder}.{os.uname().nodename}.{os.getpid()}"
    while not is_there(folder):
        # Of a former try that was killed.
        shutil.rmtree(draft, ignore_errors=True)
        try:
            unpack(archive, draft, deadline)
            if is_shared:
                # It outlives this pod and its node: whoever finds it takes it for whole.
                os.sync()
            os.rename(draft, folder)
        except (http.client.HTTPException, tarfile.TarError, OSError) as error:
            if os.path.isdir(folder):
                continue  # Another pod was faster.
            # A manager that leaves, or has too much to do; another one may answer.
            is_of_disk = getattr(error, "filename", None) or getattr(error, "errno", None) == 28
            if is_of_disk or tries_until - time.monotonic() < pause:
                raise NotFetched(f"The packages can't be fetched: {error!r}") from None
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def is_there(folder: str) -> bool:
    """Notes that it is in use, which keeps sweeps away from it for a while."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    except OSError:
        return os.path.isdir(folder)
    return True


def unpack(archive: Archive, folder: str, deadline: float) -> None:
    url = urlsplit(archive.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=_CONNECT_SECONDS)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {archive.token}", "Connection": "close"}
        connection.request("GET", url.path, headers=headers)
        response = connection.getresponse()
        if response.status in (403, 404):
            raise NotFetched(f"The manager has no such packages ({response.status}).")
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}")
        most = archive.most_bytes + archive.most_files * _ENTRY_BYTES + _CHUNK
        source = _Source(response, most, deadline)
        with tarfile.open(fileobj=source, mode="r|") as entries:
            lay_out(entries, folder, archive)
        while source.read(_CHUNK):
            pass
        if source.digest.hexdigest() != archive.sha256:
            raise NotFetched("The packages that came are others than were asked for.")


def lay_out(entries: tarfile.TarFile, folder: str, archive: Archive) -> None:
    """Files and folders alone, inside of this one."""
    os.mkdir(folder, 0o755)
    made = {folder}
    left = archive.most_bytes
    for count, entry in enumerate(entries, 1):
        left -= entry.size
        if left < 0 or count > archive.most_files * _PARTS_PER_FILE:
            raise NotFetched("The packages are larger than they may be.")
        parts = entry.name.rstrip("/").split("/")
        is_plain = (entry.isfile() and not entry.issparse()) or entry.isdir()
        if not is_plain or any(part in ("", ".", "..") for part in parts):
            raise NotFetched(f"The packages hold what can't be unpacked: {entry.name[:200]!r}.")
        path = os.path.join(folder, *parts)
        parent = path if entry.isdir() else os.path.dirname(path)
        if parent not in made:
            os.makedirs(parent, 0o755, exist_ok=True)
            made.add(parent)
        if entry.isfile():
            write(entries, entry, path)


def write(entries: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    mode = 0o555 if entry.mode & 0o100 else 0o444
    content = entries.extractfile(entry)
    with open(os.open(path, flags, mode), "wb") as file:
        if content is not None:
            shutil.copyfileobj(content, file, _CHUNK)


class _Source(io.RawIOBase):
    """What comes, counted and digested."""

    def __init__(self, response: http.client.HTTPResponse, most: int, deadline: float) -> None:
        self.response = response
        self.left = most
        self.deadline = deadline
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self.response.read(size)
        self.left -= len(chunk)
        if self.left < 0:
            raise NotFetched("The packages are larger than they may be.")
        if time.monotonic() > self.deadline:
            raise NotFetched("The packages did not come in time.")
        self.digest.update(chunk)
        return chunk


def main() -> int:
    # As the first process of a container it would not be ended by a signal otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    prefix = "FAAS_LAYER_"
    named = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    given = {name[len(prefix) :].lower(): value for name, value in named.items()}
    folder = os.environ["FAAS_LAYER"]
    try:
        # Nobody may list what there is; the names of layers are for those who were told them.
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(folder), 0o711)
        is_shared = "shared" in given
        fetch(Archive.of(given), folder, _LONGEST_SECONDS, _PATIENCE_SECONDS, is_shared=is_shared)
    except OSError as error:
        print(f"There is no place for the packages: {error}", file=sys.stderr, flush=True)
        return 1
    except NotFetched as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
