"""Keeps things outside of its process, or until there are none left."""

from __future__ import annotations

import asyncio
import ctypes
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

LIBC = ctypes.CDLL(None)
PRIVATE, CREATE = 0, 0o1600
ELSEWHERE = os.environ.get("ELSEWHERE", "/nowhere")


def objects() -> int:
    """System V objects of this user."""
    count = 0
    for kind in ("shm", "sem", "msg"):
        header, *rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        column = header.split().index("cuid")
        count += sum(row.split()[column] == str(os.geteuid()) for row in rows)
    return count


def make_objects() -> None:
    LIBC.shmget(PRIVATE, 4096, CREATE)
    for _ in range(20):
        LIBC.semget(PRIVATE, 5, CREATE)
    LIBC.msgget(PRIVATE, CREATE)


def make_files() -> None:
    """A deep tree, links out of it, and folders shut tight."""
    top = Path(tempfile.gettempdir())
    (top / "link").symlink_to(ELSEWHERE)
    (top / "file").write_text("x")
    os.mkfifo(top / "fifo")
    shut = top / "shut" / "inner"
    shut.mkdir(parents=True)
    (shut / "file").write_text("x")
    (shut / "link").symlink_to(ELSEWHERE)
    shut.chmod(0)
    shut.parent.chmod(0)
    home = os.getcwd()
    os.chdir(top)
    for _ in range(100):
        os.mkdir("deep-in-here")
        os.chdir("deep-in-here")
    os.chdir(home)


def many_files(count: int) -> None:
    for number in range(count):
        os.close(os.open(f"{tempfile.gettempdir()}/{number}", os.O_CREAT))


KEPT: list[int] = []


def keep_descriptors() -> None:
    with suppress(OSError):
        while True:
            KEPT.append(os.dup(0))


def handle(payload: str) -> object:
    command, _, argument = payload.partition(":")
    match command:
        case "objects":
            make_objects()
        case "files":
            make_files()
        case "many":
            many_files(int(argument))
        case "descriptors":
            keep_descriptors()
        case "descriptors, and fail":
            keep_descriptors()
            raise OSError("no more")
        case "exit":
            os._exit(3)
        case "look":
            return [objects(), os.listdir(tempfile.gettempdir())]
        case "good":
            return "good"
    return "done"


def keep_descriptors_for_ever() -> None:
    while True:
        keep_descriptors()


async def stop(payload: str) -> str:
    """The event loop needs descriptors whenever it runs again."""
    if payload == "stop":
        threading.Thread(target=keep_descriptors_for_ever, daemon=True).start()
        while True:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
    return payload
