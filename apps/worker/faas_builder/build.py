"""From requirements to a lock, and from a lock to an archive."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import py_compile
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import warnings
from typing import Any

from .job import Job
from .places import ARCHIVE
from .pythons import admits
from .sizes import Intake, files_in, memory_of_family

#: Memory is sooner gone than disk, and sooner counted.
_LOOK_SECONDS = 0.1
_LOOKS_PER_INTAKE = 5
_MESSAGE_CHARS = 6_000
_COMPILERS = 2
_PR_SET_PDEATHSIG = 1
#: What uv says when it is the index that is at fault, and not what was asked for.
_INDEX_FAULT = re.compile(
    r"error sending request|Failed to fetch|Request failed|timed? ?out|dns error|Could not connect"
    r"|lack of valid authentication credentials|HTTP status server error"
    r"|Connection (refused|reset)|error decoding response|tls handshake",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(r"No space left on device|os error 28|Disk quota exceeded", re.IGNORECASE)
_LIBC = ctypes.CDLL(None)
_MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH


class Failed(Exception):  # noqa: N818 - named for what happened
    """`kind`: refused, too_large, index, no_space or failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def build(job: Job) -> dict[str, Any]:
    check_python(job)
    lock = job.requirements if job.is_lock else resolve(job)
    layer = job.path("layer")
    os.makedirs(layer, exist_ok=True)
    if lock.strip():
        install(job, lock, layer)
        compile_all(layer)
    size, count = measured(job, layer)
    with open(job.path("out", "lock.txt"), "w", encoding="utf-8") as file:
        file.write(lock)
    pack(layer, job.path("out", ARCHIVE))
    tell(f"Packed {count} files, {size // 1024} KiB")
    return {
        "python": f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}",
        "machine": f"{os.uname().machine}-{libc()}",
        "bytes": size,
        "files": count,
    }


def libc() -> str:
    with contextlib.suppress(OSError, ValueError):
        return (os.confstr("CS_GNU_LIBC_VERSION") or "musl").split()[0]
    return "musl"


def check_python(job: Job) -> None:
    version = sys.version_info[:3]
    shown = ".".join(map(str, version))
    try:
        fits = admits(job.requires_python, version)
    except ValueError as error:
        raise Failed("refused", f"requires-python: {error}") from None
    if not fits:
        wanted = job.requires_python
        raise Failed("refused", f"The code asks for Python {wanted}, and workers have {shown}.")


def resolve(job: Job) -> str:
    source, lock = job.path("tmp", "requirements.txt"), job.path("tmp", "lock.txt")
    with open(source, "w", encoding="utf-8") as file:
        file.write(job.requirements)
    options = ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    run_uv(job, ["compile", source, "--output-file", lock, *options], echoes_result=True)
    with open(lock, encoding="utf-8") as file:
        return file.read()


def install(job: Job, lock: str, layer: str) -> None:
    path = job.path("tmp", "locked.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(lock)
    # A lock of ours is complete; of another's uv finds out.
    options = [] if job.is_lock else ["--no-deps"]
    link = "hardlink" if can_link(job.cache, layer) else "copy"
    arguments = ["install", "--target", layer, "--requirements", path, "--require-hashes"]
    run_uv(job, [*arguments, *options, "--link-mode", link])
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(layer, ".lock"))


def can_link(source: str, target: str) -> bool:
    """Two volumes may be of one file system, and yet no link leads from one to the other."""
    with tempfile.NamedTemporaryFile(dir=source) as probe:
        link = os.path.join(target, os.path.basename(probe.name))
        with contextlib.suppress(OSError):
            os.link(probe.name, link)
            os.unlink(link)
            return True
    return False


def run_uv(job: Job, arguments: list[str], *, echoes_result: bool = False) -> None:
    """Shows uv's words while it works. Raises Failed with them."""
    verb, *others = arguments
    uv = subprocess.Popen(
        [job.uv, "pip", verb, *others, "--python", sys.executable, *job.sources()],
        env=job.environment(),
        cwd=job.path("tmp"),
        stdin=subprocess.DEVNULL,
        # The lock is printed as well.
        stdout=subprocess.DEVNULL if echoes_result else subprocess.PIPE,
        stderr=subprocess.PIPE if echoes_result else subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    said: list[str] = []
    is_done = threading.Event()
    excess: list[Failed] = []

    def watch() -> None:
        intake = Intake(job, uv.pid)
        for look in itertools.count():
            if is_done.wait(_LOOK_SECONDS):
                return
            if job.most_memory is not None and memory_of_family(os.getpid()) > job.most_memory:
                excess.append(too_much_memory(job.most_memory))
            elif look % _LOOKS_PER_INTAKE == 0 and intake.is_too_much():
                excess.append(too_large(job))
            else:
                continue
            uv.kill()
            return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    for line in (uv.stderr if echoes_result else uv.stdout) or ():
        if line.startswith("Using CPython"):
            continue
        if len(said) < 500:
            said.append(line.rstrip())
        tell(job.without_secrets(line.rstrip()))
    status = uv.wait()
    is_done.set()
    watching.join()
    if excess:
        raise excess[0]
    if status == 0:
        return
    # From where it says what is wrong.
    start = next((at for at, line in enumerate(said) if re.match("\\s*(\u00d7|error:)", line)), 0)
    text = "\n".join(said[start:])[:_MESSAGE_CHARS] or f"uv ended with status {status}."
    if _NO_SPACE.search(text):
        raise Failed("no_space", text)
    raise Failed("index" if _INDEX_FAULT.search(text) else "refused", text)


def too_large(job: Job) -> Failed:
    mib = job.most_bytes // 2**20
    limits = f"{mib} MiB (MAX_LAYER_MIB), or more than {job.most_files} files (MAX_LAYER_FILES)"
    return Failed("too_large", f"The packages take more than {limits}.")


def too_much_memory(most: int) -> Failed:
    limit = f"{most // 2**20} MiB (BUILD_MEMORY_MIB)"
    return Failed("too_large", f"The build took more memory than {limit}.")


def compile_all(layer: str) -> None:
    """Not by times, which an archive need not keep. What isn't of this Python stays as it is."""
    paths = [entry.path for entry in files_in(layer) if entry.name.endswith(".py")]
    # Forks, which start at once. A file may end one of them, such as one nested too deeply.
    compilers = [fork_compiler(paths[share::_COMPILERS]) for share in range(_COMPILERS)]
    for pid in compilers:
        os.waitpid(pid, 0)


def fork_compiler(paths: list[str]) -> int:
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        warnings.simplefilter("ignore")
        for path in paths:
            with contextlib.suppress(Exception):
                py_compile.compile(path, doraise=True, invalidation_mode=_MODE)
    finally:
        os._exit(0)


def measured(job: Job, layer: str) -> tuple[int, int]:
    sizes = [entry.stat(follow_symlinks=False).st_size for entry in files_in(layer)]
    if sum(sizes) > job.most_bytes or len(sizes) > job.most_files:
        raise too_large(job)
    return sum(sizes), len(sizes)


def pack(layer: str, path: str) -> None:
    """The same files give the same archive."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (entry.isfile() or entry.isdir()):
            return None
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        # A second name of a file would be kept as a link.
        archive.inodes = _NoLinks()  # pyright: ignore[reportAttributeAccessIssue]
        for name in sorted(os.listdir(layer)):
            archive.add(os.path.join(layer, name), name, filter=plain)


class _NoLinks(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def tell(line: str) -> None:
    if line:
        print(line[:500], flush=True)
